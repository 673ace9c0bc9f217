"""Bets on differences of shares: no gain in expectation under the null, checked outcome by outcome, and near-best."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, xlogy
from scipy.stats import binom

from penstock.components.evidence.capital import FIRST_LEVELS, FIRST_WEIGHTS, Gamblers, Seen, Window, bet, capital
from penstock.components.evidence.rate import difference_gamblers

NOTHING = Seen(*np.zeros(4))


def gamblers(null: float, sign: int, *effects: float) -> Gamblers:
    return Gamblers(np.array([null]), np.array(effects), np.full(len(effects), 1 / len(effects)), sign)


def window(stable_events: float, stable: float, canary_events: float, canary: float) -> Window:
    return Window(*(np.array(value, float) for value in (stable_events, stable, canary_events, canary)))


@st.composite
def counts(draw: st.DrawFn, most: int = 2000, least: int = 0) -> tuple[int, int]:
    many = draw(st.integers(least, most))
    return draw(st.integers(0, many)), many


@st.composite
def histories(draw: st.DrawFn) -> Seen:
    return Seen(*(np.array(value, float) for value in (*draw(counts()), *draw(counts()))))


NULLS = st.sampled_from([-0.3, -0.01, 0.0, 0.001, 0.02, 0.4])


def rates(null: float, sign: int) -> list[tuple[float, float]]:
    """Return (p_s, p_c) on the border of the null and inside of it."""
    levels = np.clip([0, 1e-4, 0.003, 0.05, 0.3, 0.5, 0.8, 0.97, 1], 0, 1)
    border = [(p, p + null) for p in levels if 0 <= p + null <= 1]
    inside = [(p, q) for p in levels for q in levels if sign * (q - p - null) <= 0]
    return border + inside


def expectations(found: np.ndarray, stable: int, canary: int, p_s: float, p_c: float) -> np.ndarray:
    """Sum over all outcomes; found: (stable + 1, canary + 1, D, K) logarithms."""
    chance = np.outer(binom.pmf(np.arange(stable + 1), stable, p_s), binom.pmf(np.arange(canary + 1), canary, p_c))
    return np.einsum("sc,scdk->dk", chance, np.exp(found))


def every_outcome(stable: int, canary: int) -> Window:
    events = np.meshgrid(np.arange(stable + 1.0), np.arange(canary + 1.0), indexing="ij")
    return Window(events[0], np.full(events[0].shape, stable), events[1], np.full(events[0].shape, canary))


@given(NULLS, st.sampled_from([1, -1]), st.one_of(st.just(NOTHING), histories()), st.integers(1, 6), st.integers(1, 6),
       st.sampled_from([1, 3, 20]))
def test_no_outcome_of_a_window_is_worth_more_than_the_stake(null: float, sign: int, seen: Seen, stable: int,
                                                             canary: int, block: int) -> None:
    players = gamblers(null, sign, 0.0005, 0.004, 0.05, 0.5)
    outcomes = every_outcome(stable, canary)
    found = bet(players, Seen(*(np.broadcast_to(part / block, outcomes.stable.shape) for part in seen)),
                Window(*(part / block for part in outcomes)))
    for p_s, p_c in rates(null, sign):
        assert expectations(found, stable, canary, p_s, p_c).max() <= 1 + 1e-12, (p_s, p_c)


@given(NULLS, st.sampled_from([1, -1]), histories())
def test_requests_of_a_session_may_all_end_alike(null: float, sign: int, seen: Seen) -> None:
    players, size = gamblers(null, sign, 0.004, 0.05), 7
    sessions = every_outcome(3, 2)
    whole = Window(*(part * size / size for part in sessions))  # so many requests, divided by the block
    found = bet(players, Seen(*(np.broadcast_to(part, sessions.stable.shape) for part in seen)), whole)
    for p_s, p_c in rates(null, sign):
        assert expectations(found, 3, 2, p_s, p_c).max() <= 1 + 1e-12


def test_a_window_may_hold_less_than_a_block_of_one_version() -> None:
    """One of 20 requests of a session, against 99 of stable: the stakes on both sides still balance."""
    seen = Seen(*np.array([60.0, 200.0, 2.0, 50.0]))  # stable was worse than it is now
    events = np.arange(100.0)
    shape = (100, 2)
    now = Window(np.broadcast_to(events[:, None], shape) / 20, np.full(shape, 99 / 20),
                 np.broadcast_to(np.array([0.0, 1.0]), shape) / 20, np.full(shape, 1 / 20))
    found = bet(gamblers(0.01, 1, 0.02), Seen(*(np.broadcast_to(part, shape) for part in seen)), now)
    assert expectations(found, 99, 1, 0.02, 0.03).max() <= 1 + 1e-12


@given(NULLS, st.sampled_from([1, -1]), histories(), counts(50, 1), counts(50, 1))
def test_one_more_error_is_evidence_in_one_direction_only(null: float, sign: int, seen: Seen, stable: tuple[int, int],
                                                          canary: tuple[int, int]) -> None:
    players = gamblers(null, sign, 0.001, 0.03, 0.3)
    here = bet(players, seen, window(*stable, *canary))
    if canary[0] < canary[1]:
        assert (sign * (bet(players, seen, window(*stable, canary[0] + 1, canary[1])) - here) >= -1e-12).all()
    if stable[0] < stable[1]:
        assert (sign * (bet(players, seen, window(stable[0] + 1, stable[1], *canary)) - here) <= 1e-12).all()


@given(NULLS, histories(), counts(50, 1), counts(50, 1))
def test_counting_answers_that_are_right_instead_of_wrong_changes_nothing(
        null: float, seen: Seen, stable: tuple[int, int], canary: tuple[int, int]) -> None:
    """Exact from the second window on; the first guesses of stable's errors are not symmetric around one half."""
    if not seen.stable:
        return
    right = Seen(seen.stable - seen.stable_events, seen.stable, seen.canary - seen.canary_events, seen.canary)
    wrong = bet(gamblers(null, 1, 0.001, 0.03, 0.3), seen, window(*stable, *canary))
    other = bet(gamblers(-null, -1, 0.001, 0.03, 0.3), right,
                window(stable[1] - stable[0], stable[1], canary[1] - canary[0], canary[1]))
    assert wrong == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("many", [100, 10_000])
