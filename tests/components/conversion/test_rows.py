"""Which rows the conversion steps look at."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.model import Model
from penstock.components.conversion.rows import choose_split, spread


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_rows_are_spread_from_the_first_to_the_last(rows: int, count: int) -> None:
    chosen = spread(rows, count)

    assert len(chosen) == len(set(chosen.tolist())) == min(rows, count)
    assert chosen[0] == 0
    assert len(chosen) == 1 or chosen[-1] == rows - 1
    steps = np.diff(chosen)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_the_first_held_out_split_with_rows_is_taken(sides: Dataset, tmp_path: Path) -> None:
    assert choose_split(sides) == "validation"
    assert choose_split(sides, "test") == "test"
    parts = {"validation": sides.read("validation").slice(0, 0), "train": sides.read("train")}
    assert choose_split(write_dataset(tmp_path / "data", sides.description, parts)) == "train"

    with pytest.raises(StepError, match=r"split='tets' has no rows in .*; the splits with rows are \['test', 'train'"):
        choose_split(sides, "tets")


def test_a_model_of_other_classes_is_refused(sides: Dataset, convnet: Model, tmp_path: Path) -> None:
    convnet.require_fit(sides)

    renamed = sides.description.model_copy(update={"classes": ("dark", "left", "top")})
    other = write_dataset(tmp_path / "data", renamed, {"test": sides.read("test")})
    with pytest.raises(ContractError, match=r"was made for \(8, 8, 1\) images of .*'right'.*holds .*'top'.*trained on"):
        convnet.require_fit(other)
