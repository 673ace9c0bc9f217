"""What all sequential tests share: a tolerance, an error budget, a verdict that sticks, and a state to go on from.

A verdict falls when the evidence against one of the two hypotheses reaches 1 / alpha; a process that begins at 1 and
cannot grow in expectation ever does so with probability alpha at most (Ville 1939). So a look costs nothing.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import NEVER, Decision, Verdict, round_up

__all__ = ["Counts", "SequentialTest", "State", "counted", "restored"]

Floats = npt.NDArray[np.float64]
Counts = tuple[float, float]  # events, requests
State = dict[str, Any]  # JSON-ready
HOPELESS = 50  # times the samples seen so far: who would need more is told that no number would do


class SequentialTest(ABC):
    """A test that may be updated and asked at any time.

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
    UNIT: ClassVar[str] = "requests"  # of `samples`

    def __init__(self, tolerance: float, alpha: float = 0.05, *, block: int = 1, max_samples: int = 0,
                 name: str = "") -> None:
        if not math.isfinite(tolerance):
            raise ConfigError(f"tolerance={tolerance} is no number; give a finite one such as 0.01")
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
            if test._settled not in get_args(Verdict):
                raise ValueError(f"verdict {test._settled!r}")
            test._restore(state["evidence"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
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

    def _more(self, per_sample: float) -> int:
        """Estimate how many more canary samples a verdict takes.

        Args:
            per_sample: logarithm of evidence that a canary sample brings, as far as one can tell.
        """
        if self._settled != "undecided":
            return 0
        if self._is_over():
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


def counted(stable: Counts, canary: Counts) -> Floats:
    """Return events and requests of stable, then of the canary, (4,).

    Raises:
        ContractError: more events than requests, or a count that is none.
    """
    try:
        counts = np.array([stable, canary], float)
    except (TypeError, ValueError):
        counts = np.empty(0)
    if counts.shape != (2, 2) or not np.isfinite(counts).all() or (counts < 0).any() or \
            (counts[:, 0] > counts[:, 1]).any():
        raise ContractError(f"stable={stable} and canary={canary} must be (events, requests), neither negative, "
                            f"with no more events than requests")
    return counts.ravel()


def restored(saved: object, like: Floats) -> Floats:
    """Return an array that a state holds as a list.

    Args:
        like: of the same shape.

    Raises:
        ValueError: it has another shape, or holds what is no number.
    """
    found = np.array(saved, float)
    if found.size == like.size == 0:
        return like  # JSON keeps of (0, 4) the 0 only
    if found.shape != like.shape or np.isnan(found).any():
        raise ValueError(f"numbers of shape {found.shape} instead of {like.shape}")
    return found
