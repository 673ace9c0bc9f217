"""Images as the rows of a table hold them: the path of a file, bytes, base64, or Hugging Face's struct of both.

Decodes no picture. What is in memory at a time are the files of two windows, or the rows of one batch.
"""

import base64
import binascii
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.components.data.ingest.columns import is_bytes, is_struct
from penstock.components.data.ingest.reading import Progress, read_files, read_window
from penstock.components.data.ingest.storage import Location, Storage
from penstock.components.data.ingest.table import Table

__all__ = ["ImageColumn", "is_base64", "light_name"]

DATA_URI = "data:image/"
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
SIGNED = 16  # base64 characters that show a picture's first 12 bytes
Window = dict[int, bytes | None]


class ImageColumn(NamedTuple):
    """The images of one table.

    Attributes:
        paths: per row the file it names, "" for none; no path at all where the images are in the table.
        holds_bytes: the images are in the table, at least those that are not null.
    """

    table: Table
    name: str
    paths: list[str]
    holds_bytes: bool

    def read(self, chosen: npt.NDArray[np.intp], storage: Storage) -> Iterator[Window]:
        """Read the images of some rows.

        Args:
            chosen: ascending numbers of rows in the table.

        Yields:
            By number of the row what should be a picture file; None where its file is not there.

        Raises:
            ContractError: the table is damaged.
            StepError: a storage refuses, or has stopped answering.
        """
        if self.holds_bytes:
            yield from self._read_bytes(chosen, storage)
            return
        named = [int(row) for row in chosen if self.paths[row]]
        yield {int(row): None for row in chosen if not self.paths[row]}
        for window in read_files([self.file(row, storage) for row in named], self.table.location.uri):
            yield {named[index]: data for index, data in window.items()}

    def file(self, row: int, storage: Storage) -> Location:
        """Return where the file is that a row names."""
        location = self.table.location
        folder = Location(location.system, location.path.rpartition("/")[0], location.folder)
        return storage.resolve(folder, self.paths[row])

    def _read_bytes(self, chosen: npt.NDArray[np.intp], storage: Storage) -> Iterator[Window]:
        progress = Progress(self.table.location.uri, len(chosen))
        wanted = set(chosen.tolist())
        start, left = 0, len(chosen)
        for batch in self.table.batches([self.name]) if left else ():
            rows = [row for row in range(start, start + len(batch)) if row in wanted]
            column = batch.column(0)
            window = {row: _content(column[row - start].as_py()) for row in rows}
            elsewhere = [row for row in rows if window[row] is None and self.paths and self.paths[row]]
            files = read_window([self.file(row, storage) for row in elsewhere])
            window |= dict(zip(elsewhere, files, strict=True))
            progress.add(len(window), sum(len(data or b"") for data in window.values()))
            yield window
            start, left = start + len(batch), left - len(rows)
            if not left:
                return


def light_name(kind: pa.DataType, name: str) -> str:
    """Return the column to read for the paths of an image column, without any bytes; "" where there is none."""
    return f"{name}.path" if is_struct(kind) else "" if is_bytes(kind) else name


def is_base64(text: str) -> bool:
    """Say whether a text is a picture in base64, and no path."""
    if text.startswith(DATA_URI):
        return True
    return len(text) > 2 * SIGNED and (_decoded(text[:SIGNED]) or b"").startswith(SIGNATURES)


def _content(value: object) -> bytes | None:
    """Return the bytes in a cell; b"", which is no picture, for a text that is no base64."""
    if isinstance(value, dict):
        value = value["bytes"]
    if isinstance(value, str):
        return (_decoded(value.partition(",")[2] if value.startswith(DATA_URI) else value) or b"") if value else None
    return value if isinstance(value, bytes) else None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
