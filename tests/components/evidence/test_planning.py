"""Plans against the tests themselves: what was planned is what a roll-out takes, and what cannot be is refused."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.count import CountTest
from penstock.components.evidence.decision import Decision
from penstock.components.evidence.distribution import DistributionTest
from penstock.components.evidence.hard_stop import HardStop
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MixTest
from penstock.components.evidence.planning import Cost, Rung, TooClose, cost, of_canary, samples_needed
from penstock.components.evidence.rate import RateTest
from penstock.components.evidence.sequential import SequentialTest, State

TESTS = 60
LOOKS = 30


def reached(play: Callable[[np.random.Generator, int], Decision], plan: Cost, tests: int = TESTS) -> float:
    """Return in which share of roll-outs the test itself has the planned verdict after the planned requests."""
    random, look = np.random.default_rng(3), math.ceil(plan.requests / LOOKS)
    return sum(play(random, look).verdict == plan.verdict for _ in range(tests)) / tests


def far(tests: int = TESTS) -> float:
    """Return 5 standard errors of a share of 0.9."""
    return 5 * math.sqrt(0.9 * 0.1 / tests)


@pytest.mark.parametrize(("effect", "share"), [(0.0, 0.2), (0.1, 0.5), (0.12, 0.1)])
def test_a_rate_test_has_its_verdict_by_the_planned_requests(effect: float, share: float) -> None:
    plan = cost(RateTest(0.03), 0.02, effect, share)

    def play(random: np.random.Generator, look: int) -> Decision:
        test = RateTest(0.03)
        for _ in range(LOOKS):
            canary = random.binomial(look, share)
            test.update(stable=(random.binomial(look - canary, 0.02), look - canary),
                        canary=(random.binomial(canary, 0.02 + effect), canary))
        return test.decide()

    assert reached(play, plan) == pytest.approx(0.9, abs=far())


@pytest.mark.parametrize("effect", [0.0, 0.09])
def test_a_canary_that_climbs_has_its_verdict_by_the_planned_requests(effect: float) -> None:
    ladder = (Rung(0.05, 400), Rung(0.2, 100), Rung(0.5, 50))
    plan = cost(RateTest(0.03), 0.02, effect, ladder)
    ends = [400, 500, plan.requests]
    assert plan.canary == round(float(of_canary(plan.requests, ladder)))

    def play(random: np.random.Generator, look: int) -> Decision:
        test, seen = RateTest(0.03), 0
        for rung, end in zip(ladder, ends, strict=True):
            while seen < end:
                size = min(look, end - seen)
                canary = random.binomial(size, rung.share)
                test.update(stable=(random.binomial(size - canary, 0.02), size - canary),
                            canary=(random.binomial(canary, 0.02 + effect), canary))
                seen += size
        return test.decide()

    assert reached(play, plan) == pytest.approx(0.9, abs=far())


def test_no_canary_is_promoted_before_it_held_the_last_rung() -> None:
    assert cost(RateTest(0.1), 0.0, 0.0, (Rung(0.1, 10), Rung(0.5, 10_000))).requests == 10_010
    assert cost(RateTest(0.1), 0.0, 0.9, (Rung(0.1, 10), Rung(0.5, 10_000))).requests < 100


def test_requests_of_a_canary_add_up_over_its_rungs() -> None:
    ladder = (Rung(0.1, 100), Rung(0.5))
    assert of_canary([0, 50, 100, 300], ladder).tolist() == [0, 5, 10, 110]


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "within"), (1.5, "worse")])
def test_a_count_test_has_its_verdict_by_the_planned_requests(effect: float, verdict: str) -> None:
    plan = cost(CountTest(0.5), 0.05, effect, 0.2)
    assert plan.verdict == verdict

    def play(random: np.random.Generator, look: int) -> Decision:
        test = CountTest(0.5)
        for _ in range(LOOKS):
            test.update(random.poisson(0.04 * look), random.poisson(0.01 * (1 + effect) * look), share=0.2)
        return test.decide()

    assert reached(play, plan) == pytest.approx(0.9, abs=far())


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "within"), (0.3, "worse")])
def test_a_mix_test_has_its_verdict_by_the_planned_requests(effect: float, verdict: str) -> None:
    plan = cost(MixTest(4, 0.1), 0, effect, 0.3)
    assert plan.verdict == verdict
    moved = np.array([0.25, 0.25, 0.25, 0.25]) + np.array([1, 1, -1, -1]) * effect / 2

    def play(random: np.random.Generator, look: int) -> Decision:
        test = MixTest(4, 0.1)
        for _ in range(LOOKS):
            canary = random.binomial(look, 0.3)
            test.update(random.multinomial(look - canary, [0.25] * 4), random.multinomial(canary, moved))
        return test.decide()

    assert reached(play, plan) == pytest.approx(0.9, abs=far())


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "within"), (0.6, "worse")])
def test_a_latency_test_has_its_verdict_by_the_planned_requests(effect: float, verdict: str) -> None:
    plan = cost(LatencyTest(0.25, (0.5, 0.9)), 0.5, effect, 0.3)
    assert plan.verdict == verdict

    def play(random: np.random.Generator, look: int) -> Decision:
        test = LatencyTest(0.25, (0.5, 0.9))
        for _ in range(LOOKS):
            canary = random.binomial(look, 0.3)
            test.update(random.lognormal(-3, 0.5, look - canary), (1 + effect) * random.lognormal(-3, 0.5, canary))
        return test.decide()

    assert reached(play, plan) == pytest.approx(0.9, abs=far())


def test_harm_is_what_the_canary_adds_until_it_is_sent_back() -> None:
    plan, random, share = cost(RateTest(0.03), 0.02, 0.1, 0.3), np.random.default_rng(5), 0.3
    extra = []
    for _ in range(TESTS):
        test, answered = RateTest(0.03), 0
        while test.decide().verdict == "undecided":
            canary = random.binomial(20, share)
            answered += canary
            test.update(stable=(random.binomial(20 - canary, 0.02), 20 - canary),
                        canary=(random.binomial(canary, 0.12), canary))
        extra.append(0.1 * answered)
    assert plan.harm == pytest.approx(np.mean(extra), abs=5 * np.std(extra) / math.sqrt(TESTS) + 0.1 * 20 * share / 2)
    assert plan.harm == pytest.approx(0.1 * plan.mean * share)
    assert plan.mean < plan.requests


def test_a_plan_is_the_same_at_every_call() -> None:
    first = cost(RateTest(0.05), 0.01, 0.0, 0.2)
    assert cost(RateTest(0.05), 0.01, 0.0, 0.2) == first
    assert samples_needed(RateTest(0.05), 0.01, 0.0, 0.2) == first.requests
    half = samples_needed(RateTest(0.05), 0.01, 0.0, 0.5)
    assert samples_needed(RateTest(0.05), 0.01, 0.0, np.float32(0.5)) == half
    assert first.canary == round(first.requests * 0.2)


def test_what_a_test_has_seen_does_not_count() -> None:
    used = RateTest(0.05)
    used.update(stable=(5, 500), canary=(60, 500))
    assert samples_needed(used, 0.01, 0.0, 0.2) == samples_needed(RateTest(0.05), 0.01, 0.0, 0.2)


@pytest.mark.parametrize("block", [2, 20])
@pytest.mark.parametrize("kind", [RateTest, CountTest])
def test_dependent_requests_cost_as_many_times_more(block: int, kind: type[RateTest | CountTest]) -> None:
    alone = cost(kind(0.2), 0.05, 0.6, 0.2)
    together = cost(kind(0.2, block=block), 0.05, 0.6, 0.2)
    assert block * (alone.requests - 1) <= together.requests <= block * alone.requests
    assert together.harm == pytest.approx(block * alone.harm)


def test_more_is_asked_for_more() -> None:
    def needed(effect: float = 0.0, share: float = 0.2, power: float = 0.9, alpha: float = 0.05,
               tolerance: float = 0.05) -> int:
        return samples_needed(RateTest(tolerance, alpha), 0.02, effect, share, power)

    assert needed(power=0.5) < needed() < needed(power=0.99)
    assert needed(alpha=0.2) < needed() < needed(alpha=0.001)
    assert needed(share=0.5) < needed() < needed(share=0.01)
    assert needed(effect=-0.01) < needed() < needed(effect=0.02)
    assert needed(effect=0.3) < needed(effect=0.1)
    assert needed(tolerance=0.1) < needed() < needed(tolerance=0.02)


def test_a_canary_without_an_error_costs_what_the_bet_on_it_pays() -> None:
    """With no event at all the evidence is that of a sure thing: about log(1 / alpha) / tolerance canary requests."""
    found = cost(RateTest(0.01), 0.0, 0.0, 0.2)
    assert 300 < found.canary < 400
    assert found.harm == 0


def test_a_smaller_tolerance_can_be_planned_over_billions_of_requests() -> None:
    assert samples_needed(RateTest(1e-4), 0.1, 0.0, 0.01) > 1e9


@pytest.mark.parametrize(("test", "effect"), [
    (RateTest(0.01), 0.01), (RateTest(0.1), 0.1 + 1e-12), (CountTest(0.5), 0.5), (LatencyTest(0.1), 0.1),
    (MixTest(3, 0.1), 0.1), (RateTest(0.01), 0.0101)])
def test_nothing_can_tell_the_tolerance_from_itself(test: SequentialTest, effect: float) -> None:
    with pytest.raises(TooClose, match="no number of requests can tell"):
        samples_needed(test, 0.1, effect, 0.2)


def test_a_verdict_that_falls_wrongly_more_often_than_asked_is_too_close() -> None:
    with pytest.raises(TooClose, match=r"power=0\.9999"):
        samples_needed(RateTest(0.02, alpha=0.4), 0.3, 0.015, 0.5, power=0.9999)


@pytest.mark.parametrize("tolerance", [0.0, -0.02])
def test_that_a_canary_is_not_worse_at_all_cannot_be_shown(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="allow something, such as"):
        samples_needed(RateTest(tolerance), 0.1, -0.05, 0.2)
    assert cost(RateTest(tolerance), 0.1, 0.1, 0.2).verdict == "worse"


@pytest.mark.parametrize(("test", "arguments", "text"), [
    (RateTest(0.01), (0.1, 0.0, 0.0), "share=0 must be between 0 and 1"),
    (RateTest(0.01), (0.1, 0.0, 1.0), "share=1 must be between 0 and 1"),
    (RateTest(0.01), (0.1, 0.0, math.nan), "share=nan"),
    (RateTest(0.01), (0.1, 0.0, 0.2, 1.0), "power=1 must be between 0 and 1"),
    (RateTest(0.01), (0.1, math.nan, 0.2), "effect=nan is no number"),
    (RateTest(0.01), (0.9, 0.2, 0.2), "the canary's, 1.1, must be from 0 to 1"),
    (RateTest(0.01), (0.1, -0.2, 0.2), "the canary's, -0.1, must be from 0 to 1"),
    (RateTest(0.01), (math.nan, 0.0, 0.2), "baseline=nan"),
    (CountTest(0.5), (0.0, 0.0, 0.2), "baseline=0 must be stable's events per request"),
    (CountTest(0.5), (0.1, -1.5, 0.2), "effect=-1.5"),
    (LatencyTest(0.1), (0.0, 0.0, 0.2), "baseline=0 must be the standard deviation of log latency"),
    (LatencyTest(0.1), (0.5, -1.0, 0.2), "effect=-1 the canary's slow-down"),
    (LatencyTest(0.1, floor=0.01), (0.5, 0.0, 0.2), "floor=0.01 s cannot be planned"),
    (MixTest(4, 0.1), (0, 0.6, 0.2), "effect=0.6 must be a total variation distance from 0 to 0.5"),
    (MixTest(4, 0.1), (0, -0.1, 0.2), "effect=-0.1 must be a total variation distance"),
    (MixTest(11, 0.1), (0, 0.0, 0.2), "MixTest says within for up to 10 classes, not for 11"),
    (RateTest(0.05, max_samples=50), (0.02, 0.0, 0.2), "max_samples=50 ends the test before it can tell"),
    (CountTest(0.5, max_samples=50), (0.02, 0.0, 0.2), "max_samples=50 ends the test before it can tell"),
])
def test_wrong_arguments_are_refused(test: SequentialTest, arguments: tuple[float, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        samples_needed(test, *arguments)


class Nameless(SequentialTest):
    """A test of a kind that no rehearsal knows."""

    DEFAULT_NAME = "nameless"

    @property
    def samples(self) -> int:
        return 0

    @property
    def log_e(self) -> tuple[float, float]:
        return 0.0, 0.0

    def decide(self) -> Decision:
        raise NotImplementedError

    def _evidence_state(self) -> State:
        return {}

    def _restore(self, state: State) -> None:
        pass


def test_a_test_that_nobody_can_rehearse_is_refused() -> None:
    with pytest.raises(ConfigError, match="Nameless cannot be planned; RateTest, CountTest, LatencyTest and"):
        samples_needed(Nameless(0.1), 0.1, 0.0, 0.2)
    with pytest.raises(ConfigError, match="HardStop cannot be planned"):
        samples_needed(HardStop(0.1), 0.1, 0.2, 0.2)
    with pytest.raises(ConfigError, match="DistributionTest cannot be planned"):  # it never says `within` as it is
        samples_needed(DistributionTest(0.1), 0.5, 0.0, 0.2)


def test_enough_samples_are_no_obstacle() -> None:
    free = cost(RateTest(0.05), 0.02, 0.0, 0.2)
    assert cost(RateTest(0.05, max_samples=free.canary + 1), 0.02, 0.0, 0.2) == free


def test_ten_classes_can_be_planned_both_ways() -> None:
    assert cost(MixTest(10, 0.25), 0, 0.0, 0.2).verdict == "within"
    assert cost(MixTest(10, 0.25), 0, 0.4, 0.2).verdict == "worse"
