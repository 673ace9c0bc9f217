"""What a simulation gives: a table for docs/statistics.md. Knows no test and draws nothing."""

from typing import NamedTuple


class Table(NamedTuple):
    """A table with its words.

    Attributes:
        title: its heading, in plain words.
        note: what was simulated and how to read it; Markdown, may be empty.
        headers: of the columns.
        rows: as they are printed, each as long as `headers`.
    """

    title: str
    note: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """Return the section: heading, note, table."""
        lines = [f"### {self.title}", *([self.note] if self.note else []), "\n".join(
            f"| {' | '.join(row)} |" for row in (self.headers, ("---",) * len(self.headers), *self.rows))]
        return "\n\n".join(lines) + "\n"
