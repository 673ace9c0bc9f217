"""Roll-outs of slow canaries: LatencyTest, Flagger's and Argo Rollouts' rules, on the traffic that they steer.

The traffic, the ladder and the rivals are those of `rollouts`, the bets those of `latency_cells`. Draws no picture and
writes no file.
"""

import math

import numpy as np
import numpy.typing as npt
from latency_cells import Bets, name
from latency_traffic import Sizes, ranks
from peers import Peeked
from rollouts import MINUTES, PER_SECOND, TICK, Argo, Flagger, Ladder, Outcome, drive
from scipy.special import ndtr, ndtri
from table import ALPHA, Table, written

from penstock.components.evidence.exceedance import RATIOS
from penstock.components.evidence.quantile import log_mix, window_size

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TOLERANCE, SIGMA = 0.05, 0.5  # SIGMA: of the logarithm of a service time
STABLE = (250, 450)  # milliseconds, stable's p99
SLOWER = (0.0, TOLERANCE, 0.1, 0.25, 1.0)
QUANTILES = (0.5, 0.99)
LIMIT = 500  # milliseconds, Flagger's
MINUTE = 60 * PER_SECOND  # requests
END = MINUTES * MINUTE
CLIMB = 5  # minutes, up to the highest weight and a minute at it
CHUNK = 5_000  # runs at once: a third less time than with 1,000
RULES = (*(f"LatencyTest {name(quantile)}" for quantile in QUANTILES), "Flagger", "Argo Rollouts",
         "score test, peeked every minute")


class Evidence:
    """The evidence of LatencyTest on one quantile, in many runs; `wealth` is (2, K, runs), one row for each verdict."""

    def __init__(self, bets: Bets, runs: int) -> None:
        self._bets = bets
        self.wealth = np.zeros((2, len(RATIOS), runs))

    def take(self, stable: Floats, canary: Floats, exceeding: Floats) -> None:
        """Take a window of each run; one without canary requests says nothing.

        Args:
            stable: (runs,) requests, at least one.
            canary: (runs,) requests.
            exceeding: (runs,) those of the canary slower than (1 + TOLERANCE) times the order statistic.
        """
        rows = self._bets.of(stable, canary)
        self.wealth += exceeding * rows[:, 0] - rows[:, 1]

    def says(self) -> Flags:
        """Return (2, runs): who is `worse` now, and who is `within`."""
        found = np.zeros((2, self.wealth.shape[2]), np.bool_)
        for verdict, wealth in zip(found, self.wealth, strict=True):
            may = np.flatnonzero(wealth.max(axis=0) >= math.log(1 / ALPHA))  # the mixture is below its best part
            verdict[may] = log_mix(wealth[:, may].T) >= math.log(1 / ALPHA)
        return found

    def keep(self, those: Flags) -> None:
        """Forget all other runs."""
        self.wealth = self.wealth[..., those]


