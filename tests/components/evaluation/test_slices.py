"""Slices: every row in exactly one per column, and unknown columns refused."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError
from penstock.components.evaluation.slices import slice_columns, slices_of

ROWS = pa.table({"id": ["a"], "image": [b"x"], "label": [0], "source": ["web"], "camera": ["old"]})


@given(st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers(0, 2)), min_size=1, max_size=30))
def test_every_row_is_in_exactly_one_slice(values: list[str | int | None]) -> None:
    texts = [None if value is None else str(value) for value in values]
    parts = slices_of(pa.table({"source": pa.array(texts, pa.string())}), "source")

    assert sorted(int(row) for part in parts for row in part.rows) == list(range(len(values)))
    found = {int(row): part.value for part in parts for row in part.rows}
    assert [found[row] for row in range(len(texts))] == ["(none)" if text is None else text for text in texts]


def test_all_slice_columns_unless_some_are_named() -> None:
    assert slice_columns(ROWS, ()) == ["camera", "source"]
    assert slice_columns(ROWS, ("source",)) == ["source"]


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no slice column 'sorce', did you mean 'source'"):
        slice_columns(ROWS, ("sorce",))
    with pytest.raises(ConfigError, match=r"'label', it has \['camera', 'source'\]"):
        slice_columns(ROWS, ("label",))
