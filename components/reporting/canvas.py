"""What every plot is drawn on: one style, the page's colours, and the same plot twice, for a wide screen and a phone.

A plot that shrinks with the screen cannot be read on a phone: 10 points would be 6 pixels. So each is drawn in two
widths, and the page shows the one that fits; each costs about 0.1 s (2 cores, 2026-11-21). Draws no data itself.
"""

import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["CARD", "HEAT", "INK", "TEXT", "Paint", "colour", "dashes", "draw", "shorten"]

Paint = Callable[[Figure, bool], Axes]  # paints on the figure, whether it is the narrow one; returns who has the legend

# matplotlib wants colours as numbers; these stand for the page's variables and are exchanged in the SVG text.
INK, LINE, TEXT, CARD, HEAT = "#000001", "#000002", "#000003", "#000004", "#000005"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015")
VARIABLES = {INK: "currentColor", LINE: "var(--line)", TEXT: "var(--ink)",
             CARD: "var(--card)", HEAT: "var(--heat)"} | {
    number: f"var(--series-{index})" for index, number in enumerate(SERIES, start=1)
}
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))  # one after another, as the colours come round again
STYLE: dict[Any, Any] = {  # matplotlib's own type is a Literal of every setting's name
    "svg.fonttype": "none", "svg.hashsalt": "penstock", "text.parse_math": False, "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": LINE, "axes.facecolor": "none", "axes.axisbelow": True, "axes.grid": True, "grid.color": LINE,
    "grid.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "ytick.left": False,
    "figure.facecolor": "none", "legend.frameon": False, "legend.borderaxespad": 0,
}  # fmt: skip
WIDE, NARROW = 8.4, 4.2  # inches; the SVG scales to its place, this sets the size of the text in it
LETTERS_PER_INCH = 13  # of text in 10 points
LONGEST_LABEL = 16  # letters of a name on a phone


def draw(paint: Paint, height: float, description: str, legend: bool = False, **style: object) -> Markup:
    """Draw a plot for both widths.

    Args:
        paint: called once per width with an empty figure.
        height: inches; `paint` may set another.
        description: for who cannot see the plot.
        legend: name the series above the axes that `paint` returns.
        style: matplotlib settings of this plot alone, with `_` for `.`.

    Returns:
        One `<figure>` with two `<svg>`; the same data gives the same bytes.
    """
    own = {name.replace("_", "."): value for name, value in style.items()}
    drawn = Markup("").join(_svg(paint, width, height, description, legend, own) for width in (WIDE, NARROW))
    return Markup("<figure>{}</figure>\n").format(drawn)


def colour(index: int) -> str:
    """Return the colour of a series; they come round again after the fifth."""
    return SERIES[index % len(SERIES)]


def dashes(index: int) -> Any:
    """Return the line style of a series, so that the sixth differs from the first."""
    return DASHES[index // len(SERIES) % len(DASHES)]


def shorten(name: str, narrow: bool) -> str:
    """Cut a name that would leave no room for the plot on a phone."""
    return name if not narrow or len(name) <= LONGEST_LABEL else f"{name[:LONGEST_LABEL - 1]}…"


def _svg(paint: Paint, width: float, height: float, description: str, legend: bool,
         style: dict[Any, Any]) -> Markup:
    narrow = width == NARROW
    buffer = io.StringIO()
    with rc_context(STYLE | style):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = paint(figure, narrow)
        if legend:
            _name_series(axes, width)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    head, body = re.match(r".*?<svg ([^>]*)>(.*)", buffer.getvalue(), re.DOTALL).groups()  # type: ignore[union-attr]
    head = re.sub(r'(width|height)="[^"]*pt" ?', "", head)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # numbered per figure, so they would repeat within a page
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)  # matplotlib 3.10; later ones write two fields
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    body = re.sub("|".join(VARIABLES), lambda found: VARIABLES[found[0]], body)
    return Markup('<svg class="{}" role="img" aria-label="{}" {}>{}').format(
        "narrow" if narrow else "wide", description, Markup(head), Markup(body))


def _name_series(axes: Axes, width: float) -> None:
    """Write the legend above the plot, in as many columns as there is room for."""
    handles, names = axes.get_legend_handles_labels()
    room = int(width * LETTERS_PER_INCH / (max(map(len, names), default=0) + 6))  # 6: the sample of the line
    axes.legend(handles, names, loc="lower right", bbox_to_anchor=(1, 1.02), ncols=max(1, min(room, len(names))))
