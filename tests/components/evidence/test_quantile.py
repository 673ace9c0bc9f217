"""Windows of a quantile: when they end, and that their evidence favours nobody whatever latency does meanwhile."""

import itertools

import numpy as np
import pytest

from penstock.components.evidence.histogram import log_bins
from penstock.components.evidence.quantile import Quantile, Waiting, window_size


def test_a_window_is_as_long_as_the_share_before_asks_for() -> None:
    bins, ratios = log_bins(0.1, [1.0])
    evidence, one = Quantile(0.5, bins, ratios), bins.tally([0.1], "")
    assert evidence.size == 2 * window_size(0.5)
    for stable, canary, size in ((10, 30, 80), (20, 60, 80), (80, 0, 20), (0, 25, 50), (49, 1, 21), (7, 33, 115)):
        assert evidence.update(stable * one, canary * one) == (stable > 0 and canary > 0)
        assert evidence.size == size
    assert not evidence.update(57 * one, 57 * one)
    assert evidence.update(one, np.zeros_like(one))


def test_a_window_that_waits_is_saved_with_its_size() -> None:
    first, one = Waiting(20, 3), np.array([0, 2, 0])
    first.take(5 * one, 20 * one)
    assert first.size == 100
    first.take(one, np.zeros_like(one))
    second = Waiting(20, 3)
    second.restore(first.to_state())
    assert second.to_state() == first.to_state() == {"counts": [[1, 2, 0]], "size": 100}
    with pytest.raises(ValueError, match="0 requests"):
        second.restore({"counts": [], "size": 0})


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_in_the_mean_of_all_orders_a_trend_favours_no_version(quantile: float,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 11 requests takes twice as long as the one before, the canary's 10 % more on top, which is allowed.

    All 2 ** 11 ways to give them to the versions are as likely, and the mean of the evidence is 1, on both sides. Where
    windows end with the second request of stable, it is 0.74 and 1.31.
    """
    monkeypatch.setattr("penstock.components.evidence.quantile.window_size", lambda _: 2)
    bins, ratios = log_bins(0.1, [1.0])
    seconds = bins.edges[1] * 2.0 ** np.arange(1, 12) * 1.005
    stable, canary = ([bins.tally([each], "") for each in times] for times in (seconds, 1.1 * seconds))
    none = np.zeros_like(stable[0])
    found = []
    for labels in itertools.product((True, False), repeat=len(seconds)):
        evidence = Quantile(quantile, bins, ratios)
        for at, is_canary in enumerate(labels):
            evidence.update(none if is_canary else stable[at], canary[at] if is_canary else none)
        found.append(evidence.log_e)
    assert np.exp(found).mean(axis=0) == pytest.approx([1, 1], abs=1e-9)
    assert np.exp(found).max() > 1.1