def share(requests: Floats) -> Floats:
    """Return the canary's share on the ladder, after so many requests of both versions."""
    found: Floats = np.minimum(0.1 * (requests // MINUTE + 1), 0.5)
    return found


def judged(bets: Bets, slower: float, runs: int, rng: np.random.Generator) -> Outcome:
    """Let LatencyTest steer a canary for an hour: a step a minute, and its first verdict stands."""
    minutes, promoted, served = np.full(runs, math.inf), np.zeros(runs, np.bool_), np.zeros(runs)
    sizes, evidence = Sizes(window_size(bets.quantile), 1, runs), Evidence(bets, runs)
    who, now, within = np.arange(runs), np.zeros(runs), np.zeros(runs, np.bool_)
    shift = math.log((1 + TOLERANCE) / (1 + slower)) / SIGMA
    while len(who):
        planned = sizes.totals
        total = np.minimum(planned, END - now)
        canary = rng.binomial(total.astype(np.int64), share(now)).astype(float)
        stable = total - canary
        sizes.after(stable, total)
        now += total
        served[who] += canary
        counts = (total == planned) & (stable > 0) & (canary > 0)
        known, compared = np.maximum(stable, 1), np.where(counts, canary, 0.0)
        rank = ranks(known, bets.quantile)
        beyond = ndtr(ndtri(rng.beta(rank, known - rank + 1)) - shift)
        evidence.take(known, compared, rng.binomial(compared.astype(np.int64), beyond).astype(float))
        says = evidence.says()
        worse = says[0] & ~within & counts
        within |= says[1] & ~worse & counts
        goes = within & (now >= CLIMB * MINUTE)
        minutes[who[worse]] = now[worse] / MINUTE
        promoted[who[goes]] = True
        served[who[goes]] += END - now[goes]
        left = ~worse & ~goes & (now < END)
        if not left.all():
            who, now, within = who[left], now[left], within[left]
            evidence.keep(left)
            sizes = Sizes(window_size(bets.quantile), 1, len(who))
            sizes.after(stable[left], total[left])
    return Outcome(minutes, promoted, served)


def ours(bets: Bets, slower: float, runs: int, seed: int) -> Outcome:
    """Return what `judged` does, a chunk of runs at a time."""
    parts = [judged(bets, slower, min(CHUNK, runs - begin),
                    np.random.default_rng([seed, round(1000 * bets.quantile), round(1000 * slower), begin]))
             for begin in range(0, runs, CHUNK)]
    return Outcome(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def beyond(ratio: float, slower: float) -> float:
    """Return the share of the canary's requests slower than `ratio` times stable's p99."""
    return float(ndtr(-ndtri(0.99) - math.log(ratio / (1 + slower)) / SIGMA))


def flagger(stable: float, slower: float, runs: int, seed: int) -> Outcome:
    """Return the roll-outs of Flagger's request-duration where stable's p99 is so many milliseconds.

    The P99 of a minute is above LIMIT exactly when more than 1 % of its requests are slower, as with errors.
    """
    return drive(Flagger(runs), 0.0, beyond(LIMIT / stable, slower), runs, seed)


def score(slower: float, runs: int, seed: int) -> Outcome:
    """Return the roll-outs of a score test on the requests beyond stable's true p99, and beyond what is tolerated."""
    rule = Ladder(Peeked(0.0, runs), runs, 60 // TICK, 0.1, CLIMB, promotes=True)
    return drive(rule, 0.01, beyond(1 + TOLERANCE, slower) - 0.01, runs, seed)


def tables(runs: int, seed: int) -> list[Table]:
    """Return one table: each rule on each canary."""
    every = [Bets(quantile) for quantile in QUANTILES]
    alike: list[dict[str, Outcome]] = []  # by SLOWER; the same for every stable
    for at, slower in enumerate(SLOWER):
        alike.append({f"LatencyTest {name(bets.quantile)}": ours(bets, slower, runs, seed) for bets in every})
        alike[at]["Argo Rollouts"] = drive(Argo(runs), 0.0, 0.0, runs, seed + 10 * at)
        alike[at]["score test, peeked every minute"] = score(slower, runs, seed + 10 * at + 1)
    rows = []
    for number, stable in enumerate(STABLE):
        for at, slower in enumerate(SLOWER):
            found = {**alike[at], "Flagger": flagger(stable, slower, runs, seed + 10 * at + 2 + number)}
            rows += [(f"{stable} ms", f"+{slower * 100:g} %", rule, *_row(found[rule], slower)) for rule in RULES]
    return [Table("Roll-outs: slow answers served before the roll-back", _note(runs),
                  ("p99 of stable", "slower by", "rule", "rolled back, %", "promoted, %",
                   "minutes to roll-back, median", "slow answers, mean", "p95"), rows)]


def _row(found: Outcome, slower: float) -> tuple[str, ...]:
    """Return the numbers of a row; wrong ends of a roll-out with their error."""
    back = np.isfinite(found.minutes)
    slow = found.served * (slower > 0)

    def rate(those: Flags, wrong: bool) -> str:
        return written(int(those.sum()), len(those)) if wrong else f"{those.mean() * 100:.1f}"

    return (rate(back, slower <= TOLERANCE), rate(found.promoted, slower >= TOLERANCE),
            f"{np.median(found.minutes[back]):.2f}" if back.any() else "-", f"{slow.mean():,.0f}",
            f"{np.quantile(slow, 0.95):,.0f}")


def _note(runs: int) -> str:
    return (
        f"{PER_SECOND} requests a second, {runs:,} runs a row, one hour; service times are log-normal with a sigma of "
        f"{SIGMA:g}. Slow answers: all that a canary answers which is slower than stable, until the roll-back or the "
        f"end of the hour, and none of a canary like stable; a promoted canary has all the traffic, and one that is "
        f"neither promoted nor rolled back has its half at the end. LatencyTest tolerates {TOLERANCE * 100:g} %, at "
        f"one quantile. To roll back at +0 and +{TOLERANCE * 100:g} % is wrong, and so is to promote at "
        f"+{TOLERANCE * 100:g} % and more (at the tolerance itself either is): those cells are rates of error with "
        f"their Monte-Carlo standard error, and LatencyTest promises at most {ALPHA * 100:g} % in each. The others "
        f"promise nothing. The same seed gives the same text.\n\n"
        f"LatencyTest and the score test take Flagger's weights, 10 to 50 in steps of 10 a minute, wait at 50 for a "
        f"verdict, and promote with `within`, not before {CLIMB} minutes. LatencyTest is asked after each request; a "
        f"window has the share of the minute in which it begins, a verdict holds from the end of its window, and the "
        f"first one stands. The shipped test counts in bins of a tenth of the tolerance, at the end that costs it, and "
        f"so is wrong a little less often, and a little later. The score test counts requests slower than a bound: of "
        f"stable its true p99, which nobody knows and the test is told, of the canary {1 + TOLERANCE:g} times that.\n\n"
        f"Flagger's settings are those of its documentation: `interval: 1m`, `threshold: 5` (failed checks until it "
        f"rolls back), `stepWeight: 10`, `maxWeight: 50`, request-duration (P99 in milliseconds) with "
        f"`thresholdRange: max: {LIMIT}` over `1m`; P99 here is exact, not read from buckets. That limit is absolute: "
        f"it knows nothing of stable. The example in the documentation of Argo Rollouts measures the success rate "
        f"alone, so it promotes whatever is slow. Only Flagger's rows depend on stable's milliseconds; the others are "
        f"the same draws for both.")
