"""Pages for people: one self-contained HTML file per report, light and dark, with nothing to load and no script.

Lays out what it is given; decides nothing and computes no figure. Plots come from `plots`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from penstock.components.contracts.reports import Check

__all__ = ["Section", "checks_table", "render_page", "table"]

GOOD = frozenset({"pass", "promote", "first", "measured", "succeeded", "trained"})
LONG = 24  # letters of a cell that should not be broken after every word
BAD = frozenset({"fail", "failed", "roll_back"})


class Section(NamedTuple):
    """One part of a page: a heading, a sentence below it, and whatever `table` and `plots` made."""

    title: str
    body: Markup
    note: str = ""


def render_page(title: str, verdict: str, reason: str, sections: Sequence[Section],
                facts: Mapping[str, str] = {}) -> str:
    """Render a report page.

    Args:
        verdict: shown as a badge: green for `pass`, `promote`, `first`, `measured`, `succeeded`, `trained`; red for
            `fail`, `failed`, `roll_back`; grey for any other.
        reason: one sentence under the title.
        facts: a strip of names and values, such as dataset and rows; a value may be Markup, for a link.

    Returns:
        A whole HTML document. Text is escaped; only Markup is taken as it is.
    """
    tone = "good" if verdict in GOOD else "bad" if verdict in BAD else ""
    folder = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.get_template("page.html").render(
        title=title, verdict=verdict, tone=tone, reason=reason, sections=sections, facts=facts)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], numeric: Collection[int] = ()) -> Markup:
    """Draw a table that scrolls sideways where the screen is narrow.

    Args:
        rows: cells; integers get thousands separators, floats four significant digits, Markup is taken as it is.
        numeric: indices of the columns to set flush right.
    """
    def line(cells: Iterable[object], tag: str) -> Markup:
        return Markup("<tr>{}</tr>\n").format(Markup("").join(
            Markup("<{0}{1}>{2}</{0}>").format(tag, _class(value, index in numeric), _cell(value))
            for index, value in enumerate(cells)))

    name = ", ".join(header for header in headers if header)
    # In the order of the keyboard, because what is scrolled by a finger must be scrolled without one, too.
    box = Markup('<div class="scroll" tabindex="0" role="region" aria-label="{}"><table>\n{}</table></div>\n')
    return box.format(f"Table: {name}", Markup("<thead>{}</thead>\n<tbody>\n{}</tbody>\n").format(
        line(headers, "th"), Markup("").join(line(row, "td") for row in rows)))


def checks_table(checks: Sequence[Check]) -> Markup:
    """Draw the rules of a verdict: what was found, what was asked, whether it held; on a phone one below another."""
    rows = [_check_row(check) for check in checks]
    return Markup('<div class="checks">{}</div>\n').format(
        table(["", "Check", "Found", "Rule", "Remark"], rows, numeric={2}))


def _check_row(check: Check) -> list[object]:
    if check.passed:
        mark = Markup('<span class="good-mark" title="passed">✓</span>')
    elif check.blocking:
        mark = Markup('<span class="bad-mark" title="failed">✗</span>')
    else:
        mark = Markup('<span class="soft" title="failed, but does not block">✗</span>')
    remark = check.detail if check.blocking else f"{check.detail} (does not block)".strip()
    return [mark, check.name.replace("_", " "), check.value, check.rule.replace(" ", "\xa0"), remark]


def _class(value: object, numeric: bool) -> Markup:
    """Keep a long text from being squeezed into a tall column of single words where the table is too wide."""
    if numeric:
        return Markup(' class="number"')
    seen = value.striptags() if isinstance(value, Markup) else str(value)
    return Markup(' class="long"') if len(seen) > LONG else Markup("")


def _cell(value: object) -> Markup:
    if isinstance(value, bool):
        return Markup("yes") if value else Markup("no")
    if isinstance(value, float):
        return escape(f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}")
    return escape(f"{value:,}" if isinstance(value, int) else value)
