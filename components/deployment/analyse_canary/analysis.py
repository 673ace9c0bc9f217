"""The sequential tests of one analysis: fed look by look, asked at each whether the evidence is there.

Arithmetic only: says nothing about rules or verdicts of the step, and sends no request.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ContractError
from penstock.components.deployment.analyse_canary.config import BURSTS, AnalyseCanaryConfig
from penstock.components.evidence.combining import budget, named
from penstock.components.evidence.decision import Decision
from penstock.components.evidence.hard_stop import HardStop
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MixTest
from penstock.components.evidence.rate import RateTest
from penstock.components.evidence.sequential import State

__all__ = ["CLASSES", "ERRORS", "LATENCY", "UNITS", "WRONG", "Batch", "Point", "SequentialAnalysis"]

ERRORS, LATENCY, WRONG, CLASSES = "error_rate_increase", "latency_increase", "wrong_answers_increase", "class_shift"
MOST_POINTS = 200  # of a course: more are thinned out, so that a look costs the same after hours
UNITS = {ERRORS: "points above stable", WRONG: "points above stable", LATENCY: "% above stable",
         CLASSES: "points that moved"}  # of 100 times an estimate


class Batch(NamedTuple):
    """What one version did between two looks.

    Attributes:
        seconds: (N,) of its good answers, where they were timed one by one.
        buckets: good answers by the upper edge of their latency bucket in seconds, where only that is known.
        labelled: good answers whose true class is known.
        classes: (C,) good answers by predicted class; empty where that is not known.
    """

    requests: int
    errors: int
    seconds: npt.NDArray[np.float64] = np.empty(0)
    buckets: Mapping[float, int] = {}
    labelled: int = 0
    wrong: int = 0
    classes: npt.NDArray[np.int64] = np.empty(0, np.int64)


class Point(NamedTuple):
    """Where a test stood at one look; `samples` of the canary."""

    samples: int
    estimate: float
    lower: float
    upper: float


class SequentialAnalysis:
    """All tests of one analysis.

    Args:
        labelled: whether the true class of each request is known.
        classes: their names; none: predicted classes are not seen.

    Attributes:
        classes: as given.
        blamed: names of the tests that showed the canary to be worse, with allowance for how many there are; as a
            verdict it stays, whatever comes after.
        required: names of the tests that must show `within` before the canary is promoted; the others can only send
            it back.
        course: of each test, where it stood at each look, or every second, fourth… of those long ago.
    """

    def __init__(self, config: AnalyseCanaryConfig, labelled: bool, classes: Sequence[str] = ()) -> None:
        self.classes = tuple(classes)
        self.blamed: tuple[str, ...] = ()
        self._enough = config.min_requests_per_version
        self._requests = np.zeros(2, int)  # of stable and the canary
        self._errors = self._nameless = 0  # errors of the canary; requests that nobody owned up to
        self._limit = config.max_error_rate_increase
        self.tests: dict[str, RateTest | LatencyTest | MixTest] = {}
        if config.max_error_rate_increase < 1:
            self.tests[ERRORS] = RateTest(config.max_error_rate_increase, config.alpha, block=config.block,
                                          name="errors")
        if config.max_latency_increase:
            self.tests[LATENCY] = LatencyTest(config.max_latency_increase, (config.latency_quantile,), config.alpha,
                                              floor=config.latency_floor_ms / 1000)
        if config.max_accuracy_drop < 1 and labelled:
            self.tests[WRONG] = RateTest(config.max_accuracy_drop, config.alpha, block=config.block,
                                         name="wrong answers")
        optional = {WRONG, CLASSES} if config.paired_rows else {CLASSES}
        self.required = tuple(name for name in self.tests if name not in optional)
        if config.max_class_shift < 1 and len(classes) > 1:
            self.tests[CLASSES] = MixTest(classes, config.max_class_shift, config.alpha, block=config.block,
                                          name="predictions")
        self._alpha = config.alpha
        self.budget = budget(self.tests, config.alpha, BURSTS) if self.tests else {}
        self.hard_stop = HardStop(alpha=config.alpha * BURSTS, block=config.block, name="burst of errors")
        self.course: dict[str, list[Point]] = {name: [] for name in self.tests}

    def update(self, stable: Batch, canary: Batch, nameless: int = 0) -> None:
        """Take what happened since the last look, all of it: a request that is still under way belongs to the next.

        Args:
            nameless: requests that arrived and that no version is known to have answered.
        """
        self._requests += (stable.requests, canary.requests)
        self._errors, self._nameless = self._errors + canary.errors, self._nameless + nameless
        self.hard_stop.update(stable=(stable.errors, stable.requests), canary=(canary.errors, canary.requests))
        for name, test in self.tests.items():
            if isinstance(test, LatencyTest):
                _time(test, stable, canary)
            elif isinstance(test, MixTest):
                test.update(stable=stable.classes, canary=canary.classes)
            elif name == ERRORS:
                test.update(stable=(stable.errors, stable.requests), canary=(canary.errors, canary.requests))
            else:
                test.update(stable=(stable.wrong, stable.labelled), canary=(canary.wrong, canary.labelled))
            found = test.decide()
            points = self.course[name]
            points.append(Point(found.samples, found.estimate, found.lower, found.upper))
            if len(points) > MOST_POINTS:
                del points[1:-1:2]
        self.blamed = self.blamed or self._blame()

    def _blame(self) -> tuple[str, ...]:
        """Name the tests that show the canary to be worse, with allowance for how many there are."""
        decisions = self.decisions
        if not decisions:
            return ()
        guilty = named([decision.log_e_worse for decision in decisions.values()], self._alpha * (1 - BURSTS))
        return tuple(name for name, blamed in zip(decisions, guilty, strict=True) if blamed)

    @property
    def decisions(self) -> dict[str, Decision]:
        """Return what each test says now."""
        return {name: test.decide() for name, test in self.tests.items()}

    def allowed(self, name: str) -> str:
        """Return the limit of a test, as a rule says it."""
        test = self.tests[name]
        floor = test.floor if isinstance(test, LatencyTest) else 0
        return f"{test.tolerance:g}" + (f" or {floor * 1000:g} ms more" if floor else "")

    def is_worse(self) -> bool:
        """Whether it is shown that the canary breaks a limit, all tests counted, or it failed in a burst."""
        return bool(self.blamed) or self.hard_stop.decide().verdict == "worse"

    def is_over(self) -> bool:
        """Whether no further request is needed: it is shown that a limit is broken, or that every one is kept."""
        if self.is_worse():
            return True
        answered = bool(self._requests.min() >= self._enough) and self.worst_rise() <= self._limit
        return answered and all(self.tests[name].decide().verdict == "within" for name in self.required)

    def worst_rise(self) -> float:
        """Return the error rate that the canary gains if all that nobody owned up to was its own; 0: nothing was."""
        if not self._nameless or ERRORS not in self.tests:
            return 0.0
        canary, lost = int(self._requests[1]), self._nameless
        more = (self._errors + lost) / (canary + lost) - self._errors / max(canary, 1)
        return self.tests[ERRORS].decide().estimate + more

    def to_state(self) -> State:
        """Return everything, JSON-ready."""
        return {"requests": self._requests.tolist(), "errors": self._errors, "nameless": self._nameless,
                "burst": self.hard_stop.to_state(), "course": self.course, "blamed": self.blamed,
                "tests": {name: test.to_state() for name, test in self.tests.items()}}

    def restore(self, state: State) -> None:
        """Go on where `to_state` was taken; the configuration must be the same.

        Raises:
            ContractError: the state is of other tests, or damaged.
        """
        try:
            requests, blamed = np.array(state["requests"], int), tuple(state["blamed"])
            errors, nameless = int(state["errors"]), int(state["nameless"])
            burst = HardStop.from_state(state["burst"])
            course = {name: [Point(*point) for point in state["course"][name]] for name in self.tests}
            tests = {name: type(test).from_state(state["tests"][name]) for name, test in self.tests.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"the state of an analysis is damaged ({error!r}); begin it anew") from error
        self._requests, self._errors, self._nameless = requests, errors, nameless
        self.blamed, self.hard_stop, self.course, self.tests = blamed, burst, course, tests


def _time(test: LatencyTest, stable: Batch, canary: Batch) -> None:
    if stable.buckets or canary.buckets:
        bounds = sorted({*stable.buckets, *canary.buckets})
        test.update_histogram(np.array(bounds), *(np.array([side.buckets.get(edge, 0) for edge in bounds])
                                                  for side in (stable, canary)))
    elif len(stable.seconds) or len(canary.seconds):  # who could not read any counters has not begun to time requests
        test.update(stable=stable.seconds, canary=canary.seconds)
