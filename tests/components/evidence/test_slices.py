"""Many slices at once: exact p-values against every table, a false discovery rate that holds, and losses found."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom, binomtest, false_discovery_control, multinomial

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.paired import Comparison, compare, score
from penstock.components.evidence.slices import (
    POWER,
    benjamini_hochberg,
    detectable_loss,
    judge_slices,
    lost_more,
)


def against(gained: int, lost: int, rows: int) -> Comparison:
    same = [True] * (rows - gained - lost)
    return compare(np.array([True] * gained + [False] * lost + same), np.array([False] * gained + [True] * lost + same))


def chance_of(tables: Callable[[np.ndarray], np.ndarray], rows: int, gain: float, loss: float) -> float:
    """Sum the chances of the tables of `rows` rows whose score against a loss is picked."""
    b, c = (place.ravel() for place in np.meshgrid(np.arange(rows + 1), np.arange(rows + 1)))
    b, c = b[b + c <= rows], c[b + c <= rows]
    picked = tables(np.stack([b, c]))
    same = max(1 - gain - loss, 0.0)
    return float(multinomial.pmf(np.stack([b, c, rows - b - c], axis=1)[picked], rows, [gain, loss, same]).sum())


@pytest.mark.parametrize(("gained", "lost", "rows", "tolerance"), [
    (0, 9, 40, 0.05), (3, 10, 40, 0.05), (10, 30, 100, 0.05), (2, 2, 30, 0.05), (0, 4, 40, 0.0), (1, 6, 60, 0.01),
    (6, 16, 161, 0.0), (0, 1, 1, 0.3), (5, 21, 40, 0.1), (3, 12, 40, 0.02),
    (96, 156, 580, 0.01),
])
def test_the_p_value_is_the_chance_of_so_bad_a_table_at_the_worst_rate_of_gains(
        gained: int, lost: int, rows: int, tolerance: float) -> None:
    def as_bad(table: np.ndarray) -> np.ndarray:
        return score(*table, rows, -tolerance) <= score(gained, lost, rows, -tolerance) + 1e-9

    rates = np.linspace(0, (1 - tolerance) / 2, 480)
    worst = max(chance_of(as_bad, rows, gain, gain + tolerance) for gain in rates)
    assert lost_more(gained, lost, rows, tolerance) == pytest.approx(worst, rel=0.002)


def test_without_gains_a_slice_of_any_size_has_its_binomial_p_value_at_least() -> None:
    for rows in (50, 500, 50_000):
        lost = round(rows * 0.08)
        assert lost_more(0, lost, rows, 0.05) >= binomtest(lost, rows, 0.05, alternative="greater").pvalue * (1 - 1e-6)


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(61, 300), st.floats(0, 0.3))
def test_another_row_lost_never_speaks_for_the_candidate(gained: int, lost: int, rows: int, tolerance: float) -> None:
    assert lost_more(gained, lost + 1, rows, tolerance) <= lost_more(gained, lost, rows, tolerance) + 1e-12
    assert lost_more(gained, lost, rows, tolerance) <= lost_more(gained + 1, lost, rows, tolerance) + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values))


def test_verdicts_and_their_numbers() -> None:
    worse, fine, few = judge_slices([against(0, 60, 200), against(5, 5, 5_000), against(1, 3, 30)], 0.05)

    assert [entry.verdict for entry in (worse, fine, few)] == ["worse", "no worse", "undecided"]
    assert worse.adjusted == pytest.approx(3 * worse.p_value)
    assert fine.detectable < 0.07 < worse.detectable < 0.2 < few.detectable < 0.4
    assert judge_slices([], 0.05) == ()


def test_a_loss_on_its_limit_is_called_worse_no_more_often_than_allowed() -> None:
    random = np.random.default_rng(3)
    counts = random.multinomial(60, [0.03, 0.08, 0.89], size=(2_000, 10))  # all on the limit: every call is false
    pairs, place = np.unique(counts[..., :2].reshape(-1, 2), axis=0, return_inverse=True)
    p_values = np.array([lost_more(int(b), int(c), 60, 0.05) for b, c in pairs])[place].reshape(2_000, 10)
    wrong = sum(bool((benjamini_hochberg(row) <= 0.05).any()) for row in p_values)

    assert 20 < wrong <= binom.ppf(1 - 3e-7, 2_000, 0.05)


@pytest.mark.parametrize(("rows", "gain", "tolerance"), [(40, 0.0, 0.05), (60, 0.03, 0.0), (80, 0.05, 0.05)])
def test_the_detectable_loss_is_found_as_often_as_it_says(rows: int, gain: float, tolerance: float) -> None:
    threshold = float(ndtri(0.025))
    least = detectable_loss(rows, gain, tolerance, threshold)

    def found(table: np.ndarray) -> np.ndarray:
        return score(*table, rows, -tolerance) <= threshold

    assert chance_of(found, rows, gain, gain + least) == pytest.approx(POWER, abs=1e-4)


def test_more_rows_show_smaller_losses_and_very_many_what_the_normal_formula_says() -> None:
    losses = [detectable_loss(rows, 0.02, 0.0, -1.96) for rows in (50, 200, 1_000, 1_000_000)]

    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx((1.96 + 0.8416) * np.sqrt(0.04 / 1_000_000), rel=0.02)


def test_two_rows_show_nothing() -> None:
    assert detectable_loss(2, 0.0, 0.3, -1.96) == np.inf


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda: lost_more(1, 2, 20, 1.0), ConfigError, "tolerance=1 must be a share"),
    (lambda: judge_slices([], 0.05, 0.9), ConfigError, "rate=0.9 must be"),
    (lambda: detectable_loss(0, 0.1, 0.05, -2.0), ContractError, "give at least 1 row"),
    (lambda: benjamini_hochberg([0.2, 1.2]), ContractError, "from 0 to 1"),
])
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
