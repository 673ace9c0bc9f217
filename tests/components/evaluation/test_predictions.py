"""The answers file: what is written is read, and damage is named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.components.contracts.errors import ContractError
from penstock.components.evaluation.predictions import PREDICTIONS, Predictions

ROWS = pa.table({"id": ["a", "b"], "label": pa.array([1, 0], pa.int16())})
PROBABILITIES = np.array([[0.25, 0.75], [0.125, 0.875]], np.float32)


def test_pairs_rows_with_probabilities_and_reads_back(tmp_path: Path) -> None:
    written = Predictions.of(ROWS, PROBABILITIES)
    (tmp_path / PREDICTIONS).write_bytes(written.to_parquet())
    found = Predictions.load(tmp_path)

    assert found.ids == ["a", "b"]
    assert found.labels.tolist() == [1, 0]
    assert found.predicted.tolist() == [1, 1]
    assert found.confidence.tolist() == [0.75, 0.875]
    assert found.label_probability.tolist() == [0.75, 0.125]
    assert found.correct.tolist() == written.correct.tolist() == [True, False]


def test_a_model_that_answers_nan_is_named_with_its_first_row() -> None:
    broken = np.array([[0.5, 0.5], [np.nan, 0.5]], np.float32)

    with pytest.raises(ContractError, match=r"1 of 2 rows with NaN or infinity, the first is 'b'"):
        Predictions.of(ROWS, broken)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=f"holds no {PREDICTIONS}"):
        Predictions.load(tmp_path)

    (tmp_path / PREDICTIONS).write_bytes(Predictions.of(ROWS, PROBABILITIES).to_parquet()[:-9])
    with pytest.raises(ContractError, match=f"{PREDICTIONS} is damaged"):
        Predictions.load(tmp_path)
