"""How often MixTest is wrong, and how long it takes: mixes drawn cell by cell, and the shipping bets on them.

Draws no picture and writes no file; the tables on dependence are `dependence_cells`'.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import dependence_cells
import numpy as np
import numpy.typing as npt
from rate_cells import ALPHA, LOST, Span, arrivals, lower_bound, written
from scipy.stats import chi2, ncx2, norm
from table import Table

from penstock.components.evidence.capital import capital
from penstock.components.evidence.class_sets import MixSeen, set_bet, subsets, within_gamblers, worse_bet
from penstock.components.evidence.rate import difference_gamblers

Floats = npt.NDArray[np.float64]

MINIMUM = 0.05  # effect, in total variation distance
CHUNK = 250  # runs at once
EVERY = 60  # looks of the stated size, before the steps grow
GROWTH = 0.1  # of a step, against all requests before it
FIXED = float(norm.ppf(1 - ALPHA) + norm.ppf(0.9))**2
HORIZON = 10 * FIXED * 0.5 / MINIMUM**2  # canary requests; ten fixed samples of a share of 50 % moved by the minimum
DAYS = 5  # in the horizon
PATTERNS = ("stationary", "diurnal", "drifting", "autocorrelated")
# Each number of classes with each share once, and with each interval once.
ROWS = ((2, False, 0.01, 1), (2, True, 0.05, 100), (2, False, 0.5, 1000), (10, False, 0.01, 1000), (10, True, 0.05, 1),
        (10, False, 0.5, 100), (100, True, 0.01, 100), (100, False, 0.05, 1000), (100, True, 0.5, 1))
WITHIN_ROWS = (*ROWS[:3], (4, True, 0.01, 1), (4, False, 0.05, 1000), (4, True, 0.5, 100), (6, False, 0.01, 1000),
               (6, True, 0.05, 1), (10, False, 0.5, 100))
PART_OF_RUNS = {2: 1.0, 10: 1.0, 100: 0.1}  # by classes; what a cell of so many costs
PART_WITHIN = {2: 1.0, 4: 1.0, 6: 0.1, 10: 0.01}


class Cell(NamedTuple):
    """One kind of mix; `truth` is the total variation distance of the canary from stable, in every window.

    With a skewed mix one rare class grows and all others shrink, with a uniform one every second class grows.
    """

    classes: int
    skewed: bool
    share: float
    look: int
    pattern: str
    truth: float
    turning: bool = False  # the sets that grow and shrink change places from window to window


def spans(cell: Cell, horizon: float = HORIZON, every: int = EVERY) -> Iterator[Span]:
    """Plan the looks: `every` of the stated size, then ever longer ones; a span of 0 waits for both versions."""
    total = horizon / cell.share
    shortest = cell.look if cell.look > 1 else 1 / (cell.share * (1 - cell.share)) - 1
    done, number = 0.0, 0
    while done < total:
        size = shortest if number < every else max(shortest, GROWTH * done)
        yield Span(round(size) if cell.look > 1 or number >= every else 0, min((done + size / 2) / total, 1.0))
        done, number = done + size, number + 1


class Mixes:
    """Windows of a cell; the mix breathes as the pattern says, the same in both versions."""

    def __init__(self, cell: Cell, runs: int, random: np.random.Generator) -> None:
        self.cell, self.random = cell, random
        share = 1 / np.arange(1, cell.classes + 1)**1.2 if cell.skewed else np.ones(cell.classes)
        self._logits = np.log(share / share.sum())
        self._sway = np.where(np.arange(cell.classes) % 2, -0.5, 0.5)
        grows = np.arange(cell.classes) == cell.classes // 2 if cell.skewed else np.arange(cell.classes) % 2 == 0
        self.grows = grows
        self._wander = np.zeros(runs)
        self.waiting = np.zeros((2, runs, cell.classes))

    def next(self, span: Span) -> Floats:
        """Return (2, runs, C) counts of stable and canary; where one has no request yet, all wait for the next look."""
        stable = self.mix(span)
        canary = self.moved(stable)
        if self.cell.turning:
            self.grows = ~self.grows
        requests = arrivals(span, self.cell.share, 1, len(self._wander), self.random)
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

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Go on with these runs alone."""
        self._wander, self.waiting = self._wander[kept], self.waiting[:, kept]

    def mix(self, span: Span) -> Floats:
        """Return stable's mix, (runs, C)."""
        sway = np.zeros(len(self._wander))
        if self.cell.pattern == "diurnal":
            sway += math.sin(2 * math.pi * DAYS * span.middle)
        elif self.cell.pattern == "drifting":
            sway += 2 * span.middle - 1
        elif self.cell.pattern == "autocorrelated":
            self._wander = 0.9 * self._wander + math.sqrt(1 - 0.9**2) * self.random.normal(size=len(sway))
            sway = np.clip(self._wander, -2, 2)
        found = np.exp(self._logits + sway[:, None] * self._sway)
        return np.asarray(found / found.sum(-1, keepdims=True))


