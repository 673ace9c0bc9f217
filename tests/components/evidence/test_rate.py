"""RateTest: verdicts and their words, what may be cut and interrupted without a trace, and how often it is wrong."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.combining import combine
from penstock.components.evidence.decision import NEVER, round_up
from penstock.components.evidence.rate import RateTest, difference_gamblers

Look = tuple[tuple[int, int], tuple[int, int]]


@st.composite
def arms(draw: st.DrawFn) -> tuple[int, int]:
    many = draw(st.integers(0, 200))
    return draw(st.integers(0, many)), many


looks = st.lists(st.tuples(arms(), arms()), min_size=1, max_size=8)
options = st.fixed_dictionaries({"tolerance": st.sampled_from([-0.01, 0.0, 0.001, 0.02, 0.3]),
                                 "block": st.sampled_from([1, 20]), "max_samples": st.sampled_from([0, 150])})


def after(test: RateTest, history: list[Look]) -> RateTest:
    for stable, canary in history:
        test.update(stable, canary)
    return test


def drawn(test: RateTest, base: float, more: float, share: float = 0.2, every: int = 100, most: int = 2000,
          seed: int = 0) -> RateTest:
    """Update until the verdict."""
    random = np.random.default_rng(seed)
    for _ in range(most):
        canary = int(random.binomial(every, share))
        test.update((random.binomial(every - canary, base), every - canary),
                    (random.binomial(canary, base + more), canary))
        if test.decide().verdict != "undecided":
            break
    return test


def test_a_bad_canary_is_worse() -> None:
    found = drawn(RateTest(0.005), 0.01, 0.05).decide()
    assert found.verdict == "worse"
    assert found.log_e_worse >= found.threshold == pytest.approx(math.log(20))
    assert found.lower >= 0.005
    assert found.lower <= 0.05 <= found.upper
    assert found.more == 0
    assert found.reason.startswith("errors: ")
    assert "requests of the canary" in found.reason
    assert ", at least +" in found.reason
    assert found.reason.endswith("; +0.5 points are allowed")


def test_a_good_canary_is_within() -> None:
    found = drawn(RateTest(0.02, name="wrong answers"), 0.05, 0.0).decide()
    assert found.verdict == "within"
    assert found.log_e_within >= found.threshold
    assert found.lower <= 0.0 <= found.upper <= 0.02
    assert found.reason.startswith("wrong answers: ")
    assert ", at most +" in found.reason


def test_nothing_seen_nothing_said() -> None:
    test = RateTest(0.01)
    assert test.decide().reason == "errors: nothing to compare yet, both versions must have answered"
    test.update((3, 500), (0, 0))
    found = test.decide()
    assert (found.verdict, found.samples, found.lower, found.upper) == ("undecided", 0, -1.0, 1.0)
    assert (found.log_e_worse, found.log_e_within, found.more) == (0.0, 0.0, NEVER)
    assert "nothing to compare yet" in found.reason


def test_undecided_says_how_much_more_it_takes() -> None:
    found = after(RateTest(0.01), [((10, 1000), (12, 1000))]).decide()
    assert found.verdict == "undecided"
    assert found.more > 0
    assert f"about {round_up(found.more):,} more canary requests would tell" in found.reason
    assert "12 in 1,000 requests of the canary, 10 in 1,000 of stable: +0.20 points" in found.reason
    assert found.estimate == pytest.approx(0.002)


def test_undecided_says_when_no_number_would_do() -> None:
    found = after(RateTest(0.01), [((10, 1000), (20, 1000))]).decide()
    assert (found.verdict, found.more) == ("undecided", NEVER)
    assert found.reason.endswith("too close to say")


@pytest.mark.parametrize("tolerance", [0.0, -0.01])
def test_without_a_tolerance_nothing_is_within(tolerance: float) -> None:
    test = drawn(RateTest(tolerance), 0.2, -0.15, most=300)
    found = test.decide()
    assert found.verdict == "undecided"
    assert found.log_e_within == -math.inf
    assert found.reason.endswith("that a canary is not worse by anything at all cannot be shown")
    assert drawn(RateTest(tolerance), 0.01, 0.1).decide().verdict == "worse"


def test_a_verdict_sticks() -> None:
    test = drawn(RateTest(0.005), 0.01, 0.2)
    for _ in range(200):
        test.update((20, 100), (0, 100))
    assert test.decide().verdict == "worse"
    assert test.log_e[0] < math.log(20)


def test_after_so_many_samples_it_stays_undecided() -> None:
    test = after(RateTest(0.005, max_samples=50), [((1, 100), (1, 40))])
    assert test.decide().more != NEVER or test.decide().verdict == "undecided"
    after(test, [((1, 100), (60, 100))])
    found = test.decide()
    assert test.log_e[0] > found.threshold
    assert (found.verdict, found.more) == ("undecided", NEVER)
    assert combine({"errors": found}, 0.05).verdict == "undecided"


def test_bursts_without_a_block_get_no_verdict() -> None:
    """Unless it fell before they were noticed: that takes evidence of its own."""
    random, test = np.random.default_rng(2), RateTest(0.005, alpha=1e-9)
    for _ in range(400):
        test.update((20 * random.binomial(20, 0.02), 400), (20 * random.binomial(20, 0.035), 400))
    found = test.decide()
    assert found.verdict == "undecided"
    assert max(test.log_e) > found.threshold
    assert (found.log_e_worse, found.log_e_within) == (-np.inf, -np.inf)
    assert combine({"errors": found}, 1e-9).verdict == "undecided"
    assert ": no verdict, because " in found.reason


def test_blocks_count_as_one() -> None:
    one, twenty = RateTest(0.01), RateTest(0.01, block=20)
    after(one, [((2, 50), (3, 50))])
    after(twenty, [((40, 1000), (60, 1000))])
    assert twenty.log_e == pytest.approx(one.log_e)
    assert twenty.samples == one.samples == 50
    assert "blocks of requests" in twenty.decide().reason


@settings(max_examples=25)
@given(options, looks)
def test_an_interruption_leaves_no_trace(given_options: dict[str, float], history: list[Look]) -> None:
    through, stopped = RateTest(**given_options), RateTest(**given_options)
    for look in history:
        after(through, [look])
        stopped = RateTest.from_state(json.loads(json.dumps(after(stopped, [look]).to_state())))
        assert stopped.decide() == through.decide()
        assert stopped.to_state() == through.to_state()


@settings(max_examples=40)
@given(options, looks, st.integers(1, 200))
def test_a_window_may_come_in_parts(given_options: dict[str, float], history: list[Look], many: int) -> None:
    """As long as only one version has requests the window is open, however many updates that takes."""
    whole, parts = after(RateTest(**given_options), history), after(RateTest(**given_options), history)
    if whole.to_state()["evidence"]["waiting"][3]:
        return  # it is the canary whose window is open: then stable's first request closes it
    whole.update((0, many), (1, 10))
    for _ in range(many - 1):
        parts.update((0, 1), (0, 0))
    parts.update((0, 1), (1, 10))
    assert parts.decide() == whole.decide()


@settings(max_examples=40)
@given(options, looks, st.integers(0, 7))
def test_one_more_error_of_the_canary_never_speaks_for_it(given_options: dict[str, float], history: list[Look],
                                                          events: int) -> None:
    """Within a window: an error in an earlier one also changes later stakes."""
    one, two = after(RateTest(**given_options), history), after(RateTest(**given_options), history)
    one.update((3, 50), (events, 8))
    two.update((3, 50), (events + 1, 8))
    assert two.log_e[0] >= one.log_e[0] - 1e-12
    assert two.log_e[1] == one.log_e[1] == -math.inf or two.log_e[1] <= one.log_e[1] + 1e-12


@given(looks)
def test_it_plays_the_bets_that_are_simulated(history: list[Look]) -> None:
    """docs/statistics.md is about `bet` and `capital` on the tolerance alone; this is the same evidence."""
    test, tolerance = RateTest(0.01), 0.01
    sides = [difference_gamblers(tolerance, sign) for sign in (1, -1)]
    wealth, seen = [np.zeros((1, len(side.effects))) for side in sides], Seen(*np.zeros(4))
    open_ = np.zeros(4)
    for stable, canary in history:
        test.update(stable, canary)
        open_ += [*stable, *canary]
        if open_[1] and open_[3]:
            window = Window(*open_.copy())
            wealth = [own + bet(side, seen, window) for side, own in zip(sides, wealth, strict=True)]
            seen, open_ = seen.after(window), np.zeros(4)
    assert test.log_e == pytest.approx([float(capital(side, own)[0]) for side, own in zip(sides, wealth, strict=True)])


@given(looks)
def test_the_bounds_only_close_in(history: list[Look]) -> None:
    test, lower, upper = RateTest(0.005), -1.0, 1.0
    for look in history:
        found = after(test, [look]).decide()
        assert lower <= found.lower
        assert found.upper <= upper
        lower, upper = found.lower, found.upper


@pytest.mark.parametrize(("kwargs", "text"), [
    ({"tolerance": math.nan}, "no number"), ({"tolerance": math.inf}, "no number"),
    ({"tolerance": 0.01, "alpha": 0.5}, "between 0 and 0.5"), ({"tolerance": 0.01, "alpha": 0.0}, "between 0 and 0.5"),
    ({"tolerance": 0.01, "block": 0}, "block=0"), ({"tolerance": 0.01, "max_samples": -1}, "max_samples=-1")])
def test_bad_options(kwargs: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RateTest(**kwargs)


@pytest.mark.parametrize(("stable", "canary"), [
    ((2, 1), (0, 1)), ((0, 1), (2, 1)), ((-1, 1), (0, 1)), ((0, 1), (0, -1)), ((0, math.nan), (0, 1)),
    ((0, 1), (0, math.inf)), ((0, 1, 2), (0, 1)), ((0, 0.2), (0, 1)), ((0, 1), (0, 1e300)), ((0, 1), (0, 2**53)),
    (("0", "1"), (0, 1))])
def test_bad_counts(stable: tuple[float, ...], canary: tuple[float, ...]) -> None:
    test = RateTest(0.01)
    with pytest.raises(ContractError, match="must be \\(events, requests\\)"):
        test.update(stable, canary)  # type: ignore[arg-type]
    assert test.samples == 0


def test_a_damaged_state_is_refused() -> None:
    state = after(RateTest(0.01), [((1, 100), (1, 100))]).to_state()
    with pytest.raises(ContractError, match="the state of 'CountTest', not of RateTest"):
        RateTest.from_state({**state, "test": "CountTest"})
    with pytest.raises(ContractError, match="damaged"):
        RateTest.from_state({**state, "options": {**state["options"], "tolerance": 0.5}})
    with pytest.raises(ContractError, match="damaged"):
        RateTest.from_state({**state, "evidence": {"wealth": state["evidence"]["wealth"]}})
    with pytest.raises(ContractError, match="damaged"):
        RateTest.from_state({key: value for key, value in state.items() if key != "verdict"})


def test_what_the_gamblers_believe() -> None:
    for sign in (1, -1):
        found = difference_gamblers(0.01, sign)
        assert found.effects == pytest.approx([0.005 * 2**power for power in range(8)])
        assert found.weights.sum() == pytest.approx(1)
        assert (found.weights > 0).all()
        assert found.nulls.tolist() == [0.01]
    assert difference_gamblers(0.01, -1).weights[1] > 0.4  # that there is no difference at all
    assert difference_gamblers(0.0, 1).effects[0] == pytest.approx(0.5e-4)


@pytest.mark.parametrize(("verdict", "sign"), [("worse", 1), ("within", -1)])
def test_it_is_rarely_wrong_at_the_tolerance(verdict: str, sign: int) -> None:
    """1,000 runs of 150 looks with the canary at the tolerance; the bound is alpha and 5 standard errors."""
    random, runs, tolerance = np.random.default_rng(1), 1000, 0.01
    side = difference_gamblers(tolerance, sign)
    wealth, seen = np.zeros((runs, 1, len(side.effects))), Seen(*np.zeros((4, runs)))
    ever = np.zeros(runs, bool)
    for look in range(150):
        base = 0.02 * (1 + 0.8 * math.sin(look / 10))
        canary = random.binomial(100, 0.05 if look < 75 else 0.5, runs)
        window = Window(random.binomial(100 - canary, base), 100 - canary, random.binomial(canary, base + tolerance),
                        canary)
        wealth += bet(side, seen, window)
        seen = seen.after(Window(*(np.where(canary > 0, part, 0) for part in window)))
        ever |= capital(side, wealth)[:, 0] >= math.log(20)
    assert 0 < ever.mean() <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / runs), verdict
