"""A share of requests, canary against stable: errors, wrong answers, disagreements, requests slower than a bound.

Counts in, verdict out. The bets are in `capital`; when requests are dependent is said by `dependence`.
"""

import math

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.capital import Gamblers, Seen, Window, bet, capital
from penstock.components.evidence.decision import Decision, changed, plain, somewhere
from penstock.components.evidence.dependence import Clumping
from penstock.components.evidence.sequential import Counts, SequentialTest, State, counted, restored

__all__ = ["RateTest", "difference_gamblers"]

SMALLEST_SCALE = 1e-4  # of a difference that anybody bets on, where the tolerance is 0
LARGEST_NULL = 0.95


def difference_gamblers(tolerance: float, sign: int, nulls: npt.NDArray[np.float64] | None = None) -> Gamblers:
    """Return who bets against "at most `tolerance` above stable" (sign 1), or "at least" (sign -1).

    They believe in effects of half the tolerance, once, twice, four times … up to 1: a true effect is at most a factor
    of 1.4 away from one that somebody believes in, which costs a tenth of the growth. Against "at least" half of the
    capital is with those who believe in no difference at all, because that is what most canaries are.

    Args:
        nulls: (D,) further differences to bet against, for a confidence sequence; None: the tolerance alone.
    """
    scale = max(abs(tolerance), SMALLEST_SCALE)
    effects = np.array([scale / 2 * 2.0**power for power in range(60) if scale / 2 * 2.0**power < 1 or power < 2])
    weights = 1 / (np.arange(len(effects)) + 2.0)
    if sign < 0:
        weights[1] = weights.sum() - weights[1]
    return Gamblers(np.array([tolerance]) if nulls is None else nulls, effects, weights / weights.sum(), sign)


def _differences(tolerance: float) -> npt.NDArray[np.float64]:
    """Return the differences that a confidence sequence tells apart: finely near the tolerance, coarsely far off."""
    scale = max(abs(tolerance), SMALLEST_SCALE)
    near = scale * np.arange(-20, 21) / 10
    far = np.geomspace(2 * scale, LARGEST_NULL, max(int(math.log(LARGEST_NULL / (2 * scale)) / math.log(1.15)), 2))
    found = np.concatenate([-far, near, far, [tolerance]])
    inside: npt.NDArray[np.float64] = np.unique(found[np.abs(found) <= LARGEST_NULL])
    return inside