def times(cell: Cell, verdict: str, runs: int, random: np.random.Generator, horizon: float = HORIZON,
          every: int = EVERY) -> Floats:
    """Return the canary requests at which each run first says the verdict; infinite: not before the horizon."""
    if verdict == "worse":
        gamblers, sets = difference_gamblers(MINIMUM, 1), np.zeros((0, cell.classes), bool)
    else:
        gamblers, sets = within_gamblers(MINIMUM)._replace(nulls=np.array([MINIMUM])), subsets(cell.classes)
    mixes, seen = Mixes(cell, runs, random), MixSeen.nothing((runs,), cell.classes)
    wealth = np.zeros((runs, 2 if verdict == "worse" else len(sets), 1, len(gamblers.effects)))
    found, going = np.full(runs, np.inf), np.arange(runs)
    for span in spans(cell, horizon, every):
        stable, canary = mixes.next(span)
        if verdict == "worse":
            wealth += worse_bet(gamblers, seen, stable, canary, MINIMUM)
            evidence = np.logaddexp.reduce(capital(gamblers, wealth)[..., 0], axis=-1) - math.log(2)
        else:
            wealth += set_bet(gamblers, seen, stable, canary, sets)
            evidence = capital(gamblers, wealth)[..., 0].min(axis=-1)
        seen = seen.after(stable, canary)
        over = evidence >= math.log(1 / ALPHA)
        found[going[over]] = seen.canary[over].sum(-1)
        kept = ~over & (evidence >= LOST)
        if not kept.all():
            mixes.keep(kept)
            going, wealth, seen = going[kept], wealth[kept], MixSeen(*(part[kept] for part in seen))
        if not len(going):
            break
    return found


def ever(cell: Cell, verdict: str, runs: int, seed: int) -> int:
    """Count the runs in which the verdict falls before the horizon."""
    return sum(int(np.isfinite(times(cell, verdict, min(CHUNK, runs - start), np.random.default_rng([seed, start]))
                               ).sum()) for start in range(0, runs, CHUNK))


def tables(runs: int, seed: int) -> list[Table]:
    """Return the tables of MixTest and of dependence.

    Args:
        runs: of a cell with two classes; more classes get fewer, as the rows say.
    """
    questions = (("worse", 0), ("worse", 1), ("within", 1), ("within", 2))
    return [*(_errors(verdict, multiple, runs, seed) for verdict, multiple in questions), _turning(runs, seed),
            _power(runs, seed), *dependence_cells.tables(runs, seed)]


def _errors(verdict: str, multiple: int, runs: int, seed: int) -> Table:
    parts = PART_OF_RUNS if verdict == "worse" else PART_WITHIN
    lines, worst = [], (-1.0, "")
    for row, (classes, skewed, share, look) in enumerate(ROWS if verdict == "worse" else WITHIN_ROWS):
        count, line = max(int(runs * parts[classes]), 20), []
        for pattern in PATTERNS:
            cell = Cell(classes, skewed, share, look, pattern, multiple * MINIMUM)
            found = ever(cell, verdict, count, seed + 1000 * row + PATTERNS.index(pattern) + 100 * multiple)
            line.append(written(found, count))
            bound = lower_bound(found, count) * 100
            worst = max(worst, (bound, f"{line[-1]} % ({classes} classes, share {share * 100:g} %, looks every "
                                       f"{look:,}, {pattern}; its lower 99.9 % bound {bound:.2f} %)"))
        lines.append((_named(classes, skewed), f"{share * 100:g} %", f"{look:,}", f"{count:,}", *line))
    truth = ("the mix is the same", "it differs by exactly the minimum effect",
             "it differs by twice the minimum effect")[multiple]
    return Table(
        f"MixTest: ever `{verdict}` although {truth}",
        f"Runs in per cent that ever say `{verdict}` within {HORIZON:,.0f} canary requests, ± Monte-Carlo standard "
        f"error; at most {ALPHA * 100:g} % are promised. Minimum effect {MINIMUM:g}. With a skewed mix one class "
        f"grows, with a uniform one every second. Highest lower bound: {worst[1]}.",
        ("classes", "share", "look every", "runs", *PATTERNS), lines)


