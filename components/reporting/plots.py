"""Plots as inline SVG, and grids of pictures, for the pages that `page` lays out.

Colours are the page's CSS variables, so a plot fits light and dark. The same numbers give the same bytes.
Draws what it is given and computes nothing but the binning of a histogram.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from PIL import Image

__all__ = ["bars", "heatmap", "histogram", "image_grid", "intervals", "lines", "reliability"]

Values = Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer]

# matplotlib wants colours as numbers; these stand for the page's variables and are exchanged in the SVG text.
INK, LINE, ON_SERIES = "#000001", "#000002", "#000003"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015")
VARIABLES = {INK: "currentColor", LINE: "var(--line)", ON_SERIES: "var(--on-series)"} | {
    colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)
}
STYLE: dict[Any, Any] = {  # matplotlib's own type is a Literal of every setting's name
    "svg.fonttype": "none", "svg.hashsalt": "penstock", "text.parse_math": False, "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": LINE, "axes.facecolor": "none", "axes.axisbelow": True, "axes.grid": True, "grid.color": LINE,
    "grid.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "ytick.left": False,
    "figure.facecolor": "none", "legend.frameon": False, "legend.borderaxespad": 0,
}  # fmt: skip
WIDTH = 8.4  # inches; the SVG scales to the page, this sets the size of the text in it
ANNOTATED_CLASSES = 20  # beyond it the figures in a heatmap's cells cannot be read
SMALL_IMAGE = 96  # pixels; smaller ones are enlarged without smoothing, because their pixels are what the model sees
THUMBNAIL = 192  # pixels; larger ones are shrunk to it and sent as JPEG, or a page of photos would weigh 10 MB


def bars(labels: Sequence[str], series: Mapping[str, Values], ylabel: str) -> Markup:
    """Draw one group of bars per label, one bar per series."""
    with rc_context(STYLE):
        figure, axes = _axes(3.0)
        places, width = np.arange(len(labels)), 0.78 / max(len(series), 1)
        for index, (name, values) in enumerate(series.items()):
            offset = (index - (len(series) - 1) / 2) * width
            axes.bar(places + offset, values, width * 0.94, label=name, color=_colour(index))
        axes.grid(axis="x", visible=False)
        _name_places(axes, labels)
        axes.set_ylabel(ylabel)
        _write_thousands(axes)
        return _svg(figure, axes, f"Bars: {ylabel} by {', '.join(series)}", len(series) > 1)


def histogram(values: Values, bins: int, xlabel: str) -> Markup:
    """Draw how many values fall into each of `bins` equal ranges."""
    with rc_context(STYLE):
        figure, axes = _axes(2.6)
        counts, edges = np.histogram(np.asarray(values), bins=bins)
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.94, align="edge", color=_colour(0))
        axes.grid(axis="x", visible=False)
        axes.set(xlabel=xlabel, ylabel="count")
        _write_thousands(axes)
        return _svg(figure, axes, f"Histogram of {xlabel}")


def lines(x: Values, series: Mapping[str, Values], xlabel: str, ylabel: str) -> Markup:
    """Draw one line per series over the common `x`; a NaN leaves a gap."""
    with rc_context(STYLE):
        figure, axes = _axes(3.0)
        for index, (name, values) in enumerate(series.items()):
            axes.plot(x, values, label=name, color=_colour(index), linewidth=1.8, marker="o" if len(x) <= 30 else "",
                      markersize=3.5)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _write_thousands(axes)
        return _svg(figure, axes, f"Lines: {ylabel} over {xlabel}", len(series) > 1)


def heatmap(matrix: Sequence[Values] | npt.NDArray[np.generic], labels: Sequence[str], xlabel: str,
            ylabel: str) -> Markup:
    """Draw a square matrix, such as confusion counts [row][column]; the fuller the colour, the larger the number.

    Colour grows with the square root, so that a few errors beside many hits can be seen.
    """
    cells = np.asarray(matrix, dtype=float)
    top = float(cells.max(initial=0)) or 1.0
    size = len(labels)
    with rc_context(STYLE | {"axes.grid": False, "axes.spines.bottom": False, "xtick.bottom": False}):
        figure, axes = _axes(min(WIDTH * 0.8, 1.6 + 0.42 * size))
        for row, column in zip(*np.nonzero(cells), strict=True):
            strength = float(np.sqrt(max(cells[row, column], 0) / top))
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 0.96, 0.96, color=_colour(0), alpha=strength, lw=0))
            if size <= ANNOTATED_CLASSES:
                axes.text(column, row, f"{cells[row, column]:,.4g}", ha="center", va="center", fontsize=8.5,
                          color=ON_SERIES if strength > 0.6 else INK)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=xlabel, ylabel=ylabel)
        _name_places(axes, labels)
        axes.set_yticks(range(size), labels)
        return _svg(figure, axes, f"Matrix of {ylabel} (rows) against {xlabel} (columns)")


def reliability(confidence: Values, accuracy: Values, counts: Values) -> Markup:
    """Draw accuracy against stated confidence, one point per bin, above the number of rows in each.

    A calibrated model lies on the diagonal. The three have one value per bin; a bin without rows is left out.
    """
    rows = np.asarray(counts)
    kept = rows > 0
    stated, reached = np.asarray(confidence)[kept], np.asarray(accuracy)[kept]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 4)), label="calibrated")
        axes.plot(stated, reached, color=_colour(0), linewidth=1.8, marker="o", markersize=4.5, label="this model")
        axes.vlines(stated, stated, reached, color=_colour(1), linewidth=1.4, label="gap")
        axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        below.bar(stated, rows[kept], width=0.6 / max(len(rows), 1), color=_colour(0))
        below.set(xlabel="confidence", ylabel="rows")
        below.grid(axis="x", visible=False)
        _write_thousands(below)
        return _svg(figure, axes, "Accuracy against confidence", legend=True)


def intervals(labels: Sequence[str], estimates: Values, lowers: Values, uppers: Values, xlabel: str) -> Markup:
    """Draw one estimate per label with its interval, from top to bottom."""
    middle, low, high = (np.asarray(values, dtype=float) for values in (estimates, lowers, uppers))
    with rc_context(STYLE):
        figure, axes = _axes(0.9 + 0.3 * len(labels))
        places = np.arange(len(labels))
        axes.hlines(places, low, high, color=_colour(0), linewidth=2.2, alpha=0.55)
        axes.plot(middle, places, "o", color=_colour(0), markersize=5)
        axes.set_yticks(places, labels)
        axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel=xlabel)
        axes.grid(axis="y", visible=False)
        return _svg(figure, axes, f"Intervals of {xlabel}")


def image_grid(images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int = 10) -> Markup:
    """Lay out pictures with a caption below each.

    Args:
        images: (N, H, W, C) uint8 with 1 or 3 channels.
        captions: N texts; "" leaves one out.
        columns: pictures per row on a wide screen; a phone shows fewer.
    """
    small = Markup(' class="small"') if len(images) and max(images.shape[1:3]) < SMALL_IMAGE else ""
    figures = Markup("").join(
        Markup('<div><img{} alt="{}" src="{}">{}</div>\n').format(
            small, caption, _data_url(image), Markup("<span>{}</span>").format(caption) if caption else "")
        for image, caption in zip(images, captions, strict=True))
    return Markup('<div class="images" style="grid-template-columns: repeat({}, minmax(0, 1fr))">\n{}</div>\n').format(
        columns, figures)


def _data_url(image: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    kind = "JPEG" if max(picture.size) > THUMBNAIL else "PNG"
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _write_thousands(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _name_places(axes: Axes, labels: Sequence[str]) -> None:
    """Write labels below the x axis, slanted where they would touch."""
    crowded = sum(len(label) + 2 for label in labels) > 95
    axes.set_xticks(range(len(labels)), labels, rotation=35 if crowded else 0, ha="right" if crowded else "center",
                    rotation_mode="anchor" if crowded else "default")


def _svg(figure: Figure, axes: Axes, description: str, legend: bool = False) -> Markup:
    if legend:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=6)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    head, body = re.match(r".*?<svg ([^>]*)>(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    head = re.sub(r'(width|height)="[^"]*pt" ?', "", head)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # numbered per figure, so they would repeat within a page
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)  # matplotlib 3.10; later ones write two fields
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    body = re.sub("|".join(VARIABLES), lambda found: VARIABLES[found[0]], body)
    return Markup('<figure><svg role="img" aria-label="{}" {}>{}</figure>\n').format(
        description, Markup(head), Markup(body))
