"""Counts of events: closed forms, the Dirichlet mixture as an oracle, and no more wrong verdicts than promised."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln, logit, xlogy
from scipy.stats import binom

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.count import CountTest, Mixture, evidence, log_likelihood, mixture
from penstock.components.evidence.decision import NEVER

windows = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.99)), min_size=1, max_size=6)


def fed(test: CountTest, parts: list[tuple[int, int, float]]) -> CountTest:
    for stable, canary, share in parts:
        test.update(stable=stable, canary=canary, share=share)
    return test


def theta(ratio: float, share: float) -> float:
    return share * ratio / (share * ratio + 1 - share)


def row_of(bets: Mixture, tolerance: float) -> int:
    return int(np.flatnonzero(bets.etas == math.log1p(tolerance))[0])


@given(windows, st.floats(-0.5, 3))
def test_the_likelihood_is_the_binomial_one(parts: list[tuple[int, int, float]], tolerance: float) -> None:
    etas, null = np.log([0.1, 1, 2.5]), math.log1p(tolerance)
    found = sum(log_likelihood(etas, null, *part) for part in parts)

    for eta, value in zip(etas, found, strict=True):
        expected = sum(binom.logpmf(canary, stable + canary, theta(math.exp(eta), share))
                       - binom.logpmf(canary, stable + canary, theta(1 + tolerance, share))
                       for stable, canary, share in parts)
        assert value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("tolerance", [-0.5, 0.0, 0.001, 0.1, 0.5, 9.0, 99.0])
def test_every_null_is_bet_against_with_all_of_the_capital_and_on_its_own_side(tolerance: float) -> None:
    bets = mixture(tolerance)
    weights = np.exp(bets.log_weights)

    assert weights.sum(axis=-1) == pytest.approx(1)
    assert {0.0, math.log1p(tolerance)} <= set(bets.etas.tolist())
    places = np.arange(len(bets.etas))
    assert not weights[0][places[None, :] < places[:, None]].any()
    assert not weights[1][places[None, :] > places[:, None]].any()
    none = int(np.flatnonzero(bets.etas == 0)[0])
    assert weights[0, :none, none] == pytest.approx(0.5, abs=0.5)
    assert (weights[1, none + 1:, none] >= 0.5).all()


@given(st.integers(1, 4), st.floats(0.02, 0.9), st.floats(-0.4, 2), st.floats(-0.9, 3))
def test_the_expectation_of_the_evidence_is_one_at_most(events: int, share: float, tolerance: float,
                                                        truth: float) -> None:
    """Summed over every outcome of two windows with different shares; 1 exactly at the tolerance."""
    bets = mixture(tolerance)
    bets = bets.at(row_of(bets, tolerance))
    null, other = math.log1p(tolerance), share / 2
    expected = np.zeros(2)
    for first, second in itertools.product(range(events + 1), repeat=2):
        seen = (log_likelihood(bets.etas, null, events - first, first, share)
                + log_likelihood(bets.etas, null, events - second, second, other))
        chance = math.prod(binom.pmf(count, events, theta(1 + truth, part))
                           for count, part in ((first, share), (second, other)))
        expected += chance * np.exp(evidence(bets, seen)[:, 0])

    assert expected[0 if truth <= tolerance else 1] <= 1 + 1e-9
    if truth == tolerance:
        assert expected == pytest.approx(1)


@pytest.mark.parametrize(("canary", "stable"), [(0, 40), (9, 91), (30, 170), (400, 3600)])
def test_a_beta_prior_gives_lindon_and_maleks_mixture(canary: int, stable: int) -> None:
    """Their Dirichlet mixture for two versions at a constant share, by quadrature over a fine grid of ratios."""
    share, tolerance, a, b = 0.1, 0.5, 3.0, 27.0
    etas = np.linspace(-9, 9, 20_001)
    log_theta, log_rest = -np.logaddexp(0, -etas - logit(share)), -np.logaddexp(0, etas + logit(share))
    weights = a * log_theta + b * log_rest - betaln(a, b) + math.log(etas[1] - etas[0])  # of theta, in terms of eta
    bets = Mixture(etas, np.array([0]), np.stack([weights[None], weights[None]]))
    found = evidence(bets, log_likelihood(etas, math.log1p(tolerance), stable, canary, share))[0, 0]
    found += log_likelihood(etas[:1], math.log1p(tolerance), stable, canary, share)[0]  # row 0 is not the tolerance

    null = theta(1 + tolerance, share)
    expected = betaln(a + canary, b + stable) - betaln(a, b) - xlogy(canary, null) - xlogy(stable, 1 - null)
    assert found == pytest.approx(expected, abs=1e-6)


def test_one_event_by_hand() -> None:
    """With a null of 'twice' and one event of the canary at half of the traffic: the mean of theta / theta_0."""
    test = fed(CountTest(1.0), [(0, 1, 0.5)])
    bets = mixture(1.0)
    weights = np.exp(bets.log_weights[:, row_of(bets, 1.0)])
    ratios = np.exp(bets.etas)

    assert np.exp(test.log_e) == pytest.approx(weights @ (ratios / (1 + ratios) / (2 / 3)))


def test_a_bad_a_good_and_a_marginal_canary() -> None:
    bad = fed(CountTest(0.5, name="5xx"), [(100, 30, 0.05)]).decide()
    good = fed(CountTest(0.5), [(3800, 200, 0.05)]).decide()
    marginal = fed(CountTest(0.5), [(380, 30, 0.05)]).decide()

    assert (bad.verdict, good.verdict, marginal.verdict) == ("worse", "within", "undecided")
    assert bad.log_e_worse > bad.threshold > good.log_e_worse
    assert bad.reason == ("5xx: 30 events of the canary, 100 of stable: 5.7 times stable's rate, at least 2.84 times; "
                          "1.5 times is allowed")
    assert "events: 200 events of the canary" in good.reason
    assert "at most 1.2" in good.reason
    assert good.estimate == pytest.approx(0)
    assert good.lower < 0 < good.upper < 0.5
    assert marginal.more == NEVER
    assert "too close to say" in marginal.reason
    assert fed(CountTest(0.5), [(95, 5, 0.05)]).decide().more > 0


def test_before_any_event_and_without_one_of_stable() -> None:
    nothing = CountTest(0.5).decide()
    assert (nothing.verdict, nothing.estimate, nothing.lower, nothing.upper, nothing.more) == \
        ("undecided", 0.0, -1.0, math.inf, NEVER)
    assert "nothing to compare yet" in nothing.reason

    one, two = (fed(CountTest(0.5), [(0, count, share)]).decide() for count, share in ((1, 0.9), (2, 0.5)))
    assert one.estimate == two.estimate == math.inf
    assert one.lower == -1 < two.lower
    assert "so their ratio has no estimate, nothing shown yet; 1.5 times is allowed" in one.reason
    assert "at least 0.108 times" in two.reason


def test_no_share_is_no_evidence() -> None:
    test = fed(CountTest(0.5), [(50, 3, 0.0), (2, 70, 1.0), (0, 0, 0.3)])

    assert test.to_state() == CountTest(0.5).to_state()


def test_the_estimate_is_mantel_and_haenszels() -> None:
    """Shares that climb while the base rate falls: pooled counts would say 0.3 times."""
    test = fed(CountTest(0.5), [(1980, 20, 0.01), (100, 100, 0.5)])

    assert test.decide().estimate == pytest.approx(0)


@given(windows, st.integers(0, 30))
def test_more_events_of_the_canary_are_more_evidence(parts: list[tuple[int, int, float]], extra: int) -> None:
    stable, canary, share = parts[0]
    fewer, more = (fed(CountTest(0.5), [*parts[1:], (stable, count, share)]) for count in (canary, canary + extra))

    assert more.log_e[0] >= fewer.log_e[0] - 1e-9
    assert more.log_e[1] <= fewer.log_e[1] + 1e-9


@given(windows)
def test_order_and_batches_of_windows_do_not_matter(parts: list[tuple[int, int, float]]) -> None:
    one, turned = fed(CountTest(0.2), parts), fed(CountTest(0.2), parts[::-1])
    twice = fed(CountTest(0.2), [half for stable, canary, share in parts
                                 for half in ((stable, 0, share), (0, canary, share))])

    assert one.log_e == pytest.approx(turned.log_e)
    assert one.log_e == pytest.approx(twice.log_e)
    assert one.decide().estimate == pytest.approx(twice.decide().estimate)


@given(windows)
def test_swapping_the_versions_swaps_the_sides(parts: list[tuple[int, int, float]]) -> None:
    one = fed(CountTest(0.0), parts)
    other = fed(CountTest(0.0), [(canary, stable, 1 - share) for stable, canary, share in parts])
    sides = [evidence(mixture(0.0), test._likelihood)[:, row_of(mixture(0.0), 0.0)] for test in (one, other)]

    assert sides[0] == pytest.approx(sides[1][::-1], abs=1e-6)


@given(windows, windows)
def test_a_restored_test_goes_on_as_if_nothing_had_happened(before: list[tuple[int, int, float]],
                                                           after: list[tuple[int, int, float]]) -> None:
    test = fed(CountTest(0.3, 0.1, block=2, max_samples=500, name="5xx"), before)
    restored = CountTest.from_state(json.loads(json.dumps(test.to_state())))

    assert fed(restored, after).decide() == fed(test, after).decide()
    assert restored.to_state() == test.to_state()


def test_a_block_divides_the_evidence_of_every_bet() -> None:
    plain, blocks = fed(CountTest(0.5), [(100, 20, 0.1)]), fed(CountTest(0.5, block=10), [(1000, 200, 0.1)])

    assert plain.log_e == pytest.approx(blocks.log_e)
    assert blocks.samples == 120
    assert "blocks of events" in blocks.decide().reason


def test_bursts_without_a_block_are_refused_and_a_share_that_changes_is_none() -> None:
    """Fifty events at a time, all from one version, and so little alpha that no verdict falls before it is noticed."""
    random, bursts, stated = np.random.default_rng(1), CountTest(0.5, 1e-30), CountTest(0.5, 1e-30, block=50)
    for _ in range(60):
        canary = 50 * random.binomial(4, 0.05)
        for test in (bursts, stated):
            test.update(stable=200 - canary, canary=canary, share=0.05)
    assert "no verdict, because events come in bursts" in bursts.decide().reason
    assert "bursts" not in stated.decide().reason
    kept = CountTest.from_state(bursts.to_state())
    kept.update(stable=10**6, canary=1, share=0.5)
    assert kept.decide().verdict == "undecided"

    climbing = CountTest(0.5)
    for share in np.repeat([0.01, 0.05, 0.2, 0.5], 30).tolist():
        canary = random.binomial(200, theta(1.2, share))
        climbing.update(stable=200 - canary, canary=canary, share=share)
    assert climbing.decide().verdict == "within"


def test_a_tolerance_of_nothing_refuses_within() -> None:
    found = fed(CountTest(0.0), [(9000, 10, 0.5)]).decide()

    assert (found.verdict, found.log_e_within, found.more) == ("undecided", -math.inf, NEVER)
    assert "cannot be shown" in found.reason
    assert fed(CountTest(-0.5), [(100, 100, 0.5)]).decide().verdict == "worse"


def test_after_max_samples_it_stays_undecided() -> None:
    test = fed(CountTest(0.5, max_samples=100), [(95, 5, 0.05), (10, 90, 0.05)])

    assert (test.decide().verdict, test.decide().more) == ("undecided", NEVER)
    assert test.log_e[0] > test.decide().threshold
    assert (test.decide().log_e_worse, test.decide().log_e_within) == (-math.inf, -math.inf)


def test_a_ratio_that_changed_has_no_interval() -> None:
    turned = [(100, 100, 0.5), (100, 400, 0.5), (4000, 100, 0.5)]
    found = fed(CountTest(0.5, max_samples=100), turned).decide()
    assert found.lower > found.upper
    assert " stable's rate, but the difference has changed while it was watched; 1.5 times is allowed" in found.reason
    assert fed(CountTest(0.5), turned).decide().reason.endswith("is allowed; the difference has changed while it was "
                                                                "watched")


@pytest.mark.parametrize(("tolerance", "text"), [(-1.0, "no event at all"), (-2, "ratio"), (math.nan, "no number")])
def test_an_impossible_tolerance_is_refused(tolerance: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        CountTest(tolerance)


@pytest.mark.parametrize(("stable", "canary", "share"), [(-1, 0, 0.5), (0, -1, 0.5), (math.nan, 0, 0.5),
                                                         (1, 1, 1.1), (1, 1, -0.1), (1, 1, math.nan), (1, 0.5, 0.5),
                                                         (2**53, 1, 0.5), (None, 1, 0.5), (1, "1", 0.5), (1, 1, None),
                                                         (1, 1, "0.5"), ([1], 1, 0.5)])
def test_what_is_no_count_or_share_is_refused(stable: Any, canary: Any, share: Any) -> None:
    with pytest.raises(ContractError, match="share"):
        CountTest(0.5).update(stable=stable, canary=canary, share=share)


@pytest.mark.parametrize("damage", [{"likelihood": [0.0]}, {"events": [1.0]}, {"share": "much"},
                                    {"share": 1.0}, {"events": [-1.0, 0.0]}, {"likelihood": [math.inf] * 300}])
def test_a_damaged_state_is_refused(damage: dict[str, object]) -> None:
    state = CountTest(0.5).to_state()
    state["evidence"] |= damage

    with pytest.raises(ContractError, match="damaged"):
        CountTest.from_state(state)


def test_the_confidence_sequence_misses_no_oftener_than_promised() -> None:
    """Shares climb, the base rate wanders; both ends together miss with probability 2 alpha at most."""
    random, runs, missed, alpha = np.random.default_rng(3), 150, 0, 0.1
    for _ in range(runs):
        test, ratio = CountTest(0.5, alpha), 1.3
        for share in (0.01, 0.05, 0.5):
            for _ in range(10):
                events = random.poisson(40 * random.lognormal(0, 0.5))
                canary = random.binomial(events, theta(ratio, share))
                test.update(stable=events - canary, canary=canary, share=share)
        found = test.decide()
        missed += not found.lower <= ratio - 1 <= found.upper
    assert missed <= binom.ppf(1 - 3e-7, runs, 2 * alpha)
