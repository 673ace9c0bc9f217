"""Metrics: by value against closed forms and other people's code, and by what must hold for any input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.evaluation.metrics import (
    calibration,
    class_metrics,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 1])

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def test_confusion_counts_true_against_predicted() -> None:
    assert confusion_matrix(LABELS, PREDICTED, 4).tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_classes_by_value() -> None:
    first, second, third, absent = class_metrics(confusion_matrix(LABELS, PREDICTED, 4), ("a", "b", "c", "d"))

    assert (first.support, first.precision, first.recall, first.f1) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3),
                                                                        pytest.approx(2 / 3))
    assert (second.support, second.precision, second.recall, second.f1) == (2, pytest.approx(1 / 3), 0.5, 0.4)
    assert (third.support, third.precision, third.recall, third.f1) == (1, 0, 0, 0)
    assert absent.support == 0
    assert macro_f1([first, second, third, absent]) == pytest.approx((2 / 3 + 0.4 + 0) / 3)
    assert macro_f1([absent]) == 0


@given(pairs)
def test_confusion_holds_every_row_once_and_recall_averages_to_accuracy(answers: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(answers).T
    confusion = confusion_matrix(labels, predicted, 4)
    classes = class_metrics(confusion, "abcd")

    assert confusion.sum() == len(answers)
    assert sum(entry.recall * entry.support for entry in classes) == pytest.approx((labels == predicted).sum())
    assert all(0 <= share <= 1 for entry in classes for share in (entry.precision, entry.recall, entry.f1))


def test_calibration_error_by_value() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    correct = np.array([True, True, True, False, False, False])
    found = calibration(confidence, correct, 10)

    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 4, 0]
    assert found.confidence[8] == pytest.approx(0.9)
    assert found.accuracy[8] == 0.75
    assert found.confidence[0] == 0.05  # nothing there: the middle of the bin
    assert expected_calibration_error(found) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.6)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 30))
def test_calibration_keeps_every_row_and_one_bin_is_the_plain_gap(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = calibration(confidence, correct, bins)

    assert found.counts.sum() == len(rows)
    gap = expected_calibration_error(calibration(confidence, correct, 1))
    assert gap == pytest.approx(abs(confidence.mean() - correct.mean()))
    assert gap - 1e-9 <= expected_calibration_error(found) <= 1


def test_log_loss_by_value_and_bounded() -> None:
    assert log_loss(np.array([0.5, 0.25])) == pytest.approx(1.5 * math.log(2))
    assert log_loss(np.array([1.0])) == 0
    assert log_loss(np.array([0.0])) == pytest.approx(15.942, abs=1e-3)
