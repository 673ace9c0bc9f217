"""A Parquet file as a table: as pandas and pyarrow write it, or Hugging Face with its class names in the metadata.

Knows no image; reads a few rows at a time, so that a file may be larger than the memory.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.components.contracts.errors import ContractError
from penstock.components.data.ingest.storage import BLOCK_BYTES, Location, explain, file_errors
from penstock.components.data.ingest.table import BATCH_ROWS

__all__ = ["ParquetTable"]

HUGGING_FACE = b"huggingface"


class ParquetTable:
    """A Parquet file; see `table.Table`."""

    def __init__(self, location: Location) -> None:
        """Read the footer.

        Raises:
            ContractError: it is no Parquet file.
        """
        self.location = location
        with self._readable() as file:
            self.schema = file.schema_arrow
        self.said = location.uri

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some columns, a few rows at a time."""
        with self._readable() as file:
            yield from file.iter_batches(BATCH_ROWS, columns=list(columns))

    def class_names(self, column: str) -> tuple[str, ...]:
        """Return the names of Hugging Face's `ClassLabel`, which it keeps in the file's metadata."""
        stored = (self.schema.metadata or {}).get(HUGGING_FACE)
        try:
            feature = json.loads(stored or "{}").get("info", {}).get("features", {}).get(column, {})
        except (ValueError, AttributeError) as error:
            raise ContractError(f"{self.location.uri}: its metadata {HUGGING_FACE.decode()!r} is damaged: {error}"
                                ) from error
        return tuple(feature.get("names", ())) if feature.get("_type") == "ClassLabel" else ()

    @contextmanager
    def _readable(self) -> Iterator[pq.ParquetFile]:
        """Open the file, and say what is wrong with it."""
        uri = self.location.uri
        try:
            # Without these two pyarrow reads ahead to the end of the file, or of a row group, which may be the same.
            with (self.location.open(by_parts=True) as file,
                  pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK_BYTES) as parquet):
                yield parquet
        except pa.ArrowException as error:
            raise ContractError(f"{uri} is no Parquet file, or a damaged one: {error}") from error
        except ValueError as error:  # a web server that gives whole files only
            raise explain(uri, error) from error
        except file_errors() as error:
            if type(error) is OSError and error.errno is None:  # pyarrow's own, about what it has read
                raise ContractError(f"{uri} is a damaged Parquet file: {error}") from error
            raise explain(uri, error) from error
