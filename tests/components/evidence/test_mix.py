"""MixTest: its arithmetic by value, its state, its words, and its error rates in small simulations."""

import itertools
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.capital import Gamblers, Seen, Window, bet, capital
from penstock.components.evidence.class_sets import (
    MixSeen,
    distance,
    moved_sets,
    set_bet,
    subsets,
    within_gamblers,
    worse_bet,
)
from penstock.components.evidence.mix import MixTest, confidence_bins
from penstock.components.evidence.rate import difference_gamblers

Floats = npt.NDArray[np.float64]
COUNTS = st.lists(st.integers(0, 30), min_size=3, max_size=3)


def seen_of(stable: list[float], canary: list[float]) -> MixSeen:
    return MixSeen.nothing((), len(stable)).after(np.array(stable), np.array(canary))


def test_the_largest_difference_over_sets_is_the_total_variation_distance() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
    seen = seen_of(list(p * 1e6), list(q * 1e6))
    over_sets = max(float((q - p)[found].sum()) for found in subsets(5))
    grew = moved_sets(seen, 0.0)[0]
    assert float((q - p)[grew].sum()) == pytest.approx(over_sets) == pytest.approx(np.abs(p - q).sum() / 2)
    assert float(distance(seen)) == pytest.approx(over_sets, abs=1e-4)


def test_subsets_are_all_but_none_and_everything() -> None:
    found = {tuple(row) for row in subsets(4).tolist()}
    assert found == set(itertools.product([False, True], repeat=4)) - {(False,) * 4, (True,) * 4}


def test_the_second_set_leaves_out_what_only_adds_noise() -> None:
    stable = [100.0] * 20
    canary = [99.0 if i % 2 else 101.0 for i in range(20)]
    canary[7] = 300.0
    sign, best = moved_sets(seen_of(stable, canary), 0.02)
    assert sign.sum() == 1
    assert np.flatnonzero(best).tolist() == [7]


def test_before_anything_is_known_every_class_and_every_complement_is_bet_on() -> None:
    gamblers = Gamblers(np.array([0.02]), np.array([0.1]), np.ones(1), 1)
    stable, canary = np.array([50.0, 30.0, 20.0]), np.array([20.0, 30.0, 50.0])
    found = worse_bet(gamblers, MixSeen.nothing((), 3), stable, canary, 0.02)
    nothing, by_hand = Seen(*np.zeros(4)), []
    for inside in ([0], [1], [2], [1, 2], [0, 2], [0, 1]):
        window = Window(*(np.asarray(x) for x in (stable[inside].sum(), 100.0, canary[inside].sum(), 100.0)))
        by_hand.append(float(np.exp(bet(gamblers, nothing, window)[0, 0])))
    assert np.exp(found[:, 0, 0]) == pytest.approx([np.mean(by_hand)] * 2)


def test_a_set_and_its_counterpart_say_the_same_as_a_rate() -> None:
    gamblers = within_gamblers(0.05)
    seen = seen_of([60.0, 40.0], [50.0, 50.0])
    found = set_bet(gamblers, seen, np.array([6.0, 4.0]), np.array([7.0, 3.0]), subsets(2))
    rate = bet(gamblers, Seen(*map(np.asarray, (40.0, 100.0, 50.0, 100.0))),
               Window(*map(np.asarray, (4.0, 10.0, 3.0, 10.0))))
    assert found[0] == pytest.approx(rate)  # the first set is class 1 alone


def test_the_order_of_classes_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    order = [3, 1, 0, 2]
    first, second = MixTest(list("abcd"), 0.05), MixTest(list("dbac"), 0.05)
    for _ in range(20):
        stable, canary = rng.multinomial(200, [0.4, 0.3, 0.2, 0.1]), rng.multinomial(100, [0.3, 0.3, 0.2, 0.2])
        first.update(stable, canary)
        second.update(stable[order], canary[order])
    assert first.decide()[2:8] == pytest.approx(second.decide()[2:8], abs=1e-4)


def test_a_moved_mix_is_worse_and_the_class_is_named() -> None:
    test = MixTest(["shoe", "boot", "bag"], 0.02)
    test.update(stable=[500, 300, 200], canary=[400, 500, 100])
    found = test.decide()
    assert found.verdict == "worse"
    assert found.lower >= 0.02
    assert found.more == 0
    assert "class boot moved most, +20.0 points" in found.reason


