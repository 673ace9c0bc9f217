"""Bins: what is surely beyond a threshold and what may be, against the values themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ContractError
from penstock.components.evidence.histogram import Bins, holder, log_bins, prometheus_bins

SECONDS = st.floats(0, 5_000, allow_subnormal=False)
RATIOS = [0.05, 0.5, 1.0, 1.1, 3.0, 20.0]


def check(bins: Bins, thresholds: list[float], x: float, y: float, at: int, other: int) -> None:
    """A value y in bin `other`, a threshold moved from x in bin `at`; room for rounding at an edge."""
    one = np.zeros(len(bins.edges) - 1)
    one[other] = 1
    surely, maybe = bins.beyond(one, at)
    assert (surely <= maybe).all()
    for row, threshold in enumerate(thresholds):
        if surely[row]:
            assert y > threshold * (1 - 1e-9)
        if not maybe[row]:
            assert y < threshold * (1 + 1e-9)


@given(x=SECONDS, y=SECONDS, tolerance=st.sampled_from([-0.3, 0.0, 0.01, 0.1, 1.0]), floor=st.sampled_from([0.0, 0.01]))
def test_log_bins_never_count_wrongly(x: float, y: float, tolerance: float, floor: float) -> None:
    bins, ratios = log_bins(tolerance, RATIOS, floor)
    at, other = (int(np.flatnonzero(bins.tally([value], "x"))[0]) for value in (x, y))
    check(bins, [max((1 + tolerance) * x, x + floor), *(ratios * x)], x, y, at, other)


@given(x=SECONDS, y=SECONDS, tolerance=st.sampled_from([-0.3, 0.0, 0.1]), floor=st.sampled_from([0.0, 0.2]))
def test_prometheus_bins_never_count_wrongly(x: float, y: float, tolerance: float, floor: float) -> None:
    bounds = [0.005, 0.01, 0.1, 0.25, 1.0, 1.1, 10.0]
    bins = prometheus_bins(bounds, tolerance, RATIOS, floor)
    at, other = (int(np.searchsorted(bounds, value, side="left")) for value in (x, y))  # (lower, upper]
    check(bins, [max((1 + tolerance) * x, x + floor), *(ratio * x for ratio in RATIOS)], x, y, at, other)


@pytest.mark.parametrize("tolerance", [-0.5, -0.1, 0.005, 0.1, 0.5, 3.0])
def test_bins_are_as_narrow_as_a_tenth_of_the_tolerance(tolerance: float) -> None:
    edges = log_bins(tolerance, [1.0])[0].edges[1:-1]
    widths = edges[1:] / edges[:-1] - 1
    assert widths.max() <= min(abs(tolerance) / 10 * 1.1, 0.0101)
    steps = math.log(1 + tolerance) / math.log(edges[1] / edges[0])
    assert steps == pytest.approx(round(steps), abs=1e-9)


def test_only_the_ends_are_coarse() -> None:
    coarse = log_bins(0.1, [1.0])[0].coarse
    assert np.flatnonzero(coarse).tolist() == [0, len(coarse) - 1]
    assert np.flatnonzero(log_bins(0.1, [1.0], 0.001)[0].coarse).tolist() == [len(coarse) - 1]
    assert prometheus_bins([1.0, 1.1, 1.3], 0.1, [1.0]).coarse.tolist() == [True, False, True, True]
    assert prometheus_bins([1.0, 1.1, 1.3], 0.1, [1.0], 0.2).coarse.tolist() == [True, False, False, True]


def test_holder_is_the_bin_of_the_order_statistic() -> None:
    counts = [2, 0, 3, 1]
    assert [holder(counts, rank) for rank in range(1, 7)] == [3, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("values", [[[0.1]], [math.nan], [-0.1], [math.inf]])
def test_what_is_no_latency_is_refused(values: list[float]) -> None:
    with pytest.raises(ContractError, match="latencies of stable"):
        log_bins(0.1, [1.0])[0].tally(values, "stable")


@pytest.mark.parametrize("bounds", [[], [[1.0]], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [math.nan],
                                    [math.inf], [0.1, math.inf, math.inf]])
def test_bounds_must_ascend(bounds: list[float]) -> None:
    with pytest.raises(ContractError, match="ascending"):
        prometheus_bins(bounds, 0.1, [1.0])
