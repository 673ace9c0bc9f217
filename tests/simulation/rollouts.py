"""Roll-outs under load: Flagger's and Argo Rollouts' rules, and the tests of `peers`, on the traffic that they steer.

A rule sees the windows that its own traffic weights bring about. Draws no picture and writes no file.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from peers import Bets, Judge, Peeked, Ranks
from table import Table

from penstock.components.evidence.capital import Window

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PER_SECOND = 100  # requests
TICK = 15  # seconds between two scrapes
MINUTES = 60
TOLERANCE = 0.005
BASELINES = (0.001, 0.01)
MORE = (0.0, 0.005, 0.01, 0.02, 0.05)


class Step(NamedTuple):
    """What a rule does after a tick; each (runs,)."""

    share: Floats
    rolled_back: Flags
    promoted: Flags


class Rule(Protocol):
    """Steers the canary's share of the traffic."""

    def step(self, tick: int, window: Window) -> Step:
        """Take what was counted in the last tick (0: nothing yet)."""


class Flagger:
    """Interval 1m, threshold 5, stepWeight 10, maxWeight 50; request-success-rate of at least 99, interval 1m.

    A failed check holds the weight, failed checks are not forgotten, and the fifth rolls back with the next interval
    (pkg/controller/scheduler.go); a passed check at the highest weight promotes.
    """

    def __init__(self, runs: int) -> None:
        self._share, self._failed = np.zeros(runs), np.zeros(runs, int)
        self._minute = np.zeros((2, runs))

    def step(self, tick: int, window: Window) -> Step:
        nobody = np.zeros(len(self._share), bool)
        self._minute += window.canary_events, window.canary
        if tick == 0:
            self._share[:] = 0.1
        if tick == 0 or tick % (60 // TICK):
            return Step(self._share, nobody, nobody)
        over = self._failed >= 5
        passed = (self._minute[0] <= 0.01 * self._minute[1]) & ~over
        self._minute[:] = 0
        promoted = passed & (self._share > 0.49)
        self._share = np.where(passed & ~promoted, self._share + 0.1, self._share)
        self._failed += ~passed & ~over
        return Step(self._share, over, promoted)


class Argo:
    """Weights 20, 40, 60, 80, ten minutes each; from the second on `result >= 0.95` every 5m, `failureLimit: 3`.

    The query is an `irate`, so it sees the last two scrapes; three measurements below the limit roll back, as the
    documentation of the example says.
    """

    def __init__(self, runs: int) -> None:
        self._failed, self._runs = np.zeros(runs, int), runs

    def step(self, tick: int, window: Window) -> Step:
        minute = tick * TICK / 60
        if minute >= 10 and minute % 5 == 0 and minute < 40:
            self._failed += window.canary_events > 0.05 * window.canary
        share = np.full(self._runs, 0.2 * min(minute // 10 + 1, 4))
        return Step(share, self._failed >= 3, np.full(self._runs, minute >= 40))


class Ladder:
    """A test of `peers` on Flagger's ladder: a step a minute, and what it says is done at once."""

    def __init__(self, judge: Judge, runs: int, ticks: int, share: float, minutes: int, promotes: bool) -> None:
        self._judge, self._ticks, self._first, self._minutes = judge, ticks, share, minutes
        self._promotes, self._runs = promotes, runs
        self._window = Window(*np.zeros((4, runs)))

    def step(self, tick: int, window: Window) -> Step:
        nobody = np.zeros(self._runs, bool)
        minute = tick * TICK // 60
        share = np.full(self._runs, min(self._first * (minute + 1), 0.5))
        self._window = Window(*(before + now for before, now in zip(self._window, window, strict=True)))
        if tick == 0 or tick % self._ticks:
            return Step(share, nobody, nobody)
        said = self._judge.look(self._window)
        self._window = Window(*np.zeros((4, self._runs)))
        done = minute >= self._minutes
        promoted = said.within & done if self._promotes else ~said.worse & done
        return Step(share, said.worse, promoted)


def _ladder(judge: Callable[[float, int], Judge], seconds: int, share: float = 0.1, minutes: int = 5,
            promotes: bool = True) -> Callable[[int], Rule]:
    return lambda runs: Ladder(judge(TOLERANCE, runs), runs, seconds // TICK, share, minutes, promotes)


RULES: dict[str, Callable[[int], Rule]] = {
    "RateTest, every scrape": _ladder(Bets, TICK),
    "RateTest, every minute": _ladder(Bets, 60),
    "Flagger": Flagger,
    "Argo Rollouts": Argo,
    "score test, peeked every minute": _ladder(Peeked, 60),
    "Mann-Whitney, peeked every minute": _ladder(Ranks, 60, share=0.05, minutes=10, promotes=False),
}


class Outcome(NamedTuple):
    """How it went; each (runs,). `minutes` is inf where nothing was rolled back; `served`: requests of the canary."""

    minutes: Floats
    promoted: Flags
    served: Floats


def drive(rule: Rule, baseline: float, more: float, runs: int, seed: int) -> Outcome:
    """Let a rule steer a canary with `more` errors than stable's for an hour; who is promoted gets all the traffic."""
    random = np.random.default_rng(seed)
    minutes, promoted, served = np.full(runs, math.inf), np.zeros(runs, bool), np.zeros(runs)
    window, many = Window(*np.zeros((4, runs))), PER_SECOND * TICK
    for tick in range(MINUTES * 60 // TICK + 1):
        step = rule.step(tick, window)
        running = ~promoted & np.isinf(minutes)
        minutes[running & step.rolled_back] = tick * TICK / 60
        promoted |= running & step.promoted & ~step.rolled_back
        share = np.where(promoted, 1.0, np.where(np.isinf(minutes), step.share, 0.0))
        canary = random.binomial(many, np.where(promoted | np.isfinite(minutes), 0.0, share)).astype(float)
        window = Window(random.binomial((many - canary).astype(int), baseline).astype(float), many - canary,
                        random.binomial(canary.astype(int), baseline + more).astype(float), canary)
        if tick < MINUTES * 60 // TICK:
            served += np.where(promoted, many, canary)
    return Outcome(minutes, promoted, served)


def tables(runs: int, seed: int) -> list[Table]:
    """Return one table: each rule on each canary."""
    lines = []
    for baseline in BASELINES:
        for more in MORE:
            for index, (name, rule) in enumerate(RULES.items()):
                found = drive(rule(runs), baseline, more, runs, seed + index)
                back = np.isfinite(found.minutes)
                bad = more * found.served
                middle = f"{np.median(found.minutes[back]):.2f}" if back.any() else "-"
                lines.append((f"{baseline * 100:g} %", f"+{more * 100:g}", name, f"{back.mean() * 100:.1f}",
                              f"{found.promoted.mean() * 100:.1f}", middle, f"{bad.mean():,.0f}",
                              f"{np.quantile(bad, 0.95):,.0f}"))
    return [Table(
        "Roll-outs: bad requests served before the roll-back",
        f"{PER_SECOND} requests a second, {runs:,} runs a row, one hour. Bad requests: what the canary's users got in "
        f"errors beyond stable's rate, until the roll-back or the end of the hour; a promoted canary has all the "
        f"traffic. RateTest has a tolerance of {TOLERANCE * 100:g} points, so that +0 and +{TOLERANCE * 100:g} count "
        f"as false roll-backs (at most 5 % are promised) and +1 and more as bad canaries. It and the score test take "
        f"Flagger's weights, 10 to 50 in steps of 10 a minute, wait at 50 for a verdict, and promote with `within`.\n\n"
        f"Flagger's settings are those of its documentation: `interval: 1m`, `threshold: 5` (failed checks until it "
        f"rolls back), `stepWeight: 10`, `maxWeight: 50`, request-success-rate with `thresholdRange: min: 99` over "
        f"`1m`. Argo Rollouts' are those of the example in its documentation: `interval: 5m`, `successCondition: "
        f"result >= 0.95`, `failureLimit: 3`, `startingStep: 2`, 20 % more each 10 minutes; its `irate` sees the last "
        f"{TICK} seconds. The Mann-Whitney test is the one in Kayenta's judge (a 98 % interval, here on the rates of "
        f"the minutes), on steps of 5 % and asked each minute; it knows no tolerance.",
        ("errors of stable", "points more", "rule", "rolled back, %", "promoted, %", "minutes to roll-back, median",
         "bad requests, mean", "p95"), lines)]