def _turning(runs: int, seed: int) -> Table:
    lines = []
    for look in (1, 100, 1000):
        count = max(runs // 10, 20)
        cell = Cell(4, False, 0.5, look, "stationary", 2 * MINIMUM, turning=True)
        lines.append((f"{look:,}", f"{count:,}", *(f"{ever(cell, verdict, count, seed + look) / count * 100:.1f}"
                                                   for verdict in ("worse", "within"))))
    return Table(
        "MixTest: a difference that turns round from window to window",
        "4 classes, share 50 %, per cent of runs. The distance is twice the minimum effect in every window, but what "
        "grew in one window shrinks in the next, so that over two windows nothing moved. The promise of `within` is "
        "for one and the same set of classes in every window: this is not in it.",
        ("look every", "runs", "ever `worse`", "ever `within`"), lines)


def z_sample(cell: Cell) -> float:
    """Return the canary requests of the fixed z test, 90 % power, that is told which classes grow."""
    mixes = Mixes(cell, 1, np.random.default_rng(0))
    level = float(mixes.mix(Span(1, 0.0))[0] @ mixes.grows)
    grown = level + cell.truth
    noise = grown * (1 - grown) + level * (1 - level) * cell.share / (1 - cell.share)
    return FIXED * noise / (cell.truth - MINIMUM)**2


def chi_square_sample(cell: Cell, power: float = 0.9) -> float:
    """Return the canary requests that a chi-square test of equal mixes takes, planned beforehand and looked at once."""
    mixes = Mixes(cell, 1, np.random.default_rng(0))
    stable = mixes.mix(Span(1, 0.0))[0]
    canary = mixes.moved(stable)
    per_weight = float(((canary - stable)**2 / (cell.share * canary + (1 - cell.share) * stable)).sum())
    freedom = cell.classes - 1
    critical, low, high = float(chi2.ppf(1 - ALPHA, freedom)), 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if ncx2.sf(critical, freedom, middle) < power else (low, middle)
    return high / per_weight / (1 - cell.share)


def _power(runs: int, seed: int) -> Table:
    lines = []
    for classes, skewed in ((2, False), (10, False), (10, True), (100, False), (100, True)):
        count = max(int(runs * PART_OF_RUNS[classes] / 10), 20)
        line = []
        for multiple in (2, 5):
            cell = Cell(classes, skewed, 0.5, 100, "stationary", multiple * MINIMUM)
            found = times(cell, "worse", count, np.random.default_rng([seed, classes, multiple]), 4 * HORIZON, 400)
            median, late = np.sort(found)[[count // 2, int(0.95 * count)]]
            line += [f"{median:,.0f}", f"{late:,.0f}", f"{z_sample(cell):,.0f}", f"{chi_square_sample(cell):,.0f}"]
        lines.append((_named(classes, skewed), f"{count:,}", *line))
    heads = [f"{what}, distance {multiple * MINIMUM:g}" for multiple in (2, 5)
             for what in ("median", "p95", "z test", "chi-square")]
    return Table(
        "MixTest: canary requests until `worse`",
        f"Share 50 %, looks every 100 requests, minimum effect {MINIMUM:g}; inf: not within {4 * HORIZON:,.0f}. Beside "
        f"it two fixed samples with 90 % power, to be looked at once: of the z test that asks the same question and is "
        f"told which classes moved, and of a chi-square test, which asks whether the mixes are equal, not whether they "
        f"differ by more than {MINIMUM:g}: it fires on nothing with big samples.",
        ("classes", "runs", *heads), lines)


def _named(classes: int, skewed: bool) -> str:
    return f"{classes}, {'skewed' if skewed else 'uniform'}"
