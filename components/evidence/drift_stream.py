"""Has the distribution of a stream left that of a fixed reference? A detector that may be asked after every batch.

An e-detector (Shin, Ramdas, Rinaldo 2023): gamblers bet that some share (of a class, or of scores up to a quantile of
the reference) is above, or below, anything that the reference allows; at every request new ones begin, with capital 1
in all. While nothing has changed nobody gains on average, so the capital on the table is expected to be the number of
requests at most, and an alarm at capital A comes after A requests on average, or later, however often one looks.

The reference is finite: bets are against the end of each share's confidence interval, widened by `tolerance`, so the
promise holds with probability `level` over references. Inside these limits the stream may change as it likes, for
example with the hour; conformal martingales promise nothing there (docs/decisions/0014). Arithmetic only.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, logsumexp

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.drift_bets import bets, capital_after, growth

__all__ = ["DriftDecision", "DriftMonitor"]

Floats = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


class DriftDecision(NamedTuple):
    """What is known now.

    Attributes:
        drifting: an alarm was raised, and not answered by `restart`; the rest is what was known when it was raised.
        reason: one sentence for a person.
        log_e: natural logarithm of the capital on the table now.
        threshold: an alarm is raised where `log_e` reaches it: the logarithm of `arl`.
        samples: requests seen since the beginning or the last restart.
        since: where the change seems to begin: `samples` at the end of the batch before it; 0 without an alarm.
        part: class or quantile that shows the change most, as an index; -1 without an alarm.
        reference: the share of `part` in the reference; 0 without an alarm.
        share: the same since the change.
    """

    drifting: bool
    reason: str
    log_e: float
    threshold: float
    samples: int
    since: int
    part: int
    reference: float
    share: float


class DriftMonitor:
    """Watches a stream of predicted classes, or of scores; made by `of_classes`, `of_scores` or `from_state`.

    Promised with probability `level` over references: as long as every share stays within its limits, given all that
    came before, the mean number of requests until an alarm is at least `arl`, and an alarm within the first T requests
    has probability T / arl at most. An `update` is one batch, looked at when it ends: closed by the clock or by a
    count, never because of what is in it, and sessions stay whole. A change that stays within the limits is not found.

    Attributes:
        lower: (k,) smallest share of each part that is no drift.
        upper: (k,) largest.
        shares: (k,) in the reference.
        edges: (k,) a score up to it belongs to the part; None for classes.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self._options = {name: state["options"][name] for name in ("tolerance", "arl", "level", "block")}
        _check(**self._options)
        self.shares, self.lower, self.upper = (np.array(state[name], float) for name in ("shares", "lower", "upper"))
        self.edges = None if state["edges"] is None else np.array(state["edges"], float)
        if not self.shares.shape == self.lower.shape == self.upper.shape == (self.shares.size,):
            raise ValueError(f"{self.shares.shape} shares, {self.lower.shape} and {self.upper.shape} limits")
        self._bets = bets(self.lower, self.upper)
        self._samples = int(state["samples"])
        self._log_capital = np.array([-np.inf if one is None else one for one in state["log_capital"]], float)
        self._rise, self._begun = np.array(state["rise"], float), np.array(state["begun"], np.int64)
        if not self._log_capital.shape == self._rise.shape == self._begun.shape == self._bets.part.shape:
            raise ValueError(f"{len(self._bets.part)} bet, {len(self._log_capital)} capitals")
        if self._samples < 0 or not (self._log_capital < np.inf).all() or not np.isfinite(self._rise).all():
            raise ValueError(f"{self._samples} samples, capitals {state['log_capital']}, sums {state['rise']}")
        self._alarm = None if state["alarm"] is None else DriftDecision(*state["alarm"])

    @classmethod
    def of_classes(cls, reference: npt.ArrayLike, *, tolerance: float = 0.0, arl: float = 1e6, level: float = 0.99,
                   block: int = 1) -> Self:
        """Watch predicted classes 0 .. k-1.

        Args:
            reference: (k,) how often each class was predicted in the reference.
            tolerance: change of a share that does not matter, absolute: 0.01 is 1 point.
            arl: average run length: mean requests until a false alarm, at least.
            level: simultaneous confidence of the limits that the reference sets (Clopper and Pearson, Bonferroni).
            block: requests of a session at most; 1: every request is independent.

        Raises:
            ConfigError: an option is out of its range.
            ContractError: these are no counts of 2 classes or more, or so few that no change could be shown.
        """
        counts = _counts(reference)
        if len(counts) < 2 or not counts.sum():
            raise ContractError(f"{len(counts)} classes with {counts.sum():g} rows are no reference; give at least 2 "
                                "classes, and rows")
        rows = int(counts.sum())
        return cls._begin(rows, counts / rows, counts, counts, 2 * len(counts), None, tolerance, arl, level, block)

    @classmethod
    def of_scores(cls, reference: npt.ArrayLike, *, quantiles: Sequence[float] = QUANTILES, tolerance: float = 0.0,
                  arl: float = 1e6, level: float = 0.99, block: int = 1) -> Self:
        """Watch scores, by the shares of them up to some quantiles of the reference.

        The share up to the m-th smallest of n reference scores is Beta(m, n - m + 1) distributed, whatever the scores
        are. Where several are equal, the shares up to and below them are both watched.

        Args:
            reference: (n,) finite numbers.
            quantiles: of the reference, increasing.
            tolerance, arl, level, block: as for `of_classes`.

        Raises:
            ConfigError: an option is out of its range.
            ContractError: NaN, infinity, or so few scores that no change could be shown.
        """
        q, scores = np.asarray(quantiles, dtype=float), np.asarray(reference, dtype=float)
        if q.ndim != 1 or not len(q) or not ((q > 0) & (q < 1)).all() or (np.diff(q) <= 0).any():
            raise ConfigError(f"quantiles={tuple(quantiles)} must increase between 0 and 1, for example {QUANTILES}")
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise ContractError(f"a reference of shape {scores.shape} with {np.count_nonzero(~np.isfinite(scores))} "
                                "NaN or infinite values is no sample; give finite scores, (n,)")
        scores, rows = np.sort(scores), len(scores)
        ranks = np.ceil(q * rows)
        edges, first, shared = np.unique(scores[ranks.astype(int) - 1], return_index=True, return_counts=True)
        last_rank, first_rank = ranks[first + shared - 1], ranks[first]
        below, upto = (np.searchsorted(scores, edges, side=side).astype(float) for side in ("left", "right"))
        tied = upto - below > 1
        every = np.concatenate([upto, below[tied]])
        return cls._begin(rows, every / rows, np.concatenate([last_rank, below[tied]]),
                          np.concatenate([upto, first_rank[tied] - 1]), 4 * len(q),
                          np.concatenate([edges, np.nextafter(edges[tied], -np.inf)]), tolerance, arl, level, block)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore a monitor: it goes on as if nothing had happened.

        Raises:
            ContractError: the state is of something else, or damaged.
        """
        given = state.get("test") if isinstance(state, dict) else state
        if given != cls.__name__:
            raise ContractError(f"this is the state of {given!r}, not of {cls.__name__}")
        try:
            return cls(state)
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
            raise ContractError(f"the state of {cls.__name__} is damaged ({error!r}); begin it anew") from error

    @classmethod
    def _begin(cls, rows: int, shares: Floats, least: Floats, most: Floats, statements: int, edges: Floats | None,
               tolerance: float, arl: float, level: float, block: int) -> Self:
        _check(tolerance, arl, level, block)
        tail = (1 - level) / statements
        lower = np.where(least > 0, betaincinv(np.maximum(least, 1), rows - least + 1, tail), 0.0)
        upper = np.where(most < rows, betaincinv(most + 1, np.maximum(rows - most, 1), 1 - tail), 1.0)
        lower, upper = np.maximum(lower - tolerance, 0.0), np.minimum(upper + tolerance, 1.0)
        who = len(bets(lower, upper).part)
        if not who:
            raise ContractError(f"with {rows:,} rows of reference and tolerance={tolerance:g} no change could be "
                                "shown; give more rows or a smaller tolerance")
        options = {"tolerance": float(tolerance), "arl": float(arl), "level": float(level), "block": int(block)}
        return cls({"options": options, "shares": shares, "lower": lower, "upper": upper, "edges": edges, "samples": 0,
                    "log_capital": [None] * who, "rise": [0.0] * who, "begun": [0] * who, "alarm": None})

    def update(self, values: npt.ArrayLike) -> None:
        """Take a batch.

        Args:
            values: (n,) predicted classes as integers, or scores; the order does not matter, and n may be 0.

        Raises:
            ContractError: classes that the reference does not know, or scores that are NaN.
        """
        if self.edges is None:
            classes = np.asarray(values)
            if classes.size and not (np.issubdtype(classes.dtype, np.integer) and classes.ndim == 1
                                     and classes.min() >= 0 and classes.max() < len(self.shares)):
                raise ContractError(f"a batch of shape {classes.shape} is not of the classes 0 .. "
                                    f"{len(self.shares) - 1}; a reference with other classes makes another monitor")
            self._take(np.bincount(classes.astype(np.int64), minlength=len(self.shares)), classes.size)
            return
        scores = np.asarray(values, dtype=float)
        if scores.ndim != 1 or np.isnan(scores).any():
            raise ContractError(f"a batch of shape {scores.shape} with {np.count_nonzero(np.isnan(scores))} NaN is no "
                                "sample; leave NaN out, and watch its share")
        self._take(np.searchsorted(np.sort(scores), self.edges, side="right"), scores.size)

    def update_counts(self, counts: npt.ArrayLike) -> None:
        """Take a batch of classes that is counted already.

        Args:
            counts: (k,) how often each class was predicted since the last update.

        Raises:
            ContractError: other classes, or no counts.
        """
        found = _counts(counts)
        if self.edges is not None or len(found) != len(self.shares):
            raise ContractError(f"{len(found)} counts do not fit a monitor of {len(self.shares)} "
                                f"{'classes' if self.edges is None else 'quantiles; give the scores to update'}")
        self._take(found, int(found.sum()))

    def decide(self) -> DriftDecision:
        """Say what is known now; asking changes nothing. An alarm stays until `restart`."""
        if self._alarm is not None:
            return self._alarm
        log_e, arl = self._log_e(), self._options["arl"]
        reason = f"no drift shown in {self._samples:,} requests: evidence {math.exp(log_e):.3g} of {arl:,.0f}"
        return DriftDecision(False, reason, log_e, math.log(arl), self._samples, 0, -1, 0.0, 0.0)

    def restart(self) -> None:
        """Begin anew with the same reference, for example after an alarm that somebody has looked into."""
        self._log_capital = np.full(self._bets.part.shape, -np.inf)
        self._rise, self._begun = np.zeros(self._bets.part.shape), np.zeros(self._bets.part.shape, np.int64)
        self._samples, self._alarm = 0, None

    def to_state(self) -> dict[str, Any]:
        """Return everything, JSON-ready; its size does not grow with the stream."""
        capital = [one if math.isfinite(one) else None for one in self._log_capital.tolist()]
        return {"test": type(self).__name__, "options": self._options, "shares": self.shares.tolist(),
                "lower": self.lower.tolist(), "upper": self.upper.tolist(),
                "edges": None if self.edges is None else self.edges.tolist(), "samples": self._samples,
                "log_capital": capital, "rise": self._rise.tolist(), "begun": self._begun.tolist(),
                "alarm": None if self._alarm is None else list(self._alarm)}

    def _log_e(self) -> float:
        return float(logsumexp(self._log_capital)) if self._samples else -math.inf

    def _take(self, events: npt.NDArray[Any], requests: int) -> None:
        if not requests:
            return
        grown = growth(self._bets, events, requests, self._options["block"])
        self._log_capital = capital_after(self._log_capital, requests, grown)
        # a cumulative sum that begins anew where it has fallen to 0: the likeliest beginning of a change (Page 1954)
        self._begun = np.where(self._rise > 0, self._begun, self._samples)
        self._rise = np.maximum(self._rise, 0.0) + grown
        self._samples += requests
        if self._alarm is None and self._log_e() >= math.log(self._options["arl"]):
            self._alarm = self._raise_alarm()

    def _raise_alarm(self) -> DriftDecision:
        most = int(self._log_capital.argmax())
        part, gain, loss = int(self._bets.part[most]), self._bets.gain[most], self._bets.loss[most]
        since = int(self._begun[most])
        share = (self._rise[most] * self._options["block"] / (self._samples - since) - loss) / (gain - loss)
        what = f"class {part}"
        if self.edges is not None:
            edge = self.edges[part]
            what = f"scores {'below' if np.nextafter(edge, np.inf) in self.edges else 'up to'} {edge:.6g}"
        reason = (f"drift: {what} made up {share:.1%} of the last {self._samples - since:,} requests; the reference "
                  f"has {self.shares[part]:.1%}, and {self.lower[part]:.1%} to {self.upper[part]:.1%} is no drift")
        return DriftDecision(True, reason, self._log_e(), math.log(self._options["arl"]), self._samples, since, part,
                             float(self.shares[part]), float(share))


def _check(tolerance: float, arl: float, level: float, block: int) -> None:
    if not 0 <= tolerance < 1 or not 0.5 <= level < 1:
        raise ConfigError(f"tolerance={tolerance:g} must be in [0, 1), and level={level:g} in [0.5, 1), "
                          "for example 0.01 and 0.99")
    if not 100 <= arl < math.inf or not block >= 1 or block % 1:
        raise ConfigError(f"arl={arl:g} must be at least 100 requests, and block={block} at least 1")


def _counts(values: npt.ArrayLike) -> Floats:
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any() or (found != np.floor(found)).any():
        raise ContractError(f"an array of shape {found.shape} is no count per class; give (k,) whole numbers")
    return found
