"""What a table of images looks like to ingest, whether CSV or Parquet, and where in it a row is.

Reads no file; `csv_table` and `parquet_table` do.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.components.data.ingest.storage import Location

__all__ = ["BATCH_ROWS", "RowPlaces", "Table"]

BATCH_ROWS = 128  # with an image in each: what is in memory at a time
NAMED_RANGES = 5

Rows = npt.NDArray[np.integer]


class Table(Protocol):
    """One file of rows.

    Attributes:
        schema: names and types of its columns.
        said: the file and how it was taken, for an error text.
    """

    location: Location
    schema: pa.Schema
    said: str

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some columns, a few rows at a time; `struct.field` names a column within one.

        Raises:
            ContractError: the file is damaged; the text says where.
            StepError: its storage refuses, or has stopped answering.
        """
        ...

    def class_names(self, column: str) -> tuple[str, ...]:
        """Return the class names that the file itself gives to the numbers in a column; often none."""
        ...


class RowPlaces(NamedTuple):
    """Where rows are that have been read from several tables, for a person.

    Attributes:
        names: of the tables.
        table: (N,) index of each row's table.
        row: (N,) each row's number in it, from 0.
    """

    names: Sequence[str]
    table: Rows
    row: Rows

    def one(self, index: int) -> str:
        """Say where one row is. People count from 1."""
        return f"{self.names[self.table[index]]} row {self.row[index] + 1}"

    def many(self, indices: Sequence[int] | Rows) -> str:
        """Say where rows are: the first ranges of each table, and how many rows there are beyond those."""
        texts = []
        for table in np.unique(self.table[indices]):
            rows = self.row[indices][self.table[indices] == table] + 1
            runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
            named = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:NAMED_RANGES]]
            more = sum(len(run) for run in runs[NAMED_RANGES:])
            texts.append(f"{self.names[table]} row{'s' if len(rows) > 1 else ''} {', '.join(named)}"
                         + (f" and {more:,} more" if more else ""))
        return "; ".join(texts)
