"""What LatencyTest refuses: options, latencies, counts and states that cannot be."""

import math
from typing import Any

import numpy as np
import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.latency import LatencyTest

BOUNDS = [0.1, 0.25, 0.5, math.inf]


@pytest.mark.parametrize("counts", [[1, 2, 3], [1, 2, 3, -4], [1, 2, 3, 0.5], [1, 2, 3, math.nan], [[1, 2, 3, 4]],
                                    [1, 2, 3, 1e19], [2**52, 2**52, 0, 0], ["1", "2", "3", "4"], [[1], [2, 3]], None])
def test_counts_must_be_counts(counts: Any) -> None:
    with pytest.raises(ContractError, match="4 whole numbers"):
        LatencyTest(0.1).update_histogram(BOUNDS, [1, 2, 3, 4], counts)


def test_a_refused_update_leaves_no_trace() -> None:
    test = LatencyTest(0.1)
    before = test.to_state()
    with pytest.raises(ContractError):
        test.update([0.1] * 500, [math.nan])
    with pytest.raises(ContractError):
        test.update_histogram(BOUNDS, [1, 2, 3, 4], [1])
    assert test.to_state() == before


@pytest.mark.parametrize("options", [
    {"tolerance": 0.001}, {"tolerance": -1.0}, {"tolerance": 11.0}, {"tolerance": 0.1, "quantiles": ()},
    {"tolerance": 0.1, "quantiles": (0.5, 1.0)}, {"tolerance": 0.1, "quantiles": (0.5, 0.5)},
    {"tolerance": 0.1, "floor": -1.0}, {"tolerance": 0.1, "floor": math.nan}, {"tolerance": 0.1, "alpha": 0.5},
    {"tolerance": 0.1, "quantiles": 0.5}, {"tolerance": 0.1, "quantiles": "0.5"}, {"tolerance": 0.1, "floor": "0.2"},
    {"tolerance": 0.1, "quantiles": [[0.5], [0.9, 0.99]]}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LatencyTest(**options)  # type: ignore[arg-type]


def test_quantiles_may_be_an_array() -> None:
    assert LatencyTest(0.1, np.array([0.5, 0.99])).to_state() == LatencyTest(0.1, (0.5, 0.99)).to_state()
    with pytest.raises(ConfigError, match=r"quantiles=0.5 must be a list .* such as \(0.5, 0.99\)"):
        LatencyTest(0.1, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [["0.1", "0.2"], [[0.1], [0.2, 0.3]], [None], [[0.1]]])
def test_latencies_must_be_numbers(seconds: Any) -> None:
    with pytest.raises(ContractError, match=r"latencies of the canary .* give one list of seconds"):
        LatencyTest(0.1).update([0.1], seconds)
    with pytest.raises(ContractError, match="must be the upper ends of buckets"):
        LatencyTest(0.1).update_histogram(seconds, [1], [1])


def test_blocks_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="one latency per session"):
        LatencyTest(0.1, block=20)


def test_a_damaged_state() -> None:
    state = LatencyTest(0.1).to_state()
    state["evidence"]["quantiles"][0]["wealth"] = [[0.0]]
    with pytest.raises(ContractError, match="damaged"):
        LatencyTest.from_state(state)
    for damage in ({"coarse": 10**6}, {"coarse": -1}, {"verdict": "good"}, {"used": -1}, {"information": math.inf},
                   {"waiting": {"size": 0, "counts": []}}, {"waiting": {"size": math.inf, "counts": []}},
                   {"waiting": {"size": 9, "counts": [[3, -1, 0]]}}, {"waiting": {"size": 9, "counts": [[-3, 1, 0]]}}):
        state = LatencyTest(0.1).to_state()
        state["evidence"]["quantiles"][0] |= damage
        with pytest.raises(ContractError, match="damaged"):
            LatencyTest.from_state(state)
    state = LatencyTest(0.1).to_state()
    state["evidence"]["samples"] = -1
    with pytest.raises(ContractError, match="damaged"):
        LatencyTest.from_state(state)
