"""Plots as inline SVG, and grids of pictures, for the pages that `page` lays out.

Colours are the page's CSS variables, so a plot fits light and dark. The same numbers give the same bytes.
Draws what it is given and computes nothing but the binning of a histogram.
"""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from penstock.components.reporting.canvas import HEAT, INK, TEXT, colour, dashes, draw, shorten

__all__ = ["bars", "closing_in", "curves", "heatmap", "histogram", "image_grid", "intervals", "lines", "reliability"]

Values = Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer]

ANNOTATED_CLASSES = 20  # beyond it the figures in a heatmap's cells cannot be read
SMALL_IMAGE = 96  # pixels; smaller ones are enlarged without smoothing, because their pixels are what the model sees
THUMBNAIL = 192  # pixels; larger ones are shrunk to it and sent as JPEG, or a page of photos would weigh 10 MB


def bars(labels: Sequence[str], series: Mapping[str, Values], ylabel: str) -> Markup:
    """Draw one group of bars per label, one bar per series."""
    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        places, width = np.arange(len(labels)), 0.78 / max(len(series), 1)
        for index, (name, values) in enumerate(series.items()):
            offset = (index - (len(series) - 1) / 2) * width
            axes.bar(places + offset, values, width * 0.94, label=name, color=colour(index))
        axes.grid(axis="x", visible=False)
        _name_places(axes, labels, narrow)
        axes.set_ylabel(ylabel)
        _write_thousands(axes)
        return axes

    return draw(paint, 3.0, f"Bars: {ylabel} by {', '.join(series)}", len(series) > 1)


def histogram(values: Values, bins: int, xlabel: str, limits: Mapping[str, float] = {}) -> Markup:
    """Draw how many values fall into each of `bins` equal ranges.

    Args:
        limits: named places to mark with an upright line, such as what is allowed.
    """
    counts, edges = np.histogram(np.asarray(values), bins=bins)

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.94, align="edge", color=colour(0))
        for index, (name, place) in enumerate(limits.items(), start=1):
            axes.axvline(place, color=colour(index), linewidth=1.6, linestyle=(0, (5, 2)), label=name)
        axes.grid(axis="x", visible=False)
        axes.set(xlabel=xlabel, ylabel="count")
        axes.locator_params(axis="x", nbins=5 if narrow else 9)
        _write_thousands(axes)
        return axes

    return draw(paint, 2.6, f"Histogram of {xlabel}", bool(limits))


def lines(x: Values, series: Mapping[str, Values], xlabel: str, ylabel: str) -> Markup:
    """Draw one line per series over the common `x`; a NaN leaves a gap."""
    counted = all(float(value).is_integer() for value in x)  # epochs: there is none at 1.5

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        for index, (name, values) in enumerate(series.items()):
            axes.plot(x, values, label=name, color=colour(index), linestyle=dashes(index), linewidth=1.8,
                      marker="o" if len(x) <= 30 else "", markersize=3.5)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if counted:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6 if narrow else 10))
        _write_thousands(axes)
        return axes

    return draw(paint, 3.0, f"Lines: {ylabel} over {xlabel}", len(series) > 1)


def closing_in(x: Values, estimate: Values, lower: Values, upper: Values, limit: float, xlabel: str,
               ylabel: str, allowed: str = "allowed") -> Markup:
    """Draw an estimate and the interval around it as samples come in, beside what is allowed.

    Args:
        x: (N,) samples, ascending; the others have one value for each of them, a bound may be infinite.
        limit: drawn dashed. What lies far beyond it, as bounds do in the beginning, is cut off.
        allowed: name of the limit.
    """
    middle, low, high = (np.asarray(values, dtype=float) for values in (estimate, lower, upper))
    late = len(middle) // 3  # the first third may be anywhere
    shown = np.concatenate([middle[late:], low[late:], high[late:], [0.0, limit]])
    shown = shown[np.isfinite(shown)]
    margin = 0.08 * float(np.ptp(shown)) or 1.0
    bottom, top = float(shown.min()) - margin, float(shown.max()) + margin

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        axes.fill_between(x, np.clip(low, bottom, top), np.clip(high, bottom, top), color=colour(0), alpha=0.22,
                          linewidth=0, label="where it may truly be")
        axes.plot(x, middle, color=colour(0), linewidth=1.8, label="seen so far")
        axes.axhline(limit, color=colour(1), linewidth=1.6, linestyle=(0, (5, 2)), label=allowed)
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(bottom, top))
        axes.locator_params(axis="x", nbins=5 if narrow else 9)
        _write_thousands(axes)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        return axes

    return draw(paint, 3.0, f"{ylabel} over {xlabel}, closing in on an answer", legend=True)


