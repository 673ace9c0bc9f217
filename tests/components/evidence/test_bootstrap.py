"""Bootstrap intervals of what two models differ by: scipy's on small data, and the same numbers as the reports'."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.reports import Interval
from penstock.components.evaluation.metrics import class_metrics, confusion_matrix, macro_f1
from penstock.components.evaluation.ranking import rank_classes
from penstock.components.evidence.bootstrap import (
    auc_difference,
    calibration_difference,
    macro_f1_difference,
    squared_calibration_error,
)

CLASSES, BINS = 3, 5
NAMES = ("bag", "boot", "hat")


class Sample(NamedTuple):
    labels: np.ndarray
    candidate: np.ndarray  # (N, classes) probabilities
    serving: np.ndarray


def sample(rows: int, seed: int, sharpness: float = 1.0, candidate: float = 1.0) -> Sample:
    """Two noisy views of one truth; `candidate` times as sure as it may be."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, rows)
    logits = random.normal(size=(rows, CLASSES)) + sharpness * np.eye(CLASSES)[labels]

    def view(sure: float) -> np.ndarray:
        powers = np.exp(sure * sharpness * (logits + 0.3 * random.normal(size=logits.shape)) / 1.09)
        shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return shares

    return Sample(labels, view(candidate), view(1.0))


def f1_of(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return macro_f1(class_metrics(confusion_matrix(labels, probabilities.argmax(axis=1), CLASSES), NAMES))


def auc_of(labels: np.ndarray, probabilities: np.ndarray) -> float:
    ranked = rank_classes(probabilities, labels).macro
    assert ranked
    return ranked.auc


def f1(found: Sample, **options: int) -> Interval:
    return macro_f1_difference(found.labels, found.candidate.argmax(axis=1), found.serving.argmax(axis=1), CLASSES,
                               **options)


def auc(found: Sample, **options: int) -> Interval:
    return auc_difference(found.labels, found.candidate, found.serving, **options)


def side(found: Sample, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == found.labels


def calibration(found: Sample, **options: int) -> Interval:
    return calibration_difference(side(found, found.candidate), side(found, found.serving), BINS, **options)


@pytest.mark.parametrize(("ours", "measure"), [(f1, f1_of), (auc, auc_of)])
def test_the_estimate_is_the_reports_and_the_interval_is_scipys(
        ours: Callable[..., Interval], measure: Callable[[np.ndarray, np.ndarray], float]) -> None:
    found = sample(60, seed=1)

    def difference(index: np.ndarray) -> float:
        return (measure(found.labels[index], found.candidate[index])
                - measure(found.labels[index], found.serving[index]))

    expected = stats.bootstrap((np.arange(60),), difference, method="BCa", vectorized=False, n_resamples=1_000,
                               rng=np.random.default_rng(0)).confidence_interval
    interval = ours(found, resamples=20_000)
    assert interval.estimate == pytest.approx(difference(np.arange(60)))
    error = 5 * 0.1 * (interval.upper - interval.lower) / 4  # of a 2.5 % point of 1,000 draws: 0.1 standard deviations
    assert (interval.lower, interval.upper) == pytest.approx((expected.low, expected.high), abs=error)


@pytest.mark.parametrize("ours", [f1, auc, calibration])
def test_the_same_seed_gives_the_same_interval_and_another_one_hardly_another(ours: Callable[..., Interval]) -> None:
    found = sample(300, seed=2, candidate=1.3)
    one, again, other = ours(found), ours(found), ours(found, seed=1)

    assert one == again
    assert one != other
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), abs=0.2 * (one.upper - one.lower))
    assert one.lower <= one.estimate <= one.upper


@pytest.mark.parametrize("ours", [f1, auc, calibration])
def test_more_rows_leave_less_room(ours: Callable[..., Interval]) -> None:
    few, many = (ours(sample(rows, seed=3, candidate=1.5)) for rows in (100, 3_000))

    assert many.upper - many.lower < 0.6 * (few.upper - few.lower)


@pytest.mark.parametrize("ours", [f1, auc])
def test_equal_models_differ_by_nothing_at_all(ours: Callable[..., Interval]) -> None:
    found = sample(100, seed=4)

    same = ours(found._replace(candidate=found.serving))
    assert (same.estimate, same.lower, same.upper) == (0, 0, 0)


