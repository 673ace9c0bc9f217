"""Which rows of a dataset the conversion steps look at.

Reads rows; runs no model.
"""

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import StepError

__all__ = ["HELD_OUT", "choose_split", "spread"]

HELD_OUT = ("validation", "test", "train")  # where no split is asked for: the first that has rows


def choose_split(dataset: Dataset, asked: str = "") -> str:
    """Return the split to measure on: the one asked for, or with "" the first of `HELD_OUT` that has rows.

    Raises:
        StepError: it has no rows.
    """
    filled = [name for name, entry in dataset.manifest.splits.items() if entry.rows]
    split = asked or next((name for name in HELD_OUT if name in filled), "")
    if not split:
        raise StepError(f"{dataset.folder} has no rows in any of {HELD_OUT}: there is nothing to measure on")
    if split not in filled:
        raise StepError(f"split={asked!r} has no rows in {dataset.folder}; the splits with rows are {sorted(filled)}")
    return split


def spread(rows: int, count: int) -> npt.NDArray[np.intp]:
    """Choose `count` of `rows` rows at equal distances: all of them where there are no more.

    Returns:
        (count,) indices, ascending.
    """
    return np.linspace(0, rows - 1, min(count, rows)).round().astype(np.intp)
