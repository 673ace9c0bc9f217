"""What all sequential tests share: options, counts, states, and how a number is written."""

import json
import math
from typing import Any

import numpy as np
import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence import CountTest, DistributionTest, HardStop, LatencyTest, MixTest, RateTest
from penstock.components.evidence.asymptotic import AsymptoticRateTest
from penstock.components.evidence.decision import plain
from penstock.components.evidence.sequential import SequentialTest, counted, restored

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
