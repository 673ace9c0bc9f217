"""Where judging all traffic at once goes wrong: shares that climb while errors come and go, and unstated sessions.

Draws no picture and writes no file.
"""

import math

import numpy as np
from peers import Bets, Peeked, PerArm, Projected
from rate_cells import Cell, Window, ever
from table import ALPHA, Table, written

TOLERANCE = 0.005
LOOK = 1000
STEPS = ((0.01, 20), (0.05, 20), (0.5, 50))  # share, looks
FALLING = (0.05, 0.03, 0.005)  # errors of stable in the middle of each step; they swing by a fifth around it
JUDGES = {"RateTest": Bets, "2x2 e-process": Projected, "intervals per arm, pooled": PerArm,
          "score test, pooled, peeked": Peeked}


def tables(runs: int, seed: int) -> list[Table]:
    """Return the table of climbing shares and that of unstated sessions."""
    return [_climbing(runs, seed), _sessions(runs, seed)]


def _climbing(runs: int, seed: int) -> Table:
    lines = []
    for levels in (FALLING, FALLING[::-1]):
        says = ", ".join(f"{level * 100:g}" for level in levels) + " %"
        for more, verdict in ((0.0, "worse"), (TOLERANCE, "worse"), (TOLERANCE, "within"), (2 * TOLERANCE, "within")):
            found = _count(levels, more, verdict, runs, seed)
            lines.append((says, f"+{more * 100:g}", f"`{verdict}`", *(written(found[name], runs) for name in JUDGES)))
    steps = ", ".join(f"{looks * LOOK:,} requests at a share of {share * 100:g} %" for share, looks in STEPS)
    return Table(
        "Shares that climb while the base rate breathes",
        f"{steps}, a look every {LOOK:,}; tolerance {TOLERANCE * 100:g} points; errors of stable in the three steps "
        f"as stated, swinging by a fifth. What is pooled over the whole roll-out compares the canary's night with "
        f"stable's whole day: it calls a canary {TOLERANCE * 100:g} points beyond the tolerance `within`, or one that "
        f"is exactly like stable `worse`. False verdicts in per cent, {runs:,} runs a row.",
        ("errors of stable", "truth, points", "verdict", *JUDGES), lines)


def _count(levels: tuple[float, ...], more: float, verdict: str, runs: int, seed: int) -> dict[str, int]:
    random = np.random.default_rng([seed, round(levels[0] * 1e4), round(more * 1e4)])
    judges = {name: judge(TOLERANCE, runs) for name, judge in JUDGES.items()}
    over = {name: np.zeros((2, runs), bool) for name in JUDGES}
    looks = [(share, level, number) for (share, many), level in zip(STEPS, levels, strict=True)
             for number in range(many)]
    for share, level, number in looks:
        base = level * (1 + 0.2 * math.sin(number / 3))
        canary = random.binomial(LOOK, share, runs)
        window = Window(random.binomial(LOOK - canary, base).astype(float), (LOOK - canary).astype(float),
                        random.binomial(canary, base + more).astype(float), canary.astype(float))
        whole = (canary > 0) & (canary < LOOK)
        window = Window(*(np.where(whole, part, 0.0) for part in window))
        for name, judge in judges.items():
            said = np.stack(judge.look(window))
            over[name] |= said & ~over[name].any(axis=0)
    return {name: int(found[0 if verdict == "worse" else 1].sum()) for name, found in over.items()}


def _sessions(runs: int, seed: int) -> Table:
    lines = []
    for size in (1, 5, 20):
        for verdict, more in (("worse", 0.0), ("worse", TOLERANCE), ("within", TOLERANCE)):
            line = []
            for block in (1, size):
                cell = Cell(0.01, 0.2, 100, "sessions", TOLERANCE, more, block, (size,))
                line.append(written(ever(cell, verdict, runs, seed + size), runs))
            lines.append((f"{size}", f"+{more * 100:g}", f"`{verdict}`", *line))
    return Table(
        "A warning: sessions that nobody told the test of",
        f"All requests of a session end alike; errors 1 %, share 20 %, tolerance {TOLERANCE * 100:g} points, looks "
        f"every 100 requests. Counted as if independent, the promise of {ALPHA * 100:g} % is void; with `block` at the "
        f"longest session it holds. False verdicts in per cent, {runs:,} runs a row.",
        ("requests a session", "truth, points", "verdict", "without `block`", "with `block`"), lines)
