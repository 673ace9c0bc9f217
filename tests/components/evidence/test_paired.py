"""Two models on the same rows: by value, against published examples, and as sure as it says, worked out exactly."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import ndtri
from scipy.stats import binomtest, multinomial
from statsmodels.stats import contingency_tables

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.paired import compare, mcnemar, no_worse, score, score_interval

Z = float(ndtri(0.975))
Ends = tuple[np.ndarray, np.ndarray]
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


def rows(both: int, gained: int, lost: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make (candidate, serving) with these numbers of right answers."""
    candidate = [True] * (both + gained) + [False] * (lost + neither)
    serving = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return np.array(candidate), np.array(serving)


def wald(b: np.ndarray, c: np.ndarray, n: int) -> Ends:
    half = Z * np.sqrt(np.maximum(b + c - (b - c) ** 2 / n, 0)) / n
    return (b - c) / n - half, (b - c) / n + half


def bonett_price(b: np.ndarray, c: np.ndarray, n: int) -> Ends:
    more, less = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = Z * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    return more - less - half, more - less + half


def misses(method: Callable[[np.ndarray, np.ndarray, int], Ends], n: int, changed: float, truth: float
           ) -> tuple[float, float]:
    """Return how often all of the interval lies above the truth, and below it, over every table of n rows."""
    b, c = (place.ravel() for place in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    gain, loss = (changed + truth) / 2, (changed - truth) / 2
    chance = multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, [gain, loss, 1 - gain - loss])
    lower, upper = method(b, c, n)
    return float(chance[lower > truth + 1e-9].sum()), float(chance[upper < truth - 1e-9].sum())


def test_by_value() -> None:
    found = compare(*rows(both=80, gained=12, lost=5, neither=3))

    assert (found.rows, found.gained, found.lost, found.both) == (100, 12, 5, 80)
    assert found.difference.estimate == pytest.approx(0.07)
    for end, z in ((found.difference.lower, Z), (found.difference.upper, -Z)):
        assert score(12, 5, 100, end) == pytest.approx(z)
    assert found.p_value == pytest.approx(0.143463, abs=1e-6)  # 2 * P(X <= 5), X ~ B(17, 1/2)


@pytest.mark.parametrize(("gained", "lost", "count", "ends"), [
    (6, 16, 161, (-0.1240, -0.0054)),  # Cavo et al. 2012, as in Fagerland, Lydersen and Laake 2017, chapter 8
    (0, 0, 40, (-0.08762, 0.08762)),  # z^2 / (n + z^2)
    (20, 0, 20, (0.67775, 1.0)),  # (n - z^2) / (n + z^2)
])
def test_published_and_closed_forms(gained: int, lost: int, count: int, ends: tuple[float, float]) -> None:
    assert score_interval(gained, lost, count) == pytest.approx(ends, abs=5e-5)


def test_mcnemar_is_the_binomial_test_on_the_changed_rows() -> None:
    gained, lost = np.array([6, 0, 3, 40]), np.array([16, 0, 3, 20])

    expected = [binomtest(6, 22).pvalue, 1.0, 1.0, binomtest(40, 60).pvalue]
    assert mcnemar(gained, lost) == pytest.approx(expected)
    assert mcnemar(6, 16) == pytest.approx(0.052479, abs=1e-6)  # Cavo et al., as above


def test_mcnemar_against_statsmodels() -> None:
    for gained, lost in ((6, 16), (1, 7), (40, 20)):
        found = contingency_tables.mcnemar([[9, gained], [lost, 9]], exact=True)
        assert mcnemar(gained, lost) == pytest.approx(found.pvalue)


@pytest.mark.parametrize(("b", "c", "n", "delta"), [(3, 9, 40, -0.05), (3, 9, 40, 0.2), (12, 2, 100, -0.3),
                                                    (5, 5, 30, 0.6), (0, 4, 50, -0.01)])
def test_the_score_rests_on_the_likeliest_share_of_lost_rows(b: int, c: int, n: int, delta: float) -> None:
    def unlikely(lost: float) -> float:
        return -float(b * np.log(lost + delta) + c * np.log(lost) + (n - b - c) * np.log(1 - 2 * lost - delta))

    bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
    lost = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    assert score(b, c, n, delta) == pytest.approx((b - c - n * delta) / np.sqrt(n * (2 * lost + delta - delta**2)),
                                                  rel=1e-5)


