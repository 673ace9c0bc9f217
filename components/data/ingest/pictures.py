"""The pictures of a source, decoded as they come in, and held as the dataset will hold them.

Raw pixels while all are of one size; PNG files from the moment a second size turns up, because photos of their own
sizes would fill the memory. Reads no file.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from penstock.components.contracts.dataset import ImageFormat
from penstock.components.contracts.image import UNREADABLE, picture_pixels

__all__ = ["Pictures"]

GREY_MODES = frozenset({"1", "I", "I;16", "L", "LA"})
Pixels = npt.NDArray[np.uint8]


class _Decoded(NamedTuple):
    pixels: Pixels
    sha256: str


class Pictures:
    """Pictures by the number of their row.

    Attributes:
        sha256: of each picture's file.
        failures: why a row has no picture.
    """

    def __init__(self, image_size: int, channels: int, name: Callable[[int], str]) -> None:
        """Start without any picture.

        Args:
            image_size: pixels of the side to resize to; 0 keeps each picture's size.
            channels: 1 or 3; 0: 1 if all pictures are grey.
            name: what to call a row in an error.
        """
        self._side, self._channels, self._name = image_size, channels, name
        self._held: dict[int, Pixels | bytes] = {}
        self._sizes: set[tuple[int, int]] = set()
        self._all_grey = True
        self.sha256: dict[int, str] = {}
        self.failures: dict[int, str] = {}

    def add(self, files: Mapping[int, bytes]) -> None:
        """Decode picture files, on all cores; those that hold no picture are named in `failures`."""
        with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
            for row, found in zip(files, pool.map(self._decode, files, files.values()), strict=True):
                if isinstance(found, str):
                    self.failures[row] = found
                    continue
                self._held[row], self.sha256[row] = found
                self._sizes.add(found.pixels.shape[:2])
                self._all_grey &= found.pixels.shape[2] == 1
            if len(self._sizes) > 1:
                raw = {row: held for row, held in self._held.items() if not isinstance(held, bytes)}
                self._held.update(zip(raw, pool.map(_png, raw.values()), strict=True))

    def __len__(self) -> int:
        return len(self._held)

    @property
    def image(self) -> ImageFormat:
        """How the dataset will hold the pictures added so far."""
        height, width = next(iter(self._sizes)) if len(self._sizes) == 1 else (0, 0)
        return ImageFormat.model_validate({
            "encoding": "raw" if height else "encoded", "height": height, "width": width,
            "channels": self._channels or (1 if self._all_grey else 3)})

    def take(self, rows: Sequence[int]) -> pa.Array:
        """Hand over the pictures of some rows as a column of the dataset's type; they are held no longer."""
        if self.image.encoding == "encoded":
            return pa.array([self._held.pop(row) for row in rows], pa.binary())
        pixels = np.empty((len(rows), *self.image.shape), np.uint8)
        for index, row in enumerate(rows):
            pixels[index] = self._held.pop(row)  # a grey one fills all three channels
        flat = pa.py_buffer(pixels.reshape(-1))
        return pa.FixedSizeBinaryArray.from_buffers(self.image.arrow_type, len(rows), [None, flat])

    def _decode(self, row: int, data: bytes) -> _Decoded | str:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                channels = self._channels or (1 if picture.mode in GREY_MODES else 3)
                pixels = picture_pixels(picture, self._side, self._side, channels)
        except UNREADABLE as error:
            return f"{self._name(row)} is no readable image ({len(data):,} bytes): {error}"
        return _Decoded(pixels, hashlib.sha256(data).hexdigest())


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
