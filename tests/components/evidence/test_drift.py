"""Two-sample drift tests: by value, against scipy, and calibrated where nothing has changed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import chi2_contingency, ks_2samp

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.drift import (
    binned,
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    maximum_mean_discrepancy,
    population_stability,
)

COUNTED = (chi_square, population_stability, jensen_shannon)
TABLES = st.integers(2, 6).flatmap(lambda k: st.tuples(*[
    st.lists(st.integers(0, 40), min_size=k, max_size=k).filter(any) for _ in range(2)]))


def test_kolmogorov_smirnov_is_scipys_and_says_where() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=80), rng.normal(0.5, size=50)

    found = kolmogorov_smirnov(one, other)

    expected = ks_2samp(one, other, method="exact")
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.method, found.reference, found.current) == ("exact", 80, 50)
    assert kolmogorov_smirnov([1, 2, 3], [4, 5, 6]).detail == "values up to 3: 100.0% before, 0.0% now"


def test_a_large_sample_gets_the_asymptotic_p_value() -> None:
    rng = np.random.default_rng(1)

    assert kolmogorov_smirnov(rng.normal(size=10_001), rng.normal(size=100)).method == "asymptotic"


def test_chi_square_is_scipys() -> None:
    one, other = [120, 80, 50, 0], [90, 100, 70, 0]

    found = chi_square(one, other)

    expected = chi2_contingency([one[:3], other[:3]], correction=False)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.method == "chi-square, 2 degrees of freedom"
    assert found.detail == "class 0: 48.0% before, 34.6% now"


def test_small_counts_are_resampled_to_fishers_exact_p_value() -> None:
    # the tables with these margins, by the hypergeometric law: the chi-square of (3, 0) is reached by two of them
    found = chi_square([3, 0], [0, 3], resamples=19_999, seed=4)

    assert found.method == "permutation, 19999 resamples"
    assert found.p_value == pytest.approx(2 / math.comb(6, 3), abs=5 * math.sqrt(0.1 * 0.9 / 20_000))


def test_one_class_only_has_not_changed() -> None:
    assert [test([50, 0], [70, 0]).p_value for test in COUNTED] == [1.0] * 3


def test_population_stability_by_hand() -> None:
    found = population_stability([8, 2], [5, 5])

    p, q = np.array([8.5, 2.5]) / 11, np.array([5.5, 5.5]) / 11
    assert found.statistic == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert found.p_value > 0.1


def test_jensen_shannon_is_scipys_distance_squared() -> None:
    one, other = np.array([30, 50, 20, 0]), np.array([10, 60, 20, 10])

    found = jensen_shannon(one, other)

    assert found.statistic == pytest.approx(jensenshannon(one / 100, other / 100, base=2) ** 2)
    assert jensen_shannon([5, 0], [0, 5]).statistic == pytest.approx(1)


@given(TABLES)
def test_tables_are_compared_alike_whatever_the_order(tables: tuple[list[int], list[int]]) -> None:
    one, other = (np.array(table) for table in tables)
    for test in COUNTED:
        found = test(one, other, resamples=19)
        assert found.statistic >= -1e-12
        assert 0 <= found.p_value <= 1
        assert test(other, one, resamples=19).statistic == pytest.approx(found.statistic, abs=1e-12)
        assert test(one[::-1], other[::-1], resamples=19).statistic == pytest.approx(found.statistic, abs=1e-12)
        assert test(one, one, resamples=19).statistic == pytest.approx(0, abs=1e-12)


def test_same_seed_same_p_value() -> None:
    one, other = [3, 4, 5], [6, 2, 4]

    assert population_stability(one, other, seed=7) == population_stability(one, other, seed=7)
    assert maximum_mean_discrepancy(one, other, seed=7) == maximum_mean_discrepancy(one, other, seed=7)


def test_bins_hold_equally_many_of_both() -> None:
    one, other = binned(np.arange(60), np.arange(60, 100), bins=5)

    assert one.tolist() == [20, 20, 20, 0, 0]
    assert other.tolist() == [0, 0, 0, 20, 20]
    assert [part.tolist() for part in binned([1, 1, 1, 1], [1, 1, 2])] == [[4, 0], [2, 1]]
    assert [part.tolist() for part in binned([1, 1], [1])] == [[2], [1]]


def test_mmd_is_the_unbiased_estimate() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(12, 3)) + 1e6, rng.normal(0.3, size=(9, 3)) + 1e6

    found = maximum_mean_discrepancy(one, other)

    both = np.concatenate([one, other])
    distances = cdist(both, both, "sqeuclidean")
    median = np.median(distances[np.triu_indices(21, 1)])
    kernel = np.exp(-distances / (2 * median))
    np.fill_diagonal(kernel, 0)
    expected = kernel[:12, :12].sum() / 132 + kernel[12:, 12:].sum() / 72 - 2 * kernel[:12, 12:].mean()
    assert found.statistic == pytest.approx(expected, abs=1e-9)
    assert found.detail == f"kernel width {median**0.5:g}"


def test_mmd_sees_what_changed_and_only_that() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=(100, 4))

    assert maximum_mean_discrepancy(one, rng.normal(0.6, size=(100, 4))).p_value == 1 / 200
    assert maximum_mean_discrepancy(one, rng.normal(0, 2, size=(100, 4))).p_value == 1 / 200
    assert maximum_mean_discrepancy(np.ones((5, 2)), np.ones((4, 2))).p_value == 1.0
    assert maximum_mean_discrepancy([0.0] * 30, [0.0] * 28 + [1.0, 1.0]).p_value > 0.05  # over half of the pairs equal


def test_mmd_draws_from_a_large_sample() -> None:
    rng = np.random.default_rng(4)

    found = maximum_mean_discrepancy(rng.normal(size=(500, 2)), rng.normal(1, size=(60, 2)), most=80)

    assert found.method == "permutation, 199 resamples of 80 and 60 rows drawn"
    assert (found.reference, found.current, found.p_value) == (500, 60, 1 / 200)


@pytest.mark.parametrize("test", COUNTED)
def test_false_alarms_are_as_many_as_promised(test) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(5)
    chance = np.array([0.5, 0.3, 0.15, 0.04, 0.01])

    found = [test(rng.multinomial(60, chance), rng.multinomial(40, chance), resamples=99, seed=run).p_value <= 0.05
             for run in range(1000)]

    assert np.mean(found) <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(("one", "other", "text"), [
    ([1, 2], [1, 2, 3], "shape"), ([[1, 2]], [[1, 2]], "shape"), ([0, 0], [1, 2], "no rows"),
    ([0.5, 0.5], [1, 2], "0.5"), ([1, -2], [1, 2], "-2"), ([1, math.nan], [1, 2], "nan"),
    ([1, math.inf], [1, 2], "inf"), (["a"], ["b"], "reference must be numbers")])
def test_bad_counts_are_explained(one: list[float], other: list[float], text: str) -> None:
    for test in COUNTED:
        with pytest.raises(ContractError, match=text):
            test(one, other)


@pytest.mark.parametrize(("one", "other", "text"), [
    ([], [1.0], "reference is empty"), ([1.0], [[1.0]], "dimensions"), ([1.0], [math.nan, 1.0], "current holds 1 val"),
    ([1.0], ["a"], "current must be numbers")])
def test_bad_numbers_are_explained(one: list[float], other: list[float], text: str) -> None:
    with pytest.raises(ContractError, match=text):
        kolmogorov_smirnov(one, other)
    with pytest.raises(ContractError, match=text):
        binned(one, other)


def test_bad_vectors_and_options_are_explained() -> None:
    with pytest.raises(ContractError, match="2 columns and current has 3"):
        maximum_mean_discrepancy(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(ContractError, match="too few"):
        maximum_mean_discrepancy([1.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="most=1"):
        maximum_mean_discrepancy([1.0, 2.0], [1.0, 2.0], most=1)
    with pytest.raises(ConfigError, match="resamples=18"):
        population_stability([1, 2], [2, 1], resamples=18)
    with pytest.raises(ConfigError, match="bins=1"):
        binned([1.0], [2.0], bins=1)
    with pytest.raises(ContractError, match="count a sample"):
        jensen_shannon([10**9, 1], [1, 1])
