"""Sessions, bursts and the sandwich: by value, by state, and by small simulations."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom, binom, norm

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.asymptotic import (
    BATCHES,
    FEWEST,
    FIRST_LENGTH,
    AsymptoticRateTest,
    Batches,
    half_normal_evidence,
    sandwich,
)
from penstock.components.evidence.dependence import (
    DRIFT,
    Clumping,
    ClumpingSeen,
    by_session,
    clump_evidence,
    clumping_log_e,
)
from penstock.components.evidence.rate import RateTest

Floats = npt.NDArray[np.float64]


def test_a_session_has_an_event_if_any_request_has() -> None:
    ids, failed = ["a", "b", "a", "c", "b", "b"], [True, False, False, False, True, True]
    assert by_session(ids, failed) == (2, 3)
    assert by_session(ids, failed, "share") == (pytest.approx(1 / 2 + 2 / 3), 3)
    assert by_session([], []) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())))
def test_sessions_do_not_depend_on_the_order_of_requests(requests: list[tuple[int, bool]]) -> None:
    ids, failed = [str(i) for i, _ in requests], [bad for _, bad in requests]
    events, sessions = by_session(ids, failed)
    assert by_session(ids[::-1], failed[::-1]) == (events, sessions)
    assert by_session(ids, failed, "share")[0] <= events + 1e-9 <= sessions + 1e-9
    assert sessions == len(set(ids))


def test_sessions_need_an_id_per_request() -> None:
    with pytest.raises(ContractError, match="one id per request"):
        by_session(["a"], [True, False])
    with pytest.raises(ConfigError, match="'any' or 'share'"):
        by_session(["a"], [True], "most")  # type: ignore[arg-type]


def three_blocks(middle: float, outer: float) -> ClumpingSeen:
    """Three blocks of 1,000 stable requests, and a canary that never fills one."""
    seen = ClumpingSeen.nothing()
    for events in (outer / 2, middle, outer / 2):
        seen = clump_evidence(seen, np.array([events, 0.0]), np.array([1000.0, 1.0]))
    return seen


def test_the_bet_is_a_likelihood_ratio_of_scipys_distributions() -> None:
    middle, outer = 14, 16
    expected = []
    for size in (4, 20, 100):
        correlation = min((size - 1) / 29, 0.95)
        a, b = (part * (1 / correlation - 1) for part in (1 / 3, 2 / 3))
        odds = 0.5 * DRIFT
        expected.append(betabinom.logpmf(middle, 30, a, b) - binom.logpmf(middle, 30, odds / (1 + odds)))
    found = three_blocks(middle, outer).log_wealth[0] - math.log(1 / 2)  # half is kept until the second triple
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("together", [2, 7, 40, 300])
def test_the_bet_cannot_win_on_average_while_events_are_independent(together: int) -> None:
    for drift in (1 / DRIFT, 1.0, DRIFT):
        chance = 0.5 * drift / (1 + 0.5 * drift)
        won = np.array([np.exp(three_blocks(x, together - x).log_wealth[0] + math.log(2)) for x in range(together + 1)])
        average = binom.pmf(np.arange(together + 1), together, chance) @ won
        assert average.max() <= 1 + 1e-9


def clumping_of(size: int, rate: float, looks: int, seed: int, requests: int = 200) -> Clumping:
    rng, clumping = np.random.default_rng(seed), Clumping()
    for _ in range(looks):
        stable, canary = (float(size * rng.binomial(requests // size, rate)) for _ in range(2))
        clumping.update((stable, requests), (canary, requests))
    return clumping


def test_bursts_are_seen_and_their_size_is_told() -> None:
    clumping = clumping_of(20, 0.05, 100, seed=1)
    assert clumping.is_certain
    assert clumping.factor == pytest.approx(20, rel=0.4)
    assert "errors come in bursts, about" in clumping.warning()
    assert "set block=" in clumping.warning()


def test_non_events_are_counted_where_events_are_the_rule() -> None:
    rng, clumping = np.random.default_rng(3), Clumping()
    for _ in range(100):
        clumping.update(*((200 - 20.0 * rng.binomial(10, 0.05), 200.0) for _ in range(2)))
    assert clumping.is_certain
    assert clumping.factor == pytest.approx(20, rel=0.4)


def test_independent_events_are_not_warned_of() -> None:
    clumping = clumping_of(1, 0.05, 200, seed=2)
    assert not clumping.is_certain
    assert clumping.warning() == ""
    assert clumping.factor == pytest.approx(1, abs=0.6)
    assert Clumping().factor == 1


def test_bursts_that_begin_late_are_seen_too() -> None:
    seen, rng = ClumpingSeen.nothing(), np.random.default_rng(4)
    for size, looks in ((1, 600), (20, 200)):
        for _ in range(looks):
            events = size * rng.binomial(200 // size, 0.05, 2)
            seen = clump_evidence(seen, events.astype(float), np.full(2, 200.0))
    assert float(clumping_log_e(seen)) >= math.log(100)


@pytest.mark.parametrize("pattern", ["stationary", "drifting", "diurnal", "an outage of both", "a bad canary"])
def test_false_warnings_keep_their_rate(pattern: str) -> None:
    runs, looks = 400, 300
    rng, seen, ever = np.random.default_rng(5), ClumpingSeen.nothing((runs,)), np.zeros(runs, bool)
    for look in range(looks):
        place = look / looks
        rate = {"drifting": 0.05 * (1 + 3 * place), "diurnal": 0.05 * (1 + 0.8 * math.sin(10 * math.pi * place)),
                "an outage of both": 0.25 if 0.4 < place < 0.6 else 0.05}.get(pattern, 0.05)
        rates = [rate, rate * 4 if pattern == "a bad canary" else rate]
        seen = clump_evidence(seen, rng.binomial([500, 100], rates, (runs, 2)).astype(float),
                              np.broadcast_to([500.0, 100.0], (runs, 2)))
        ever |= clumping_log_e(seen) >= math.log(100)
    assert ever.mean() <= 0.01 + 5 * math.sqrt(0.01 * 0.99 / runs)


def test_clumping_goes_on_from_its_state() -> None:
    clumping = clumping_of(20, 0.05, 31, seed=6)
    again = Clumping.from_state(json.loads(json.dumps(clumping.to_state())))
    for each in (clumping, again):
        each.update((40, 200), (0, 10))
    assert again.to_state() == clumping.to_state()
    state = clumping.to_state()
    state["seen"][0] = [1.0]
    with pytest.raises(ValueError, match="shape"):
        Clumping.from_state(state)
    with pytest.raises(ConfigError, match="between 0 and"):
        Clumping(1.0)


def rate_test_with_bursts(block: int) -> RateTest:
    """Bursts of 20 that stable has too, in turn with calm looks, and then some that hit the canary alone."""
    test = RateTest(0.01, block=block)
    for look in range(60):
        test.update(stable=(60 if look % 4 == 1 else 0, 400), canary=(0, 1))
    for _ in range(3):
        test.update(stable=(15, 400), canary=(20, 40))
    return test


def test_no_verdict_falls_while_bursts_are_certain_and_no_block_is_stated() -> None:
    test = rate_test_with_bursts(block=1)
    found = test.decide()
    assert found.verdict == "undecided"
    assert test.log_e[0] > found.threshold
    assert "no verdict, because errors come in bursts" in found.reason
    assert "bursts" not in rate_test_with_bursts(block=20).decide().reason


def test_the_guard_is_part_of_the_state() -> None:
    test = rate_test_with_bursts(block=1)
    again = RateTest.from_state(json.loads(json.dumps(test.to_state())))
    assert again.decide() == test.decide()
    for each in (test, again):
        each.update(stable=(15, 400), canary=(20, 40))
    assert again.to_state() == test.to_state()
    stated = RateTest.from_state(json.loads(json.dumps(RateTest(0.01, block=20).to_state())))
    assert stated.decide().verdict == "undecided"


def test_the_mixture_of_half_normals_by_quadrature() -> None:
    total, variance, first = 30.0, 100.0, 50.0
    width = math.sqrt((2 * math.log(20) + math.log(2 * math.log(20) + 1)) / first)
    grid = np.linspace(0, 12 * width, 200_001)
    density = 2 * norm.pdf(grid, scale=width) * np.exp(grid * total - grid**2 * variance / 2)
    found = half_normal_evidence(np.asarray(total), np.asarray(variance), np.asarray(first))
    assert float(found) == pytest.approx(math.log(np.trapezoid(density, grid)), abs=1e-6)


def test_batches_are_joined_when_there_are_too_many() -> None:
    batches, rng = Batches.nothing(), np.random.default_rng(7)
    excess = weight = 0.0
    for _ in range(BATCHES):
        events = rng.binomial(FIRST_LENGTH, 0.2, 2)
        batches = batches.after(events[0], FIRST_LENGTH, events[1], FIRST_LENGTH)
        excess, weight = excess + (events[1] - events[0]) / 2, weight + FIRST_LENGTH / 2
    assert batches.full == BATCHES // 2
    assert batches.length == 2 * FIRST_LENGTH
    total, size, _ = sandwich(batches)
    assert (float(total), float(size)) == (pytest.approx(excess), pytest.approx(weight))


def test_the_variance_is_of_whole_batches() -> None:
    batches = Batches.nothing()
    for difference in (5.0, -5.0, 5.0, -5.0):
        batches = batches.after(0, FIRST_LENGTH, 0, 0.5 * FIRST_LENGTH)
        batches = batches.after(10, FIRST_LENGTH, 10 + difference, 0.5 * FIRST_LENGTH)
    found = batches.excess[:4] - batches.excess[:4].mean()
    assert float(sandwich(batches)[2]) == pytest.approx((found**2).sum() * 4 / 3)


def asymptotic_test(rates: tuple[float, float], looks: int, tolerance: float = 0.01) -> AsymptoticRateTest:
    test, rng = AsymptoticRateTest(tolerance), np.random.default_rng(8)
    for _ in range(looks):
        test.update(*((int(rng.binomial(100, rate)), 100) for rate in rates))
    return test


def test_the_asymptotic_test_says_what_it_is() -> None:
    early = asymptotic_test((0.05, 0.5), FEWEST // 2).decide()
    assert early.verdict == "undecided"
    assert "1,600 canary requests (asymptotic)" in early.reason
    assert (early.lower, early.upper) == (-1, 1)
    bad, good = asymptotic_test((0.05, 0.10), 200).decide(), asymptotic_test((0.05, 0.05), 1500).decide()
    assert (bad.verdict, good.verdict) == ("worse", "within")
    assert bad.lower > 0.01 > good.upper
    assert bad.lower <= bad.estimate <= bad.upper
    assert "asymptotic: right for long samples" in bad.reason
    assert asymptotic_test((0.05, 0.05), 300, tolerance=0.0).decide().log_e_within == -math.inf


def test_the_asymptotic_test_goes_on_from_its_state() -> None:
    test = asymptotic_test((0.05, 0.06), 123)
    again = AsymptoticRateTest.from_state(json.loads(json.dumps(test.to_state())))
    for each in (test, again):
        each.update((5, 100), (8, 100))
    assert again.decide() == test.decide()
    state = test.to_state()
    state["evidence"]["excess"] = [0.0]
    with pytest.raises(ContractError, match="damaged"):
        AsymptoticRateTest.from_state(state)
    with pytest.raises(ContractError, match="no more events"):
        test.update((1, 2), (3, 2))
