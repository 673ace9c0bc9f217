"""Windows of latency as LatencyTest counts them, many runs at a time: sizes, and canary requests beyond a threshold.

Exact laws throughout, and no more drawn than they need. Bets on nothing.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from penstock.components.evidence.quantile import window_size

__all__ = ["TOLERANCE", "TRAFFIC", "Cell", "Levels", "Sizes", "Window", "ranks", "windows"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

TOLERANCE, SIGMA = 0.1, 0.5  # allowed; of the logarithm of a service time
TRUTHS = (0.0, TOLERANCE, 2 * TOLERANCE)
SHIFTS = (np.log1p(TRUTHS) - math.log1p(TOLERANCE)) / SIGMA  # of the canary against T, in standard deviations
TRAFFIC = ("stationary", "diurnal", "drifting", "autocorrelated")
SWING = 0.5  # of the logarithm of the level
DRIFT = 4.0  # the logarithm of the level rises by so much in a run, 55-fold
REQUESTS, WINDOWS = 20_000, 20  # of a run at least
STEPS = 10  # of the level in a window, at least about
FEW = 400  # of stable's requests in a window: up to here drawing them all is cheaper than their upper tail


class Cell(NamedTuple):
    """One kind of traffic; `looks` are so many requests of both versions apart.

    `drift` is what the logarithm of the level rises by in a run, where the traffic is drifting or a sawtooth.
    """

    traffic: str
    quantile: float
    share: float
    looks: int
    drift: float = DRIFT

    @property
    def size(self) -> int:
        """Return how many requests of stable a window is to have."""
        return window_size(self.quantile)

    @property
    def length(self) -> float:
        """Return the requests of both versions that a window is planned to have."""
        needed = self.size / (1 - self.share)
        return needed if self.looks == 1 else self.looks * math.ceil(needed / self.looks)

    @property
    def windows(self) -> int:
        """Return the windows of a run, with those in which the canary has no request."""
        return max(WINDOWS, math.ceil(REQUESTS / self.length))

    @property
    def step(self) -> int:
        """Return how many requests the level stays as it is; looks are whole steps apart."""
        if self.looks == 1:
            return max(round(self.length / STEPS), 1)
        return self.looks // next(many for many in (1, 2, 5, 10) if many >= min(STEPS * self.looks / self.length, 10))


class Window(NamedTuple):
    """What the test sees of one window in each run.

    Attributes:
        stable: (runs,) requests, at least one.
        canary: (runs,) requests; 0 where the window is forgotten.
        exceeding: (3, runs) canary requests slower than (1 + TOLERANCE) times the order statistic, at each of TRUTHS.
    """

    stable: Floats
    canary: Floats
    exceeding: Floats


class Levels:
    """The level that both versions share: the logarithm of the median, in standard deviations of a service time.

    Time is in windows: a day has four, and so has a tooth, and the memory of an autocorrelated level is a third of one.

    Args:
        rise: of the logarithm of a drifting level, or of a sawtooth, in a window.
        step: requests that the level stays as it is.
        length: requests of a window.
    """

    def __init__(self, traffic: str, rise: float, step: int, length: float, runs: int,
                 rng: np.random.Generator) -> None:
        self._traffic, self._rise, self._step, self._length, self._rng = traffic, rise, step, length, rng
        self._at = rng.uniform(0, 4, runs)
        self._level = rng.normal(0, SWING / SIGMA, runs)
        self._drawn = np.zeros((runs, 1), np.float32)

    def next(self, steps: int) -> Singles:
        """Return the levels of the next window, (runs, steps)."""
        there = np.arange(steps) * (self._step / self._length)
        if self._traffic == "diurnal":
            found = SWING / SIGMA * np.sin(np.pi / 2 * (self._at[:, None] + there))
        elif self._traffic == "sawtooth":
            found = self._rise / SIGMA * ((self._at[:, None] + there) % 4)
        elif self._traffic == "drifting":  # it begins anew in every window: only inside of one it is compared
            found = np.broadcast_to(self._rise / SIGMA * there, (len(self._at), steps))
        else:
            keeps = math.exp(-3 * self._step / self._length)
            noise = SWING / SIGMA * math.sqrt(1 - keeps**2) * self._rng.standard_normal((len(self._at), steps))
            found, _ = lfilter([1.0], [1.0, -keeps], noise, axis=1, zi=keeps * self._level[:, None])
        self._drawn = np.asarray(found, np.float32)
        return self._drawn

    def advance(self, requests: Ints) -> None:
        """End the window after so many requests, (runs,)."""
        self._at += requests / self._length
        self._level = self._drawn[np.arange(len(requests)), (requests - 1) // self._step].astype(float)


def windows(cell: Cell, runs: int, rng: np.random.Generator) -> Iterator[Window]:
    """Draw a run's windows, one after the other, in all runs."""
    if cell.traffic == "stationary":
        return _stationary(cell, runs, rng)
    levels = Levels(cell.traffic, cell.drift / cell.windows, cell.step, cell.length, runs, rng)
    return _each(cell, levels, runs, rng) if cell.size < FEW else _tails(cell, levels, runs, rng)


def ranks(stable: npt.NDArray[np.number[Any]], quantile: float) -> Floats:
    """Return m as `Quantile` does."""
    found: Floats = np.clip(np.rint(stable * (1 - quantile)), 1, stable)
    return found


