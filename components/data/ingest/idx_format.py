"""The IDX format of MNIST and its kin: a header of big-endian numbers, then bytes (yann.lecun.com/exdb/mnist).

Knows no file and no published data set.
"""

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.components.contracts.dataset import rows_table
from penstock.components.contracts.errors import ContractError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import choose_rows, fit_images

__all__ = ["idx_table", "parse_idx", "unpack"]

BYTES = 8  # the type's number; MNIST and its kin hold nothing else


def unpack(name: str, packed: bytes, size: int = zlib.DEF_BUF_SIZE) -> bytes:
    """Return what is inside a .gz file.

    Args:
        name: for the error.
        size: bytes to expect, which makes it quicker.

    Raises:
        ContractError: it is truncated or no such file.
    """
    try:
        return zlib.decompress(packed, wbits=31, bufsize=size)
    except zlib.error as error:
        raise ContractError(f"{name} ({len(packed):,} bytes) is truncated or no .gz file: {error}") from error


def parse_idx(name: str, content: bytes, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes: 0, 0, type 8, number of dimensions, each dimension as big-endian int32, values.

    Args:
        name: for the error.
        dimensions: 3 for images, 1 for labels.

    Raises:
        ContractError: it is another file, or not whole.
    """
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, BYTES, dimensions)) or len(content) < header:
        raise ContractError(f"{name} is no IDX file of bytes in {dimensions} dimensions: it begins with "
                            f"{content[:4].hex(' ') or 'nothing'}, not 00 00 08 {dimensions:02x}")
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ContractError(f"{name} has {len(content):,} bytes, its header promises {expected:,}: is it whole?")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def idx_table(split: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], config: IngestConfig
              ) -> tuple[pa.Table, tuple[int, int, int]]:
    """Make the table of a split; ids are the split and the row's place in the file.

    Args:
        images: (N, H, W).
        labels: (N,).

    Returns:
        The table and the shape (H, W, C) of its images.
    """
    pixels = images[..., np.newaxis]
    chosen = choose_rows(labels, config.limit)
    fitted = fit_images(pixels[chosen] if config.limit else pixels, config.image_size, config.channels)
    return rows_table([f"{split}-{row:05d}" for row in chosen], fitted, labels[chosen]), fitted.shape[1:]
