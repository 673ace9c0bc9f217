"""What is known of one quantile: windows that wait and close, the capital of all who bet on it, a confidence sequence.

Counts in bins come in. Knows nothing of where they come from, and words no report.
"""

import math
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from penstock.components.evidence.decision import Verdict
from penstock.components.evidence.exceedance import RATIOS, WEIGHTS, log_factors
from penstock.components.evidence.histogram import Bins, filled, holder
from penstock.components.evidence.sequential import State, restored

__all__ = ["Quantile", "Ratio", "Waiting", "following", "log_mix", "window_size"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# With 4, 8 or 12 of stable's requests beyond the quantile verdicts take the same traffic, but a canary twice as slow at
# p99 with half of it is found after one window, of as many canary requests (2026-11-21, docs/decisions/0011).
LEAST_RANK = 4
LEAST_STABLE = 20


class Ratio(NamedTuple):
    """The canary's quantile over stable's, minus 1."""

    estimate: float
    lower: float
    upper: float


def window_size(quantile: float) -> int:
    """Return how many requests of stable a window is to have, about: enough on both sides of the quantile."""
    return max(math.ceil(LEAST_RANK / min(quantile, 1 - quantile) - 1e-9), LEAST_STABLE)


def log_mix(log_wealth: Floats, weights: Floats = WEIGHTS) -> Floats:
    """Return the logarithm of the capital of all tilts together; (..., K) becomes (...)."""
    top = log_wealth.max(axis=-1)
    together: Floats = top + np.log(np.exp(log_wealth - top[..., None]) @ weights)
    return together


class Waiting:
    """Counts in bins that wait until their window is complete.

    A window ends with the first update by which both versions together have had `size` requests, and the size is
    chosen when it begins, from closed windows alone. So, where requests are given to the versions at random, every
    order of a window's versions is as likely as any other with as many of each. A window that ended with a request of
    stable would be another matter: its last request is the slowest where latency rises.

    Args:
        stable: requests of stable that a window is to have, about.
        bins: how many there are.

    Attributes:
        counts: (2, bins) of stable and of the canary since the window began.
        size: requests of both versions that complete it.
    """

    def __init__(self, stable: int, bins: int) -> None:
        self._stable = stable
        self.counts = np.zeros((2, bins), np.int64)
        self.size = 2 * stable

    def take(self, stable: Ints, canary: Ints) -> Ints | None:
        """Add counts, (bins,) each.

        Returns:
            The counts of the window, if it is complete now and has requests of both versions; without those of one it
            is forgotten.
        """
        self.counts += np.stack([stable, canary])
        of_stable, of_canary = map(int, self.counts.sum(axis=1))
        if of_stable + of_canary < self.size:
            return None
        window, self.counts = self.counts, np.zeros_like(self.counts)
        self.size = following(self._stable, of_stable, of_canary)
        return window if of_stable and of_canary else None

    def to_state(self) -> State:
        return {"counts": filled(self.counts), "size": self.size}

    def restore(self, state: State) -> None:
        """Take what `to_state` returned.

        Raises:
            ValueError: the size is none, or a count.
        """
        self.size = int(state["size"])
        if self.size < 1:
            raise ValueError(f"a window of {self.size} requests")
        for at, stable, canary in state["counts"]:
            if min(at, stable, canary) < 0:
                raise ValueError(f"{stable} and {canary} requests in bin {at}")
            self.counts[:, at] = int(stable), int(canary)


def following(aim: int, stable: int, canary: int) -> int:
    """Return the size of a window that is to have `aim` requests of stable, from those of the window before."""
    total = stable + canary
    return math.ceil(aim * total / stable) if stable else 2 * total


class Quantile:
    """The evidence on one quantile; row 0 of `bins` is the tolerance, the others are `ratios`.

    Args:
        quantile: between 0 and 1.
        bins: of all counts.
        ratios: (R,) ascending, one for each further row of `bins`.
    """

    def __init__(self, quantile: float, bins: Bins, ratios: Floats) -> None:
        self.quantile, self._bins, self._ratios = quantile, bins, ratios
        rows = len(ratios) + 1
        self._waiting = Waiting(window_size(quantile), len(bins.edges) - 1)
        self._wealth = np.zeros((2, rows, len(RATIOS)))  # logarithms; against "not worse", against "at least as bad"
        self._best = np.zeros((2, rows))  # highest evidence of each row so far
        self._score = np.zeros(rows)  # canary requests beyond each row, more than there were if that were the ratio
        self._information = 0.0  # variance of `_score` at the true ratio
        self.used = 0  # canary requests in closed windows
        self.coarse: int | None = None  # the bin that held the quantile last, if it is wider than the tolerance
        self.verdict: Verdict = "undecided"

    def update(self, stable: Ints, canary: Ints) -> bool:
        """Take counts, (K,) each; return whether a window has closed that has something to compare."""
        window = self._waiting.take(stable, canary)
        if window is None:
            return False
        self._close(window)
        return True

    def _close(self, window: Ints) -> None:
        stable, canary = map(int, window.sum(axis=1))
        rank = min(max(round(stable * (1 - self.quantile)), 1), stable)
        at = holder(window[0], rank)
        self.coarse = at if self._bins.coarse[at] else None
        low, high = self._bins.beyond(window[1], at)
        self._wealth[0] += log_factors(low, rank, stable, canary, 1)
        self._wealth[1] += log_factors(high, rank, stable, canary, -1)
        self._best = np.maximum(self._best, log_mix(self._wealth))
        share, weight = rank / (stable + 1), stable / (stable + canary)
        self._score += weight * ((low + high) / 2 - canary * share)
        self._information += weight * canary * share * (1 - share)
        self.used += canary

    @property
    def size(self) -> int:
        """Return how many requests of both versions the window now has when it is complete."""
        return self._waiting.size

    @property
    def log_e(self) -> tuple[float, float]:
        """Return the evidence against "not worse" and against "at least as bad"; none is seen through a coarse bin."""
        worse, within = log_mix(self._wealth[:, 0])
        return (-math.inf, -math.inf) if self.coarse is not None else (float(worse), float(within))

    @property
    def growth(self) -> float:
        """Return the evidence that a canary request brings, if the truth is what it looks like."""
        return float(self._score[0] ** 2 / (2 * self._information * self.used)) if self.used else 0.0

    def ratio(self, threshold: float) -> Ratio:
        """Return the confidence sequence, its best ends so far.

        Args:
            threshold: logarithm of the evidence that excludes a ratio.
        """
        above = self._ratios[self._best[0, 1:] >= threshold]
        below = self._ratios[self._best[1, 1:] >= threshold]
        return Ratio(self._estimate(), float(above.max(initial=0.0)) - 1, float(below.min(initial=math.inf)) - 1)

    def _estimate(self) -> float:
        """Return the ratio at which as many canary requests were slower as expected (Hodges and Lehmann 1963)."""
        if not self.used:
            return 0.0
        score, position = self._score[1:], np.log(self._ratios)
        return float(math.exp(np.interp(0.0, score[::-1], position[::-1]))) - 1

    def to_state(self) -> State:
        return {"waiting": self._waiting.to_state(), "wealth": self._wealth.tolist(),
                "best": self._best.tolist(), "score": self._score.tolist(), "information": self._information,
                "used": self.used, "coarse": self.coarse, "verdict": self.verdict}

    def restore(self, state: State) -> None:
        """Take what `to_state` returned.

        Raises:
            ValueError: it is of other bins or other bets, or no state at all.
        """
        self._wealth = restored(state["wealth"], self._wealth)
        self._best, self._score = restored(state["best"], self._best, 0), restored(state["score"], self._score)
        self._waiting.restore(state["waiting"])
        information, used = restored([state["information"], state["used"]], np.zeros(2), 0).tolist()
        self._information, self.used = information, int(used)
        self.coarse = None if state["coarse"] is None else int(state["coarse"])
        self.verdict = state["verdict"]
        if self.verdict not in get_args(Verdict) or not 0 <= (self.coarse or 0) < len(self._bins.coarse):
            raise ValueError(f"verdict {self.verdict!r}, bin {self.coarse!r}")
