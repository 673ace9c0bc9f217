"""LatencyTest: verdicts, their words, and that a state goes on as if nothing had happened."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import NEVER, round_up
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.quantile import window_size

BOUNDS = [0.1, 0.25, 0.5, math.inf]


def draw(rng: np.random.Generator, size: int, slower: float = 0.0) -> npt.NDArray[np.float64]:
    return (1 + slower) * rng.lognormal(-3, 0.5, size)


def fed(test: LatencyTest, slower: float, updates: int, share: float = 0.1, seed: int = 0) -> LatencyTest:
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        test.update(draw(rng, round(1000 * (1 - share))), draw(rng, round(1000 * share), slower))
    return test


def test_a_canary_twice_as_slow_is_worse_after_one_update() -> None:
    decision = fed(LatencyTest(0.1), 1.0, 1).decide()
    assert decision.verdict == "worse"
    assert decision.lower > 0.1
    assert decision.log_e_worse > decision.threshold
    assert "at least" in decision.reason
    assert decision.more == 0


def test_the_same_canary_is_within() -> None:
    test = fed(LatencyTest(0.25), 0.0, 40)
    decision = test.decide()
    assert decision.verdict == "within"
    assert decision.upper <= 0.25 + 1e-9
    assert decision.lower < 0 < decision.upper
    assert {each.verdict for each in test.quantile_decisions().values()} == {"within"}
    assert decision.reason.endswith("p50 too")
    assert decision.samples == 4_000


def test_an_undecided_test_says_how_far_it_is() -> None:
    decision = fed(LatencyTest(0.25), 0.0, 2).decide()
    assert decision.verdict == "undecided"
    assert decision.more > 0
    assert f"about {round_up(decision.more):,} more" in decision.reason


def test_only_the_tail_is_slow() -> None:
    rng = np.random.default_rng(3)
    test = LatencyTest(0.1)
    for _ in range(10):
        canary = draw(rng, 100)
        canary[canary > 0.1] *= 3
        test.update(draw(rng, 900), canary)
    alone = test.quantile_decisions()
    assert alone[0.99].verdict == "worse"
    assert alone[0.5].verdict != "worse"
    assert "p99" in test.decide().reason


def test_the_estimate_and_its_sequence_hold_the_truth() -> None:
    for slower in (-0.2, 0.0, 0.4):
        for decision in fed(LatencyTest(0.1), slower, 60, seed=4).quantile_decisions().values():
            assert decision.lower <= slower <= decision.upper
            assert decision.estimate == pytest.approx(slower, abs=0.08)


def test_nothing_to_compare_yet() -> None:
    test = LatencyTest(0.1)
    assert "nothing to compare yet" in test.decide().reason
    assert "800 requests of both versions make a beginning" in test.decide().reason
    test.update([0.1] * (2 * window_size(0.99) - 3), [0.2])
    assert test.quantile_decisions()[0.99].samples == 0
    assert test.quantile_decisions()[0.5].samples == 1
    assert test.samples == 1
    test.update([], [0.2])
    test.update([0.1], [])
    assert test.quantile_decisions()[0.99].samples == 2


def test_windows_without_a_canary_request_are_dropped() -> None:
    test = LatencyTest(0.1, (0.5,))
    test.update([9.0] * 40, [])
    test.update([], [9.0] * 20)
    assert test.log_e == (0, 0)
    test.update([0.1] * 39, [0.1])
    again = LatencyTest(0.1, (0.5,))
    again.update([0.1] * 39, [0.1])
    assert test.log_e == again.log_e < (0, 0)


def test_tolerance_nought_never_says_within() -> None:
    decision = fed(LatencyTest(0.0), -0.3, 30).decide()
    assert decision.verdict == "undecided"
    assert decision.log_e_within == -math.inf
    assert "cannot be shown" in decision.reason
    assert fed(LatencyTest(0.0), 0.5, 10).decide().verdict == "worse"
    assert fed(LatencyTest(-0.1), 0.1, 20).decide().verdict == "worse"


def test_a_floor_is_what_nobody_minds() -> None:
    assert fed(LatencyTest(0.1), 0.5, 20).decide().verdict == "worse"
    decision = fed(LatencyTest(0.1, floor=0.2), 0.5, 20).decide()
    assert decision.verdict == "within"
    assert "or 0.2 s" in decision.reason


def test_a_quantile_worse_by_itself_still_takes_more_as_one_of_two() -> None:
    test, rng = LatencyTest(0.1), np.random.default_rng(0)
    test.update(rng.lognormal(-2, 0.5, 400), 1.5 * rng.lognormal(-2, 0.5, 40))
    found = test.decide()
    assert test.quantile_decisions()[0.5].verdict == "worse"
    assert found.verdict == "undecided"
    assert found.more > 0


def test_the_ends_that_are_shown_allow_for_how_many_quantiles_there_are() -> None:
    test, rng = LatencyTest(0.1), np.random.default_rng(0)
    test.update(rng.lognormal(-2, 0.5, 400), 1.5 * rng.lognormal(-2, 0.5, 40))
    alone, found = test.quantile_decisions()[0.5], test.decide()
    assert (alone.verdict, found.verdict, found.estimate) == ("worse", "undecided", alone.estimate)
    assert found.lower < test.tolerance <= alone.lower
    within = fed(LatencyTest(0.1), 0.0, 100).decide()
    assert (within.verdict, within.upper <= 0.1) == ("within", True)


def test_a_verdict_sticks() -> None:
    test = fed(LatencyTest(0.1), 1.0, 1)
    assert fed(test, -0.5, 20).decide().verdict == "worse"


def test_no_verdict_after_the_last_sample() -> None:
    test = LatencyTest(0.1, max_samples=50)
    rng = np.random.default_rng(0)
    test.update(draw(rng, 900), draw(rng, 51, 1.0))
    decision = test.decide()
    assert (decision.verdict, decision.more) == ("undecided", NEVER)
    assert "still open after the 50 canary requests that it was given" in decision.reason


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 7))
def test_a_state_is_no_interruption(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [(draw(rng, int(rng.integers(0, 60))), draw(rng, int(rng.integers(0, 20)), 0.2)) for _ in range(8)]
    whole, first = LatencyTest(0.1, name="scoring"), LatencyTest(0.1, name="scoring")
    for stable, canary in batches:
        whole.update(stable, canary)
    for stable, canary in batches[:cut]:
        first.update(stable, canary)
    second = LatencyTest.from_state(json.loads(json.dumps(first.to_state(), allow_nan=False)))
    for stable, canary in batches[cut:]:
        second.update(stable, canary)
    assert second.decide() == whole.decide()
    assert second.to_state() == whole.to_state()


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_a_slower_canary_never_looks_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stable, canary = draw(rng, 500), draw(rng, 50)
    one, other = LatencyTest(0.1), LatencyTest(0.1)
    one.update(stable, canary)
    other.update(stable, canary * rng.uniform(1, 2, 50))
    assert other.log_e[0] >= one.log_e[0]
    assert other.log_e[1] <= one.log_e[1]


def test_the_order_within_an_update_is_irrelevant() -> None:
    rng = np.random.default_rng(5)
    stable, canary = draw(rng, 500), draw(rng, 50)
    one, other = LatencyTest(0.1), LatencyTest(0.1)
    one.update(stable, canary)
    other.update(stable[:100], [])  # waits in the bins of p99, and p50 drops it
    other.update(stable[100:], canary)
    assert one.quantile_decisions()[0.99] == other.quantile_decisions()[0.99]
    shuffled = LatencyTest(0.1)
    shuffled.update(rng.permutation(stable), rng.permutation(canary))
    assert shuffled.to_state() == one.to_state()


def test_a_timer_of_one_millisecond() -> None:
    """Ties at 2 ms; a canary on the same timer is not worse, one at 3 ms is."""
    rng = np.random.default_rng(6)
    same, slow = LatencyTest(0.1, (0.5,)), LatencyTest(0.1, (0.5,))
    for _ in range(200):
        stable, canary = (np.ceil(rng.exponential(2, n)) / 1000 for n in (50, 10))
        same.update(stable, canary)
        slow.update(stable, canary + 0.001)
    assert same.decide().verdict != "worse"
    assert slow.decide().verdict == "worse"


def test_narrow_buckets_decide_as_latencies_do() -> None:
    rng = np.random.default_rng(7)
    bounds = 0.01 * 1.02 ** np.arange(300)
    for slower, verdict in ((0.0, "within"), (1.0, "worse")):
        test = LatencyTest(0.25)
        for _ in range(60):
            counts = [np.bincount(np.searchsorted(bounds, values), minlength=301)[:300]
                      for values in (draw(rng, 900), draw(rng, 100, slower))]
            test.update_histogram(bounds, *counts)
        assert test.decide().verdict == verdict
        saved = json.loads(json.dumps(test.to_state(), allow_nan=False))
        assert LatencyTest.from_state(saved).decide() == test.decide()


def test_wide_buckets_are_refused_and_a_rate_is_offered() -> None:
    test = LatencyTest(0.1)
    test.update_histogram(BOUNDS, [500, 300, 100, 0], [0, 0, 0, 500])
    decision = test.decide()
    assert decision.verdict == "undecided"
    assert decision.log_e_within == -math.inf
    assert "share_above(0.5)" in decision.reason
    rate = test.share_above(0.5, 0.02)
    assert (rate.tolerance, rate.alpha, rate.name) == (0.02, 0.05, "latency above 0.5 s")
    with pytest.raises(ConfigError, match="no end of a bucket"):
        test.share_above(0.3)


def test_latencies_beyond_all_bins_are_refused() -> None:
    test = LatencyTest(0.1, (0.5,))
    test.update([5000.0] * 39, [5000.0])
    assert "bucket above 1,003 s, too wide" in test.decide().reason
    assert "share_above(100" in test.decide().reason


def test_a_test_counts_in_one_way_only() -> None:
    buckets, seconds = LatencyTest(0.1), LatencyTest(0.1)
    buckets.update_histogram(BOUNDS, [1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(ContractError, match="begun with counts"):
        buckets.update([0.1], [0.1])
    with pytest.raises(ContractError, match="others than before"):
        buckets.update_histogram([0.1, 0.2], [1, 2], [1, 2])
    seconds.update([], [])
    with pytest.raises(ContractError, match="others than before"):
        seconds.update_histogram(BOUNDS, [1, 2, 3, 4], [1, 2, 3, 4])


def test_evidence_after_the_last_sample_decides_for_nobody() -> None:
    test, rng = LatencyTest(0.1, max_samples=50), np.random.default_rng(0)
    for _ in range(5):
        test.update(draw(rng, 900), draw(rng, 100, 1.0))
    found = test.decide()
    assert test.log_e[0] > found.threshold
    for each in (found, *test.quantile_decisions().values()):
        assert (each.verdict, each.log_e_worse, each.log_e_within) == ("undecided", -math.inf, -math.inf)
    assert found.reason.startswith("latency at p50")  # still the quantile with the most evidence


def test_a_difference_that_changed_has_no_interval() -> None:
    open_, decided = LatencyTest(0.1, (0.5,), max_samples=50), LatencyTest(0.1, (0.5,))
    for test in (open_, decided):
        test.update([0.1] * 900, [0.2] * 100)
        for _ in range(9):
            test.update([0.1] * 900, [0.05] * 100)
    found = open_.decide()
    assert found.lower > found.upper
    assert ", but the difference has changed while it was watched; +10 % are allowed: still open" in found.reason
    assert decided.decide().reason.endswith("+10 % are allowed; the difference has changed while it was watched")


def test_wrong_verdicts_are_rare() -> None:
    """250 runs at the edge; alpha plus five standard errors is 0.119."""
    rng = np.random.default_rng(8)
    worse = within = 0
    for _ in range(250):
        test = LatencyTest(0.1, (0.5,))
        for _ in range(6):
            test.update(draw(rng, 100), draw(rng, 100, 0.1))
        verdict = test.decide().verdict
        worse, within = worse + (verdict == "worse"), within + (verdict == "within")
    assert worse / 250 < 0.119
    assert within / 250 < 0.119
