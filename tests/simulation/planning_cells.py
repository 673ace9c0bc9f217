"""Whether a roll-out costs what was planned: planned requests beside those of simulated roll-outs, cell by cell.

Draws its roll-outs with other seeds and other looks than the planner, and keeps its own clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from table import Table

from penstock.components.evidence.count import CountTest
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MixTest
from penstock.components.evidence.planning import cost
from penstock.components.evidence.rate import RateTest
from penstock.components.evidence.rehearsal import rehearse
from penstock.components.evidence.sequential import SequentialTest

TOLERANCE = 0.01
BASELINES = (0.001, 0.01, 0.1)
SHARES = (0.01, 0.05, 0.2, 0.5)
EFFECTS = (0.0, 2 * TOLERANCE, 5 * TOLERANCE)
POWER = 0.9
LOOKS = 250  # until the planned number: at every so many requests, but never more often than `RAREST` requests
RAREST = 20
MOST_TESTS = 400  # that are fed one by one, in each cell
FEEDS = 40, 250  # updates of such a test until the planned number
SHARE = 0.2
EVENTS, SPREAD, CLASSES = 0.05, 0.5, 4  # of stable: events per request, standard deviation of log latency, classes

Split = Iterable[tuple[int, int]]  # requests of stable and of the canary, update by update
Feed = Callable[[np.random.Generator, Split], SequentialTest]


class Simulated(NamedTuple):
    """Of a cell: what was planned, and what came of it.

    Attributes:
        requests: of both versions, by which the right verdict has fallen in a share `POWER` of the runs.
        reached: share of the runs in which it has fallen by the planned number.
        harm: events beyond stable's until the verdict, on average.
    """

    planned: int
    planned_harm: float
    requests: float
    reached: float
    harm: float


def tables(runs: int, seed: int) -> list[Table]:
    """Return planned against simulated requests of a `RateTest`, with `runs` roll-outs in each of 36 cells."""
    rows, ratios = [], []
    for number, (baseline, share, effect) in enumerate(_cells()):
        found = simulate(baseline, effect, share, runs, seed + number)
        ratios.append(found.planned / found.requests)
        error = math.sqrt(found.reached * (1 - found.reached) / runs)
        rows.append((f"{baseline * 100:g} %", f"{share * 100:g} %", f"{effect * 100:+g} points",
                     "within" if effect < TOLERANCE else "worse", f"{found.planned:,}", f"{found.requests:,.0f}",
                     f"{ratios[-1]:.2f}", f"{found.reached * 100:.1f} ± {error * 100:.1f} %",
                     f"{found.planned_harm:,.1f}", f"{found.harm:,.1f}"))
    note = (f"`samples_needed(RateTest({TOLERANCE}), …)` at power {POWER} beside {runs:,} simulated roll-outs a cell, "
            f"which look {LOOKS} times until the planned number (at every {RAREST} requests at most). Planned / "
            f"simulated lies between {min(ratios):.2f} and {max(ratios):.2f}. Power reached is the share of roll-outs "
            "with the right verdict by the planned number, ± its standard error; harm is what the canary adds to "
            "stable's errors until its verdict, on average.")
    headers = ("stable's errors", "canary's share", "truth", "verdict", "planned", "simulated", "planned / simulated",
               "power reached", "harm planned", "harm simulated")
    return [Table("Planning: requests until a verdict", note, headers, rows), _fed(min(runs, MOST_TESTS), seed)]


def _fed(tests: int, seed: int) -> Table:
    """Return in which share of roll-outs a test has its verdict by the planned requests."""
    rows = []
    for name, test, baseline, effect, feed in _kinds():
        plan, random = cost(test, baseline, effect, SHARE, POWER), np.random.default_rng(seed)
        reached = []
        for feeds in FEEDS:
            right = sum(feed(random, _split(random, plan.requests, feeds)).decide().verdict == plan.verdict
                        for _ in range(tests))
            error = math.sqrt(max(right, 1) * max(tests - right, 1) / tests**3)
            reached.append(f"{right / tests * 100:.1f} ± {error * 100:.1f} %")
        rows.append((name, f"{effect:+g}", plan.verdict, f"{plan.requests:,}", *reached))
    note = (f"`samples_needed` at power {POWER}, {SHARE * 100:g} % for the canary, and the share of {tests} tests that "
            f"say so after {FEEDS[0]} updates with as many requests in all, and after {FEEDS[1]}. {EVENTS:g} events "
            f"per request; latencies log-normal, {SPREAD:g} the standard deviation of the logarithm; {CLASSES} "
            f"classes, equally common. The plan is for frequent looks.")
    return Table("Planning: the other tests", note, ("test", "truth", "verdict", "planned", *(
        f"power reached, {feeds} updates" for feeds in FEEDS)), rows)


def _split(random: np.random.Generator, requests: int, updates: int) -> Iterator[tuple[int, int]]:
    """Yield the requests of stable and of the canary in so many updates, as even as whole numbers allow."""
    for size in np.diff(np.linspace(0, requests, updates + 1).round().astype(int)).tolist():
        canary = int(random.binomial(size, SHARE))
        yield size - canary, canary


def _kinds() -> Iterator[tuple[str, SequentialTest, float, float, Feed]]:
    """Yield name, test, stable's baseline, truth, and what feeds such a test until the planned number."""
    def count(effect: float) -> Feed:
        def feed(random: np.random.Generator, split: Split) -> CountTest:
            test = CountTest(0.5)
            for stable, canary in split:
                test.update(random.poisson(EVENTS * stable), random.poisson(EVENTS * (1 + effect) * canary), SHARE)
            return test
        return feed

    def latency(effect: float) -> Feed:
        def feed(random: np.random.Generator, split: Split) -> LatencyTest:
            test = LatencyTest(0.25, (0.5, 0.95))
            for stable, canary in split:
                test.update(random.lognormal(-3, SPREAD, stable), (1 + effect) * random.lognormal(-3, SPREAD, canary))
            return test
        return feed

    def mix(effect: float) -> Feed:
        even = np.full(CLASSES, 1 / CLASSES)
        moved = even + np.repeat([effect, -effect], CLASSES // 2) / (CLASSES // 2)

        def feed(random: np.random.Generator, split: Split) -> MixTest:
            test = MixTest(CLASSES, 0.05)
            for stable, canary in split:
                test.update(random.multinomial(stable, even), random.multinomial(canary, moved))
            return test
        return feed

    for effect in (0.0, 1.0, 2.5):
        yield "CountTest(0.5)", CountTest(0.5), EVENTS, effect, count(effect)
    for effect in (0.0, 0.5, 1.0):
        yield "LatencyTest(0.25, (0.5, 0.95))", LatencyTest(0.25, (0.5, 0.95)), SPREAD, effect, latency(effect)
    for effect in (0.0, 0.1, 0.25):
        yield f"MixTest({CLASSES}, 0.05)", MixTest(CLASSES, 0.05), 0, effect, mix(effect)


def _cells() -> Iterator[tuple[float, float, float]]:
    return ((baseline, share, effect) for baseline in BASELINES for share in SHARES for effect in EFFECTS)


def simulate(baseline: float, effect: float, share: float, runs: int, seed: int) -> Simulated:
    """Run roll-outs until `POWER` of them are rightly decided and the planned number is over."""
    test = RateTest(TOLERANCE)
    plan = cost(test, baseline, effect, share, POWER)
    size = max(RAREST, plan.requests // LOOKS)
    roll_outs = rehearse(test, baseline, effect, share, runs, seed)
    fallen, right = np.full(runs, np.inf), np.zeros(runs, bool)
    undecided, seen = np.arange(runs), 0
    while len(undecided):
        evidence = roll_outs.after(size)
        seen += size
        done = (evidence >= math.log(1 / test.alpha)).any(axis=0)
        fallen[undecided[done]] = seen
        right[undecided[done]] = (evidence[0, done] >= math.log(1 / test.alpha)) == (plan.verdict == "worse")
        undecided = undecided[~done]
        roll_outs.keep(~done)
    moments = np.where(right, fallen, np.inf)
    return Simulated(plan.requests, plan.harm, float(np.quantile(moments, POWER, method="inverted_cdf")),
                     float((moments <= plan.requests).mean()), float(fallen.mean()) * share * effect)
