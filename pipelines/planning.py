"""What a roll-out will cost, as lines for a person: requests, time, and the errors that a bad canary serves.

Words and options; the numbers are those of `components.evidence.planning`.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.decision import round_up
from penstock.pipelines.table import duration

if TYPE_CHECKING:
    from penstock.components.evidence.planning import Cost, Rung

__all__ = ["RollOut", "plan_lines", "planned_roll_out"]

TIMES = (2, 5)  # of the increase that is allowed
POINTS = (1, 5)
HEADERS = ("error rate of the canary", "verdict", "requests", "of the canary", "time", "extra errors")
LEFT = 2  # columns that are words
LATE = "*"
WIDTH = 100  # characters of a line of text


class RollOut(NamedTuple):
    """What is planned; shares are from 0 to 1.

    Attributes:
        share: of the requests, for the canary.
        error_rate: of stable.
        max_increase: of the error rate that is allowed.
        alpha: probability of a wrong verdict of either kind.
        power: probability that the verdict has fallen by the number of requests that is told.
        rate: requests per second, of both versions together.
        block: requests that may fail together.
        requests: after which the analysis ends.
        timeout: seconds after which it ends.
        ladder: the shares that the canary climbs through, and how long it holds each; () where it stays at `share`.
        rung_increase: of the error rate, that each rung would show in 9 of 10 cases.
        alpha_worse: probability of a wrong `worse` that errors may have, of all that is watched; 0: `alpha`.
    """

    share: float
    error_rate: float
    max_increase: float
    alpha: float
    power: float
    rate: float
    block: int
    requests: int
    timeout: float
    ladder: "tuple[Rung, ...]" = ()
    rung_increase: float = 0.0
    alpha_worse: float = 0.0


def planned_roll_out(profile: str, settings: Sequence[str], error_rate: float, power: float,
                     given: Mapping[str, float | None]) -> RollOut:
    """Return the roll-out that a profile makes.

    Args:
        settings: `--set` options, see `stages.override`.
        given: share, max_increase, alpha or rate where they are to be other than the profile's; None: as there. With
            a share given, the canary stays at it.

    Raises:
        ConfigError: an unknown profile, stage, key or value; or an analysis that looks at no errors.
    """
    from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
    from penstock.components.deployment.roll_out.step import RollOutConfig
    from penstock.pipelines.profiles import profile_arguments
    from penstock.pipelines.run_folder import RunFolder
    from penstock.pipelines.stages import override

    stages = override(profile_arguments(profile, RunFolder(Path())), settings).stages
    canary, roll_out = AnalyseCanaryConfig.parse(stages["analyse_canary"]), RollOutConfig.parse(stages["roll_out"])
    told = {"share": roll_out.canary_percent / 100, "max_increase": canary.max_error_rate_increase,
            "alpha": canary.alpha, "rate": canary.rate}
    told |= {name: value for name, value in given.items() if value is not None}
    plan = RollOut(told["share"], error_rate, told["max_increase"], told["alpha"], power, told["rate"], canary.block,
                   canary.requests, canary.timeout)
    if not 0 < plan.share < 1:
        raise ConfigError(f"with {plan.share * 100:g} % of the requests for the canary one version gets none; try "
                          "--share 5")
    if not plan.block:
        raise ConfigError("requests_per_session=0: requests of one client may fail together; say how many at most "
                          "(--set analyse_canary.requests_per_session=20), or 1 where all are independent")
    if not 0 < plan.max_increase < 1:
        raise ConfigError(f"an increase of {plan.max_increase * 100:g} points leaves nothing to find out; "
                          "try --max-increase 1")
    asked = AnalyseCanaryConfig.parse(canary.model_dump() | {
        "alpha": plan.alpha, "max_error_rate_increase": plan.max_increase})
    plan = plan._replace(alpha_worse=asked.alpha_alone)
    if given.get("share") is not None or len(asked.climb(roll_out.canary_percent)) == 1:
        return plan
    return plan._replace(ladder=asked.rungs(roll_out.canary_percent, error_rate), rung_increase=asked.increase)


def plan_lines(plan: RollOut) -> Iterator[str]:
    """Yield a sentence, a table with a line per truth, and how to read it.

    Raises:
        ConfigError: an option is out of its range.
    """
    if not plan.rate > 0:
        raise ConfigError(f"rate={plan.rate:g} must be more than 0, for example 50 requests per second")
    costs = {effect: _cost(plan, effect) for effect in _effects(plan)}
    yield from _wrapped(_sentence(plan, costs))
    yield ""
    rows = [HEADERS, *(_row(plan, effect, told) for effect, told in costs.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) if column < LEFT else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
    yield ""
    yield from _wrapped(f"requests: of both versions, until the verdict has fallen with probability "
                        f"{plan.power * 100:g} %; of errors alone, other limits may take longer")
    if plan.ladder:
        yield from _wrapped(_climb(plan))
    yield from _wrapped("extra errors: what the canary serves beyond stable's by its verdict, on average")
    if late := [told.requests for told in costs.values() if told and _is_late(plan, told)]:
        yield from _wrapped(f"{LATE} analyse_canary ends before, after {plan.requests:,} requests or "
                            f"{_time(plan.timeout)}, and sends the canary back; give it time with"
                            f"{_enough(plan, max(late))}")


def _climb(plan: RollOut) -> str:
    """Say how long each share is held, and why."""
    *below, last = plan.ladder
    held = ", ".join(f"{rung.share * 100:.3g} % for {round_up(rung.requests):,}" for rung in below)
    return (f"ladder: {held} requests, then {last.share * 100:.3g} % until the verdict; each rung alone finds out a "
            f"canary with {_points(plan.rung_increase)} more errors in 9 of 10 cases")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _enough(plan: RollOut, requests: int) -> str:
    """Return the settings with which `requests` are seen."""
    found = f" --set analyse_canary.requests={requests}" if requests > plan.requests else ""
    seconds = round_up(requests / plan.rate)
    return found + (f" --set analyse_canary.timeout={seconds}" if seconds > plan.timeout else "")


def _effects(plan: RollOut) -> list[float]:
    """Return the truths that are planned for: how much larger than stable's the canary's error rate is."""
    found = {0.0, *(points / 100 for points in POINTS), *(times * plan.max_increase for times in TIMES)}
    return sorted({round(effect, 9) for effect in found if plan.error_rate + effect <= 1})


def _cost(plan: RollOut, effect: float) -> "Cost | None":
    """Return what the verdict takes; None: no number of requests can tell."""
    from penstock.components.evidence.planning import TooClose, cost
    from penstock.components.evidence.rate import RateTest

    test = RateTest(plan.max_increase, plan.alpha, block=plan.block)
    try:
        told = cost(test, plan.error_rate, effect, plan.ladder or plan.share, plan.power, plan.alpha_worse)
    except TooClose:
        return None
    return told._replace(requests=round_up(told.requests), canary=round_up(told.canary))


def _sentence(plan: RollOut, costs: "Mapping[float, Cost | None]") -> str:
    good = costs[0.0]
    traffic = " → ".join(f"{rung.share * 100:.3g} %" for rung in plan.ladder) or f"{plan.share * 100:g} %"
    text = f"With {traffic} of the traffic, a canary as good as stable "
    text += (f"takes {good.requests:,} requests ({_time(good.requests / plan.rate)} at {plan.rate:g} per second) to "
             f"show that it is within {_points(plan.max_increase)}" if good else "is too close to the limit to be told")
    for effect, told in costs.items():
        if told and told.verdict == "worse":
            return (f"{text}; one with {_points(effect)} more errors is found out by {told.requests:,}, having "
                    f"served about {told.harm:,.0f} that stable would not have.")
    return f"{text}."


def _row(plan: RollOut, effect: float, told: "Cost | None") -> tuple[str, ...]:
    if not told:
        return (_name(plan, effect), "never: too close to the limit", "", "", "", "")
    mark = f" {LATE}" if _is_late(plan, told) else ""
    return (_name(plan, effect), f"{told.verdict}{mark}", f"{told.requests:,}", f"{told.canary:,}",
            _time(told.requests / plan.rate), f"{told.harm:,.0f}")


def _name(plan: RollOut, effect: float) -> str:
    if not effect:
        return "as stable's"
    times = effect / plan.max_increase
    told = f"{times:.3g}" if times < 100 else f"{times:,.0f}"
    same = ", the limit" if round(times, 6) == 1 else f", {told} x the limit"
    return f"{_points(effect)} more{same}"


def _points(share: float) -> str:
    return f"{share * 100:.3g} point{'' if round(share, 9) == 0.01 else 's'}"


def _is_late(plan: RollOut, told: "Cost") -> bool:
    return told.requests > plan.requests or told.requests / plan.rate > plan.timeout


def _time(seconds: float) -> str:
    hours = seconds / 3600
    return duration(seconds) if hours < 2 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"
