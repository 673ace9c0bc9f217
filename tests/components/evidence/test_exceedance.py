"""Exceedances: the mean of a tilted count against exact sums, and bets that cannot win while the null holds."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from penstock.components.evidence.exceedance import RATIOS, WEIGHTS, log_factors, log_mean, tilts


def exact(h: float, m: int, stable: int, canary: int) -> float:
    """Sum (e^h - 1)^x C(n_c, x) (m)_x / (n_s + 1)_x, all positive for h > 0, in long double; mirrored for h < 0."""
    if h < 0:
        return h * canary + exact(-h, stable - m + 1, stable, canary)
    x = np.arange(canary, dtype=np.longdouble)
    steps = (canary - x) / (x + 1) * np.expm1(np.longdouble(h)) * (m + x) / (stable + 1 + x)
    logs = np.concatenate([[np.longdouble(0)], np.cumsum(np.log(steps))])
    return float(logs.max() + np.log(np.exp(logs - logs.max()).sum()))


@pytest.mark.parametrize(("rank", "stable"), [(1, 1), (1, 20), (4, 400), (10, 20), (20, 20), (100, 10_000),
                                              (100_000, 200_000), (100_000, 10_000_000)])
@pytest.mark.parametrize("canary", [1, 7, 300, 20_000])
def test_mean_is_exact(rank: int, stable: int, canary: int) -> None:
    for h in (sign * tilts(stable, canary)[k] for sign in (1, -1) for k in (0, 3, 6)):
        expected = exact(float(h), rank, stable, canary)
        assert float(log_mean(h, rank, stable, canary)) == pytest.approx(expected, abs=1e-9)


def test_mean_is_exact_for_a_million() -> None:
    h = float(tilts(1_000, 1_000_000)[6])
    assert float(log_mean(h, 1, 1_000, 1_000_000)) == pytest.approx(exact(h, 1, 1_000, 1_000_000), abs=1e-9)


def test_one_canary_request_has_a_closed_form() -> None:
    h = tilts(20, 1)
    np.testing.assert_allclose(log_mean(h, 4, 20, 1), np.log1p(np.expm1(h) * 4 / 21), rtol=1e-10)


@given(stable=st.integers(1, 500), canary=st.integers(1, 300), data=st.data(), sign=st.sampled_from([1, -1]))
def test_expected_evidence_is_one_at_the_edge(stable: int, canary: int, data: st.DataObject, sign: int) -> None:
    rank = data.draw(st.integers(1, stable))
    x = np.arange(canary + 1)
    shares = betabinom.pmf(x, canary, rank, stable - rank + 1)
    factors = np.exp(log_factors(x, rank, stable, canary, sign))  # (R, K): a row for each possible count
    np.testing.assert_allclose(shares @ factors, np.ones(len(RATIOS)), rtol=1e-6)


@given(canary=st.integers(1, 300), sign=st.sampled_from([1, -1]))
def test_evidence_is_monotone_in_the_count(canary: int, sign: int) -> None:
    rows = log_factors(np.arange(canary + 1), 4, 400, canary, sign)
    assert (np.diff(sign * rows, axis=0) > 0).all()


def test_a_batch_is_its_runs_one_by_one() -> None:
    rng = np.random.default_rng(0)
    stable, canary = rng.integers(20, 40, (5, 3)), rng.integers(1, 9, (5, 3))
    found = log_factors(np.ones((5, 3, 2)), 10, stable, canary, 1)
    assert found.shape == (5, 3, 2, len(RATIOS))
    alone: npt.NDArray[np.float64] = log_factors(np.ones(2), 10, stable[4, 1], canary[4, 1], 1)
    np.testing.assert_allclose(found[4, 1], alone, rtol=1e-12)


def test_ties_only_lower_the_evidence() -> None:
    """Service times on a timer of 1 ms: half of all requests take the same time, and the canary is the same."""
    rng = np.random.default_rng(1)
    stable, canary = (np.ceil(rng.exponential(1.5, (20_000, n))) for n in (20, 10))
    y = np.sort(stable, axis=1)[:, -4][:, None]
    for sign, count in ((1, (canary > y).sum(axis=1)), (-1, (canary >= y).sum(axis=1))):
        evidence = np.exp(log_factors(count[:, None], 4, 20, 10, sign))[:, 0] @ WEIGHTS
        assert evidence.mean() < 1


def test_random_assignment_is_enough() -> None:
    """Latencies of a window on a steep slope, given to the versions at random: the mean of the evidence is 1."""
    rng = np.random.default_rng(2)
    ramp = np.arange(30.0)  # every request slower than the one before
    order = rng.permuted(np.tile(ramp, (20_000, 1)), axis=1)
    y = np.sort(order[:, :20], axis=1)[:, -4][:, None]
    evidence = np.exp(log_factors((order[:, 20:] > y).sum(axis=1)[:, None], 4, 20, 10, 1))[:, 0] @ WEIGHTS
    assert abs(evidence.mean() - 1) < 5 * evidence.std() / len(evidence) ** 0.5
