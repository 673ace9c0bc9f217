"""What a test answers: a verdict with its reason, the numbers behind it, and how sure they are.

Knows no metric and no data; the wording of a metric is its test's.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = ["NEVER", "Decision", "Verdict", "changed", "plain", "round_up", "somewhere"]

Verdict = Literal["within", "worse", "undecided"]
_CHANGED = "the difference has changed while it was watched"
NEVER = -1  # as `Decision.more`: the canary is too close to the tolerance for any number of requests


class Decision(NamedTuple):
    """What is known now, valid however often and whenever one asks.

    As long as updates come by the clock or by a count of requests, never because of what is in them.

    Attributes:
        verdict: within: the canary is not worse than the tolerance; worse: it is; undecided: neither is shown.
        reason: one sentence for a person.
        estimate: the canary against stable, in the unit of the tolerance.
        lower: the true value is below it with probability `alpha` at most, over all looks together. Both ends are the
            best so far: where `lower` is not below `upper`, no one value fits all that was seen.
        upper: the true value is above it with probability `alpha` at most, over all looks together.
        samples: of the canary, in the units that are independent: requests, sessions, blocks, or events.
        log_e_worse: natural logarithm of the evidence against "not worse than the tolerance", now.
        log_e_within: the same against "at least as bad as the tolerance"; -inf stands for a refusal to look. Both are
            -inf once no verdict may fall any more: after `max_samples`, or where bursts are seen.
        alpha: probability of a wrong verdict of either kind, over all looks together.
        more: canary samples that it may still take; 0: decided, `NEVER`: no number would do.
    """

    verdict: Verdict
    reason: str
    estimate: float
    lower: float
    upper: float
    samples: int
    log_e_worse: float
    log_e_within: float
    alpha: float
    more: int = 0

    @property
    def threshold(self) -> float:
        """Return the logarithm of evidence at which a verdict falls (Ville's inequality)."""
        return math.log(1 / self.alpha)


def somewhere(lower: float, upper: float, write: Callable[[float], str]) -> str:
    """Say between which ends the truth is, or that no one value has been the truth all the time."""
    if lower >= upper:
        return f"but {_CHANGED}"
    return f"somewhere from {write(lower)} to {write(upper)}"


def changed(lower: float, upper: float) -> str:
    """Return what to add to a report that shows one end only: nothing, unless the ends have crossed."""
    return f"; {_CHANGED}" if lower >= upper else ""


def plain(value: float, sign: str = "") -> str:
    """Write a finite number for a person: three digits at least, every digit before the point, and no exponent.

    Args:
        sign: "+" where a plus is to be seen.
    """
    decimals = min(max(2 - math.floor(math.log10(abs(value))), 0), 9) if value else 0
    text = f"{value + 0.0:{sign},.{decimals}f}"  # -0.0 + 0.0 has no minus
    return text.rstrip("0").rstrip(".") if decimals else text


def round_up(count: float) -> int:
    """Round an estimate up to two figures: more would not be true."""
    step: int = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return math.ceil(count / step) * step