class RateTest(SequentialTest):
    """Is the canary's share of events at most `tolerance` above stable's, in the same windows?

    A window ends with an update after which both versions have requests; its evidence is multiplied with that of the
    windows before (`capital`), so shares of traffic and base rates may change from window to window. With probability
    at most alpha it ever says `worse` while p_canary - p_stable <= tolerance in every window, and with probability at
    most alpha it ever says `within` while p_canary - p_stable >= tolerance in every window. Both are for independent
    requests, or blocks of them; where no block is stated and events are seen to come in bursts, no verdict falls.

    Both are also for updates that come by the clock or by a count of requests, never because of what is in them. Of
    tests that were updated at each error of stable, so that every window ended with one, 20 % said `within` at the
    tolerance, with alpha at 5 % (docs/statistics.md). An update after every single request is fine, and `decide` may be
    called whenever.

    Args:
        tolerance: absolute difference of shares: 0.001 is 0.1 points; at most 0.95 in size.
    """

    DEFAULT_NAME = "errors"

    def __init__(self, tolerance: float, alpha: float = 0.05, *, block: int = 1, max_samples: int = 0,
                 name: str = "") -> None:
        super().__init__(tolerance, alpha, block=block, max_samples=max_samples, name=name)
        if abs(self.tolerance) > LARGEST_NULL:
            raise ConfigError(f"tolerance={tolerance:g} must be a difference of shares from -{LARGEST_NULL} to "
                              f"{LARGEST_NULL}: 0.001 is 0.1 points")
        nulls = _differences(self.tolerance)
        self._row = int(np.flatnonzero(nulls == self.tolerance)[0])
        self._sides = tuple(difference_gamblers(self.tolerance, sign, nulls) for sign in (1, -1))
        self._wealth = np.zeros((2, len(nulls), len(self._sides[0].effects)))  # logarithms
        self._best = np.zeros((2, len(nulls)))  # highest evidence of each row so far
        self._seen = Seen(*np.zeros(4))
        self._waiting = np.zeros(4)  # a window that is not complete
        self._clumping = Clumping() if block == 1 else None  # who states a block has answered its question
        self._contrast = np.zeros(2)  # sums of weight x difference, and of weight (Mantel and Haenszel 1959)

    def update(self, stable: Counts, canary: Counts) -> None:
        """Take what was counted since the last update; call it whenever the share of traffic changes, too.

        A window in which two shares are mixed compares one version's early requests with the other's late ones.

        Args:
            stable: events and requests of stable; parts of events as `by_session` has them, but whole requests.
            canary: the same of the canary.

        Raises:
            ContractError: more events than requests, or a count that is none, or 2**53 of them.
        """
        self._waiting += counted(stable, canary)
        if self._waiting[1] and self._waiting[3]:
            if self._clumping:
                self._clumping.update(tuple(self._waiting[:2]), tuple(self._waiting[2:]))
            self._close(Window(*(self._waiting / self.block)))
            self._waiting[:] = 0

    def _close(self, window: Window) -> None:
        for side, gamblers in enumerate(self._sides):
            self._wealth[side] += bet(gamblers, self._seen, window)
        self._best = np.maximum(self._best, self._evidence())
        self._seen = self._seen.after(window)
        weight = window.stable * window.canary / (window.stable + window.canary)
        self._contrast += weight * np.array([window.canary_events / window.canary
                                             - window.stable_events / window.stable, 1.0])
        if not self._is_clumped():
            self._settle()

    def _is_clumped(self) -> bool:
        return self._clumping is not None and self._clumping.is_certain

    @property
    def samples(self) -> int:
        return int(self._seen.canary)

    @property
    def log_e(self) -> tuple[float, float]:
        worse, within = self._evidence()[:, self._row]
        return float(worse), float(within) if self._can_be_within else -math.inf

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper` are differences of shares, canary minus stable."""
        estimate = float(self._contrast[0] / self._contrast[1]) if self._contrast[1] else 0.0
        lower, upper = self._bounds()
        more = self._more(self._growth(estimate))
        return Decision(self._settled, self._explain(estimate, lower, upper, more), estimate, lower, upper,
                        self.samples, *self._shown, self.alpha, more)

    def _evidence(self) -> npt.NDArray[np.float64]:
        return np.stack([capital(gamblers, wealth) for gamblers, wealth in zip(self._sides, self._wealth, strict=True)])

    def _bounds(self) -> tuple[float, float]:
        """Return the confidence sequence, its best ends so far.

        It ends at the first difference that is not ruled out: the true one is ruled out with probability alpha at
        most, but any of those beyond it more often.
        """
        nulls, out = self._sides[0].nulls, self._best >= math.log(1 / self.alpha)
        above, below = np.logical_and.accumulate(out[0]), np.logical_and.accumulate(out[1, ::-1])[::-1]
        return float(nulls[above].max(initial=-1.0)), float(nulls[below].min(initial=1.0))

    def _growth(self, estimate: float) -> float:
        """Estimate the evidence per canary request if the truth is what it looks like."""
        seen = self._seen
        if not seen.canary:
            return 0.0
        events, stable, canary = float(seen.stable_events), float(seen.stable), float(seen.canary)
        level = (events + 0.5) / (stable + 1)
        bound = min(max(level + self.tolerance, 0.5 / (canary + 1)), 1.0)
        noise = bound * (1 - bound) + level * (1 - level) * canary / stable
        distance = estimate - self.tolerance
        return distance**2 / (2 * noise) if noise and (distance > 0 or self.tolerance > 0) else 0.0

    def _explain(self, estimate: float, lower: float, upper: float, more: int) -> str:
        seen, unit = self._seen, "requests" if self.block == 1 else "blocks of requests"
        if not seen.canary:
            return f"{self.name}: nothing to compare yet, both versions must have answered"
        allowed = f"{plain(self.tolerance * 100, '+')} points are allowed"
        text = (f"{self.name}: {plain(float(seen.canary_events))} in {seen.canary:,.0f} {unit} of the canary, "
                f"{plain(float(seen.stable_events))} in {seen.stable:,.0f} of stable: {estimate * 100:+.2f} points")
        if self._settled == "worse":
            # The bound is sought from -100 points on, so it may stay behind the verdict where little was seen.
            beyond = f"at least {lower * 100:+.2f}" if lower >= self.tolerance else "more than there may be"
            return f"{text}, {beyond}; {allowed}{changed(lower, upper)}"
        if self._settled == "within":
            end = f"at most {upper * 100:+.2f}" if upper <= self.tolerance else "no more than there may be"
            return f"{text}, {end}; {allowed}{changed(lower, upper)}"
        text = f"{text}, {somewhere(lower, upper, lambda end: f'{end * 100:+.2f}')}; {allowed}"
        if self._clumping and self._is_clumped():
            return f"{text}: no verdict, because {self._clumping.warning(self.name)}"
        if self.tolerance <= 0 and estimate <= 0:
            return f"{text}: that a canary is not worse by anything at all cannot be shown"
        return f"{text}: {self._outlook(more, f'canary {unit}')}"

    def _evidence_state(self) -> State:
        return {"wealth": self._wealth.tolist(), "best": self._best.tolist(), "seen": [float(x) for x in self._seen],
                "waiting": self._waiting.tolist(), "contrast": self._contrast.tolist(),
                "clumping": self._clumping.to_state() if self._clumping else None}

    def _restore(self, state: State) -> None:
        self._wealth = restored(state["wealth"], self._wealth)
        self._best = restored(state["best"], self._best, 0)
        self._seen = Seen(*restored(state["seen"], np.array(self._seen), 0))
        self._waiting = restored(state["waiting"], self._waiting, 0)
        self._contrast = restored(state["contrast"], self._contrast)
        self._clumping = Clumping.from_state(state["clumping"]) if self._clumping else None
