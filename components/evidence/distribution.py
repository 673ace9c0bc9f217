"""The whole distribution of latency, canary against stable: is any part of it stretched by more than the tolerance?

Finds `worse` by quantiles, as `latency` does; `within` needs a second tolerance, on shares of requests.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.decision import NEVER, Decision
from penstock.components.evidence.histogram import Bins, holder
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.quantile import Waiting, log_mix
from penstock.components.evidence.sequential import State, is_number, restored

__all__ = ["DistributionTest", "Everywhere"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DECILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
MISSES = 1e-4  # probability that the order statistic lies on the wrong side of its grid point
MOST = 200.0  # that a window may multiply the evidence by
GAPS = np.array([0.15, 0.3, 0.6])  # of the tolerance on shares: how far below the null somebody believes the canary is
SMALLEST_SHARE = 0.005  # tolerance on shares; a window of 2 million requests


class Everywhere:
    """Evidence against "somewhere, S_canary(T(x)) >= S_stable(x) + eps", where S(x) is the share slower than x.

    "Somewhere" is an x with S_stable(x) = p, the same p in every window. Let p lie in one of the cells [p_(j-1), p_j]:
    an order statistic Y of stable's with S_stable(Y) >= p_j lies at or below x, and T grows, so the canary is slower
    than T(Y) at least as often as than T(x), with probability r = p_(j-1) + eps or more. So X, the canary's requests at
    or above T(Y), is at least Binomial(n_c, r), and L = exp(-h X) / (1 - r (1 - exp(-h)))^n_c has a mean of at most 1.
    Y lies on the wrong side with probability `MISSES` at most; min(L, MOST) / (1 + MOST MISSES) allows for that.
    Every p up to 1 - eps is in a cell, a larger one cannot be. To reject all cells, each at alpha, errs at alpha.
    Where stable has so few requests in a window that no order statistic will do, the window brings no evidence.

    Args:
        eps: tolerance on the share.
        bins: of all counts; its row 0 is T.

    Attributes:
        size: requests of stable that a window is to have, about.
        least: requests of stable without which it brings no evidence.
    """

    def __init__(self, eps: float, bins: Bins) -> None:
        self._bins = bins
        step = eps / 4
        self._points = np.minimum(step * np.arange(1, math.ceil((1 - eps) / step - 1e-9) + 1), 1 - eps)  # p_j
        self._shares = np.concatenate([[0.0], self._points[:-1]]) + eps
        hoped = self._shares[:, None] * (1 - eps * GAPS / self._shares[:, None])
        self._tilts = np.log(self._shares[:, None] * (1 - hoped) / (hoped * (1 - self._shares[:, None])))
        self.size = math.ceil(50 / eps**2)  # the 3.7 standard errors of U that `MISSES` asks for: a quarter of eps
        self.least = math.ceil(math.log(MISSES) / math.log(self._points[-1]))  # the highest takes most
        self._waiting = Waiting(self.size, len(bins.edges) - 1)
        self._wealth = np.zeros((len(self._points), len(GAPS)))

    def update(self, stable: Ints, canary: Ints) -> None:
        """Take counts, (K,) each."""
        window = self._waiting.take(stable, canary)
        if window is not None and window[0].sum() >= self.least:
            self._close(window)

    def _close(self, window: Ints) -> None:
        stable, canary = map(int, window.sum(axis=1))
        found = np.array([self._bins.beyond(window[1], holder(window[0], int(rank)))[1][0]
                          for rank in _ranks(self._points, stable)])
        mean = canary * np.log1p(self._shares[:, None] * np.expm1(-self._tilts))
        factor = np.minimum(-self._tilts * found[:, None] - mean, math.log(MOST))
        self._wealth += factor - math.log1p(MOST * MISSES)

    @property
    def log_e(self) -> float:
        """Return the least evidence of all cells."""
        return float(log_mix(self._wealth, np.full(len(GAPS), 1 / len(GAPS))).min())

    @property
    def missing(self) -> int:
        """Return how many canary requests the first window still takes; 0 once it has closed."""
        stable, canary = map(int, self._waiting.counts.sum(axis=1))
        share = canary / max(stable + canary, 1)
        return 0 if self._wealth.any() else math.ceil((self._waiting.size - stable - canary) * share)

    def to_state(self) -> State:
        return {"waiting": self._waiting.to_state(), "wealth": self._wealth.tolist()}

    def restore(self, state: State) -> None:
        """Take what `to_state` returned.

        Raises:
            ValueError: it is of another tolerance.
        """
        self._wealth = restored(state["wealth"], self._wealth)
        self._waiting.restore(state["waiting"])


def _ranks(points: Floats, stable: int) -> Ints:
    """Return the least m for each p with P(U < p) <= MISSES, where U ~ Beta(m, stable - m + 1).

    There is one where p ** stable <= MISSES.
    """
    low, high = np.zeros(len(points), np.int64), np.full(len(points), stable, np.int64)
    while (low + 1 < high).any():  # P(U < p) is P(Binomial(stable, p) >= m)
        middle = (low + high) // 2
        fine = bdtrc(middle - 1, stable, points) <= MISSES
        low, high = np.where(fine, low, middle), np.where(fine, middle, high)
    return high


class DistributionTest(LatencyTest):
    """Is no part of the canary's distribution of latency more than `tolerance` slower than stable's?

    `worse` falls by one of nine quantiles from p5 to p99, at alpha / 9, as in `LatencyTest`. `within` falls only
    with `cdf_tolerance`, once it is shown that for every x the canary is slower than (1 + tolerance) x at most that
    much more often than stable is slower than x: without it, a difference too small to be seen is always possible.

    Args:
        tolerance: relative: 0.1 is 10 % slower.
        cdf_tolerance: share of requests, absolute: 0.02 is 2 points; 0: the test never says `within`.
        floor: seconds of difference that nobody minds.
    """

    def __init__(self, tolerance: float, alpha: float = 0.05, *, cdf_tolerance: float = 0.0, block: int = 1,
                 max_samples: int = 0, name: str = "", floor: float = 0.0) -> None:
        if not is_number(cdf_tolerance) or (cdf_tolerance and not SMALLEST_SHARE <= cdf_tolerance <= 0.5):
            raise ConfigError(f"cdf_tolerance={cdf_tolerance!r} must be a share of requests from "
                              f"{SMALLEST_SHARE} to 0.5, for example 0.02, or 0 to say nothing but worse")
        self.cdf_tolerance = float(cdf_tolerance)
        self._everywhere: Everywhere | None = None
        super().__init__(tolerance, DECILES, alpha, block=block, max_samples=max_samples, name=name, floor=floor)

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper` are those of the worst quantile."""
        found = super().decide()
        points = f"{self.cdf_tolerance * 100:g} points"
        if found.verdict == "within":
            return found._replace(reason=f"{self.name}: nowhere are more than {points} of the canary's requests slower "
                                         f"than they may be; {self._allowed}")
        if found.verdict == "worse" or found.estimate > self.tolerance:
            return found
        more = NEVER
        if self._everywhere is None:
            outlook = "that no part is slower can be shown with a cdf_tolerance only"
        else:
            more = self._more(max(found.log_e_within, 0.0) / max(found.samples, 1))
            more = more if self._is_over() else self._everywhere.missing or more
            outlook = f"not yet shown that nowhere more than {points} are slower than they may be"
        return found._replace(reason=f"{found.reason.rsplit(': ', 1)[0]}: {outlook}", more=more)

    @property
    def _allowed_for(self) -> int:
        return len(self.quantiles)  # `within` does not fall by them

    @property
    def log_e(self) -> tuple[float, float]:
        """Return the most evidence against "not worse", over nine, and that against "somewhere worse"."""
        return super().log_e[0], self._everywhere.log_e if self._everywhere else -math.inf

    def _begin(self, bins: Bins, ratios: Floats) -> None:
        super()._begin(bins, ratios)
        self._everywhere = Everywhere(self.cdf_tolerance, bins) if self.cdf_tolerance else None

    def _take(self, stable: Ints, canary: Ints) -> None:
        if self._everywhere:
            self._everywhere.update(stable, canary)
        super()._take(stable, canary)

    def _is_within(self) -> bool:
        return self._everywhere is not None and self._everywhere.log_e >= math.log(1 / self.alpha)

    def _options(self) -> State:
        options = super()._options() | {"cdf_tolerance": self.cdf_tolerance}
        del options["quantiles"]
        return options

    def _evidence_state(self) -> State:
        everywhere = self._everywhere.to_state() if self._everywhere else None
        return super()._evidence_state() | {"everywhere": everywhere}

    def _restore(self, state: State) -> None:
        super()._restore(state)
        if self._settled == "within" and not self._everywhere:
            raise ValueError("within without a cdf_tolerance")
        if self._everywhere:
            self._everywhere.restore(state["everywhere"])
