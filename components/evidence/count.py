"""Events of the canary against stable's, where only events are counted: given one, which version did it come from?

Under any load, and any rate that both versions share, an event is the canary's with probability

    theta(eta, share) = logistic(logit(share) + eta),      eta = log(canary's rate / stable's),

so what load and hour do to both cancels: the sequential test of inhomogeneous Poisson counts by Lindon and Malek
(NeurIPS 2022), here with a share of traffic that may change from window to window. Events are independent given their
windows, or the block says how many come together at most. Knows no requests: `rate` does.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logit

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import Decision, changed, plain, somewhere
from penstock.components.evidence.dependence import DRIFT, Clumping
from penstock.components.evidence.sequential import SequentialTest, State, is_number, restored, tallied

__all__ = ["CountTest", "Mixture", "evidence", "log_likelihood", "mixture"]

Floats = npt.NDArray[np.float64]

REACH = math.log(50)  # of the ratios that anybody believes in, on both sides of the tolerance
NARROW, BROAD = 0.05, 0.4  # log ratios: how near to the tolerance the grid is fine
# Log ratio below which all effects are as likely; beyond it all orders of magnitude are. Of little consequence: from
# 0.02 to 0.5 the mean number of events until a verdict changed by 16 % at most (10 cells, 2026-11-21).
FLAT = 0.2


class Mixture(NamedTuple):
    """Who believes in which ratio, for each null hypothesis.

    Attributes:
        etas: (K,) logarithms of the ratios on the grid, rising.
        rows: (R,) positions in `etas` of the nulls; row r is bet against as "at most", and as "at least".
        log_weights: (2, R, K) logarithms of the weights; against "at most" those above have any, the sums are 1.
    """

    etas: Floats
    rows: npt.NDArray[np.intp]
    log_weights: Floats

    def at(self, row: int) -> "Mixture":
        """Return the bets against one null alone, and of the grid what they need: for simulations."""
        null = self.rows[row]
        used = np.flatnonzero((np.exp(self.log_weights[:, row]).sum(axis=0) > 0) | (np.arange(len(self.etas)) == null))
        return Mixture(self.etas[used], np.flatnonzero(used == null), self.log_weights[:, [row]][..., used])


def mixture(tolerance: float) -> Mixture:
    """Return the grid of ratios around 1 + `tolerance`, each of them a null with its own bets.

    Half of the weight is with "no difference" wherever that is on the right side, because that is what most canaries
    are; the other half is spread over all orders of magnitude of the distance to the null.
    """
    null = math.log1p(tolerance)
    scale = min(max(abs(null), NARROW), BROAD)
    far = np.geomspace(2 * scale, REACH, math.ceil(math.log(REACH / (2 * scale)) / math.log(1.15)) + 1)
    etas = np.unique(np.concatenate([null - far, null + scale * np.arange(-20, 21) / 10, null + far, [null, 0.0]]))
    distance, width = etas - etas[:, None], np.gradient(etas)
    none = int(np.flatnonzero(etas == 0)[0])
    weights = np.zeros((2, len(etas), len(etas)))
    for side, on in zip((0, 1), (distance > 0, distance < 0), strict=True):
        given = on * width / (FLAT + np.abs(distance))
        outermost = ~on.any(axis=1)
        given[outermost, outermost] = 1  # nobody bets against it
        given /= given.sum(axis=1, keepdims=True)
        given[on[:, none]] /= 2
        given[on[:, none], none] += 0.5
        weights[side] = given
    with np.errstate(divide="ignore"):
        return Mixture(etas, np.arange(len(etas)), np.log(weights))


def log_likelihood(etas: Floats, null: float, stable: npt.ArrayLike, canary: npt.ArrayLike,
                   share: npt.ArrayLike) -> Floats:
    """Return how much better each ratio explains a window than the ratio `null` does.

    Args:
        etas: (K,) logarithms of ratios.
        null: logarithm of a ratio.
        stable: (*batch) events of stable.
        canary: (*batch) events of the canary.
        share: (*batch) the canary's part of the traffic, inside (0, 1).

    Returns:
        (*batch, K), logarithms; those of several windows are added.
    """
    traffic = np.asarray(logit(share), float)[..., None]
    events = np.asarray(canary, float)[..., None]
    both = np.asarray(stable, float)[..., None] + events
    found: Floats = events * (etas - null) + both * (log_expit(-traffic - etas) - log_expit(-traffic - null))
    return found


def evidence(bets: Mixture, likelihood: Floats) -> Floats:
    """Return the evidence against each null: what its bets have won together, from 1 at the beginning.

    A ratio beyond the null on its far side only lowers the expected winnings (monotone likelihood ratio), so a bet
    against a null is one against everything on that side, in each window anew.

    Args:
        likelihood: (*batch, K), sums of `log_likelihood` over the windows.

    Returns:
        (*batch, 2, R), logarithms: against "at most", and against "at least".
    """
    won = likelihood[..., None, None, :] + bets.log_weights
    top = won.max(axis=-1)
    found: Floats = (top + np.log(np.exp(won - top[..., None]).sum(axis=-1))
                     - likelihood[..., None, :][..., bets.rows])
    return found


class CountTest(SequentialTest):
    """Is the canary's rate of events at most 1 + `tolerance` times stable's, in the same windows?

    Needs no count of requests, only the canary's part of them. Valid when whatever moves one version's rate moves the
    other's with it. With probability at most alpha it ever says `worse` while the ratio is at most 1 + tolerance in
    every window, and with probability at most alpha it ever says `within` while it is at least that in every window.
    Both are for independent events, or blocks of them; where no block is stated and the versions' events are seen to
    come in bursts, no verdict falls. `samples` and `max_samples` are events of both versions: each of them is a draw,
    whoever it came from. An update may come at any moment, at an event too, for each event is a draw of its own;
    only the share must be one throughout, and not chosen because of what came in it.

    Args:
        tolerance: ratio of the rates minus 1: 0.5 allows one and a half times as many events; above -1.
        block: events of one session or burst at most.
    """

    DEFAULT_NAME = "events"
    UNIT = "events"

    def __init__(self, tolerance: float, alpha: float = 0.05, *, block: int = 1, max_samples: int = 0,
                 name: str = "") -> None:
        super().__init__(tolerance, alpha, block=block, max_samples=max_samples, name=name)
        if tolerance <= -1:
            raise ConfigError(f"tolerance={tolerance:g} allows the canary no event at all; it is a ratio of rates "
                              f"minus 1, so give more than -1, for example 0.5 for one and a half times as many")
        self._bets = mixture(self.tolerance)
        self._null = math.log1p(self.tolerance)
        self._row = int(np.flatnonzero(self._bets.etas == self._null)[0])
        self._likelihood = np.zeros(len(self._bets.etas))
        self._now = evidence(self._bets, self._likelihood)
        self._best = np.zeros(self._now.shape)  # highest evidence of each row so far
        self._events = np.zeros(2)  # of stable, of the canary; in blocks
        self._weighed = np.zeros(2)  # the same, each weighted with the other's share (Mantel and Haenszel)
        self._share = 0.0  # of the last window that told anything
        self._clumping = Clumping() if block == 1 else None  # who states a block has answered its question

    def update(self, stable: float, canary: float, share: float) -> None:
        """Take what was counted since the last update; call it whenever the share changes, too.

        Args:
            stable: events of stable, a whole number.
            canary: events of the canary.
            share: the canary's part of the traffic in this window. At 0 or 1 there is nothing to compare: whatever
                was counted then, stragglers of the window before included, is left out of everything.

        Raises:
            ContractError: a count is none, or both are 2**53 together, or the share is no share.
        """
        counts = tallied([stable, canary], (2,))
        if counts is None or not is_number(share) or not 0 <= share <= 1:
            raise ContractError(f"stable={stable} and canary={canary} must be counts of events, below 2**53 together, "
                                f"and share={share} the canary's part of the traffic, from 0 to 1")
        share = float(share)  # a state may hold no number of numpy's
        if not 0 < share < 1 or not counts.any():
            return
        events = counts / self.block
        self._likelihood += log_likelihood(self._bets.etas, self._null, events[0], events[1], share)
        self._now = evidence(self._bets, self._likelihood)
        self._best = np.maximum(self._best, self._now)
        self._events += events
        self._weighed += events * (share, 1 - share)
        self._watch(float(counts[0]), float(counts[1]), share)
        self._share = share
        if not self._is_clumped():
            self._settle()

    def _is_clumped(self) -> bool:
        return self._clumping is not None and self._clumping.is_certain

    def _watch(self, stable: float, canary: float, share: float) -> None:
        """Look for bursts in how evenly the canary's part of the events falls; another share begins anew."""
        if self._clumping is None or self._clumping.is_certain:
            return
        if self._share and abs(float(logit(share) - logit(self._share))) > math.log(DRIFT):
            self._clumping = Clumping()
        self._clumping.update((0.0, 0.0), (canary, stable + canary))

    @property
    def samples(self) -> int:
        return int(self._events.sum())

    @property
    def log_e(self) -> tuple[float, float]:
        worse, within = self._now[:, self._row]
        return float(worse), float(within) if self._can_be_within else -math.inf

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper` are ratios minus 1, infinite where unbounded."""
        stable, canary = self._weighed
        estimate = (float(canary / stable) if stable else math.inf if canary else 1.0) - 1
        lower, upper = self._bounds()
        more = self._more(self._growth())
        return Decision(self._settled, self._explain(estimate, lower, upper, more), estimate, lower, upper,
                        self.samples, *self._shown, self.alpha, more)

    def _bounds(self) -> tuple[float, float]:
        """Return the confidence sequence, its best ends so far; it ends at the first ratio that is not ruled out."""
        ratios, out = np.expm1(self._bets.etas), self._best >= math.log(1 / self.alpha)
        above, below = np.logical_and.accumulate(out[0]), np.logical_and.accumulate(out[1, ::-1])[::-1]
        return float(ratios[above].max(initial=-1.0)), float(ratios[below].min(initial=math.inf))

    def _growth(self) -> float:
        """Estimate the evidence per event if the truth is what it looks like: its divergence from the tolerance."""
        if not self._events.any():
            return 0.0
        stable, canary = self._weighed + 0.5 * np.array([self._share, 1 - self._share])
        if self.tolerance <= 0 and canary <= stable * (1 + self.tolerance):
            return 0.0
        looks, null = np.array([math.log(canary / stable), self._null]) + float(logit(self._share))
        theta = math.exp(log_expit(looks))
        return float(theta * (log_expit(looks) - log_expit(null))
                     + (1 - theta) * (log_expit(-looks) - log_expit(-null)))

    def _explain(self, estimate: float, lower: float, upper: float, more: int) -> str:
        if not self._events.any():
            return f"{self.name}: nothing to compare yet, no event while both versions had traffic"
        unit = "events" if self.block == 1 else "blocks of events"
        allowed = f"{_times(self.tolerance)} is allowed"
        seen = f"{self.name}: {plain(self._events[1])} {unit} of the canary, {plain(self._events[0])} of stable"
        text = (f"{seen}: {_times(estimate)} stable's rate" if math.isfinite(estimate)
                else f"{seen}, so their ratio has no estimate")
        if self._settled == "worse":
            # The bound is sought from the smallest ratio on, so it may stay behind the verdict where little was seen.
            beyond = f"at least {_times(lower)}" if lower >= self.tolerance else "more than there may be"
            return f"{text}, {beyond}; {allowed}{changed(lower, upper)}"
        if self._settled == "within":
            end = f"at most {_times(upper)}" if upper <= self.tolerance else "no more than there may be"
            return f"{text}, {end}; {allowed}{changed(lower, upper)}"
        ends = (somewhere(lower, upper, _times) if math.isfinite(upper)
                else f"at least {_times(lower)}" if lower > -1 else "nothing shown yet")
        text = f"{text}, {ends}; {allowed}"
        if self._clumping and self._is_clumped():
            return f"{text}: no verdict, because {self._clumping.warning(self.name)}"
        if self.tolerance <= 0 and estimate <= 0:
            return f"{text}: that a canary is not worse by anything at all cannot be shown"
        return f"{text}: {self._outlook(more, f'{unit} of both versions')}"

    def _evidence_state(self) -> State:
        return {"likelihood": self._likelihood.tolist(), "best": self._best.tolist(),
                "events": self._events.tolist(), "weighed": self._weighed.tolist(), "share": self._share,
                "clumping": self._clumping.to_state() if self._clumping else None}

    def _restore(self, state: State) -> None:
        self._likelihood = restored(state["likelihood"], self._likelihood)
        self._best = restored(state["best"], self._best, 0)
        self._events = restored(state["events"], self._events, 0)
        self._weighed = restored(state["weighed"], self._weighed, 0)
        self._now, self._share = evidence(self._bets, self._likelihood), float(state["share"])
        if not 0 <= self._share < 1:
            raise ValueError(f"a share of {self._share}")
        self._clumping = Clumping.from_state(state["clumping"]) if self._clumping else None


def _times(change: float) -> str:
    return f"{plain(1 + change)} times"
