"""Areas under weighted ROC curves: as if each row were repeated, and left out in closed form."""

import numpy as np
import pytest

from penstock.components.evaluation.ranking import rank_classes
from penstock.components.evidence.auc import Ranks


@pytest.fixture
def scores() -> np.ndarray:
    return np.round(np.random.default_rng(0).random((40, 3)), 1)  # with many ties


LABELS = np.random.default_rng(1).integers(0, 3, 40)


def macro(labels: np.ndarray, scores: np.ndarray) -> float:
    found = rank_classes(scores, labels).macro
    assert found
    return found.auc


def test_a_weight_is_a_row_repeated(scores: np.ndarray) -> None:
    weights = np.random.default_rng(2).integers(0, 4, (40, 5))
    repeated = [macro(np.repeat(LABELS, column), np.repeat(scores, column, axis=0)) for column in weights.T]

    assert Ranks(LABELS, scores).macro(weights.astype(np.float32)) == pytest.approx(repeated)


def test_leaving_out_each_row_is_ranking_the_others(scores: np.ndarray) -> None:
    expected = [macro(np.delete(LABELS, row), np.delete(scores, row, axis=0)) for row in range(40)]

    assert Ranks(LABELS, scores).left_out() == pytest.approx(expected)


def test_the_only_row_of_a_class_cannot_be_left_out() -> None:
    left_out = Ranks(np.array([0, 0, 1]), np.array([[0.9, 0.2], [0.1, 0.6], [0.5, 0.5]])).left_out()

    assert left_out == pytest.approx([0, 1, 0.5])
