"""A difference of shares when nobody knows how requests depend on each other: right for long samples only.

An asymptotic confidence sequence with a variance from batches (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2024,
"Time-uniform central limit theory and asymptotic confidence sequences"). Where a session or a block can be named,
RateTest is the test with a guarantee.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.decision import Decision, plain
from penstock.components.evidence.sequential import Counts, SequentialTest, State, counted, restored

__all__ = ["BATCHES", "AsymptoticRateTest", "Batches", "half_normal_evidence", "sandwich"]

Floats = npt.NDArray[np.float64]

BATCHES = 64  # at most; when there are as many, neighbours are joined, so that a batch outgrows any dependence
FEWEST = 32  # before anything is said: a variance from 32 batches is right to 25 %
SHARPEST_FOR = 0.05  # alpha that the mixture is laid out for; another one costs a little width
FIRST_LENGTH = 50  # canary requests of a batch at first


class Batches(NamedTuple):
    """Sums of successive windows; arrays of any leading shape, which share their number and length.

    Attributes:
        excess: (*batch, BATCHES) sum of weight x (canary's share - stable's).
        weight: (*batch, BATCHES) sum of the weights n_s n_c / (n_s + n_c).
        full: how many of them are filled.
        length: canary requests that a batch takes.
        taken: canary requests of the one that is being filled.
    """

    excess: Floats
    weight: Floats
    full: int
    length: float
    taken: float

    @classmethod
    def nothing(cls, batch: tuple[int, ...] = ()) -> "Batches":
        return cls(np.zeros((*batch, BATCHES)), np.zeros((*batch, BATCHES)), 0, float(FIRST_LENGTH), 0.0)

    def after(self, stable_events: npt.ArrayLike, stable: float, canary_events: npt.ArrayLike,
              canary: float) -> "Batches":
        """Add a window in which both versions have requests; events are (*batch)."""
        excess, weight = self.excess.copy(), self.weight.copy()
        now = stable * canary / (stable + canary)
        excess[..., self.full] += now * (np.asarray(canary_events) / canary - np.asarray(stable_events) / stable)
        weight[..., self.full] += now
        taken = self.taken + canary
        if taken < self.length:
            return Batches(excess, weight, self.full, self.length, taken)
        if self.full + 1 < BATCHES:
            return Batches(excess, weight, self.full + 1, self.length, 0.0)
        excess, weight = (np.concatenate([part[..., ::2] + part[..., 1::2], np.zeros_like(part[..., ::2])], -1)
                          for part in (excess, weight))
        return Batches(excess, weight, BATCHES // 2, 2 * self.length, 0.0)


def sandwich(batches: Batches) -> tuple[Floats, Floats, Floats]:
    """Return sum, weight, and variance of the sum over the full batches, (*batch) each.

    The variance is of whole batches about their common mean, so whatever happens inside of one is in it; it is
    enlarged by n / (n - 1) (CR1 of the cluster-robust family).
    """
    excess, weight = batches.excess[..., :batches.full], batches.weight[..., :batches.full]
    total, size = excess.sum(-1), weight.sum(-1)
    mean = total / np.where(size > 0, size, 1)
    rest = excess - mean[..., None] * weight
    return total, size, (rest**2).sum(-1) * batches.full / max(batches.full - 1, 1)


def half_normal_evidence(total: Floats, variance: Floats, first: Floats) -> Floats:
    """Return the logarithm of the evidence that a sum with this variance grows in expectation.

    The one-sided normal mixture of the paper, with the mixture's width such that it is sharpest at `first`, the
    variance when it was first looked at.
    """
    sharp = 2 * math.log(1 / SHARPEST_FOR)
    width = np.sqrt((sharp + math.log(sharp + 1)) / np.maximum(first, 1e-300))
    spread = np.sqrt(variance * width**2 + 1)
    z = width * total / spread
    found: Floats = math.log(2) - np.log(spread) + z**2 / 2 + log_ndtr(z)
    return found


class AsymptoticRateTest(SequentialTest):
    """RateTest for requests that depend on each other in ways nobody can name; asymptotic.

    Its error rate comes near alpha as batches grow longer than the dependence, and may be above it before: with 5 %
    errors in bursts of 20 and a share of 5 % it said `within` in 13 % of the runs in which 5 % were aimed at
    (2026-11-21). It says nothing before 32 batches of 50 canary requests.

    Args:
        tolerance: absolute difference of shares: 0.001 is 0.1 points.
    """

    DEFAULT_NAME = "errors"

    def __init__(self, tolerance: float, alpha: float = 0.05, *, max_samples: int = 0, name: str = "") -> None:
        super().__init__(tolerance, alpha, max_samples=max_samples, name=name)
        if not -1 < self.tolerance < 1:
            raise ConfigError(f"tolerance={tolerance:g} must be a difference of shares between -1 and 1: 0.001 is 0.1 "
                              f"points")
        self._batches = Batches.nothing()
        self._waiting = np.zeros(4)
        self._first = 0.0  # variance at the first look
        self._canary = 0.0

    def update(self, stable: Counts, canary: Counts) -> None:
        """Take (events, requests) of each version since the last update.

        Raises:
            ContractError: more events than requests, or a count that is none, or 2**53 of them.
        """
        self._waiting += counted(stable, canary)
        if self._waiting[1] and self._waiting[3]:
            self._batches = self._batches.after(*(float(x) for x in self._waiting))
            self._canary += float(self._waiting[3])
            self._waiting[:] = 0
            if self._batches.full >= FEWEST:
                self._first = self._first or float(sandwich(self._batches)[2])
                self._settle()

    @property
    def samples(self) -> int:
        return int(self._canary)

    @property
    def log_e(self) -> tuple[float, float]:
        worse, within = self._evidence(self.tolerance)
        return worse, within if self._can_be_within else -math.inf

    def _evidence(self, difference: float) -> tuple[float, float]:
        if not self._first:
            return 0.0, 0.0
        total, weight, variance = sandwich(self._batches)
        above = total - difference * weight
        first = np.asarray(self._first)
        return float(half_normal_evidence(above, variance, first)), float(half_normal_evidence(-above, variance, first))

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper` are differences of shares, canary minus stable."""
        total, weight, variance = (float(x) for x in sandwich(self._batches))
        estimate = total / weight if weight else 0.0
        lower, upper = self._end(estimate, 0), self._end(estimate, 1)
        noise = variance * max(self.samples, 1) / weight**2 if weight else 0.0
        distance = estimate - self.tolerance
        more = self._more(distance**2 / (2 * noise) if noise and (distance > 0 or self.tolerance > 0) else 0.0)
        text = (f"{self.name}: {estimate * 100:+.2f} points in {self.samples:,} requests of the canary, somewhere from "
                f"{lower * 100:+.2f} to {upper * 100:+.2f}; {plain(self.tolerance * 100, '+')} points are allowed "
                f"(asymptotic: right for long samples, whatever requests have to do with each other)")
        if not self._first:
            text = f"{self.name}: nothing is said before {FEWEST * FIRST_LENGTH:,} canary requests (asymptotic)"
        return Decision(self._settled, text, estimate, lower, upper, self.samples, *self._shown, self.alpha, more)

    def _end(self, estimate: float, side: int) -> float:
        """Return the difference at which the evidence of a side reaches its threshold, by bisection."""
        near, far = estimate, (-1.0, 1.0)[side]
        if self._evidence(far)[side] < math.log(1 / self.alpha):
            return far
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (near, middle) if self._evidence(middle)[side] >= math.log(1 / self.alpha) else (middle, far)
        return far

    def _options(self) -> State:
        return {option: value for option, value in super()._options().items() if option != "block"}

    def _evidence_state(self) -> State:
        batches = self._batches
        return {"excess": batches.excess.tolist(), "weight": batches.weight.tolist(), "full": batches.full,
                "length": batches.length, "taken": batches.taken, "waiting": self._waiting.tolist(),
                "first": self._first, "canary": self._canary}

    def _restore(self, state: State) -> None:
        numbers = [state[name] for name in ("full", "length", "taken", "first", "canary")]
        full, length, taken, self._first, self._canary = restored(numbers, np.zeros(5), 0).tolist()
        if not (full < BATCHES and length >= FIRST_LENGTH):
            raise ValueError(f"{full:g} batches of {length:g} requests")
        self._batches = Batches(restored(state["excess"], self._batches.excess),
                                restored(state["weight"], self._batches.weight, 0), int(full), length, taken)
        self._waiting = restored(state["waiting"], self._waiting, 0)
