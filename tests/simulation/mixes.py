"""Class mixes to draw: what stable and the canary answer between two looks, cell by cell.

Knows no test and counts no verdict; that is `mix_cells`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rate_cells import Span, arrivals
from scipy.stats import norm
from table import ALPHA

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MINIMUM = 0.05  # effect, in total variation distance
FIXED = float(norm.ppf(1 - ALPHA) + norm.ppf(0.9))**2
HORIZON = 10 * FIXED * 0.5 / MINIMUM**2  # canary requests; ten fixed samples of a share of 50 % moved by the minimum
EVERY, GROWTH = 40, 0.15  # of the looks, where a cell says nothing else
DAYS = 5  # in the horizon
PATTERNS = ("stationary", "diurnal", "drifting", "autocorrelated")


class Cell(NamedTuple):
    """One kind of mix; `truth` is the total variation distance of the canary from stable, in every window.

    Attributes:
        classes: their number.
        share: the canary's part of all requests.
        look: requests of both versions from one look to the next.
        pattern: how the mix of both versions breathes.
        truth: in every window; the classes that grow do so in proportion, and so do those that shrink.
        baseline: share of the one class that grows, where the others are equally common; 0: as `skewed` says.
        skewed: class i has a share like 1 / i^1.2, and the middle one grows; else all are equally common, and every
            second one grows.
        turning: what grows and what shrinks change places from window to window.
        horizon: canary requests up to which "ever" goes.
        every: looks of the stated size, before the steps grow.
        growth: of a step, against all requests before it.
    """

    classes: int
    share: float
    look: int
    pattern: str
    truth: float
    baseline: float = 0.0
    skewed: bool = False
    turning: bool = False
    horizon: float = HORIZON
    every: int = EVERY
    growth: float = GROWTH


def spans(cell: Cell) -> Iterator[Span]:
    """Plan the looks: `every` of the stated size, then ever longer ones; a span of 0 waits for both versions."""
    total = cell.horizon / cell.share
    shortest = cell.look if cell.look > 1 else 1 / (cell.share * (1 - cell.share)) - 1
    done, number = 0.0, 0
    while done < total:
        size = shortest if number < cell.every else max(shortest, cell.growth * done)
        yield Span(round(size) if cell.look > 1 or number >= cell.every else 0, min((done + size / 2) / total, 1.0))
        done, number = done + size, number + 1


def growing(cell: Cell) -> Bools:
    """Return the classes of which the canary has more than stable, (C,)."""
    number = np.arange(cell.classes)
    if cell.baseline:
        return np.asarray(number == 0)
    return np.asarray(number == cell.classes // 2 if cell.skewed else number % 2 == 0)


class Mixes:
    """Windows of a cell; the mix breathes as the pattern says, the same in both versions.

    Attributes:
        grows: (C,) the classes of which the canary has more in the next window.
    """

    def __init__(self, cell: Cell, runs: int, random: np.random.Generator) -> None:
        self.cell, self.random, self.runs = cell, random, runs
        self.grows, number = growing(cell), np.arange(cell.classes)
        share = 1 / (number + 1)**1.2 if cell.skewed else np.ones(cell.classes)
        if cell.baseline:
            share = np.where(self.grows, cell.baseline, (1 - cell.baseline) / (cell.classes - 1))
        self._logits = np.log(share / share.sum())
        self._sway = np.where(number % 2, -0.5, 0.5)
        self._wander = np.zeros(runs)
        self.waiting = np.zeros((2, runs, cell.classes))

    def next(self, span: Span) -> Floats:
        """Return (2, runs, C) counts of stable and canary; where one has no request yet, all wait for the next look."""
        stable = self.mix(span)
        canary = self.moved(stable)
        if self.cell.turning:
            self.grows = ~self.grows
        requests = arrivals(span, self.cell.share, 1, self.runs, self.random)
        drawn = np.stack([self.random.multinomial(number.astype(np.int64), mix)
                          for number, mix in zip(requests, (stable, canary), strict=True)])
        now = self.waiting + drawn
        complete = (now.sum(-1) > 0).all(axis=0)[None, :, None]
        self.waiting = np.where(complete, 0.0, now)
        return np.where(complete, now, 0.0)

    def moved(self, mix: Floats) -> Floats:
        """Return the canary's mix: exactly `truth` away from stable's."""
        truth, into = self.cell.truth, np.where(self.grows, mix, 0.0)
        out = mix - into
        found: Floats = mix + truth * (into / into.sum(-1, keepdims=True) - out / out.sum(-1, keepdims=True))
        return found

    def keep(self, kept: Bools) -> None:
        """Go on with these runs alone."""
        self._wander, self.waiting, self.runs = self._wander[kept], self.waiting[:, kept], int(kept.sum())

    def mix(self, span: Span) -> Floats:
        """Return stable's mix, (runs, C), or (1, C) where all runs have the same."""
        sway = np.zeros(1)
        if self.cell.pattern == "diurnal":
            sway += math.sin(2 * math.pi * DAYS * span.middle)
        elif self.cell.pattern == "drifting":
            sway += 2 * span.middle - 1
        elif self.cell.pattern == "autocorrelated":
            self._wander = 0.9 * self._wander + math.sqrt(1 - 0.9**2) * self.random.normal(size=self.runs)
            sway = np.clip(self._wander, -2, 2)
        found = np.exp(self._logits + sway[:, None] * self._sway)
        return np.asarray(found / found.sum(-1, keepdims=True))
