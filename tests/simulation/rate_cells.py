"""How often RateTest is wrong: traffic drawn cell by cell, and the shipping bets on it, thousands of runs at a time.

Draws no picture and writes no file.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from peers import fixed_sample
from table import ALPHA, Table, located, written

from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.rate import difference_gamblers

Floats = npt.NDArray[np.float64]

CHUNK = 1000  # runs at once, so that the arrays stay in the processor's cache
EVERY = 120  # looks of the stated size, before the steps grow
GROWTH = 0.08  # of a step, against all requests before it
HORIZON = 10  # times the fixed sample of the cell
DAYS = 5  # in the horizon
LOST = -10.0  # log evidence at which a run is given up: it comes back with probability e^-13 at most (Ville)
SESSIONS = (1, 5, 20)  # requests of a session, equally often
BLOCK = max(SESSIONS)
TOLERANCES = {0.001: 0.001, 0.01: 0.005, 0.1: 0.02}  # by baseline
SHARES = (0.01, 0.05, 0.5)
LOOKS = (1, 100, 1000)
PATTERNS = ("stationary", "diurnal", "drifting", "autocorrelated", "sessions")
QUESTIONS = (("worse", 0), ("worse", 1), ("within", 1), ("within", 2))  # verdict, truth in tolerances


class Cell(NamedTuple):
    """One kind of traffic; `truth` is what the canary's share of events is above stable's, in every window."""

    baseline: float
    share: float
    look: int
    pattern: str
    tolerance: float
    truth: float
    block: int = 1
    sessions: tuple[int, ...] = SESSIONS  # requests of one, each equally often; where the pattern is sessions


class Span(NamedTuple):
    """The traffic between two looks: how many requests, and where its middle is on the way to the horizon, 0 to 1."""

    requests: int
    middle: float


def horizon(cell: Cell) -> int:
    """Return the canary requests up to which "ever" goes."""
    return math.ceil(HORIZON * cell.block * fixed_sample(cell.baseline, cell.tolerance, 0, cell.share))


def spans(cell: Cell) -> Iterator[Span]:
    """Plan the looks: `EVERY` of the stated size, then ever longer ones; those of one request wait for both arms."""
    total = horizon(cell) / cell.share
    shortest = cell.look if cell.look > 1 else 1 / (cell.share * (1 - cell.share)) - 1
    done, number = 0.0, 0
    while done < total:
        size = shortest if number < EVERY else max(shortest, GROWTH * done)
        yield Span(round(size) if cell.look > 1 or number >= EVERY else 0, min((done + size / 2) / total, 1.0))
        done, number = done + size, number + 1


def arrivals(span: Span, share: float, units: float, runs: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw how many units (requests, sessions) stable and the canary get.

    A span of 0 requests is the shortest window in which both get one: all but one belong to who came first.
    """
    if span.requests:
        count = max(round(span.requests / units), 1)
        canary = random.binomial(count, share, runs).astype(float)
        return count - canary, canary
    first = random.random(runs) < share
    many = random.geometric(np.where(first, 1 - share, share)).astype(float)
    return np.where(first, 1.0, many), np.where(first, many, 1.0)


