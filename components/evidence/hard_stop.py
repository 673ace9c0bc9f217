"""The rule that decides alone: a crash, or a burst of errors that is the canary's and not everybody's.

Each interval is judged by itself, by exact tails at its own part of the error budget; what was before is no evidence.
Whether the canary is a little worse is for the other tests to say.
"""

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, gammaln, xlogy

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.decision import NEVER, Decision
from penstock.components.evidence.rate import difference_gamblers
from penstock.components.evidence.sequential import Counts, SequentialTest, State, counted, restored

__all__ = ["HardStop", "common_tail", "fires", "limit_tail", "spent"]

Floats = npt.NDArray[np.float64]

REACH = 10  # sqrt(n) on each side of its mean hold all of a hypergeometric distribution but 1e-87 (Hoeffding 1963)


def spent(alpha: float, interval: int) -> float:
    """Return the part of the budget for interval 1, 2, 3 …; the parts of all intervals add up to `alpha`."""
    return 6 * alpha / (math.pi * interval) ** 2


def limit_tail(window: Window, limit: float, block: int = 1) -> Floats:
    """Return the probability of so many errors of the canary, or more, where each request fails with `limit`.

    Exact (binomial) for independent requests. For sessions of at most `block` requests, dependent in whatever way,
    Chernoff's bound with as many requests as there are blocks at least, which Hoelder's inequality allows.

    Args:
        window: arrays of one shape; `canary` at least 1.
    """
    errors, requests = np.asarray(window.canary_events, float), np.asarray(window.canary, float)
    if block == 1:
        tail: Floats = np.where(errors > 0, betainc(np.maximum(errors, 1), requests - errors + 1, limit), 1.0)
        return tail
    part = np.maximum(errors / requests, limit)
    divergence = xlogy(part, part / limit) + xlogy(1 - part, (1 - part) / (1 - limit))
    bound: Floats = np.exp(-requests / block * divergence)
    return bound


def common_tail(window: Window, block: int = 1) -> Floats:
    """Return the probability that the canary has so many of the errors, or more, where it fails as stable does.

    Fisher's exact test, one-sided; for sessions the reciprocal of the e-value of `capital`.

    Args:
        window: arrays of one shape; both versions have requests.
    """
    stable_errors, stable, errors, requests = (np.asarray(part, float) for part in window)
    if block > 1:
        bets = difference_gamblers(0.0, 1)
        won = bet(bets, Seen(*np.zeros((4, *errors.shape))), Window(*(part / block for part in window)))
        reciprocal: Floats = np.minimum(np.exp(-capital(bets, won)[..., 0]), 1.0)
        return reciprocal
    total = stable_errors + errors
    # A sum over every table of 1e9 requests would not fit into memory.
    mean, reach = total * requests / (stable + requests), REACH * np.sqrt(np.minimum(total, requests)) + 1
    least = np.maximum(errors, np.floor(mean - reach))
    most = np.minimum(np.minimum(total, requests), np.ceil(np.maximum(mean, least) + reach))
    among = least[..., None] + np.arange(float((most - least).max(initial=0)) + 1)
    inside = (among <= most[..., None]) & (total[..., None] - among <= stable[..., None])
    log = (_choose(requests[..., None], among) + _choose(stable[..., None], total[..., None] - among)
           - _choose(stable + requests, total)[..., None])
    tail: Floats = np.minimum(np.where(inside, np.exp(np.where(inside, log, -math.inf)), 0.0).sum(axis=-1), 1.0)
    return tail


def fires(window: Window, limit: float, part: float, block: int = 1) -> npt.NDArray[np.bool_]:
    """Say whether an interval decides at error `part`: above `limit`, and not as stable is.

    An interval in which the canary keeps the limit, or in which it is no worse than stable, fires with probability
    `part` at most: either is enough to hold one of the two tails.
    """
    above = limit_tail(window, limit, block) <= part
    if not above.any():
        return np.asarray(above)
    found: npt.NDArray[np.bool_] = above & (common_tail(window, block) <= part)
    return found