def test_an_equal_mix_is_within_after_enough_requests() -> None:
    test, rng = MixTest(4, 0.05), np.random.default_rng(2)
    while test.decide().verdict == "undecided" and test.samples < 100_000:
        test.update(*(rng.multinomial(requests, [0.4, 0.3, 0.2, 0.1]) for requests in (1000, 500)))
        if test.samples == 500:
            assert "more canary requests would tell" in test.decide().reason
    found = test.decide()
    assert found.verdict == "within"
    assert found.upper <= 0.05
    assert "at most 5 of 100 changed" in found.reason


def test_many_classes_get_no_within_and_are_told_why() -> None:
    test = MixTest(11, 0.05)
    test.update(stable=[1000] * 11, canary=[1000] * 11)
    found = test.decide()
    assert found.verdict == "undecided"
    assert found.log_e_within == -math.inf
    assert found.upper == 1
    assert "only offered for up to 10 classes" in found.reason


def test_no_effect_at_all_is_never_within() -> None:
    test = MixTest(3, 0.0)
    assert "nothing to compare" in test.decide().reason
    test.update(stable=[1000] * 3, canary=[1000] * 3)
    assert test.decide().log_e_within == -math.inf
    assert "cannot be shown" in test.decide().reason


def test_max_samples_ends_it() -> None:
    test = MixTest(2, 0.02, max_samples=100)
    for _ in range(2):
        test.update(stable=[1000, 1000], canary=[31, 29])
    test.update(stable=[10**5, 10**5], canary=[0, 10**5])
    assert test.decide().verdict == "undecided"
    assert test.decide().more == -1


def test_evidence_after_the_last_sample_decides_for_nobody() -> None:
    test = MixTest(2, 0.02, max_samples=100)
    test.update(stable=[500, 500], canary=[900, 100])
    found = test.decide()
    assert test.log_e[0] > found.threshold
    assert (found.verdict, found.log_e_worse, found.log_e_within) == ("undecided", -math.inf, -math.inf)


def test_a_mix_that_changed_is_said_to_have_changed() -> None:
    test = MixTest(2, 0.02)
    test.update(stable=[500, 500], canary=[900, 100])
    assert "changed while" not in test.decide().reason
    for _ in range(40):
        test.update(stable=[5000, 5000], canary=[5000, 5000])
    found = test.decide()
    assert (found.verdict, found.lower > found.upper) == ("worse", True)
    assert found.reason.endswith("2 of 100 may; the difference has changed while it was watched")


