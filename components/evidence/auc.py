"""Areas under ROC curves of weighted rows, thousands of weightings at once.

What `bootstrap` needs of a ranking; measures no single model for a report.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ContractError

__all__ = ["Ranks"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class _Class(NamedTuple):
    """The rows of a class among the others by score; an `edge` is a place in `others`, before the row there."""

    members: Indices  # (P,)
    others: Indices  # (Q,) the lowest score first
    edges: Indices  # (E,) places that matter; the first is 0, the last is Q
    below: Indices  # (P,) the edge up to which others score below the member
    level: Indices  # (P,) the edge up to which they score below or the same
    above: Floats  # (Q,) members that score above the other row, ties counting half


class Ranks:
    """Every class against the rest, sorted once.

    Args:
        labels: (N,) true classes.
        scores: (N, classes) the higher, the likelier the class; a class without a row, or with all, is left out.

    Raises:
        ContractError: the shapes do not fit, a score is NaN, or no class can be ranked.
    """

    def __init__(self, labels: npt.NDArray[np.integer], scores: npt.NDArray[np.floating]) -> None:
        if scores.ndim != 2 or labels.shape != scores.shape[:1] or np.isnan(scores).any():
            raise ContractError(f"labels of shape {labels.shape} and scores of shape {scores.shape} do not fit, or a "
                                f"score is NaN; give one score to each class of every row")
        self._rows = len(labels)
        belongs = [labels == index for index in range(scores.shape[1])]
        self._classes = [_sorted(scores[:, index], inside) for index, inside in enumerate(belongs)
                         if 0 < inside.sum() < self._rows]
        if not self._classes:
            raise ContractError("all rows are of one class; an AUC needs rows of two")

    def macro(self, weights: npt.NDArray[np.float32]) -> Floats:
        """Average the areas over the classes that have weight inside and outside, as `ranking.rank_classes` does.

        Args:
            weights: (N, R) how often each row counts, in each of R weightings.

        Returns:
            (R,); NaN where no class can be ranked.
        """
        areas = np.stack([_area(group, weights) for group in self._classes])
        known = np.isfinite(areas)
        with np.errstate(invalid="ignore"):  # a resample of one class only
            mean: Floats = np.where(known, areas, 0).sum(axis=0) / known.sum(axis=0)
        return mean

    def left_out(self) -> Floats:
        """(N,) the average without each row in turn, in closed form; a class's only row leaves its area as it is."""
        total = np.zeros(self._rows)
        for group in self._classes:
            members, others = len(group.members), len(group.others)
            area = group.above.sum() / members / others
            beaten = (group.edges[group.below] + group.edges[group.level]) / 2
            without = np.full(self._rows, area)
            if members > 1:
                without[group.members] = (group.above.sum() - beaten) / (members - 1) / others
            if others > 1:
                without[group.others] = (group.above.sum() - group.above) / members / (others - 1)
            total += without
        return total / len(self._classes)


def _sorted(scores: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_]) -> _Class:
    members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
    others = others[np.argsort(scores[others], kind="stable")]
    below, level = (np.searchsorted(scores[others], scores[members], side) for side in ("left", "right"))
    edges = np.unique(np.concatenate([[0, len(others)], below, level]))
    ordered = np.sort(scores[members])
    reached = [len(members) - np.searchsorted(ordered, scores[others], side) for side in ("left", "right")]
    return _Class(members, others, edges, np.searchsorted(edges, below), np.searchsorted(edges, level),
                  (reached[0] + reached[1]) / 2)


def _area(group: _Class, weights: npt.NDArray[np.float32]) -> Floats:
    """(R,) the share of weighted pairs in which the member scores above the other, ties counting half."""
    between = np.add.reduceat(weights[group.others], group.edges[:-1], axis=0)
    passed = np.concatenate([np.zeros_like(between[:1]), np.cumsum(between, axis=0)])
    member = weights[group.members]
    won = np.einsum("pr,pr->r", member, passed[group.below] + passed[group.level], dtype=np.float64) / 2
    pairs = member.sum(axis=0, dtype=np.float64) * passed[-1]
    with np.errstate(invalid="ignore"):  # no pair in this resample
        area: Floats = won / pairs
    return area