def test_which_version_is_called_stable_hardly_matters(many: int) -> None:
    """Not exact: the anchor is sought from stable's side."""
    seen = Seen(*np.array([0.02 * many, many, 0.05 * many, many]))
    turned = Seen(seen.canary_events, seen.canary, seen.stable_events, seen.stable)
    one = bet(gamblers(0.01, 1, 0.02), seen, window(1, 30, 4, 50))
    two = bet(gamblers(-0.01, -1, 0.02), turned, window(4, 50, 1, 30))
    assert one == pytest.approx(two, abs=0.002)


def test_nothing_is_bet_until_both_have_requests() -> None:
    players = gamblers(0.01, 1, 0.01, 0.1)
    for empty in (window(3, 10, 0, 0), window(0, 0, 3, 10), window(0, 0, 0, 0)):
        assert (bet(players, NOTHING, empty) == 0).all()


def test_the_first_window_is_bet_on_by_all_guesses_together() -> None:
    players, now = gamblers(0.01, 1, 0.02), window(1, 40, 3, 40)
    many = 1e12  # whoever has seen so much at a level believes in it
    single = [bet(players, Seen(*np.array([level * many, many, 0.0, 0.0])), now)[0, 0] for level in FIRST_LEVELS]
    assert bet(players, NOTHING, now)[0, 0] == pytest.approx(logsumexp(single, b=FIRST_WEIGHTS), rel=1e-6)


def test_runs_are_independent_of_their_batch() -> None:
    random = np.random.default_rng(0)
    players = difference_gamblers(0.005, -1, np.array([-0.01, 0.005, 0.02]))
    seen = Seen(*(random.integers(0, 3, (4, 2, 3)).cumsum(axis=0).astype(float)[[0, 1, 0, 1]]))
    now = Window(*(random.integers(0, 30, (4, 2, 3)).cumsum(axis=0).astype(float)[[0, 1, 0, 1]]))
    together = bet(players, seen, now)
    assert together.shape == (2, 3, 3, len(players.effects))
    for place in itertools.product(range(2), range(3)):
        alone = bet(players, Seen(*(part[place] for part in seen)), Window(*(part[place] for part in now)))
        assert alone == pytest.approx(together[place], rel=1e-12)


def test_capital_is_what_all_have_together() -> None:
    players = Gamblers(np.array([0.0, 0.1]), np.array([0.1, 0.2]), np.array([0.25, 0.75]), 1)
    assert capital(players, np.zeros((5, 2, 2))) == pytest.approx(np.zeros((5, 2)))
    wealth = np.log([[4.0, 8.0], [1.0, 0.0001]])
    assert np.exp(capital(players, wealth)) == pytest.approx([7.0, 0.250075])
    assert capital(players, wealth + 5000)[0] == pytest.approx(5000 + math.log(7))


def best_growth(p_s: float, p_c: float, stable: int, canary: int, null: float) -> float:
    """Return the growth of the reverse information projection, which no e-variable for this alternative exceeds."""
    def divergence(q: float) -> float:
        pairs = ((p_s, q, stable), (p_c, q + null, canary))
        return sum(many * float(xlogy(p, p / r) + xlogy(1 - p, (1 - p) / (1 - r))) for p, r, many in pairs)

    found = minimize_scalar(divergence, bounds=(max(0, -null) + 1e-9, min(1, 1 - null) - 1e-9), method="bounded",
                            options={"xatol": 1e-12})
    return float(found.fun)


@pytest.mark.parametrize(("p_s", "effect", "null"), [
    (0.001, 0.01, 0.001), (0.01, 0.01, 0.005), (0.1, 0.05, 0.02), (0.3, 0.2, 0.0), (0.02, -0.005, 0.005),
    (0.1, -0.02, 0.02)])
@pytest.mark.parametrize(("stable", "canary"), [(99, 1), (95, 5), (50, 50), (5, 95)])
def test_who_believes_what_is_true_grows_nearly_as_fast_as_anyone_can(p_s: float, effect: float, null: float,
                                                                      stable: int, canary: int) -> None:
    p_c, many = p_s + null + effect, 1e9
    seen = Seen(*np.array([p_s * many, many, p_c * many, many]))
    grown = bet(gamblers(null, 1 if effect > 0 else -1, abs(effect)), seen,
                window(p_s * stable, stable, p_c * canary, canary))  # linear in the counts: this is the expectation
    best = best_growth(p_s, p_c, stable, canary, null)
    # The anchor is one step towards the projection; where the canary is nearly all of the traffic, or events are rare
    # in two equal halves, that is less than the best. Two steps gained at most 6 % of a verdict's requests.
    least = 0.4 if canary == 95 else 0.7 if p_s == 0.001 else 0.9
    assert least * best <= grown[0, 0] <= best * (1 + 1e-6)
