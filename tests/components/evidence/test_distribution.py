"""DistributionTest: worse anywhere, and within only with a tolerance on shares."""

import json
import math

import numpy as np
import pytest
from scipy.stats import beta

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import NEVER
from penstock.components.evidence.distribution import MISSES, DistributionTest, Everywhere, _ranks
from penstock.components.evidence.histogram import log_bins


def fed(test: DistributionTest, slower: float, updates: int, seed: int = 0) -> DistributionTest:
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        test.update(rng.lognormal(-3, 0.5, 4_500), (1 + slower) * rng.lognormal(-3, 0.5, 500))
    return test


def test_a_slow_canary_is_worse_and_a_quantile_says_where() -> None:
    decision = fed(DistributionTest(0.1), 0.5, 2).decide()
    assert decision.verdict == "worse"
    assert "latency at p" in decision.reason


def test_a_canary_slow_at_the_fast_end_only() -> None:
    rng = np.random.default_rng(1)
    test = DistributionTest(0.1)
    for _ in range(4):
        canary = rng.lognormal(-3, 0.5, 500)
        test.update(rng.lognormal(-3, 0.5, 4_500), np.maximum(canary, 0.035))
    assert test.decide().verdict == "worse"
    assert "p10:" in test.decide().reason


def test_without_a_tolerance_on_shares_never_within() -> None:
    decision = fed(DistributionTest(0.5), 0.0, 20).decide()
    assert (decision.verdict, decision.more, decision.log_e_within) == ("undecided", NEVER, -math.inf)
    assert "with a cdf_tolerance only" in decision.reason


def test_with_one_it_is_within() -> None:
    test = fed(DistributionTest(0.1, cdf_tolerance=0.1), 0.0, 1)
    first = test.decide()
    assert first.verdict == "undecided"
    assert first.more > 0
    assert "not yet shown" in first.reason
    decision = fed(test, 0.0, 5).decide()
    assert decision.verdict == "within"
    assert "10 points" in decision.reason


def test_a_canary_slower_somewhere_is_not_within() -> None:
    """A fifth of its requests are three times as slow: 10 points more than allowed at the slow end."""
    rng = np.random.default_rng(2)
    test = DistributionTest(0.1, cdf_tolerance=0.05)
    for _ in range(10):
        canary = rng.lognormal(-3, 0.5, 500)
        canary[:100] *= 3
        test.update(rng.lognormal(-3, 0.5, 4_500), canary)
    assert test.decide().verdict == "worse"
    assert test.log_e[1] < 0


def test_ranks_are_the_smallest_that_rarely_miss() -> None:
    points = np.array([0.0125, 0.5, 0.95])
    ranks = _ranks(points, 20_000)
    assert (beta.cdf(points, ranks, 20_001 - ranks) <= MISSES).all()
    assert (beta.cdf(points, ranks - 1, 20_002 - ranks) > MISSES).all()


def test_evidence_against_somewhere_is_no_free_lunch() -> None:
    """A canary slower at the median by just the tolerance on shares; 400 windows, each a fair bet at the most."""
    rng = np.random.default_rng(3)
    eps, found = 0.2, []
    bins, _ = log_bins(0.1, [1.0])
    for _ in range(400):
        test = Everywhere(eps, bins)
        stable, canary = rng.random(test.size), rng.random(200)
        canary = np.where(canary < 0.5 - eps, canary / (1 + eps), 0.5) * 1.1 + (canary >= 0.5 - eps)
        test.update(bins.tally(stable, "stable"), bins.tally(canary, "the canary"))
        found.append(math.exp(test.log_e))
    assert np.mean(found) - 5 * np.std(found) / 20 <= 1


def test_a_window_without_the_canary_is_dropped() -> None:
    test = Everywhere(0.5, log_bins(0.1, [1.0])[0])
    many = test._bins.tally(np.full(2 * test.size, 0.1), "stable")
    test.update(many, np.zeros_like(many))
    assert test.log_e == 0
    assert test.missing == 0


def test_a_window_with_too_few_of_stable_is_dropped() -> None:
    test = Everywhere(0.5, log_bins(0.1, [1.0])[0])
    one = test._bins.tally([0.1], "stable")
    test.update((test.least - 1) * one, 2 * test.size * one)
    assert test.log_e == 0
    test.update(test.least * one, one)
    assert test.missing > 10 * test.least
    test.update(np.zeros_like(one), 2**20 * one)
    assert test.log_e != 0
    assert test.missing == 0


@pytest.mark.parametrize("eps", [0.005, 0.02, 0.3, 0.5])
def test_ranks_rarely_miss_even_in_the_smallest_window(eps: float) -> None:
    test = Everywhere(eps, log_bins(0.1, [1.0])[0])
    ranks = _ranks(test._points, test.least)
    assert ranks.max() <= test.least < test.size
    assert (beta.cdf(test._points, ranks, test.least + 1 - ranks) <= MISSES).all()


def test_a_state_is_no_interruption() -> None:
    whole = fed(fed(DistributionTest(0.1, cdf_tolerance=0.1, name="scoring"), 0.0, 3, 4), 0.0, 2, 5)
    first = fed(DistributionTest(0.1, cdf_tolerance=0.1, name="scoring"), 0.0, 3, 4)
    second = fed(DistributionTest.from_state(json.loads(json.dumps(first.to_state(), allow_nan=False))), 0.0, 2, 5)
    assert second.decide() == whole.decide()
    assert second.to_state() == whole.to_state()


def test_a_damaged_state() -> None:
    state = DistributionTest(0.1, cdf_tolerance=0.1).to_state()
    state["evidence"]["everywhere"]["wealth"] = [[0.0]]
    with pytest.raises(ContractError, match="damaged"):
        DistributionTest.from_state(state)


@pytest.mark.parametrize("share", [-0.1, 0.001, 0.6, math.nan])
def test_a_tolerance_that_is_no_share(share: float) -> None:
    with pytest.raises(ConfigError, match="cdf_tolerance"):
        DistributionTest(0.1, cdf_tolerance=share)
