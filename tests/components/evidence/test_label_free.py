"""Accuracy without labels: by value, where the assumption holds, and that a broken one shows."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.label_free import (
    average_confidence,
    change_by_confidence,
    change_by_disagreement,
    thresholded_confidence,
)

RUNS = 400
LEAST = 0.95 - 5 * math.sqrt(0.95 * 0.05 / RUNS)


def traffic(rows: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    confidence = 0.5 + 0.5 * rng.beta(4, 2, size=rows)
    return confidence, rng.random(rows) < confidence


@given(st.integers(1, 300).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_disagreement_bounds_the_change(counts: tuple[int, int]) -> None:
    differ, rows = counts

    found = change_by_disagreement(differ, rows)

    expected = binomtest(differ, rows, alternative="less").proportion_ci(0.95, "exact").high
    assert (found.estimate, -found.lower) == (0, found.upper)
    assert found.upper == pytest.approx(expected)
    assert found.upper >= differ / rows


def test_certain_probabilities_give_bonett_and_prices_interval() -> None:
    gained, lost, rows = 9, 4, 100

    found = change_by_confidence([1.0] * gained + [0.0] * lost, [0.0] * gained + [1.0] * lost, rows)

    more, less = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    half = 1.959964 * math.sqrt((more + less - (more - less) ** 2) / (rows + 2))
    assert (found.estimate, found.lower, found.upper) == pytest.approx(
        (0.05, more - less - half, more - less + half), abs=1e-6)


def test_an_assumed_error_widens_by_its_share_of_rows() -> None:
    narrow, wide = (change_by_confidence([0.6, 0.5], [0.2, 0.4], 10, off_by=off_by) for off_by in (0.0, 0.3))

    assert narrow.estimate == wide.estimate == pytest.approx(0.05)
    assert (wide.upper - narrow.upper, narrow.lower - wide.lower) == pytest.approx((0.06, 0.06))
    assert change_by_confidence([], [], 50).estimate == 0


def test_calibrated_probabilities_where_models_differ_find_the_change() -> None:
    rng = np.random.default_rng(1)

    found = []
    for _ in range(RUNS):
        differ = rng.binomial(500, 0.1)
        one = rng.uniform(0.2, 0.8, size=differ)
        found.append(change_by_confidence(one, 0.9 - one, 500))

    truth = 0.1 * (0.5 - 0.4)  # of a tenth of the rows, where the candidate is right on a half
    assert np.mean([one.lower <= truth <= one.upper for one in found]) >= LEAST


def test_average_confidence_is_students_interval() -> None:
    values = np.array([0.9, 0.8, 0.95, 0.7])

    found = average_confidence(values, 0.9)

    expected = t.interval(0.9, 3, values.mean(), values.std(ddof=1) / 2)
    assert (found.estimate, found.lower) == pytest.approx((values.mean(), expected[0]))
    assert found.upper == pytest.approx(min(expected[1], 1))


def test_average_confidence_is_right_where_calibrated_and_only_there() -> None:
    rng = np.random.default_rng(2)
    truth = 0.5 + 0.5 * 4 / 6

    found = [average_confidence(traffic(300, rng)[0]) for _ in range(RUNS)]
    over = average_confidence(traffic(3000, rng)[0] ** 0.5)

    assert np.mean([one.lower <= truth <= one.upper for one in found]) >= LEAST
    assert over.lower > truth


def test_the_threshold_leaves_as_many_above_as_were_right() -> None:
    scores, right = np.linspace(0, 1, 100), np.arange(100) >= 30

    found = thresholded_confidence(scores, right, scores)

    assert found.estimate == pytest.approx(0.7)
    assert found.lower < 0.7 < found.upper
    assert thresholded_confidence(scores, right, np.ones(50)).estimate == 1
    assert thresholded_confidence(scores, np.zeros(100, bool), scores).estimate == 0
    assert thresholded_confidence(scores, np.ones(100, bool), scores).estimate == 1


def test_thresholds_need_no_calibration() -> None:
    rng = np.random.default_rng(3)
    truth = 0.5 + 0.5 * 4 / 6

    found = []
    for _ in range(RUNS):
        confidence, right = traffic(300, rng)
        found.append(thresholded_confidence(confidence**3, right, traffic(200, rng)[0] ** 3))

    assert np.mean([one.lower <= truth <= one.upper for one in found]) >= LEAST
    assert np.mean([one.estimate for one in found]) == pytest.approx(truth, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_intervals_hold_their_estimate(values: list[float]) -> None:
    right = np.arange(len(values)) % 3 > 0
    for found in (average_confidence(values), thresholded_confidence(values, right, values),
                  change_by_confidence(np.array(values) / 2, [0.5] * len(values), len(values) + 5)):
        assert found.lower <= found.estimate + 1e-12
        assert found.estimate <= found.upper + 1e-12


@pytest.mark.parametrize(("differ", "rows"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_explained(differ: int, rows: int) -> None:
    with pytest.raises(ContractError, match="cannot be"):
        change_by_disagreement(differ, rows)


def test_bad_input_is_explained() -> None:
    with pytest.raises(ContractError, match="do not fit 1 rows"):
        change_by_confidence([0.5, 0.5], [0.5, 0.5], 1)
    with pytest.raises(ContractError, match="2 and 1 probabilities"):
        change_by_confidence([0.5, 0.5], [0.5], 9)
    with pytest.raises(ContractError, match=r"sum to 1\.3"):
        change_by_confidence([0.6], [0.7], 9)
    with pytest.raises(ContractError, match="for_stable"):
        change_by_confidence([0.6], [math.nan], 9)
    with pytest.raises(ConfigError, match="off_by=3"):
        change_by_confidence([0.6], [0.2], 9, off_by=3)
    with pytest.raises(ContractError, match="no spread"):
        average_confidence([0.6])
    with pytest.raises(ContractError, match="softmax"):
        average_confidence([2.5, 0.1])
    with pytest.raises(ContractError, match="must be numbers"):
        average_confidence(["sure", "unsure"])
    with pytest.raises(ContractError, match="int64 and scores"):
        thresholded_confidence([0.5], np.array([1]), [0.5])
    with pytest.raises(ContractError, match="1 labelled and 0 later"):
        thresholded_confidence([0.5], [True], [])
    with pytest.raises(ConfigError, match=r"level=0\.4"):
        average_confidence([0.5, 0.6], level=0.4)