def test_evidence_is_worked_out_once_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 tests of 10 classes take 1 ms to be asked, instead of 11 ms where each question works it out three times."""
    test = MixTest(3, 0.02)
    test.update(stable=[5, 5, 5], canary=[5, 5, 5])
    before = test.decide()
    monkeypatch.setattr(MixTest, "_evidence", None)
    assert test.decide() == before


def test_windows_wait_until_both_versions_have_a_block() -> None:
    test = MixTest(2, 0.02, block=10)
    test.update(stable=[50, 50], canary=[4, 5])
    assert test.samples == 0
    test.update(stable=[0, 0], canary=[1, 0])
    assert test.samples == 1
    assert "blocks of requests" in test.decide().reason


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=6), st.integers(0, 5))
def test_a_state_restored_goes_on_as_if_nothing_was(looks: list[tuple[list[int], list[int]]], cut: int) -> None:
    whole, parts = MixTest(["a", "b", "c"], 0.05, name="labels"), MixTest(["a", "b", "c"], 0.05, name="labels")
    for index, (stable, canary) in enumerate(looks):
        whole.update(stable, canary)
        parts.update(stable, canary)
        if index == cut:
            parts = MixTest.from_state(json.loads(json.dumps(parts.to_state())))
    assert parts.decide() == whole.decide()
    assert parts.to_state() == whole.to_state()


def test_a_damaged_state_is_refused() -> None:
    state = MixTest(3, 0.05).to_state()
    state["evidence"]["worse"] = [[[0.0]]]
    with pytest.raises(ContractError, match="damaged"):
        MixTest.from_state(state)


@pytest.mark.parametrize("counts", [[1, 2], [1, 2, 3, 4], [1, -1, 3], [1, float("nan"), 3], [1, 0.5, 3], [1, 2**53, 3],
                                    ["1", "2", "3"], [[1], [2, 3], 4], None, "abc"])
def test_bad_counts_are_refused(counts: Any) -> None:
    with pytest.raises(ContractError, match="one per class"):
        MixTest(3, 0.05).update(stable=[1, 2, 3], canary=counts)


def test_rounding_adds_no_evidence() -> None:
    """Over many windows of little evidence each: half of the digits kept would have been rounded up."""
    test, seen = MixTest(3, 0.2), MixSeen.nothing((), 3)
    gamblers, sets, exact = within_gamblers(0.2), subsets(3), np.zeros((6, 4, 3))
    for _ in range(300):
        stable, canary = np.array([1.0, 0, 1]), np.array([1.0, 0, 0])
        test.update(stable, canary)
        exact, seen = exact + set_bet(gamblers, seen, stable, canary, sets), seen.after(stable, canary)
    lost = capital(gamblers, exact).min(axis=0)[1] - test.log_e[1]
    assert 0 <= lost <= 300 * 2e-6


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="two or more"):
        MixTest(1, 0.05)
    with pytest.raises(ConfigError, match="named once"):
        MixTest(["a", "a"], 0.05)
    with pytest.raises(ConfigError, match="distance from 0 to 1"):
        MixTest(3, -0.1)
    for classes in (3.0, "abc", None, b"abc"):
        with pytest.raises(ConfigError, match=r"such as 10, or their names, such as \['cat', 'dog'\]"):
            MixTest(classes, 0.02)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"minimum_effect='0.1' is no number; give a finite one such as 0.02"):
        MixTest(3, "0.1")  # type: ignore[arg-type]
    assert MixTest(np.int64(3), 0.02).to_state() == MixTest(3, 0.02).to_state()  # type: ignore[arg-type]


def test_confidences_are_counted_per_bin() -> None:
    assert confidence_bins([0.1, 0.5, 0.95, 1.0], [0, 0.5, 0.9, 1]).tolist() == [1, 1, 2]
    assert confidence_bins([], [0, 0.5, 1]).tolist() == [0, 0]
    with pytest.raises(ContractError, match="outside"):
        confidence_bins([0.5, float("nan")], [0, 0.5, 1])
    with pytest.raises(ConfigError, match="growing"):
        confidence_bins([0.5], [0, 1, 0.5])


@pytest.mark.parametrize("minimum_effect", [0.02, 0.1])
def test_errors_stay_below_alpha_at_the_edge(minimum_effect: float) -> None:
    runs, rng = 1500, np.random.default_rng(3)
    p = np.array([0.5, 0.3, 0.2])
    q = p + minimum_effect * np.array([-1, 0.5, 0.5])
    worse, within = difference_gamblers(minimum_effect, 1), within_gamblers(minimum_effect)
    rows, sets = within._replace(nulls=np.array([minimum_effect])), subsets(3)
    seen, wealth, other = MixSeen.nothing((runs,), 3), np.zeros(()), np.zeros(())
    ever = np.zeros((2, runs), bool)
    for _ in range(60):
        stable, canary = (rng.multinomial(40, x, runs).astype(float) for x in (p, q))
        wealth = wealth + worse_bet(worse, seen, stable, canary, minimum_effect)
        other = other + set_bet(rows, seen, stable, canary, sets)
        seen = seen.after(stable, canary)
        evidence = np.logaddexp.reduce(capital(worse, wealth)[..., 0], axis=-1) - math.log(2)
        ever |= np.stack([evidence, capital(rows, other)[..., 0].min(-1)]) >= math.log(20)
    assert ever.mean(axis=1).max() <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / runs)


def test_a_large_effect_leaves_no_distance_beyond_one() -> None:
    test = MixTest(4, 0.25)
    for _ in range(20):
        test.update(stable=[40, 30, 20, 10], canary=[40, 30, 20, 10])
    assert test.decide().verdict == "within"
    assert test.decide().upper <= 0.25
