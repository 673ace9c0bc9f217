"""Plots of a search: which values each trial took and what came of it, and how the best grew trial by trial.

Takes plain values, so that any step with something to compare can use it. Knows neither Katib nor a report.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from penstock.components.reporting.canvas import CARD, INK, colour, draw, shorten

__all__ = ["Axis", "history", "parallel_coordinates"]

TICKS = 5  # names along one upright axis
MOST_CATEGORIES = 12  # named along one axis


class Axis(NamedTuple):
    """One upright axis of parallel coordinates.

    Attributes:
        values: one per trial; texts are categories, numbers among them placed by size, others as they first appear.
        log: equal steps are equal factors; every finite value must be above 0.
    """

    name: str
    values: Sequence[float] | Sequence[str]
    log: bool = False


def parallel_coordinates(axes: Sequence[Axis], best: int = -1) -> Markup:
    """Draw one line per trial through its value on each axis; the last axis is what was sought.

    Args:
        axes: two or more, all with the same number of values; NaN ends a trial's line before that axis.
        best: index of the trial to draw strong; -1: none.
    """
    scales = [_Scale(axis) for axis in axes]
    heights = np.array([scale.heights for scale in scales])  # (axes, trials)
    places = np.arange(len(axes))

    def paint(figure: Figure, narrow: bool) -> Axes:
        plot = figure.subplots()
        for trial, line in enumerate(heights.T):
            if trial != best:
                plot.plot(places, line, color=colour(0), linewidth=1.1, alpha=0.45, marker="o", markersize=2.5)
        if 0 <= best < heights.shape[1]:
            plot.plot(places, heights[:, best], color=colour(1), linewidth=2.4, marker="o", markersize=5, label="best")
        for place, scale in zip(places, scales, strict=True):
            plot.axvline(float(place), color=INK, linewidth=0.8, alpha=0.5, zorder=0.5)
            for height, name in scale.ticks:
                plot.annotate(shorten(name, narrow), (place, height), (5, 0), fontsize=7.5,
                              textcoords="offset points", va="center",
                              bbox={"facecolor": CARD, "edgecolor": "none", "alpha": 0.85, "pad": 0.8}, zorder=5)
        plot.grid(visible=False)
        plot.set(xlim=(-0.05, (len(axes) - 1) * (1.12 if narrow else 1.06)), ylim=(-0.06, 1.06), yticks=[])
        crowded = narrow and sum(len(axis.name) + 2 for axis in axes) > 40
        plot.set_xticks(places, [axis.name for axis in axes], rotation=35 if crowded else 0,
                        ha="right" if crowded else "center")
        return plot

    names = ", ".join(axis.name for axis in axes)
    return draw(paint, 3.8, f"Parallel coordinates of {heights.shape[1]} trials: {names}", legend=best >= 0)


def history(values: Sequence[float], ylabel: str, goal_type: Literal["maximize", "minimize"],
            goal: float | None = None) -> Markup:
    """Draw what each trial reached, in order, and the best so far.

    Args:
        values: one per trial; NaN is a trial that failed, marked at the bottom.
        goal: value at which the search would stop, drawn dashed.
    """
    reached = np.asarray(values, dtype=float)
    number = np.arange(1, len(reached) + 1)
    failed = ~np.isfinite(reached)
    better = np.fmax if goal_type == "maximize" else np.fmin
    best: npt.NDArray[np.floating] = better.accumulate(np.where(failed, math.nan, reached))

    def paint(figure: Figure, narrow: bool) -> Axes:
        axes = figure.subplots()
        axes.step(number, best, where="post", color=colour(1), linewidth=2, label="best so far")
        axes.plot(number[~failed], reached[~failed], "o", color=colour(0), markersize=5, label="trial")
        if goal is not None:
            axes.axhline(goal, color=INK, linewidth=1, linestyle=(0, (4, 4)), label="goal")
        if failed.any():
            axes.plot(number[failed], np.full(failed.sum(), 0.03), "x", color=colour(4), markersize=6, label="failed",
                      transform=axes.get_xaxis_transform())
        axes.set(xlabel="trial", ylabel=ylabel, xlim=(0.5, len(reached) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return axes

    return draw(paint, 3.0, f"History: {ylabel} of {len(reached)} trials and the best so far", legend=True)


class _Scale:
    """Heights from 0 to 1 of an axis's values, and the names along it."""

    def __init__(self, axis: Axis) -> None:
        texts = [value for value in axis.values if isinstance(value, str)]
        if texts:
            order = _in_order(dict.fromkeys(str(value) for value in axis.values))
            step = 1 / max(len(order) - 1, 1)
            self.heights = np.array([order.index(str(value)) * step if len(order) > 1 else 0.5
                                     for value in axis.values])
            self.ticks = [(place * step if len(order) > 1 else 0.5, name)
                          for place, name in enumerate(order[:MOST_CATEGORIES])]
            return
        numbers = np.asarray(axis.values, dtype=float)
        numbers = np.where(np.isfinite(numbers), numbers, math.nan)
        scaled = np.log10(numbers) if axis.log else numbers
        known = scaled[np.isfinite(scaled)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        if low == high:
            self.heights = np.where(np.isfinite(scaled), 0.5, math.nan)
            self.ticks = [(0.5, _number(known[0], axis.log))] if len(known) else []
            return
        self.heights = (scaled - low) / (high - low)
        places = np.linspace(low, high, TICKS)
        if not axis.log and (known == known.round()).all():
            places = np.unique(places.round())  # there is no batch of 41.5 rows
        self.ticks = [(float((place - low) / (high - low)), _number(place, axis.log)) for place in places]


def _in_order(texts: Iterable[str]) -> list[str]:
    """Return numbers by size, other texts as they come."""
    try:
        return sorted(texts, key=float)
    except ValueError:
        return list(texts)


def _number(value: float, log: bool) -> str:
    number = 10**value if log else value
    return f"{number:,.0f}" if number == round(number) else f"{number:.3g}"
