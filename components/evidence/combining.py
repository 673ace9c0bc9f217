"""Many metrics, one verdict: what each may cost of the error budget, and which of them decides.

Arithmetic over `Decision`s; knows no metric and keeps nothing: that a verdict sticks is the caller's to remember.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.decision import NEVER, Decision

__all__ = ["HARD_STOP", "budget", "combine", "named"]

HARD_STOP = "hard stop"  # key of its part in `budget`
FEW = 3  # names that a sentence bears


def budget(names: Iterable[str], alpha: float, hard_stop: float = 0.1) -> dict[str, float]:
    """Split the probability of a wrong `worse` among metrics and hard stop, as reports show it.

    A metric that reaches 1 / its part decides even if no other has any evidence. A wrong `within` is not split: all
    must be within, so each may use the whole of `alpha`.

    Args:
        names: of the metrics and slices, each once.
        alpha: of all together.
        hard_stop: the hard stop's share of it; 0: there is none.

    Raises:
        ConfigError: nothing to split, a name twice, or a share outside its range.
    """
    listed = list(names)
    if not listed or len({*listed, HARD_STOP}) <= len(listed):
        raise ConfigError(f"metrics {listed} must be at least one, each named once, none of them {HARD_STOP!r}")
    _check(alpha)
    if not 0 <= hard_stop < 1:
        raise ConfigError(f"hard_stop={hard_stop:g} must be a share of alpha from 0 to below 1, for example 0.1")
    parts = dict.fromkeys(listed, alpha * (1 - hard_stop) / len(listed))
    return {**parts, HARD_STOP: alpha * hard_stop} if hard_stop else parts


def named(log_e: npt.ArrayLike, alpha: float) -> npt.NDArray[np.bool_]:
    """Say which hypotheses are rejected, all of them together at error `alpha`, however they depend on each other.

    Holm's steps (Scandinavian Journal of Statistics 1979) on 1 / e, which is a p-value whenever one looks: the largest
    e-value must reach n / alpha, the next (n - 1) / alpha, and so on as long as they do.

    Args:
        log_e: (*batch, N) logarithms of e-values.

    Returns:
        (*batch, N).
    """
    values = np.asarray(log_e, float)
    order = np.argsort(-values, axis=-1)
    needed = np.log(np.arange(values.shape[-1], 0, -1) / alpha)
    rejected = np.logical_and.accumulate(np.take_along_axis(values, order, axis=-1) >= needed, axis=-1)
    found: npt.NDArray[np.bool_] = np.empty(values.shape, bool)
    np.put_along_axis(found, order, rejected, axis=-1)
    return found


def combine(decisions: Mapping[str, Decision] | Sequence[Decision], alpha: float,
            hard_stops: Sequence[Decision] = ()) -> Decision:
    """Decide over all metrics: `within` if all are, `worse` if any is beyond the chance that so many metrics have.

    * within: no correction; one bad metric would have to err, at its own alpha (intersection-union test).
    * worse: one of n metrics has evidence of n / (alpha less what the hard stops have). Not their mean: tests close
      windows at different times, so each is a supermartingale along its own looks only, and Ville's inequality does not
      cover a sum of them at a time that one of the others may have chosen (Choe and Ramdas, arXiv 2402.09698).
    * a hard stop that has fired decides alone.

    `estimate`, `lower`, `upper` and `samples` are those of the metric that the reason names first; `log_e_worse` is
    scaled so that 1 / alpha is its threshold as in every decision; `more` is the largest, in the unit of its own test.

    Args:
        decisions: of the metrics, by name; without names each is called what its reason begins with.
        alpha: of all together; each metric's own must not be above it.
        hard_stops: decisions of `HardStop`s; their alphas are part of `alpha`.

    Raises:
        ConfigError: no metric, one that is allowed more errors than the whole, or hard stops that leave nothing.
    """
    names, metrics = _named(decisions)
    _check(alpha)
    if loose := [name for name, metric in zip(names, metrics, strict=True) if metric.alpha > alpha * (1 + 1e-9)]:
        raise ConfigError(f"{', '.join(loose)}: a test at a larger alpha than all together (alpha={alpha:g}) would "
                          f"promote more bad canaries than allowed; give each test {alpha:g}")
    left = alpha - sum(stop.alpha for stop in hard_stops)
    if left <= 0:
        raise ConfigError(f"hard stops at {[stop.alpha for stop in hard_stops]} leave nothing of alpha={alpha:g} for "
                          f"the metrics; give them a tenth of it")
    # A verdict that has fallen stays: Ville's inequality is about the most evidence that there ever was.
    worse = np.array([max(metric.log_e_worse, metric.threshold) if metric.verdict == "worse" else metric.log_e_worse
                      for metric in metrics])
    together = float(worse.max()) - math.log(len(worse))
    fired = [stop for stop in hard_stops if stop.verdict == "worse"]
    log_worse = max([together + math.log(left / alpha), *(math.log(1 / alpha) for _ in fired)])
    log_within = min(metric.log_e_within for metric in metrics)
    pending = [place for place, metric in enumerate(metrics) if metric.verdict != "within"]
    if fired:
        return fired[0]._replace(reason=_also(fired[0].reason, len(pending)), log_e_worse=log_worse,
                                 log_e_within=log_within, alpha=alpha, more=0)
    if (guilty := named(worse, left)).any():
        first = int(worse.argmax())
        reason = _blame(names, metrics, guilty, first)
        others = sum(metrics[place].verdict == "undecided" for place in pending if place != first)
        return metrics[first]._replace(verdict="worse", reason=_also(reason, others), log_e_worse=log_worse,
                                       log_e_within=log_within, alpha=alpha, more=0)
    if not pending:
        first = min(range(len(metrics)), key=lambda place: metrics[place].log_e_within)
        reason = _say(names[first], metrics[first])
        reason = reason if len(metrics) == 1 else f"all {len(metrics)} metrics are within; the closest: {reason}"
        return metrics[first]._replace(reason=reason, log_e_worse=log_worse, log_e_within=log_within, alpha=alpha)
    first = max(pending, key=lambda place: _wait(metrics[place]))
    reason = _say(names[first], metrics[first])
    if metrics[first].verdict == "worse":
        beside = f"{len(metrics)} metrics" if len(metrics) > 1 else "hard stops too"
        reason = f"{reason}. That may be chance where {beside} are looked at"
    reason = f"{reason}. {len(pending)} of {len(metrics)} metrics are open" if len(metrics) > 1 else reason
    more = NEVER if _wait(metrics[first]) == math.inf else metrics[first].more
    return metrics[first]._replace(verdict="undecided", reason=reason, log_e_worse=log_worse,
                                   log_e_within=log_within, alpha=alpha, more=more)


def _check(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha={alpha:g} must be between 0 and 0.5, for example 0.05")


def _named(decisions: Mapping[str, Decision] | Sequence[Decision]) -> tuple[list[str], list[Decision]]:
    if not decisions:
        raise ConfigError("no decision to combine; give that of one metric at least")
    if isinstance(decisions, Mapping):
        return list(decisions), list(decisions.values())
    return [decision.reason.partition(":")[0] for decision in decisions], list(decisions)


def _wait(metric: Decision) -> float:
    """Return how long an open metric may take; one that is worse by itself will never be within."""
    return math.inf if metric.more == NEVER or metric.verdict == "worse" else metric.more


def _say(name: str, metric: Decision) -> str:
    return metric.reason if metric.reason.startswith(name) else f"{name}: {metric.reason}"


def _also(reason: str, others: int) -> str:
    return f"{reason}. {others} other{'s are' if others > 1 else ' is'} still open" if others else reason


def _blame(names: list[str], metrics: list[Decision], guilty: npt.NDArray[np.bool_], first: int) -> str:
    reason = _say(names[first], metrics[first])
    if metrics[first].verdict == "within":
        reason += "; it was within in the beginning, and has turned worse"
    rest = [name for name, blamed in zip(names, guilty, strict=True) if blamed and name != names[first]]
    if not rest:
        return reason
    more = f" and {len(rest) - FEW} more" if len(rest) > FEW else ""
    return f"{reason}. Worse too: {', '.join(rest[:FEW])}{more}"