class HardStop(SequentialTest):
    """Does the canary fail more than `limit` of its requests, where stable does not?

    Fires in one interval, or never; so it says `worse` or `undecided`. With probability at most alpha it ever fires
    while in each interval the canary keeps the limit or is no worse than stable. The evidence is a bet of everything:
    1 / alpha when it has fired, nothing before, so that `combining` can weigh it like any other. An interval ends by
    the clock or after a count of requests, never because of an error in it.

    Args:
        limit: share of the canary's requests that may fail, inside (0, 1).
        block: requests of one session or burst at most; above 1 the tails are bounds, and need more errors.
    """

    DEFAULT_NAME = "hard stop"
    TOLERANCE: ClassVar[tuple[str, float]] = "limit", 0.5

    def __init__(self, limit: float = 0.5, alpha: float = 0.005, *, block: int = 1, name: str = "") -> None:
        super().__init__(limit, alpha, block=block, name=name)
        if not 0 < limit < 1:
            raise ConfigError(f"limit={limit:g} must be a share of requests between 0 and 1, for example 0.5")
        self._intervals = 0
        self._requests = 0.0
        self._last = (0.0, 0.0, 0.0, 0.0)  # the interval that fired, or the last one
        self._crash = ""

    @property
    def limit(self) -> float:
        return self.tolerance

    def update(self, stable: Counts, canary: Counts) -> None:
        """Judge one interval; one in which either version has no request is none, and spends nothing.

        Args:
            stable: errors and requests of stable in this interval.
            canary: the same of the canary.

        Raises:
            ContractError: more errors than requests, or a count that is none, or 2**53 of them.
        """
        counts = counted(stable, canary)
        if self._settled == "worse" or not counts[1] or not counts[3]:
            return
        self._intervals += 1
        self._requests += float(counts[3])
        self._last = (float(counts[0]), float(counts[1]), float(counts[2]), float(counts[3]))
        if fires(Window(*counts), self.limit, spent(self.alpha, self._intervals), self.block):
            self._settled = "worse"

    def crashed(self, reason: str) -> None:
        """Decide at once, without statistics: the canary does not serve at all.

        Args:
            reason: what happened, as a report says it: "OOMKilled twice in 40 s".
        """
        if self._settled == "undecided":
            self._settled, self._crash = "worse", reason or "no reason given"

    @property
    def samples(self) -> int:
        return int(self._requests)

    @property
    def _can_be_within(self) -> bool:
        return False

    @property
    def log_e(self) -> tuple[float, float]:
        return math.log(1 / self.alpha) if self._settled == "worse" else -math.inf, -math.inf

    def decide(self) -> Decision:
        """Say what is known now; `estimate` is the canary's share of errors in the last interval, or in its burst."""
        fired = self._settled == "worse"
        burst = fired and not self._crash
        estimate = self._last[2] / self._last[3] if self._last[3] else 0.0
        return Decision(self._settled, self._explain(), estimate, self.limit if burst else 0.0, 1.0, self.samples,
                        *self.log_e, self.alpha, 0 if fired else NEVER)

    def _explain(self) -> str:
        if self._crash:
            return f"{self.name}: the canary crashed: {self._crash}"
        if not self._intervals:
            return f"{self.name}: nothing to judge yet, both versions must have answered"
        stable_errors, stable, errors, requests = self._last
        seen = (f"{errors:,.0f} of {requests:,.0f} requests of the canary failed, "
                f"{stable_errors:,.0f} of {stable:,.0f} of stable")
        if self._settled == "worse":
            return (f"{self.name}: {seen}, in interval {self._intervals:,}; "
                    f"more than {self.limit:.0%} ends a canary at once")
        looks = f"{self._intervals:,} intervals" if self._intervals > 1 else "1 interval"
        return f"{self.name}: none in {looks} that chance could not explain; in the last one {seen}"

    def _options(self) -> State:
        return {"limit": self.limit, "alpha": self.alpha, "block": self.block, "name": self.name}

    def _evidence_state(self) -> State:
        return {"intervals": self._intervals, "requests": self._requests, "last": list(self._last),
                "crash": self._crash}

    def _restore(self, state: State) -> None:
        a, b, c, d = restored(state["last"], np.zeros(4), 0).tolist()
        intervals, requests = restored([state["intervals"], state["requests"]], np.zeros(2), 0).tolist()
        self._intervals, self._requests, self._last = int(intervals), requests, (a, b, c, d)
        self._crash = str(state["crash"])
        fired = self._settled == "worse"
        if (self._crash and not fired) or (fired and not (self._crash or intervals)):
            raise ValueError(f"{self._settled} after {self._intervals} intervals, crash {self._crash!r}")


def _choose(n: Floats, k: Floats) -> Floats:
    """Return log of n over k; k outside 0 … n gives anything."""
    found: Floats = gammaln(n + 1) - gammaln(np.maximum(k, 0) + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return found
