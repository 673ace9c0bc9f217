"""How well a classifier ranks rows, one class against the rest: ROC and precision-recall curves, and their areas.

Pure functions from arrays to numbers and curves, as `metrics` is; needs no threshold and no verdict.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.reports import RankingMetrics

__all__ = ["Curve", "Ranked", "Ranking", "rank", "rank_classes", "ranking_metrics"]

Floats = npt.NDArray[np.floating]
CURVE_POINTS = 200  # kept of a curve: what is left out lies within a line's width
GRID = np.linspace(0, 1, 401)  # false positive rates, and recalls, at which curves are averaged


class Curve(NamedTuple):
    """Points of a curve in the unit square, from left to right."""

    x: Floats
    y: Floats


class Ranked(NamedTuple):
    """How well scores put the rows of a class before the others.

    Attributes:
        roc: true positive rate over false positive rate.
        precision: precision over recall.
        auc: area under `roc`: the chance that a row of the class scores above another one, ties counting half.
        average_precision: precision averaged over the rows of the class, each at its own score.
    """

    roc: Curve
    precision: Curve
    auc: float
    average_precision: float


class Ranking(NamedTuple):
    """Every class against the rest, and their averages; None where there is nothing to rank.

    Attributes:
        classes: one per class.
        macro: each class counts the same.
        micro: each row counts the same: all pairs of row and class are ranked at once.
    """

    classes: list[Ranked | None]
    macro: Ranked | None
    micro: Ranked | None


def rank(scores: Floats, belongs: npt.NDArray[np.bool_]) -> Ranked | None:
    """Rank rows by score; None where all rows belong, or none does, so that there is nothing to rank.

    Args:
        scores: (N,) the higher, the likelier the row belongs.
        belongs: (N,) whether it does.
    """
    inside, outside = np.sort(scores[belongs]), np.sort(scores[~belongs])
    if not len(inside) or not len(outside):
        return None
    below, level = np.searchsorted(outside, inside, "left"), np.searchsorted(outside, inside, "right")
    thresholds = np.unique(inside)[::-1]
    hits = len(inside) - np.searchsorted(inside, thresholds, "left")
    false = len(outside) - np.searchsorted(outside, thresholds, "left")
    above = len(outside) - np.searchsorted(outside, thresholds, "right")
    recall, precision = hits / len(inside), hits / (hits + false)
    # Between two thresholds the curve first goes right over the rows that score between them, then up.
    corners = np.stack([above, false], axis=1).ravel() / len(outside)
    heights = np.stack([np.concatenate([[0], hits[:-1]]), hits], axis=1).ravel() / len(inside)
    return Ranked(
        roc=_thin(np.concatenate([[0.0], corners, [1.0]]), np.concatenate([[0.0], heights, [1.0]])),
        precision=_thin(np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])),
        auc=float((below + level).mean() / 2 / len(outside)),
        average_precision=float((np.diff(recall, prepend=0.0) * precision).sum()))


def rank_classes(probabilities: Floats, labels: npt.NDArray[np.integer]) -> Ranking:
    """Rank the rows of each class by its probability.

    Args:
        probabilities: (N, classes).
        labels: (N,) class indices.
    """
    belongs = labels[:, None] == np.arange(probabilities.shape[1])
    classes = [rank(scores, column) for scores, column in zip(probabilities.T, belongs.T, strict=True)]
    return Ranking(classes, _average(classes), rank(probabilities.ravel(), belongs.ravel()))


def ranking_metrics(ranked: Sequence[Ranked | None], names: Sequence[str]) -> tuple[RankingMetrics, ...]:
    """Return the areas of every class that can be ranked."""
    return tuple(RankingMetrics(name=name, auc=entry.auc, average_precision=entry.average_precision)
                 for name, entry in zip(names, ranked, strict=True) if entry)


def _average(ranked: Sequence[Ranked | None]) -> Ranked | None:
    known = [entry for entry in ranked if entry]
    if not known:
        return None

    def average(curves: Sequence[Curve], start: float) -> Curve:
        heights = np.mean([np.interp(GRID, curve.x, curve.y) for curve in curves], axis=0)
        return Curve(np.concatenate([[0.0], GRID]), np.concatenate([[start], heights]))

    tops = float(np.mean([entry.precision.y[0] for entry in known]))
    return Ranked(average([entry.roc for entry in known], 0.0), average([entry.precision for entry in known], tops),
                  float(np.mean([entry.auc for entry in known])),
                  float(np.mean([entry.average_precision for entry in known])))


def _thin(x: Floats, y: Floats) -> Curve:
    """Keep points that lie evenly along the curve, both ends among them."""
    if len(x) <= CURVE_POINTS:
        return Curve(x, y)
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], CURVE_POINTS)))
    kept = np.union1d(np.minimum(kept, len(x) - 1), [0, len(x) - 1])
    return Curve(x[kept], y[kept])