class Sizes:
    """How many requests of both versions the next window of each run has.

    Args:
        aim: requests of stable that it is to have, about.
        looks: requests between two looks; a window ends with one.
    """

    def __init__(self, aim: int, looks: int, runs: int) -> None:
        self._aim, self._looks = aim, looks
        self._size = np.full(runs, 2.0 * aim)

    @property
    def totals(self) -> Ints:
        """Return the requests up to the look that ends the window, (runs,)."""
        found: Ints = (self._looks * np.ceil(self._size / self._looks)).astype(np.int64)
        return found

    def after(self, stable: npt.ArrayLike, total: npt.ArrayLike) -> None:
        """Choose the next from how many of the window's requests were stable's, (runs,) each."""
        stable, total = np.asarray(stable, float), np.asarray(total, float)
        self._size = np.where(stable > 0, np.ceil(self._aim * total / np.maximum(stable, 1)), 2 * total)

    def draw(self, share: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw the window's requests of stable and of the canary, and choose the next."""
        total = self.totals
        canary = rng.binomial(total, share).astype(float)
        self.after(total - canary, total)
        return total - canary, canary


def _window(stable: Floats, canary: Floats, exceeding: Floats) -> Window:
    """Return the window, without what is forgotten where a version has no request."""
    both = (stable > 0) & (canary > 0)
    return Window(np.maximum(stable, 1), canary * both, exceeding * both)


def _stationary(cell: Cell, runs: int, rng: np.random.Generator) -> Iterator[Window]:
    """Draw stable's share beyond the order statistic from its beta law, the canary's count given that share."""
    sizes = Sizes(cell.size, cell.looks, runs)
    for _ in range(cell.windows):
        stable, canary = sizes.draw(cell.share, rng)
        known = np.maximum(stable, 1)
        rank = ranks(known, cell.quantile)
        beyond = ndtri(rng.beta(rank, known - rank + 1))
        found = rng.binomial(canary.astype(np.int64), ndtr(beyond + SHIFTS[:, None])).astype(float)
        yield _window(stable, canary, found)


def _each(cell: Cell, levels: Levels, runs: int, rng: np.random.Generator) -> Iterator[Window]:
    """Draw every latency."""
    sizes, every = Sizes(cell.size, cell.looks, runs), np.arange(runs)
    for _ in range(cell.windows):
        total = sizes.totals
        length = int(total.max())
        inside = np.arange(length) < total[:, None]
        is_canary = rng.random((runs, length), np.float32) < cell.share
        values = rng.standard_normal((runs, length), np.float32)
        values += np.repeat(levels.next(math.ceil(length / cell.step)), cell.step, axis=1)[:, :length]
        of_stable = inside & ~is_canary
        is_canary &= inside
        stable = np.count_nonzero(of_stable, axis=1)
        sizes.after(stable, total)
        ordered = np.where(of_stable, values, np.float32(-np.inf))
        ordered.sort(axis=1)
        y = ordered[every, length - ranks(np.maximum(stable, 1), cell.quantile).astype(np.int64)]
        found = np.flatnonzero(is_canary)
        run = found // length
        above = values.ravel()[found] - y[run]
        exceeding = [np.bincount(run[above > -shift], minlength=runs) for shift in SHIFTS]
        yield _window(stable.astype(float), (total - stable).astype(float), np.array(exceeding, float))
        levels.advance(total)


def _tails(cell: Cell, levels: Levels, runs: int, rng: np.random.Generator) -> Iterator[Window]:
    """Draw the slowest requests of stable in each step of the level, and the canary's counts given those."""
    sizes = Sizes(cell.size, cell.looks, runs)
    for _ in range(cell.windows):
        total = sizes.totals
        steps = np.arange(math.ceil(total.max() / cell.step))
        both = np.clip(total[:, None] - steps * cell.step, 0, cell.step)
        canary = rng.binomial(both, cell.share)
        stable = (both - canary).sum(axis=1)
        sizes.after(stable, total)
        level = levels.next(len(steps)).astype(float)
        y = largest(both - canary, level, ranks(np.maximum(stable, 1), cell.quantile).astype(np.int64), rng)
        beyond = level - y[:, None]
        exceeding = [rng.binomial(canary, ndtr(beyond + shift)).sum(axis=1) for shift in SHIFTS]
        yield _window(stable.astype(float), (total - stable).astype(float), np.array(exceeding, float))
        levels.advance(total)


def largest(sizes: Ints, level: Floats, rank: Ints, rng: np.random.Generator) -> Floats:
    """Draw the rank-th largest of normal values whose mean changes from step to step.

    Of each step as many of its largest are drawn as may be needed, from the first on: with E_j = -log(1 - S_j) for
    their upper tail probabilities, E_j - E_(j-1) is exponential with mean 1 / (size - j + 1) (Rényi 1953).

    Args:
        sizes: (runs, steps) values in each step.
        level: (runs, steps) their means.
        rank: (runs,) from 1, the largest.
    """
    order = np.arange(int(rank.max()))
    left = sizes[..., None] - order
    gaps = rng.standard_exponential((*sizes.shape, len(order)))
    gaps /= np.maximum(left, 1)
    values = level[..., None] - ndtri(-np.expm1(-np.cumsum(gaps, axis=-1)))
    flat = np.where(left > 0, values, -np.inf).reshape(len(sizes), -1)
    flat.sort(axis=1)
    found: Floats = flat[np.arange(len(sizes)), flat.shape[1] - rank]
    return found