def curves(series: Mapping[str, tuple[Values, Values]], xlabel: str, ylabel: str,
           chance: tuple[Values, Values] | None = None) -> Markup:
    """Draw curves of shares, such as ROC: one per series, each with its own x, in the unit square.

    Args:
        series: x and y of each curve, from 0 to 1.
        chance: x and y of what guessing would reach, drawn dashed.
    """
    def paint(figure: Figure, narrow: bool) -> Axes:
        figure.set_figheight(4.2)
        axes = figure.subplots()
        if chance:
            axes.plot(*chance, color=INK, linewidth=1, linestyle=(0, (4, 4)), label="chance")
        for index, (name, (x, y)) in enumerate(series.items()):
            axes.plot(x, y, label=shorten(name, narrow), color=colour(index), linestyle=dashes(index), linewidth=1.6)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        return axes

    return draw(paint, 4.2, f"Curves: {ylabel} over {xlabel} for {', '.join(series)}", legend=True)


def heatmap(matrix: Sequence[Values] | npt.NDArray[np.generic], labels: Sequence[str], xlabel: str,
            ylabel: str) -> Markup:
    """Draw a square matrix, such as confusion counts [row][column]; the fuller the colour, the larger the number.

    Colour grows with the square root, so that a few errors beside many hits can be seen.
    """
    cells = np.asarray(matrix, dtype=float)
    top = float(cells.max(initial=0)) or 1.0
    size = len(labels)

    def paint(figure: Figure, narrow: bool) -> Axes:
        figure.set_figheight(min(figure.get_figwidth() * (1.05 if narrow else 0.8), 1.6 + 0.42 * size))
        axes = figure.subplots()
        for row, column in zip(*np.nonzero(cells), strict=True):
            strength = float(np.sqrt(max(cells[row, column], 0) / top))
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 0.96, 0.96, color=HEAT, alpha=strength, lw=0,
                                     in_layout=False))  # nor the texts: the layout would measure each of them
            if size <= (ANNOTATED_CLASSES // 2 if narrow else ANNOTATED_CLASSES):
                axes.text(column, row, f"{cells[row, column]:,.4g}", ha="center", va="center",
                          fontsize=7 if narrow else 8.5, color=TEXT, in_layout=False)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=xlabel, ylabel=ylabel)
        _name_places(axes, labels, narrow)
        axes.set_yticks(range(size), [shorten(label, narrow) for label in labels])
        return axes

    return draw(paint, 3.0, f"Matrix of {ylabel} (rows) against {xlabel} (columns)", axes_grid=False,
                axes_spines_bottom=False, xtick_bottom=False)


def reliability(confidence: Values, accuracy: Values, counts: Values) -> Markup:
    """Draw accuracy against stated confidence, one point per bin, above the number of rows in each.

    A calibrated model lies on the diagonal. The three have one value per bin; a bin without rows is left out.
    """
    rows = np.asarray(counts)
    kept = rows > 0
    stated, reached = np.asarray(confidence)[kept], np.asarray(accuracy)[kept]

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes: Axes
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 4)), label="calibrated")
        axes.plot(stated, reached, color=colour(0), linewidth=1.8, marker="o", markersize=4.5, label="this model")
        axes.vlines(stated, stated, reached, color=colour(1), linewidth=1.4, label="gap")
        axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        drawn = below.bar(stated, rows[kept], width=0.6 / max(len(rows), 1), color=colour(0))
        if not narrow:
            below.bar_label(drawn, [f"{count:,}" for count in rows[kept]], fontsize=7.5, padding=1)
            below.margins(y=0.25)
        below.set(xlabel="confidence", ylabel="rows")
        below.grid(axis="x", visible=False)
        _write_thousands(below)
        figure.align_ylabels()
        return axes

    return draw(paint, 4.4, "Accuracy against confidence, and the rows behind each point", legend=True)


def intervals(labels: Sequence[str], estimates: Values, lowers: Values, uppers: Values, xlabel: str) -> Markup:
    """Draw one estimate per label with its interval, from top to bottom."""
    middle, low, high = (np.asarray(values, dtype=float) for values in (estimates, lowers, uppers))

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        places = np.arange(len(labels))
        axes.hlines(places, low, high, color=colour(0), linewidth=2.2, alpha=0.55)
        axes.plot(middle, places, "o", color=colour(0), markersize=5)
        axes.set_yticks(places, [shorten(label, narrow) for label in labels])
        axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel=xlabel)
        axes.locator_params(axis="x", nbins=5 if narrow else 9)
        axes.grid(axis="y", visible=False)
        return axes

    return draw(paint, 0.9 + 0.3 * len(labels), f"Intervals of {xlabel}")


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
    return Markup('<div class="images" style="--columns: {}">\n{}</div>\n').format(columns, figures)


def _data_url(image: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    kind = "JPEG" if max(picture.size) > THUMBNAIL else "PNG"
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _write_thousands(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def _name_places(axes: Axes, labels: Sequence[str], narrow: bool) -> None:
    """Write labels below the x axis, slanted where they would touch."""
    names = [shorten(label, narrow) for label in labels]
    crowded = sum(len(name) + 2 for name in names) > (40 if narrow else 95)
    axes.set_xticks(range(len(names)), names, rotation=35 if crowded else 0, ha="right" if crowded else "center",
                    rotation_mode="anchor" if crowded else "default")
