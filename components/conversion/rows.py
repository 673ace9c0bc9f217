"""Which rows of a dataset the conversion steps look at, and whether a model can answer them.

Reads rows; runs no model.
"""

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.model import Model

__all__ = ["HELD_OUT", "choose_split", "require_fit", "spread"]

HELD_OUT = ("validation", "test", "train")  # where no split is asked for: the first that has rows


def choose_split(dataset: Dataset, asked: str = "") -> str:
    """Return the split to measure on: the one asked for, or with "" the first of `HELD_OUT` that has rows.

    Raises:
        StepError: it has no rows.
    """
    filled = [name for name, entry in dataset.manifest.splits.items() if entry.rows]
    split = asked or next((name for name in HELD_OUT if name in filled), "")
    if split not in filled:
        raise StepError(f"split={asked!r} has no rows in {dataset.folder}; the splits with rows are {sorted(filled)}")
    return split


def require_fit(model: Model, dataset: Dataset) -> None:
    """Make sure that an exported model can answer the rows of a dataset.

    Raises:
        ContractError: it was made for other classes or another image shape.
    """
    knows, has = model.manifest.signature, dataset.description
    if (knows.classes, knows.image_shape) != (has.classes, has.image.shape):
        raise ContractError(
            f"{model.folder} answers {knows.image_shape} images of {list(knows.classes)}, {dataset.folder} holds "
            f"{has.image.shape} images of {list(has.classes)}; give the dataset that the model was trained on")


def spread(rows: int, count: int) -> npt.NDArray[np.intp]:
    """Choose `count` of `rows` rows at equal distances: all of them where there are no more.

    Returns:
        (count,) indices, ascending.
    """
    return np.linspace(0, rows - 1, min(count, rows)).round().astype(np.intp)
