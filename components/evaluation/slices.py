"""Which rows of a split belong together: one slice per value of a slice column.

Finds rows only; what they are worth is for `metrics` and `paired`.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.components.contracts.errors import ConfigError

__all__ = ["ROW_COLUMNS", "Slice", "slice_columns", "slices_of"]

ROW_COLUMNS = frozenset({"id", "image", "label"})  # what every dataset has; any other column is a slice key
NO_VALUE = "(none)"


class Slice(NamedTuple):
    """The rows where `column` is `value`, as indices into the split."""

    column: str
    value: str
    rows: npt.NDArray[np.intp]


def slice_columns(rows: pa.Table, wanted: Sequence[str]) -> list[str]:
    """Return the slice columns to look at: those named, or all that the split has.

    Raises:
        ConfigError: a named column is not a slice column of this dataset.
    """
    present = sorted(set(rows.column_names) - ROW_COLUMNS)
    for name in wanted:
        if name not in present:
            close = difflib.get_close_matches(name, present, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {present or 'none'}"
            raise ConfigError(f"slice_columns: the dataset has no slice column {name!r}, {hint}")
    return list(wanted) or present


def slices_of(rows: pa.Table, column: str) -> list[Slice]:
    """Group a split by one column; values are compared as text, a missing one is `(none)`."""
    texts = [NO_VALUE if value is None else str(value) for value in rows[column].to_pylist()]
    values, index = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return [Slice(column, str(value), np.flatnonzero(index == place)) for place, value in enumerate(values)]
