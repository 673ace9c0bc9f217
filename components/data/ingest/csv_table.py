"""A CSV file as a table of text columns: with or without a byte order mark, whatever its delimiter, packed or not.

Knows no label and no image.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from penstock.components.contracts.errors import ContractError
from penstock.components.data.ingest.storage import Location, explain, file_errors
from penstock.components.data.ingest.table import BATCH_ROWS

__all__ = ["CsvTable"]

DELIMITERS = ",;\t|"
LONGEST_FIELD = 2**30  # characters; Python's own limit of 131,072 is less than a photo in base64


class CsvTable:
    """A CSV file with a header; see `table.Table`."""

    def __init__(self, location: Location, delimiter: str = "") -> None:
        """Read the header.

        Args:
            delimiter: "" takes the one that splits the first line most.

        Raises:
            ContractError: it is empty, no text in UTF-8, or a column's name occurs twice.
        """
        self.location = location
        with self._readable() as text:
            first = text.readline()
        if not first.strip():
            raise ContractError(f"{location.uri} is empty; its first line must name the columns")
        split = {mark: next(_reader([first], mark, strict=False)) for mark in delimiter or DELIMITERS}
        self._delimiter = max(split, key=lambda mark: len(split[mark]))
        header = [name.strip() for name in split[self._delimiter]]
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ContractError(f"{location.uri} has more than one column {twice[0]!r}; give each a name of its own")
        self.schema = pa.schema([(name, pa.string()) for name in header])
        self.said = f"{location.uri} (delimiter {self._delimiter!r})"

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some columns, a few rows at a time; empty fields are empty texts."""
        header = self.schema.names
        places = [header.index(name) for name in columns]
        with self._readable() as text:
            reader = _reader(text, self._delimiter)
            next(reader)
            batch: list[list[str]] = []
            for fields in reader:
                if not fields:  # an empty line
                    continue
                if len(fields) != len(header):
                    raise ContractError(f"{self.location.uri} line {reader.line_num}: {len(fields)} fields, the header "
                                        f"has {len(header)}: {', '.join(fields)[:80]!r}; put fields that hold a "
                                        f"{self._delimiter!r} into double quotes")
                batch.append([fields[place] for place in places])
                if len(batch) == BATCH_ROWS:
                    yield _batch(columns, batch)
                    batch = []
            if batch:
                yield _batch(columns, batch)

    def class_names(self, column: str) -> tuple[str, ...]:
        """CSV gives no names to numbers."""
        return ()

    @contextmanager
    def _readable(self) -> Iterator[io.TextIOWrapper]:
        """Open the text, and say what is wrong with it."""
        uri = self.location.uri
        try:
            with self.location.open() as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
                yield text
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ContractError(f"{uri} is truncated or no .gz file: {error}") from error
        except UnicodeDecodeError as error:
            raise ContractError(f"{uri} is not UTF-8: {error.reason} at byte {error.start:,} "
                                f"({error.object[error.start]:#04x}); save it as \"CSV UTF-8\"") from error
        except csv.Error as error:
            raise ContractError(f"{uri} is no CSV file that can be read: {error}; is a double quote left open?"
                                ) from error
        except file_errors() as error:
            raise explain(uri, error) from error


def _reader(lines: io.TextIOWrapper | list[str], delimiter: str, *, strict: bool = True) -> Any:
    """Return csv's reader, whose type has no public name."""
    csv.field_size_limit(LONGEST_FIELD)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)


def _batch(columns: Sequence[str], rows: list[list[str]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([row[place] for row in rows], pa.string()) for place in range(len(columns))],
                           names=list(columns))
