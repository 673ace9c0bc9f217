"""Which pictures occur more than once: within a split, between splits, or under two labels.

Works on numbers that stand for pictures; reads no file and judges nothing.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Repeats", "find_repeats"]

Rows = npt.NDArray[np.integer]


class Repeats(NamedTuple):
    """Pictures that occur more than once.

    Attributes:
        surplus: per split, its rows beyond the first of each picture.
        conflicting: pictures that carry more than one label, in whatever split.
        shared: per pair of splits ("train/test"), the pictures that are in both.
        groups: (picture, rows) of every picture that repeats, the largest groups first; rows count over all splits.
    """

    surplus: dict[str, int]
    conflicting: int
    shared: dict[str, int]
    groups: list[tuple[int, list[int]]]


def find_repeats(pictures: Rows, labels: Rows, splits: npt.NDArray[np.str_]) -> Repeats:
    """Compare all rows with each other.

    Args:
        pictures: (N,) equal numbers for equal pictures.
        labels: (N,) class indices.
        splits: (N,) name of the split that each row is in.
    """
    names = list(dict.fromkeys(splits.tolist()))
    distinct = {name: np.unique(pictures[splits == name]) for name in names}
    pairs = np.unique(np.stack([pictures, labels], axis=1), axis=0) if len(pictures) else np.empty((0, 2), int)
    labels_per_picture = np.unique(pairs[:, 0], return_counts=True)[1]

    seen, first_row, counts = np.unique(pictures, return_inverse=True, return_counts=True)
    order = np.argsort(first_row, kind="stable")
    starts = np.cumsum(counts) - counts
    repeated = sorted(np.flatnonzero(counts > 1).tolist(), key=lambda index: (-int(counts[index]), index))
    return Repeats(
        surplus={name: int(np.sum(splits == name)) - len(distinct[name]) for name in names},
        conflicting=int(np.sum(labels_per_picture > 1)),
        shared={f"{one}/{other}": len(np.intersect1d(distinct[one], distinct[other]))
                for one, other in combinations(names, 2)},
        groups=[(int(seen[index]), order[starts[index] : starts[index] + counts[index]].tolist())
                for index in repeated])
