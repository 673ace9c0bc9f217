"""What all sequential tests share: options, counts, states, and how a number is written."""

import json
import math
from typing import Any

import numpy as np
import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence import (
    AsymptoticRateTest,
    CountTest,
    DistributionTest,
    DriftMonitor,
    HardStop,
    LatencyTest,
    MixTest,
    RateTest,
    by_session,
    combine,
)
from penstock.components.evidence.decision import changed, plain, somewhere
from penstock.components.evidence.sequential import SequentialTest, counted, numeric, restored, tallied

EACH: list[tuple[type[SequentialTest], dict[str, Any]]] = [
    (RateTest, {}), (CountTest, {}), (MixTest, {"classes": 3}), (LatencyTest, {}), (DistributionTest, {}),
    (HardStop, {}), (AsymptoticRateTest, {})]
FIRST = {MixTest: "minimum_effect", HardStop: "limit"}


def make(kind: type[SequentialTest], more: dict[str, Any], tolerance: float = 0.1) -> SequentialTest:
    return kind(**{FIRST.get(kind, "tolerance"): tolerance}, **more)


@pytest.mark.parametrize(("kind", "more"), EACH)
def test_options_of_numpy_make_a_json_ready_state(kind: type[SequentialTest], more: dict[str, Any]) -> None:
    test = make(kind, more | {"alpha": np.float32(0.05)}, np.float32(0.1))
    again = kind.from_state(json.loads(json.dumps(test.to_state(), allow_nan=False)))
    assert again.to_state() == test.to_state()


def test_counts_of_numpy_make_a_json_ready_state() -> None:
    eight, two, share = np.int64(8), np.uint8(2), np.float32(0.25)
    tests = [RateTest(0.1), AsymptoticRateTest(0.1), HardStop(), CountTest(0.1), MixTest(2, 0.1), LatencyTest(0.1)]
    pair: Any = (eight * 100, eight * 100), (two, eight)
    for rate in tests[:3]:
        rate.update(*pair)  # type: ignore[attr-defined]
    tests[3].update(eight, two, share)  # type: ignore[attr-defined]
    tests[4].update(np.array([8, 2], np.uint8), np.array([2, 8], np.float32))  # type: ignore[attr-defined]
    tests[5].update_histogram(np.array([0.1, 0.2]), np.array([90, 5]), np.array([5, 1]))  # type: ignore[attr-defined]
    for test in tests:
        again = type(test).from_state(json.loads(json.dumps(test.to_state(), allow_nan=False)))
        assert again.decide() == test.decide()
    monitor = DriftMonitor.of_classes(np.array([9000, 1000]), arl=np.float32(1e6), block=np.int64(1))
    monitor.update_counts(np.array([500, 500]))
    json.dumps(monitor.to_state(), allow_nan=False)


@pytest.mark.parametrize(("kind", "more"), EACH)
def test_options_that_are_no_numbers_are_refused_by_name(kind: type[SequentialTest], more: dict[str, Any]) -> None:
    name = FIRST.get(kind, "tolerance")
    for wrong in (None, "0.01", math.nan, [0.1], 1j):
        with pytest.raises(ConfigError, match=rf"^{name}=.* is no number; give a finite one such as 0\.\d+$"):
            make(kind, more, wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"^alpha=.* is no number; give a finite one such as 0.05$"):
            make(kind, more | {"alpha": wrong})


@pytest.mark.parametrize("options", [{"block": None}, {"block": "1"}, {"max_samples": "9"}, {"max_samples": math.inf}])
def test_block_and_end_must_be_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is no number"):
        RateTest(0.01, **options)
    with pytest.raises(ConfigError, match="cdf_tolerance='2'"):
        DistributionTest(0.1, cdf_tolerance="2")  # type: ignore[arg-type]


def test_a_test_that_is_over_without_a_verdict_decides_for_nobody() -> None:
    rate, late = RateTest(0.01, max_samples=100), AsymptoticRateTest(0.01, max_samples=100)
    for test in (rate, late):
        for _ in range(40):
            test.update((10, 1000), (30, 101))
        found = test.decide()
        assert test.log_e[0] > found.threshold
        assert (found.verdict, found.log_e_worse, found.log_e_within) == ("undecided", -math.inf, -math.inf)
        assert combine([found], 0.05).verdict == "undecided"


def test_what_was_decided_in_time_still_decides() -> None:
    test = RateTest(0.01, max_samples=1000)
    test.update((10, 1000), (300, 1000))
    test.update((10, 1000), (300, 1000))
    found = test.decide()
    assert (found.verdict, found.log_e_worse) == ("worse", test.log_e[0])
    assert combine([found], 0.05).verdict == "worse"


def test_a_difference_that_changed_has_no_interval() -> None:
    """It showed 'somewhere from +38.98 to +8.83'."""
    for most, text in ((10, ", but the difference has changed while it was watched; +1 points are allowed"),
                       (0, "; +1 points are allowed; the difference has changed while it was watched")):
        test = RateTest(0.01, max_samples=most)
        for events in (900, 0):
            for _ in range(20):
                test.update((10, 1000), (events, 1000))
        found = test.decide()
        assert found.lower > found.upper
        assert text in found.reason
        assert "somewhere" not in found.reason
    assert somewhere(0.0, 0.1, str) == "somewhere from 0.0 to 0.1"
    assert changed(0.0, 0.1) == ""


def test_parts_of_events_count_but_no_parts_of_requests() -> None:
    test = RateTest(0.1)
    test.update(by_session(["a", "a", "b"], [True, False, False], "share"), (0, 3))
    assert "0 in 3 requests of the canary, 0.5 in 2 of stable" in test.decide().reason
    with pytest.raises(ContractError, match="which are whole numbers"):
        RateTest(0.1).update((0.2, 0.2), (0, 1))


