"""What a source hands over, and the choices that all sources make alike: which rows, which pixels.

Knows no source and writes no file.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from penstock.components.contracts.dataset import Description
from penstock.components.contracts.image import picture_pixels

__all__ = ["SourceRows", "choose_rows", "first_few", "fit_images"]

NAMED = 5  # things an error names; the count says how many more there are


class SourceRows(NamedTuple):
    """A source, read.

    Attributes:
        splits: per split a table with the columns that `Dataset.read` returns.
        fingerprint: another one if the source changed, so that a step never takes old rows for new ones.
    """

    description: Description
    splits: dict[str, pa.Table]
    fingerprint: str


def choose_rows(labels: npt.NDArray[np.integer], limit: int) -> npt.NDArray[np.intp]:
    """Choose at most `limit` rows, taking in turns the first of every class, the second of every class, and so on.

    Args:
        labels: (N,) class indices.
        limit: 0 chooses all.

    Returns:
        Ascending indices; those for a smaller limit are among those for a larger one.
    """
    if not limit or limit >= len(labels):
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    turn = np.empty(len(labels), np.intp)
    turn[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(np.argsort(turn, kind="stable")[:limit])


def first_few(items: Iterable[str]) -> str:
    """Join the first few texts with semicolons, and count the others."""
    texts = list(items)
    listed = "; ".join(texts[:NAMED])
    return listed if len(texts) <= NAMED else f"{listed}; and {len(texts) - NAMED:,} more"


def fit_images(images: npt.NDArray[np.uint8], image_size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Bring equal-sized images to the asked size and channels, just as `decode_image` does for a file.

    Args:
        images: (N, H, W, C) uint8.
        image_size: pixels; 0 keeps the size.
        channels: 1 or 3; 0 keeps them.
    """
    count, height, width, present = images.shape
    size = (image_size or height, image_size or width, channels or present)
    if size == (height, width, present):
        return images
    fitted = np.empty((count, *size), np.uint8)
    for index, pixels in enumerate(images):
        picture = Image.fromarray(pixels[:, :, 0] if present == 1 else pixels)
        fitted[index] = picture_pixels(picture, size[0], size[1], size[2])
    return fitted
