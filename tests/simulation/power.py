"""How many requests a verdict takes, beside the fixed sample and the rivals in `peers`.

Draws no picture and writes no file.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from peers import Bets, Judge, Peeked, PerArm, Projected, fixed_sample, z_score
from rate_cells import TOLERANCES, Cell, Seen, Span, Traffic
from scipy.stats import norm
from table import ALPHA, Table, written

Floats = npt.NDArray[np.float64]

LOOK = 100
GROWTH = 0.01  # of a step against all requests before it, once that is more than a look
STEP = 0.03  # the same, where false verdicts are counted
HORIZON = 5  # times the fixed sample
POWER_SHARES = (0.05, 0.2, 0.5)
TOLERANCE = 0.001
MORE = (0.005, 0.01, 0.02, 0.05)
BASELINES = (0.001, 0.01)
GOOD = ((0.001, 0.001), (0.001, 0.005), (0.001, 0.01), (0.01, 0.005), (0.01, 0.01), (0.01, 0.02), (0.1, 0.02),
        (0.1, 0.05))  # stable's errors, tolerance
RIVALS: Mapping[str, Callable[[float, int], Judge]] = {
    "RateTest": Bets, "2x2 e-process": Projected, "intervals per arm": PerArm, "score test, peeked": Peeked}


class Race(NamedTuple):
    """By judge, the canary requests after which it said so, inf where it never did; each (runs,)."""

    worse: dict[str, Floats]
    within: dict[str, Floats]
    seen: Seen


def race(cell: Cell, canary_requests: float, runs: int, seed: int, judges: Mapping[str, Callable[[float, int], Judge]],
         growth: float = GROWTH) -> Race:
    """Show the same windows to all judges until the canary has had so many requests."""
    random = np.random.default_rng(seed)
    traffic, seen = Traffic(cell, runs, random), Seen(*np.zeros((4, runs)))
    sitting = {name: judge(cell.tolerance, runs) for name, judge in judges.items()}
    found = {verdict: {name: np.full(runs, math.inf) for name in judges} for verdict in ("worse", "within")}
    done, total = 0.0, canary_requests / cell.share
    while done < total:
        size = max(cell.look, round(growth * done))
        window = traffic.next(Span(size, done / total))
        seen, done = seen.after(window), done + size
        for name, judge in sitting.items():
            for verdict, said in zip(("worse", "within"), judge.look(window), strict=True):
                open_ = ~np.isfinite(found["worse"][name]) & ~np.isfinite(found["within"][name])
                found[verdict][name][said & open_] = seen.canary[said & open_]
    return Race(found["worse"], found["within"], seen)


def tables(runs: int, seed: int, quick: bool = False, speeds: bool = True, errors: bool = True) -> list[Table]:
    """Return the tables of speed, for bad canaries and for good ones, and of false alarms.

    Args:
        quick: a few rows only.
        speeds: whether the first two are asked for.
        errors: whether the last one is.
    """
    bad = [(baseline, share, more) for baseline in BASELINES for share in POWER_SHARES for more in MORE]
    good = [(baseline, tolerance, share) for baseline, tolerance in GOOD for share in POWER_SHARES]
    if quick:
        bad, good = bad[3:4] + bad[-1:], good[-1:]
    found = [_bad(bad, runs, seed), _good(good, runs, seed)] if speeds else []
    return [*found, *([_false(runs, seed, quick)] if errors else [])]


def _speeds(found: dict[str, Floats], planned: float) -> tuple[str, ...]:
    """Return the fixed sample; of RateTest median, mean, p95, verdicts, and its price; then the rivals' medians."""
    capped = {name: np.minimum(times, HORIZON * planned) for name, times in found.items()}
    reached = {name: f"{np.isfinite(times).mean() * 100:.1f}" for name, times in found.items()}
    ours = capped["RateTest"]
    price = " / ".join(f"{value / planned:.2f}" for value in (ours.mean(), *np.quantile(ours, (0.5, 0.9))))
    return (f"{planned:,.0f}", f"{np.median(ours):,.0f}", f"{ours.mean():,.0f}", f"{np.quantile(ours, 0.95):,.0f}",
            reached["RateTest"], price,
            *(f"{np.median(capped[name]):,.0f} ({reached[name]} %)" for name in RIVALS if name != "RateTest"))