def test_the_score_is_defined_where_nothing_changed_and_at_the_ends() -> None:
    assert score([0, 20, 0, 3], [0, 0, 20, 0], 20, [0, 1, -1, 1]).tolist() == [0, 0, 0, -np.inf]


@pytest.mark.parametrize("delta", [-0.3, -0.05, -0.005, 0, 0.05])
def test_the_score_falls_with_every_lost_row_and_rises_with_every_gained_one(delta: float) -> None:
    b, c = np.meshgrid(np.arange(61), np.arange(61), indexing="ij")
    found = score(b, np.minimum(c, 60 - np.minimum(b, 60)), 60, delta)
    inside = b + c <= 60

    assert (np.diff(found, axis=1)[inside[:, 1:]] < 0).all()
    assert (np.diff(found, axis=0)[inside[1:] & inside[:-1]] > 0).all()


def test_no_worse_is_small_where_the_loss_is_small() -> None:
    assert no_worse(0, 20, 1_000, 0.02) == pytest.approx(0.5)
    lower, _ = score_interval(4, 11, 300, 0.95)
    assert no_worse(4, 11, 300, -float(lower)) == pytest.approx(0.025)  # the end of the interval is the test


def test_equal_models_differ_by_nothing_and_more_rows_say_so_more_firmly() -> None:
    few, many = compare(*rows(both=10, gained=0, lost=0)), compare(*rows(both=10_000, gained=0, lost=0))

    assert few.difference.estimate == many.difference.estimate == 0
    assert few.p_value == many.p_value == 1
    assert many.difference.upper < 0.0004 < few.difference.upper


@settings(max_examples=50)
@given(answers, st.floats(0.5, 0.999))
def test_swapping_the_models_swaps_the_sign(both: list[tuple[bool, bool]], level: float) -> None:
    candidate, serving = np.array(both).T
    one, other = compare(candidate, serving, level), compare(serving, candidate, level)

    assert one.difference.estimate == pytest.approx(candidate.mean() - serving.mean())
    assert one.difference.lower == pytest.approx(-other.difference.upper)
    assert one.difference.upper == pytest.approx(-other.difference.lower)
    assert one.p_value == pytest.approx(other.p_value)
    assert -1 <= one.difference.lower <= one.difference.estimate <= one.difference.upper <= 1
    assert one.difference.lower < one.difference.upper


@pytest.mark.parametrize("changed", [0.1, 0.3])
@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize("truth", [0, -0.005, -0.05])
def test_the_interval_covers_as_often_as_it_says(truth: float, n: int, changed: float) -> None:
    above, below = misses(score_interval, n, changed, truth)

    assert above <= 0.027  # the error that matters most: "not worse" of a model that is
    assert below <= 0.028
    assert 0.94 <= 1 - above - below <= 0.975


def test_what_was_there_before_and_the_plain_interval_miss_more_often_on_the_side_that_matters() -> None:
    hopeful = {method: misses(method, 200, 0.02, -0.02)[0] for method in (score_interval, bonett_price, wald)}

    assert hopeful[score_interval] == pytest.approx(0.0176, abs=1e-4)
    assert hopeful[bonett_price] == pytest.approx(0.0176, abs=1e-4)
    assert hopeful[wald] == pytest.approx(0.0894, abs=1e-4)
    assert misses(bonett_price, 200, 0.1, -0.05)[0] == pytest.approx(0.0292, abs=1e-4)


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda: compare(np.array([]), np.array([])), ContractError, "at least one row"),
    (lambda: compare(np.ones(3), np.ones(2)), ContractError, "no pairs"),
    (lambda: compare(np.ones(3), np.ones(3), 1.0), ConfigError, "level=1 must be between"),
    (lambda: score(1, 2, 2, 0.0), ContractError, "lost are no part of"),
    (lambda: score(-1, 2, 20, 0.0), ContractError, "whole numbers from 0"),
    (lambda: score(0.5, 2, 20, 0.0), ContractError, "whole numbers from 0"),
    (lambda: score(1, 2, 20, 1.5), ConfigError, "between -1 and 1"),
    (lambda: no_worse(1, 2, 20, -0.1), ConfigError, "share of the rows"),
])
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
