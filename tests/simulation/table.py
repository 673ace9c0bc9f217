"""What a simulation gives: a table for docs/statistics.md, and the rates in it. Knows no test and draws nothing."""

import math
from typing import NamedTuple

from scipy.stats import beta

ALPHA = 0.05  # promised, where nothing else is said


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


def lower_bound(found: int, runs: int, level: float = 0.999) -> float:
    """Return the one-sided bound of Clopper and Pearson (1934) on a rate that was `found` in `runs`."""
    return float(beta.ppf(1 - level, found, runs - found + 1)) if found else 0.0


def written(found: int, runs: int, alpha: float = ALPHA) -> str:
    """Write a rate in per cent with its Monte-Carlo standard error, and mark one that is proven to be above alpha."""
    rate = found / runs
    error = math.sqrt(max(rate * (1 - rate), 1 / runs) / runs)
    return f"{rate * 100:.2f} ±{error * 100:.2f}" + (" **above α**" if lower_bound(found, runs) > alpha else "")


def located(found: int, runs: int, place: str) -> tuple[int, str]:
    """Return a count with its rate, where it was found and its bound in words: the largest is the worst cell."""
    return found, f"{written(found, runs)} % ({place}; lower 99.9 % bound {lower_bound(found, runs) * 100:.2f} %)"