@pytest.mark.parametrize("given", [[1, 2**53], [2**52, 2**52], [1e300, 0], [1, -1], [0.5, 1], ["1", "2"], [[1], [2, 3]],
                                   [None, 1], [10**30, 1], [1, math.inf], "12", [1, 2, 3], [True, math.nan]])
def test_what_is_no_tally_is_none(given: Any) -> None:
    assert tallied(given, (2,)) is None


def test_a_tally_is_of_numbers_of_any_kind() -> None:
    for given in ([1, 2], (1.0, 2.0), np.array([1, 2], np.uint8), np.array([1, 2], np.float16), [np.int64(1), 2]):
        found = tallied(given, (2,))
        assert found is not None
        assert found.dtype == float
        assert found.tolist() == [1, 2]
    assert tallied([0.5, 1], (2,), whole=False) is not None
    assert numeric(["a"]) is None


@pytest.mark.parametrize(("kind", "damage"), [
    (RateTest, {"waiting": [-5, math.inf, 0, 0]}), (RateTest, {"waiting": [-5, 0, 0, 0]}),
    (RateTest, {"seen": [0, 1, -1, 2]}), (RateTest, {"contrast": [math.inf, 1]}),
    (MixTest, {"waiting": [[-1, 0, 0], [0, 0, 0]]}), (MixTest, {"seen": [[0] * 3, [0, 0, -1], [0] * 3, 0]}),
    (MixTest, {"seen": [[0] * 3] * 3}), (AsymptoticRateTest, {"full": 64}), (AsymptoticRateTest, {"length": 0}),
    (AsymptoticRateTest, {"canary": -1}), (AsymptoticRateTest, {"waiting": [0, 0, 0, -1]})])
def test_evidence_that_cannot_be_is_refused(kind: type[SequentialTest], damage: dict[str, Any]) -> None:
    state = make(kind, {"classes": 3} if kind is MixTest else {}).to_state()
    with pytest.raises(ContractError, match="is damaged"):
        kind.from_state(state | {"evidence": state["evidence"] | damage})


def test_bursts_that_cannot_be_are_refused() -> None:
    state = RateTest(0.1).to_state()
    for part, wrong in ((0, [-1.0, 0.0]), (1, [math.nan, 0.0]), (8, [[0.0]])):
        seen = list(state["evidence"]["clumping"]["seen"])
        seen[part] = wrong
        clumping = state["evidence"]["clumping"] | {"seen": seen}
        with pytest.raises(ContractError, match="is damaged"):
            RateTest.from_state(state | {"evidence": state["evidence"] | {"clumping": clumping}})


@pytest.mark.parametrize("test", [RateTest(0.0), CountTest(-0.1), MixTest(11, 0.1), MixTest(3, 0.0), LatencyTest(0.0),
                                  DistributionTest(0.1), HardStop(), AsymptoticRateTest(0.0)])
def test_a_verdict_that_it_cannot_have_is_refused(test: SequentialTest) -> None:
    with pytest.raises(ContractError, match="is damaged"):
        type(test).from_state(test.to_state() | {"verdict": "within"})


@pytest.mark.parametrize(("kind", "more"), EACH)
def test_what_is_no_state_is_refused(kind: type[SequentialTest], more: dict[str, Any]) -> None:
    good = make(kind, more).to_state()
    for damaged in (None, [], {}, {"test": kind.__name__}, good | {"verdict": "good"}, good | {"options": None}):
        with pytest.raises(ContractError, match=r"this is the state of|damaged"):
            kind.from_state(damaged)


@pytest.mark.parametrize("options", [{"block": 0}, {"block": 1.5}, {"block": math.nan}, {"max_samples": -1},
                                     {"max_samples": 0.5}, {"alpha": math.nan}, {"tolerance": math.inf},
                                     {"tolerance": 0.96}, {"tolerance": -0.96}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RateTest(**{"tolerance": 0.1} | options)


def test_a_difference_of_one_cannot_be_a_tolerance() -> None:
    with pytest.raises(ConfigError, match="between -1 and 1"):
        AsymptoticRateTest(1.0)


@pytest.mark.parametrize(("stable", "canary"), [((1, 2, 3), (4,)), (([1], [2]), (1, 2)), ((None, 1), (1, 2)),
                                                ((math.nan, 1), (1, 2)), ((2, 1), (1, 2)), ((1, 2), (-1, 2))])
def test_what_is_no_count_is_refused(stable: Any, canary: Any) -> None:
    with pytest.raises(ContractError, match="must be \\(events, requests\\)"):
        counted(stable, canary)


def test_counts_of_both_versions() -> None:
    assert counted((1, 20), (0.5, 4)).tolist() == [1, 20, 0.5, 4]


def test_an_empty_array_comes_back_from_json() -> None:
    assert restored(np.zeros((0, 4)).tolist(), np.zeros((0, 4))).shape == (0, 4)
    for wrong in ([1.0], [[1.0, None]], "x"):
        with pytest.raises(ValueError, match=r"shape|string"):
            restored(wrong, np.zeros((1, 2)))


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (-0.0, "0"), (0.1, "0.1"), (1.2345, "1.23"), (-94.44, "-94.4"),
                                             (1900.4, "1,900"), (12345, "12,345"), (1e-5, "0.00001"), (9.999, "10"),
                                             (3.33e8, "333,000,000"), (0.1 * 100, "10")])
def test_a_number_for_a_person_has_no_exponent(value: float, text: str) -> None:
    assert plain(value) == text
    assert plain(value, "+") == (text if value < 0 else f"+{text}")