class Traffic:
    """Windows of a cell; the base rate is shared by both arms, and moves as the pattern says."""

    def __init__(self, cell: Cell, runs: int, random: np.random.Generator) -> None:
        self.cell, self.runs, self.random = cell, runs, random
        self._wander = np.zeros(runs)
        self._deferred = np.zeros((2, 2, runs))  # of a session that the look cut in two: stable, canary; events, all
        self.waiting = Window(*np.zeros((4, runs)))

    def next(self, span: Span) -> Window:
        """Return the window that ends with this look; where an arm has no request yet, it goes on with the next."""
        cell, random = self.cell, self.random
        stable_rate = self._base(span)
        canary_rate = np.minimum(stable_rate + cell.truth, 1.0)
        if cell.pattern == "sessions":
            counts = arrivals(span, cell.share, float(np.mean(cell.sessions)), self.runs, random)
            drawn = [self._sessions(arm, rate, number)
                     for arm, (rate, number) in enumerate(zip((stable_rate, canary_rate), counts, strict=True))]
        else:
            counts = arrivals(span, cell.share, 1, self.runs, random)
            drawn = [(random.binomial(number.astype(np.int64), rate).astype(float), number)
                     for rate, number in zip((stable_rate, canary_rate), counts, strict=True)]
        now = Window(*(before + more for before, more in zip(self.waiting, [*drawn[0], *drawn[1]], strict=True)))
        complete = (now.stable > 0) & (now.canary > 0)
        self.waiting = Window(*(np.where(complete, 0.0, part) for part in now))
        return Window(*(np.where(complete, part, 0.0) for part in now))

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Go on with these runs alone."""
        self._wander, self._deferred = self._wander[kept], self._deferred[..., kept]
        self.waiting = Window(*(part[kept] for part in self.waiting))
        self.runs = int(kept.sum())

    def _base(self, span: Span) -> Floats:
        baseline = np.full(self.runs, self.cell.baseline)
        if self.cell.pattern == "diurnal":
            return baseline * (1 + 0.8 * math.sin(2 * math.pi * DAYS * span.middle))
        if self.cell.pattern == "drifting":
            return baseline * (1 + 2 * span.middle)
        if self.cell.pattern == "autocorrelated":
            self._wander = 0.9 * self._wander + math.sqrt(1 - 0.9**2) * 0.5 * self.random.normal(size=self.runs)
            return np.minimum(baseline * np.exp(self._wander - 0.5**2 / 2), 0.8)
        return baseline

    def _sessions(self, arm: int, rate: Floats, number: Floats) -> tuple[Floats, Floats]:
        """Draw sessions whose requests all end alike; a part of one of the longest falls behind the look."""
        left = number.astype(np.int64)
        events, requests = self._deferred[arm].copy()
        for place, size in enumerate(self.cell.sessions):
            of_size = self.random.binomial(left, 1 / (len(self.cell.sessions) - place))
            left = left - of_size
            bad = self.random.binomial(of_size, rate)
            events, requests = events + size * bad, requests + size * of_size
        cut = np.where(of_size > 0, self.random.integers(0, size, self.runs), 0)
        outcome = self.random.random(self.runs) < bad / np.maximum(of_size, 1)
        self._deferred[arm] = cut * outcome, cut
        return events - cut * outcome, requests - cut


def ever(cell: Cell, verdict: str, runs: int, seed: int) -> int:
    """Count the runs in which the verdict falls before the horizon."""
    found = 0
    for start in range(0, runs, CHUNK):
        random = np.random.default_rng([seed, start])
        found += _ever(cell, verdict, min(CHUNK, runs - start), random)
    return found


def _ever(cell: Cell, verdict: str, runs: int, random: np.random.Generator) -> int:
    gamblers = difference_gamblers(cell.tolerance, 1 if verdict == "worse" else -1)
    traffic, seen = Traffic(cell, runs, random), Seen(*np.zeros((4, runs)))
    wealth = np.zeros((runs, 1, len(gamblers.effects)))
    reached = 0
    for span in spans(cell):
        window = Window(*(part / cell.block for part in traffic.next(span)))
        wealth += bet(gamblers, seen, window)
        seen = seen.after(window)
        evidence = capital(gamblers, wealth)[:, 0]
        over = evidence >= math.log(1 / ALPHA)
        reached += int(over.sum())
        gone = over | (evidence < LOST)
        if gone.any() and (over.any() or gone.mean() > 0.1):
            kept = ~gone
            traffic.keep(kept)
            wealth, seen = wealth[kept], Seen(*(part[kept] for part in seen))
        if not len(wealth):
            break
    return reached


def plan(baseline: float, share: float, look: int, pattern: str, multiple: int) -> Cell:
    """Return the cell of a row, a column and a truth."""
    tolerance = TOLERANCES[baseline]
    return Cell(baseline, share, look, pattern, tolerance, multiple * tolerance, BLOCK if pattern == "sessions" else 1)


def tables(runs: int, seed: int, cells: tuple[tuple[float, float, int], ...] = (),
           questions: tuple[tuple[str, int], ...] = QUESTIONS) -> list[Table]:
    """Return one table per question.

    Args:
        cells: baseline, share and look of the rows; () stands for all 27.
        questions: verdict, and the truth in tolerances, of the tables.
    """
    rows = cells or tuple((baseline, share, look) for baseline in TOLERANCES for share in SHARES for look in LOOKS)
    return [_table(verdict, multiple, rows, runs, seed) for verdict, multiple in questions]


def _table(verdict: str, multiple: int, rows: tuple[tuple[float, float, int], ...], runs: int, seed: int) -> Table:
    lines, worst = [], (-1, "")
    for baseline, share, look in rows:
        line = []
        for pattern in PATTERNS:
            cell = plan(baseline, share, look, pattern, multiple)
            name = [seed, hash_of(verdict), multiple, round(baseline * 1e4), round(share * 100), look,
                    PATTERNS.index(pattern)]
            found = ever(cell, verdict, runs, int(np.random.SeedSequence(name).generate_state(1)[0]))
            line.append(written(found, runs))
            place = f"{baseline * 100:g} %, share {share * 100:g} %, looks every {look:,}, {pattern}"
            worst = max(worst, located(found, runs, place))
        first = plan(baseline, share, look, PATTERNS[0], multiple)
        lines.append((f"{baseline * 100:g} %", f"{share * 100:g} %", f"{look:,}", f"{horizon(first):,}", *line))
    truth = ("the canary is exactly like stable", "the canary is worse by exactly the tolerance",
             "the canary is worse by twice the tolerance")[multiple]
    return Table(
        f"RateTest: ever `{verdict}` although {truth}",
        f"Runs in per cent that ever say `{verdict}` before the horizon, ± Monte-Carlo standard error, {runs:,} runs a "
        f"cell; at most {ALPHA * 100:g} % are promised. Worst cell: {worst[1]}.",
        ("errors of stable", "share", "look every", "horizon", *PATTERNS), lines)


def hash_of(text: str) -> int:
    """Return a number for a text, the same in every process."""
    return int.from_bytes(text.encode()[:4], "big")
