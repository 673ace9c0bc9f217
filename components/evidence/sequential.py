"""What all sequential tests share: a tolerance, an error budget, a verdict that sticks, and a state to go on from.

A verdict falls when the evidence against one of the two hypotheses reaches 1 / alpha; a process that begins at 1 and
cannot grow in expectation ever does so with probability alpha at most (Ville 1939). So a look costs nothing.
"""

import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import NEVER, Decision, Verdict, round_up

__all__ = ["Counts", "SequentialTest", "State", "counted", "is_number", "numbers", "numeric", "restored", "tallied"]

Floats = npt.NDArray[np.float64]
Counts = tuple[float, float]  # events, requests
State = dict[str, Any]  # JSON-ready
MOST = 2**53  # of counts together; up to here float64 tells each from the next
HOPELESS = 50  # times the samples seen so far: who would need more is told that no number would do


class SequentialTest(ABC):
    """A test that may be asked at any time, and goes on from a state.

    Updates come by the clock or by a count of requests (each single request is fine), never because of what is in them:
    who updates at each error of stable has chosen windows that end with one, and no error rate is promised for those.
    `decide` may be called whenever, and may end the roll-out.

    Args:
        tolerance: how much worse than stable the canary may be, in the unit of the test; 0 or less can never be shown
            to hold, so such a test answers only `worse` or `undecided`.
        alpha: probability of a wrong verdict of either kind, over all looks together.
        block: requests of one session or burst at most; requests are taken to be independent between blocks, and
            whatever they like within, as long as no update cuts a block in two. 1: every request is independent of
            every other.
        max_samples: canary samples after which an undecided test stays so; 0: no end.
        name: of what is counted, as a report says it.

    Raises:
        ConfigError: an option is out of its range.
    """

    DEFAULT_NAME: ClassVar[str]
    TOLERANCE: ClassVar[tuple[str, float]] = "tolerance", 0.01  # as the subclass calls it, and an example
    UNIT: ClassVar[str] = "requests"  # of `samples`

    def __init__(self, tolerance: float, alpha: float = 0.05, *, block: int = 1, max_samples: int = 0,
                 name: str = "") -> None:
        for option, value, example in ((self.TOLERANCE[0], tolerance, self.TOLERANCE[1]), ("alpha", alpha, 0.05),
                                       ("block", block, 1), ("max_samples", max_samples, 0)):
            if not is_number(value):
                raise ConfigError(f"{option}={value!r} is no number; give a finite one such as {example}")
        if not 0 < alpha < 0.5:
            raise ConfigError(f"alpha={alpha:g} must be between 0 and 0.5, for example 0.05")
        if not (block >= 1 and max_samples >= 0) or block % 1 or max_samples % 1:
            raise ConfigError(f"block={block} must be a whole number from 1, and max_samples={max_samples} from 0")
        # Python's own numbers: a state may hold no others.
        self.tolerance, self.alpha = float(tolerance), float(alpha)
        self.block, self.max_samples = int(block), int(max_samples)
        self.name = name or self.DEFAULT_NAME
        self._settled: Verdict = "undecided"

    @property
    @abstractmethod
    def samples(self) -> int:
        """Return the canary samples seen."""

    @property
    @abstractmethod
    def log_e(self) -> tuple[float, float]:
        """Return the logarithms of the evidence now: against "not worse", and against "at least as bad"."""

    @abstractmethod
    def decide(self) -> Decision:
        """Say what is known now; asking changes nothing."""

    @abstractmethod
    def _evidence_state(self) -> State:
        """Return what `update` has gathered."""

    @abstractmethod
    def _restore(self, state: State) -> None:
        """Take what `_evidence_state` returned."""

    def to_state(self) -> State:
        """Return everything, JSON-ready: a test restored from it goes on as if nothing had happened."""
        return {"test": type(self).__name__, "options": self._options(), "verdict": self._settled,
                "evidence": self._evidence_state()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Restore a test.

        Raises:
            ContractError: the state is of another test, or damaged.
        """
        given = state.get("test") if isinstance(state, dict) else state
        if given != cls.__name__:
            raise ContractError(f"this is the state of {given!r}, not of {cls.__name__}")
        try:
            test = cls(**state["options"])
            test._settled = state["verdict"]
            if test._settled not in get_args(Verdict) or (test._settled == "within" and not test._can_be_within):
                raise ValueError(f"verdict {test._settled!r}")
            test._restore(state["evidence"])
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ContractError(f"the state of {cls.__name__} is damaged ({error!r}); begin the test anew") from error
        return test

    def _options(self) -> State:
        return {"tolerance": self.tolerance, "alpha": self.alpha, "block": self.block,
                "max_samples": self.max_samples, "name": self.name}

    def _settle(self) -> None:
        """Let the verdict fall if the evidence is there; called once after every update."""
        if self._settled == "undecided" and not self._is_over():
            worse, within = self.log_e
            threshold = math.log(1 / self.alpha)
            self._settled = "worse" if worse >= threshold else "within" if within >= threshold else "undecided"

    def _is_over(self) -> bool:
        return 0 < self.max_samples < self.samples

    def _is_clumped(self) -> bool:
        """Whether events are seen to come in bursts, in a test that was told of none."""
        return False

    @property
    def _can_be_within(self) -> bool:
        return self.tolerance > 0

    @property
    def _is_withheld(self) -> bool:
        """Whether no verdict has fallen and none may: nor may the evidence decide for many metrics then."""
        return self._settled == "undecided" and (self._is_over() or self._is_clumped())

    @property
    def _shown(self) -> tuple[float, float]:
        """Return `log_e` as a `Decision` has it."""
        return (-math.inf, -math.inf) if self._is_withheld else self.log_e

    def _more(self, per_sample: float) -> int:
        """Estimate how many more canary samples a verdict takes.

        Args:
            per_sample: logarithm of evidence that a canary sample brings, as far as one can tell.
        """
        if self._settled != "undecided":
            return 0
        if self._is_withheld:
            return NEVER
        missing = math.log(1 / self.alpha) - max(*self.log_e, 0.0)
        needed = missing / per_sample if per_sample > 0 else math.inf
        return math.ceil(needed) if needed <= HOPELESS * max(self.samples, 1) else NEVER

    def _outlook(self, more: int, unit: str) -> str:
        """Say what an undecided test may still come to.

        Args:
            more: as in `Decision`.
            unit: of `more`, such as "canary requests".
        """
        if self._is_over():
            return f"still open after the {self.max_samples:,} {unit} that it was given"
        return "too close to say" if more == NEVER else f"about {round_up(more):,} more {unit} would tell"


def is_number(value: object) -> bool:
    """Say whether an option is a finite number, Python's or numpy's."""
    return isinstance(value, Real) and math.isfinite(value)


def numeric(given: object) -> Floats | None:
    """Return numbers as an array, or None where they are text, objects, or lists of different lengths."""
    try:
        found = np.asarray(given)
    except (TypeError, ValueError):
        return None
    return found.astype(float, copy=False) if found.dtype.kind in "biuf" else None


def numbers(name: str, given: object) -> Floats:
    """Return numbers as an array.

    Raises:
        ContractError: it holds text, objects, or lists of different lengths.
    """
    found = numeric(given)
    if found is None:
        raise ContractError(f"{name} must be numbers, in rows of one length")
    return found


def tallied(given: object, shape: tuple[int, ...], whole: bool = True) -> Floats | None:
    """Return counts of this shape, or None where they are none.

    Args:
        whole: a fraction is no count.
    """
    found = numeric(given)
    if found is None or found.shape != shape or not ((found >= 0) & (found < MOST)).all() or found.sum() >= MOST:
        return None
    return None if whole and (found % 1).any() else found


def counted(stable: Counts, canary: Counts) -> Floats:
    """Return events and requests of stable, then of the canary, (4,).

    Events may have fractions: of a session part of an event may count (`by_session`).

    Raises:
        ContractError: more events than requests, or a count that is none.
    """
    counts = tallied([stable, canary], (2, 2), whole=False)
    if counts is None or (counts[:, 0] > counts[:, 1]).any() or (counts[:, 1] % 1).any():
        raise ContractError(f"stable={stable} and canary={canary} must be (events, requests), neither negative, "
                            f"with no more events than requests, which are whole numbers, all below 2**53 together")
    return counts.ravel()


def restored(saved: object, like: Floats, least: float = -math.inf) -> Floats:
    """Return an array that a state holds as a list.

    Args:
        like: of the same shape.
        least: that none of the numbers is below.

    Raises:
        ValueError: it has another shape, or holds what is no such number.
    """
    found = np.array(saved, float)
    if found.size == like.size == 0:
        return like  # JSON keeps of (0, 4) the 0 only
    if found.shape != like.shape or not np.isfinite(found).all() or (found < least).any():
        raise ValueError(f"numbers of shape {found.shape} instead of {like.shape}, or not finite, or below {least}")
    return found
