"""The hard stop: exact tails against scipy's, alone and together, and no more false alarms than promised."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact, norm

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.capital import Window
from penstock.components.evidence.decision import NEVER
from penstock.components.evidence.hard_stop import HardStop, common_tail, fires, limit_tail, spent


def window(stable: tuple[int, int], canary: tuple[int, int]) -> Window:
    return Window(*np.array([*stable, *canary], float))


shares = st.integers(1, 60).flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size)))


def test_the_budget_adds_up_and_is_never_overspent() -> None:
    parts = [spent(0.005, interval) for interval in range(1, 100_001)]

    assert parts[0] == pytest.approx(0.00304, abs=1e-5)
    assert 0.00499 < sum(parts) < 0.005


@given(shares, shares, st.floats(0.05, 0.95))
def test_the_tails_are_scipys(stable: tuple[int, int], canary: tuple[int, int], limit: float) -> None:
    found = window(stable, canary)
    (theirs, others), (errors, requests) = stable, canary
    table = [[errors, requests - errors], [theirs, others - theirs]]

    assert limit_tail(found, limit) == pytest.approx(binom.sf(errors - 1, requests, limit), rel=1e-9)
    assert common_tail(found) == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-7)


def test_tails_of_a_billion_requests_are_those_of_the_normal_distribution() -> None:
    """Where errors are many; a sum over every table would take 10 GB."""
    half = 5 * 10**8
    for extra in (-10**6, 0, 20_000, 10**8):
        z = (extra / 1e9) / math.sqrt(0.25 * 2 / 1e9)
        found = common_tail(window((half, 2 * half), (half + extra, 2 * half)))
        assert float(found) == pytest.approx(norm.sf(z), rel=1e-3, abs=1e-4)
    test = HardStop(0.4)
    test.update(stable=(half, 2 * half), canary=(half + 10**8, 2 * half))
    assert test.decide().verdict == "worse"


def test_the_tails_work_on_arrays() -> None:
    theirs, errors = np.array([[0, 3], [19, 10]]), np.array([[5, 0], [9, 10]])
    many = Window(theirs, np.full((2, 2), 20), errors, np.full((2, 2), 10))
    for tail in (common_tail, lambda part, block=1: limit_tail(part, 0.4, block)):
        for block in (1, 4):
            one_by_one = [float(tail(window((int(a), 20), (int(b), 10)), block=block))
                          for a, b in zip(theirs.flat, errors.flat, strict=True)]
            assert tail(many, block=block).ravel() == pytest.approx(one_by_one)
    assert fires(many, 0.4, 0.05).tolist() == [[False, False], [False, True]]
    assert fires(many, 0.2, 0.05).tolist() == [[True, False], [False, True]]


@given(st.integers(1, 12), st.integers(2, 6), st.floats(0.1, 0.9))
def test_for_sessions_that_fail_as_one_the_tail_is_a_bound(sessions: int, block: int, limit: float) -> None:
    """All requests of a session fail together: the errors are `block` times a binomial number of sessions."""
    for failed in range(sessions + 1):
        exact = binom.sf(failed - 1, sessions, limit)
        assert limit_tail(window((0, 1), (failed * block, sessions * block)), limit, block) >= exact - 1e-12


def test_a_burst_is_the_canarys_only_if_stable_has_none() -> None:
    burst, outage = HardStop(), HardStop()
    burst.update(stable=(4, 1900), canary=(18, 20))
    outage.update(stable=(1700, 1900), canary=(20, 20))
    found = burst.decide()

    assert found.verdict == "worse"
    assert (found.estimate, found.lower, found.samples, found.more) == (0.9, 0.5, 20, 0)
    assert found.log_e_worse == found.threshold == pytest.approx(math.log(200))
    assert found.reason == ("hard stop: 18 of 20 requests of the canary failed, 4 of 1,900 of stable, in interval 1; "
                            "more than 50% ends a canary at once")
    assert (outage.decide().verdict, outage.decide().more) == ("undecided", NEVER)
    assert outage.decide().log_e_worse == -math.inf
    assert "none in 1 interval that chance could not explain" in outage.decide().reason


def test_a_later_interval_has_less_to_spend() -> None:
    early, late = HardStop(), HardStop()
    for _ in range(100):
        late.update(stable=(0, 100), canary=(0, 100))
    for stop in (early, late):
        stop.update(stable=(1, 100), canary=(18, 20))

    assert (early.decide().verdict, late.decide().verdict) == ("worse", "undecided")


def test_an_interval_needs_both_versions_and_the_burst_stays() -> None:
    stop = HardStop()
    stop.update(stable=(0, 0), canary=(50, 50))
    stop.update(stable=(0, 50), canary=(0, 0))
    assert "nothing to judge yet" in stop.decide().reason

    stop.update(stable=(0, 50), canary=(50, 50))
    before = stop.decide()
    stop.update(stable=(0, 50), canary=(0, 50))
    assert stop.decide() == before


def test_sessions_need_more_errors() -> None:
    single, sessions = HardStop(), HardStop(block=20)
    for stop in (single, sessions):
        stop.update(stable=(0, 380), canary=(20, 20))
    assert (single.decide().verdict, sessions.decide().verdict) == ("worse", "undecided")

    sessions.update(stable=(0, 3800), canary=(400, 400))
    assert sessions.decide().verdict == "worse"


def test_a_crash_decides_at_once_and_the_first_is_told() -> None:
    stop = HardStop(name="server")
    stop.crashed("OOMKilled twice in 40 s")
    stop.crashed("again")
    found = stop.decide()

    assert (found.verdict, found.reason) == ("worse", "server: the canary crashed: OOMKilled twice in 40 s")
    assert (found.log_e_worse, found.samples, found.lower) == (found.threshold, 0, 0.0)


@given(st.lists(st.tuples(shares, shares), max_size=4), st.booleans(), st.tuples(shares, shares))
def test_a_restored_stop_goes_on_as_if_nothing_had_happened(
        before: list[tuple[tuple[int, int], tuple[int, int]]], crashed: bool,
        after: tuple[tuple[int, int], tuple[int, int]]) -> None:
    stop = HardStop(0.4, 0.01, name="5xx")
    for stable, canary in before:
        stop.update(stable=stable, canary=canary)
    if crashed:
        stop.crashed("gone")
    restored = HardStop.from_state(json.loads(json.dumps(stop.to_state())))
    for one in (stop, restored):
        one.update(stable=after[0], canary=after[1])

    assert restored.to_state() == stop.to_state()
    assert restored.decide() == stop.decide()


@pytest.mark.parametrize("damage", [{"verdict": "within"}, {"verdict": "worse"}, {"evidence": {"crash": "gone"}},
                                    {"evidence": {"last": [-1, 2, 0, 1]}}, {"evidence": {"intervals": math.inf}},
                                    {"evidence": {"requests": -1}}, {"options": {"limit": "0.5"}}])
def test_a_state_it_cannot_have_is_refused(damage: dict[str, Any]) -> None:
    state = HardStop().to_state()
    damaged = {key: value | damage.get(key, {}) if isinstance(value, dict) else damage.get(key, value)
               for key, value in state.items()}
    with pytest.raises(ContractError, match="the state of HardStop is damaged"):
        HardStop.from_state(damaged)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^limit=nan is no number; give a finite one such as 0.5"):
        HardStop(math.nan)
    for limit in (0.0, 1.0, 7.0):
        with pytest.raises(ConfigError, match="share of requests"):
            HardStop(limit)
    for stable, canary in (((0, 10), (11, 10)), ((-1, 10), (0, 10)), ((0, math.inf), (0, 1))):
        with pytest.raises(ContractError, match="no more events than requests"):
            HardStop().update(stable=stable, canary=canary)
    state = HardStop().to_state()
    state["evidence"]["last"] = [1.0]
    with pytest.raises(ContractError, match="damaged"):
        HardStop.from_state(state)


@pytest.mark.parametrize(("canary", "stable"), [(0.5, 0.01), (0.9, 0.9)])
def test_false_alarms_are_as_rare_as_promised(canary: float, stable: float) -> None:
    """At the limit, and in a common outage; alpha is 0.2 here, so that there is something to count."""
    random, runs, alpha = np.random.default_rng(5), 4000, 0.2
    fired = np.zeros(runs, bool)
    for interval in range(1, 31):
        seen = Window(random.binomial(60, stable, runs), np.full(runs, 60), random.binomial(20, canary, runs),
                      np.full(runs, 20))
        fired |= fires(seen, 0.5, spent(alpha, interval))

    assert 0 < fired.sum() <= runs * alpha + 5 * math.sqrt(runs * alpha * (1 - alpha))
