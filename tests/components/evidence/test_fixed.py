"""Fixed-sample intervals: known values, and in simulation no more wrong promotions than promised."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from penstock.components.contracts.reports import Interval
from penstock.components.evidence.fixed import (
    least_sample,
    proportion,
    proportion_difference,
    quantile,
    quantile_ratio,
)

ALPHA = 0.05
LEVEL = 1 - 2 * ALPHA


def test_a_proportion_is_wilsons() -> None:
    found = proportion(81, 263, 0.95)  # Newcombe 1998, table I

    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert proportion(0, 0, 0.95) == Interval(estimate=0, lower=0, upper=1)


@pytest.mark.parametrize(
    ("one", "other", "lower", "upper"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0),
     ((0, 10), (0, 20), -0.1611, 0.2775)],
)
def test_a_difference_is_newcombes(one: tuple[int, int], other: tuple[int, int], lower: float, upper: float) -> None:
    """The examples of Newcombe 1998 (Statistics in Medicine 17, 873), table II, method 10."""
    found = proportion_difference(proportion(*one, 0.95), proportion(*other, 0.95))

    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-4)


@given(st.integers(0, 50), st.integers(50, 400), st.integers(0, 50), st.integers(50, 400))
def test_a_difference_contains_its_estimate_and_turns_with_its_sides(a: int, m: int, b: int, n: int) -> None:
    one, other = proportion(a, m, LEVEL), proportion(b, n, LEVEL)
    found, turned = proportion_difference(one, other), proportion_difference(other, one)

    assert -1 <= found.lower <= found.estimate <= found.upper <= 1
    assert (turned.lower, turned.upper) == pytest.approx((-found.upper, -found.lower))


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.3))
def test_the_least_sample_just_shows_the_margin(margin: float, alpha: float) -> None:
    needed = least_sample(margin, alpha)

    assert proportion(0, needed, 1 - 2 * alpha).upper <= margin + 1e-9
    assert needed == 1 or proportion(0, needed - 1, 1 - 2 * alpha).upper > margin - 1e-9


def test_wrong_promotions_by_errors_are_as_rare_as_promised() -> None:
    """A canary that is worse by just the margin passes with probability alpha at most."""
    random, margin, rounds = np.random.default_rng(0), 0.02, 3000
    estimate = cache(lambda errors, answers: proportion(errors, answers, LEVEL))
    for base in (0.0, 0.01, 0.1):
        canary, stable = random.binomial(600, base + margin, rounds), random.binomial(2400, base, rounds)
        wrong = sum(proportion_difference(estimate(a, 600), estimate(b, 2400)).upper <= margin
                    for a, b in zip(canary.tolist(), stable.tolist(), strict=True))
        assert wrong <= binom.ppf(0.999, rounds, ALPHA + 0.01)  # the score interval is approximate by a point


@pytest.mark.parametrize(("q", "count"), [(0.5, 40), (0.95, 200), (0.99, 1000)])
def test_a_quantile_is_bounded_by_the_ranks_of_the_exact_binomial(q: float, count: int) -> None:
    """P(X_(r) <= quantile) is the tail of a Beta(r, n - r + 1): a closed form of its own."""
    values = np.arange(1, count + 1, dtype=float)
    found = quantile(values, values, q, 0.9)

    low, high = int(found.lower), int(found.upper)
    assert beta.cdf(q, low, count - low + 1) >= 0.95 > beta.cdf(q, low + 1, count - low)
    assert beta.sf(q, high, count - high + 1) >= 0.95 > beta.sf(q, high - 1, count - high + 2)
    assert found.estimate == math.ceil(q * count)


def test_a_sample_too_small_for_a_quantile_bounds_nothing() -> None:
    values = np.arange(1.0, 11.0)

    assert quantile(values, values, 0.95, 0.9).upper == math.inf
    assert quantile(values, values, 0.05, 0.9).lower == 0
    assert quantile(values[:0], values[:0], 0.95, 0.9).upper == math.inf


def test_buckets_are_taken_at_their_unfavourable_edge() -> None:
    fast, slow = np.repeat([0.0, 0.1], 50), np.repeat([0.1, math.inf], 50)

    assert (quantile(fast, slow, 0.25, 0.9).lower, quantile(fast, slow, 0.25, 0.9).upper) == (0.0, 0.1)
    assert quantile(fast, slow, 0.9, 0.9) == Interval(estimate=0.1, lower=0.1, upper=math.inf, level=0.9)


def test_a_ratio_takes_the_far_ends() -> None:
    found = quantile_ratio(Interval(estimate=4, lower=2, upper=6), Interval(estimate=2, lower=1, upper=4))

    assert (found.estimate, found.lower, found.upper, found.level) == pytest.approx((2, 0.5, 6, 0.9))
    unbounded = quantile_ratio(Interval(estimate=4, lower=2, upper=6), Interval(estimate=2, lower=0, upper=4))
    assert unbounded.upper == math.inf


def test_wrong_promotions_by_latency_are_rarer_than_promised() -> None:
    """Bonferroni is careful: with the true ratio at the limit far fewer than alpha pass."""
    random, rounds, passed = np.random.default_rng(0), 1000, 0
    limit = 1.5
    for _ in range(rounds):
        canary, stable = np.sort(random.lognormal(math.log(limit), 0.5, 400)), np.sort(random.lognormal(0, 0.5, 1600))
        ours, theirs = (quantile(values, values, 0.95, 1 - ALPHA) for values in (canary, stable))
        passed += quantile_ratio(ours, theirs).upper <= limit
    assert passed <= binom.ppf(0.999, rounds, ALPHA)


def test_a_canary_as_good_as_stable_is_usually_promoted() -> None:
    """The power that the default sample buys: 2,000 requests at 20 %, no errors, the same latency."""
    random, rounds, passed = np.random.default_rng(0), 200, 0
    assert proportion_difference(proportion(0, 400, LEVEL), proportion(0, 1600, LEVEL)).upper < 0.01
    for _ in range(rounds):
        canary, stable = np.sort(random.lognormal(0, 0.3, 400)), np.sort(random.lognormal(0, 0.3, 1600))
        ours, theirs = (quantile(values, values, 0.95, 1 - ALPHA) for values in (canary, stable))
        passed += quantile_ratio(ours, theirs).upper <= 1.5
    assert passed >= 0.95 * rounds
