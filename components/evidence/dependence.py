"""When requests are not independent of each other: reduce them to sessions, or notice that they come in bursts.

Every error rate of the sequential tests is for independent units. Knows counts only; what a session is says the caller.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.sequential import State, restored

__all__ = ["Clumping", "ClumpingSeen", "by_session", "clump_evidence", "clumping_log_e"]

Floats = npt.NDArray[np.float64]

NO_CAPITAL = -1e9  # as a logarithm; JSON has no infinity
SIZES = np.array([4.0, 20.0, 100.0])  # of a burst, in events, that somebody bets on
FIRST_BLOCK = 64  # requests
EVENTS_PER_BLOCK = 8.0
DRIFT = 1.1  # the odds in a block may differ by this factor from those of its neighbours without any warning
MOST_AT_ONCE = math.log(10)  # one jump of the base rate is no burst: it takes more than one to be certain


def by_session(sessions: Sequence[str] | npt.NDArray[np.generic], failed: npt.ArrayLike,
               how: Literal["any", "share"] = "any") -> tuple[float, float]:
    """Reduce requests to sessions, which are independent where requests of one user or one trace are not.

    Give sessions that have ended: one that is counted in two updates counts twice.

    Args:
        sessions: (N,) id of each request's session.
        failed: (N,) bool.
        how: any: a session has an event if any of its requests has, and the tolerance is then a share of sessions;
            share: it has the part of an event that is the part of its requests which failed, and each session counts
            the same however long it is. The tests' bets hold for parts of events too.

    Returns:
        (events, sessions), as RateTest takes them.

    Raises:
        ContractError: not one id per request.
        ConfigError: another `how`.
    """
    if how not in ("any", "share"):
        raise ConfigError(f"how={how!r} must be 'any' or 'share'")
    ids, events = np.asarray(sessions), np.asarray(failed, bool)
    if ids.ndim != 1 or ids.shape != events.shape:
        raise ContractError(f"{ids.shape} session ids for {events.shape} outcomes; give one id per request")
    if not len(ids):
        return 0.0, 0.0
    _, which = np.unique(ids, return_inverse=True)
    count = np.bincount(which)
    part = np.bincount(which, weights=events) / count
    return float((part > 0).sum() if how == "any" else part.sum()), float(len(count))


class ClumpingSeen(NamedTuple):
    """What `clump_evidence` goes on from; axes of 2 are stable and canary.

    Attributes:
        events: (*batch, 2) of the block that is being filled, and `requests` alike.
        events_first: (*batch, 2) of the first finished block of three; no requests: there is none yet.
        events_middle: (*batch, 2) of the second.
        events_all: (*batch, 2) of all compared blocks; they set the length of the next three, which may not depend on
            what happens within them.
        log_wealth: (*batch, 2, 3) logarithm of the capital per version and size of burst.
        triples: (*batch, 2) of blocks that were compared.
        spread: (*batch, 2) of both versions: sum of squared differences, and what independence makes of it.
    """

    events: Floats
    requests: Floats
    events_first: Floats
    requests_first: Floats
    events_middle: Floats
    requests_middle: Floats
    events_all: Floats
    requests_all: Floats
    log_wealth: Floats
    triples: Floats
    spread: Floats

    @classmethod
    def nothing(cls, batch: tuple[int, ...] = ()) -> "ClumpingSeen":
        zeros = np.zeros((*batch, 2))
        return cls(zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros,
                   np.full((*batch, 2, len(SIZES)), NO_CAPITAL), zeros, zeros)


def clump_evidence(seen: ClumpingSeen, events: Floats, requests: Floats) -> ClumpingSeen:
    """Bet against "events are independent of each other", on how evenly they fall on successive blocks of a version.

    Of the T events in three blocks the middle one has Binomial(T, its part of the requests) at most, in the convex
    order (Hoeffding 1963), whatever the rate is and however steadily it climbs or falls; bursts make it more uneven.
    The bet is the likelihood ratio of the beta-binomial that bursts of a stated size make, which is convex, over the
    largest binomial one for odds that differ by up to `DRIFT`: it cannot win in the long run while events are
    independent and their rate bends no more sharply. Versions are never compared with each other, so they may have
    different rates. Three blocks win `MOST_AT_ONCE` at most. Part 1/k(k+1) of the capital is kept until the k-th, for
    bursts that begin late.

    Args:
        events: (*batch, 2) of stable and canary since the last call, and `requests` alike.
    """
    x, n = seen.events + events, seen.requests + requests
    rate = (seen.events_all + 0.5) / (seen.requests_all + 1)
    full = n >= np.maximum(FIRST_BLOCK, EVENTS_PER_BLOCK / np.minimum(rate, 1 - rate))
    if not full.any():
        return seen._replace(events=x, requests=n)
    is_first, third = full & (seen.requests_first == 0), full & (seen.requests_middle > 0)
    is_middle = full & ~is_first & ~third
    if third.any():
        seen = _compare(seen, third, x, n, rate > 0.5)
    return seen._replace(
        events=np.where(full, 0.0, x), requests=np.where(full, 0.0, n),
        events_first=np.where(third, 0.0, np.where(is_first, x, seen.events_first)),
        requests_first=np.where(third, 0.0, np.where(is_first, n, seen.requests_first)),
        events_middle=np.where(third, 0.0, np.where(is_middle, x, seen.events_middle)),
        requests_middle=np.where(third, 0.0, np.where(is_middle, n, seen.requests_middle)),
        events_all=seen.events_all + np.where(third, seen.events_first + seen.events_middle + x, 0.0),
        requests_all=seen.requests_all + np.where(third, seen.requests_first + seen.requests_middle + n, 0.0))


def _compare(seen: ClumpingSeen, third: npt.NDArray[np.bool_], events: Floats, requests: Floats,
             often: npt.NDArray[np.bool_]) -> ClumpingSeen:
    """Compare the middle block with both others where the third is full; `often`: non-events are counted instead."""
    n_middle = np.where(third, seen.requests_middle, 1.0)
    n_outer = np.where(third, seen.requests_first + requests, 1.0)
    middle, outer = np.where(third, seen.events_middle, 0.0), np.where(third, seen.events_first + events, 0.0)
    middle, outer = np.where(often, n_middle - middle, middle), np.where(often, n_outer - outer, outer)
    won = np.where(third[..., None], _bet(middle, outer, n_middle / (n_middle + n_outer)), 0.0)
    triples = seen.triples + third
    kept = np.where(third, -np.log(np.maximum(triples * (triples + 1), 1)), NO_CAPITAL)
    together, length = middle + outer, n_middle + n_outer
    part = n_middle / length
    independent = together * part * (1 - part) * (length - together) / (length - 1)
    spread = [np.where(third, found, 0.0).sum(-1) for found in ((middle - part * together)**2, independent)]
    return seen._replace(log_wealth=np.logaddexp(seen.log_wealth, kept[..., None]) + won, triples=triples,
                         spread=seen.spread + np.stack(spread, axis=-1))


def _bet(middle: Floats, outer: Floats, part: Floats) -> Floats:
    """Return the logarithm of what each size of burst wins, (*batch, 2, 3)."""
    middle, outer, part = middle[..., None], outer[..., None], part[..., None]
    together = middle + outer
    correlation = np.minimum((SIZES - 1) / np.maximum(together - 1, 1), 0.95)
    a, b = part * (1 / correlation - 1), (1 - part) * (1 / correlation - 1)
    bursts = betaln(middle + a, outer + b) - betaln(a, b)
    odds = part / (1 - part)
    lowest, highest = odds / DRIFT / (1 + odds / DRIFT), odds * DRIFT / (1 + odds * DRIFT)
    likely = np.clip(middle / np.maximum(together, 1), lowest, highest)
    won: Floats = bursts - middle * np.log(likely) - outer * np.log(1 - likely)
    return np.where(together > 1, np.minimum(won, MOST_AT_ONCE), 0.0)


def clumping_log_e(seen: ClumpingSeen) -> Floats:
    """Return the logarithm of the evidence against independence, (*batch)."""
    found: Floats = np.logaddexp.reduce(seen.log_wealth, axis=(-2, -1)) - math.log(2 * len(SIZES))
    return found


class Clumping:
    """Do events come in bursts? A guard for a test whose user named neither a session id nor a block.

    With probability at most `alpha` it is ever certain while requests are independent (Ville's inequality), as long as
    the odds in a block of 64 requests, or 8 events, or between two updates if that is longer, are within a tenth of
    those of the blocks before and after it. A base rate that bends more sharply may be taken for bursts.

    Args:
        alpha: probability of a false warning, over all looks together.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        if not 0 < alpha < 0.5:
            raise ConfigError(f"alpha={alpha:g} must be between 0 and 0.5, for example 0.01")
        self.alpha = alpha
        self._seen = ClumpingSeen.nothing()

    def update(self, stable: tuple[float, float], canary: tuple[float, float]) -> None:
        """Take (events, requests) of each version since the last update; RateTest has checked them."""
        self._seen = clump_evidence(self._seen, *np.array([stable, canary], float).T)

    @property
    def log_e(self) -> float:
        """Return the logarithm of the evidence against independence, now."""
        return float(clumping_log_e(self._seen))

    @property
    def is_certain(self) -> bool:
        return self.log_e >= math.log(1 / self.alpha)

    @property
    def factor(self) -> float:
        """Return how many events come together, about; 1 if they are independent."""
        found, independent = self._seen.spread
        return max(float(found / independent), 1.0) if independent else 1.0

    def warning(self, what: str = "errors") -> str:
        """Return what to do about it in plain words, or nothing if there is nothing to warn of."""
        if not self.is_certain:
            return ""
        size = max(math.ceil(self.factor), 2)
        return (f"{what} come in bursts, about {size} at a time, so {size} requests tell no more than one: "
                f"name a session id, or set block={size} or the length of the longest burst")

    def to_state(self) -> State:
        """Return everything, JSON-ready."""
        return {"alpha": self.alpha, "seen": [part.tolist() for part in self._seen]}

    @classmethod
    def from_state(cls, state: State) -> "Clumping":
        """Restore it.

        Raises:
            ValueError: the state is damaged.
        """
        clumping = cls(state["alpha"])
        begun = clumping._seen._asdict()
        clumping._seen = ClumpingSeen(*(restored(saved, like, -math.inf if name == "log_wealth" else 0)
                                        for (name, like), saved in zip(begun.items(), state["seen"], strict=True)))
        return clumping