def test_a_class_that_no_resample_is_sure_to_have_is_left_out_where_it_is_missing() -> None:
    labels = np.array([0] * 30 + [1] * 30 + [2])
    right = np.eye(CLASSES)[labels]
    wrong = np.eye(CLASSES)[np.where(labels == 1, 0, labels)]
    found = Sample(labels, right, wrong)

    assert f1(found).estimate == pytest.approx(1 - f1_of(labels, wrong))
    assert auc(found).lower > 0
    assert np.isfinite([f1(found).upper, auc(found).upper]).all()


def test_resamples_of_one_class_only_have_no_auc_and_do_not_count() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    found = auc_difference(np.array([0, 0, 0, 1]), scores, scores[::-1])  # 0.9, 0.6, 0.5 over 0.2; then 0.2 below 0.9

    assert found.estimate == 1
    assert np.isfinite([found.lower, found.upper]).all()


def test_the_squared_error_is_right_on_average_where_the_plain_one_is_not() -> None:
    random = np.random.default_rng(5)
    counts = np.full((20_000, 2), 10.0)
    right = random.binomial(10, [0.7, 0.9], counts.shape)
    stated = counts * np.array([0.7, 0.8])  # the first bin is calibrated, the second 10 points off
    errors = squared_calibration_error(counts, stated, right)

    assert errors.mean() == pytest.approx(0.1**2 / 2, abs=5 * errors.std() / np.sqrt(len(errors)))
    plain = (((stated - right) / counts) ** 2).mean(axis=1)
    assert plain.mean() > 3 * 0.1**2 / 2


def test_bins_without_rows_or_with_one_say_nothing() -> None:
    assert squared_calibration_error(np.array([0.0, 1.0]), np.array([0.0, 0.9]), np.array([0.0, 0.0])) == 0


def test_a_candidate_too_sure_of_itself_is_found_out() -> None:
    found = calibration(sample(4_000, seed=6, sharpness=2.0, candidate=1.6))

    assert 0.01 < found.lower < found.estimate < found.upper < 0.2


@pytest.mark.parametrize("sure", [1.0, 1.3])
def test_the_calibration_interval_holds_the_truth(sure: float) -> None:
    many = sample(400_000, seed=0, sharpness=1.5, candidate=sure)
    truth = calibration(many, resamples=100).estimate if sure > 1 else 0.0
    found = [calibration(sample(400, seed=seed, sharpness=1.5, candidate=sure), resamples=200)
             for seed in range(1, 101)]

    assert sum(entry.lower > truth for entry in found) <= 12  # of 100 at 2.5 %: more happens once in 10^5
    assert sum(entry.upper < truth for entry in found) <= 12


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda: f1(sample(20, 0), resamples=50), ConfigError, "take at least 100"),
    (lambda: f1(sample(1, 0)), ContractError, "give at least 2"),
    (lambda: macro_f1_difference(*3 * [np.array([0, 3])], 3), ContractError, "from 0 to 2, not 0 to 3"),
    (lambda: macro_f1_difference(np.array([0, 1]), np.array([0, 1]), np.array([0]), 3), ContractError, "no triples"),
    (lambda: macro_f1_difference(*3 * [np.array([0, 1])], 2, 1.5), ConfigError, "level=1.5 must be between"),
    (lambda: auc_difference(np.array([0, 1]), np.ones((2, 2)), np.ones((2, 3))), ContractError, "no pairs"),
    (lambda: auc_difference(np.array([0, 0]), *2 * [np.ones((2, 2))]), ContractError, "all rows are of one class"),
    (lambda: auc_difference(np.array([0, 1]), *2 * [np.full((2, 2), np.nan)]), ContractError, "score is NaN"),
    (lambda: calibration_difference(*2 * [(np.array([0.5, 1.5]), np.array([True, False]))], 5), ContractError,
     "give each answer one, 0 to 1"),
    (lambda: calibration_difference(*[(np.full(rows, 0.5), np.ones(rows, bool)) for rows in (3, 2)], 5), ContractError,
     "3 answers of the candidate and 2 of the serving model are no pairs"),
])
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