HEADERS = ("fixed sample", "median", "mean", "p95", "reached, %", "mean / median / p90 : fixed", "2x2 e-process",
           "intervals per arm", "score test, peeked")
READ = (f"Looks every {LOOK} requests, and every {GROWTH * 100:g} % more once that is longer, up to {HORIZON} times "
        f"the fixed sample; numbers are canary requests, capped there. The fixed sample is that of the one-sided score "
        f"test (Farrington and Manning 1990) at {ALPHA * 100:g} %, planned for a power of 90 % at exactly this effect, "
        f"which nobody knows beforehand. The rivals' numbers are medians, and how many of their runs reach the "
        f"verdict.")


def _bad(rows: list[tuple[float, float, float]], runs: int, seed: int) -> Table:
    lines, prices = [], []
    for index, (baseline, share, more) in enumerate(rows):
        cell = Cell(baseline, share, LOOK, "stationary", TOLERANCE, more)
        planned = fixed_sample(baseline, TOLERANCE, more, share)
        found = race(cell, HORIZON * planned, runs, seed + index, RIVALS).worse
        prices.append(float(np.minimum(found["RateTest"], HORIZON * planned).mean()) / planned)
        lines.append((f"{baseline * 100:g} %", f"{share * 100:g} %", f"+{more * 100:g}", *_speeds(found, planned)))
    return Table(
        "Canary requests until a bad canary is called `worse`",
        f"Tolerance {TOLERANCE * 100:g} points, {runs:,} runs a row. {READ} The mean price of looking whenever one "
        f"likes, against the fixed sample: {min(prices):.2f} to {max(prices):.2f}, median {np.median(prices):.2f}; the "
        f"score test that is peeked at pays with its false alarms, two tables below.",
        ("errors of stable", "share", "points more", *HEADERS), lines)


def _good(rows: list[tuple[float, float, float]], runs: int, seed: int) -> Table:
    lines, prices = [], []
    for index, (baseline, tolerance, share) in enumerate(rows):
        cell = Cell(baseline, share, LOOK, "stationary", tolerance, 0.0)
        planned = fixed_sample(baseline, tolerance, 0, share)
        found = race(cell, HORIZON * planned, runs, seed + 100 + index, RIVALS).within
        prices.append(float(np.minimum(found["RateTest"], HORIZON * planned).mean()) / planned)
        lines.append((f"{baseline * 100:g} %", f"{tolerance * 100:g}", f"{share * 100:g} %", *_speeds(found, planned)))
    return Table(
        "Canary requests until a canary that is like stable is called `within`",
        f"{runs:,} runs a row; the tolerance is in points. {READ} The mean price: {min(prices):.2f} to "
        f"{max(prices):.2f}, median {np.median(prices):.2f}.",
        ("errors of stable", "tolerance", "share", *HEADERS), lines)


def _false(runs: int, seed: int, quick: bool) -> Table:
    """Return who is how often wrong when looked at every 100 requests."""
    cells = [(baseline, tolerance, share) for baseline, tolerance in TOLERANCES.items() for share in (0.05, 0.5)]
    requests, lines = 20_000, []
    for index, (baseline, tolerance, share) in enumerate(cells[-1:] if quick else cells):
        for multiple, verdicts in ((0, ("worse",)), (1, ("worse", "within"))):
            cell = Cell(baseline, share, LOOK, "stationary", tolerance, multiple * tolerance)
            found = race(cell, requests, runs, seed + 200 + 10 * index + multiple, RIVALS, STEP)
            score, ready = z_score(found.seen, tolerance)
            for verdict in verdicts:
                once = int((ready & (score * (1 if verdict == "worse" else -1) > norm.ppf(1 - ALPHA))).sum())
                ever = {name: int(np.isfinite(times).sum()) for name, times in getattr(found, verdict).items()}
                lines.append((f"{baseline * 100:g} %", f"{tolerance * 100:g}", f"{share * 100:g} %",
                              "= tolerance" if multiple else "0", f"`{verdict}`", written(once, runs),
                              *(written(ever[name], runs) for name in RIVALS)))
    return Table(
        "False verdicts of the rivals, stationary traffic",
        f"Runs in per cent that ever say so within {requests:,} canary requests, looks every {LOOK} requests and every "
        f"{STEP * 100:g} % more, {runs:,} runs a row.",
        ("errors of stable", "tolerance", "share", "truth", "verdict", "score test once, at the end", *RIVALS), lines)
