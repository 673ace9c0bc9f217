"""How far up a canary is: the shares of the traffic that it had, how long it held each, and which comes next.

Counts requests; moves no traffic, and judges nothing but whether a rung was held long enough.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.components.contracts.errors import ContractError
from penstock.components.deployment.analyse_canary.analysis import SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig

__all__ = ["Ladder", "Seen", "Stay"]


class Seen(NamedTuple):
    """Requests of a trial so far: sent or counted, answered by each version, and errors of stable among those."""

    requests: int = 0
    stable: int = 0
    canary: int = 0
    errors: int = 0


class Stay(NamedTuple):
    """A rung that the canary was on, or is: its share, and how long it holds it.

    Attributes:
        percent: of the requests.
        needed: requests to be answered here before it goes on, by each version its part; 0: it may at any time.
        before: what had been seen when it began.
    """

    percent: int
    needed: int
    before: Seen


class Ladder:
    """The way up of one trial; without `config.ladder` a single rung, which is the top and need not be held.

    Args:
        percent: that the canary has now.

    Attributes:
        percents: of all rungs.
        rungs: so far, the last is where it is.
    """

    def __init__(self, config: AnalyseCanaryConfig, percent: int) -> None:
        self._config = config
        self.percents = config.climb(percent)
        self.rungs: list[Stay] = []
        self.begin(Seen())

    @property
    def percent(self) -> int:
        """Return the share that the canary has."""
        return self.rungs[-1].percent

    @property
    def is_top(self) -> bool:
        """Whether it does not go on from here, but is promoted or sent back."""
        return len(self.rungs) == len(self.percents)

    @property
    def next(self) -> int:
        """Return the percent of the next rung."""
        return self.percents[len(self.rungs)]

    def begin(self, seen: Seen) -> None:
        """Note that the canary has its next share from now on."""
        percent = self.next
        self.rungs.append(Stay(percent, self._needed(percent, seen), seen))

    def missing(self, seen: Seen) -> int:
        """Return how many requests this rung still takes; 0: it was held.

        Counts what each version has answered: requests that get lost prove nothing, and stable's answers do not stand
        for the canary's.
        """
        rung = self.rungs[-1]
        share, needed, before = rung.percent / 100, rung.needed, rung.before
        parts = [(share, seen.canary - before.canary), (1 - share, seen.stable - before.stable)]
        return max(math.ceil(needed - answered / part - 1e-9) for part, answered in parts if part) if needed else 0

    def fits(self, seen: Seen) -> bool:
        """Whether the requests that are left can hold this rung and all above it."""
        error_rate = seen.errors / max(seen.stable, 1)
        ahead = sum(self._config.rung_requests(percent, error_rate) for percent in self.percents[len(self.rungs):])
        return seen.requests + max(self.missing(seen), 0) + ahead <= self._config.most_requests

    def is_held(self, seen: Seen) -> bool:
        """Whether this rung was held; where stable turned out to have more errors it becomes longer first."""
        if self.missing(seen) > 0:
            return False
        rung = self.rungs[-1]
        if rung.needed and (needed := self._needed(rung.percent, seen)) > rung.needed:
            self.rungs[-1] = rung._replace(needed=needed)
        return self.missing(seen) <= 0

    def _needed(self, percent: int, seen: Seen) -> int:
        return self._config.rung_requests(percent, seen.errors / max(seen.stable, 1))

    def is_enough(self, analysis: SequentialAnalysis, seen: Seen) -> bool:
        """Whether no further request is needed: something is worse, or all is shown and the last rung was held."""
        return analysis.is_worse() or (self.is_top and self.missing(seen) <= 0 and analysis.is_over())

    def answered(self, end: Seen) -> list[tuple[Stay, int, int]]:
        """Return each rung with what stable and the canary answered on it."""
        ends = [*(rung.before for rung in self.rungs[1:]), end]
        return [(rung, after.stable - rung.before.stable, after.canary - rung.before.canary)
                for rung, after in zip(self.rungs, ends, strict=True)]

    def to_state(self) -> list[Stay]:
        """Return the rungs, JSON-ready."""
        return self.rungs

    def restored(self, state: Sequence[Sequence[Any]] | None, seen: Seen) -> "Ladder":
        """Return the ladder that `to_state` was of, as far up as the traffic is now.

        That may be one rung higher, where the traffic was moved just after that; or another share, where the trial was
        begun once more: from there it climbs anew, and what was seen before still counts.

        Args:
            seen: by the analysis whose state it is.

        Raises:
            ContractError: the state is damaged.
        """
        try:
            rungs = [Stay(int(percent), int(needed), Seen(*map(int, before)))
                     for percent, needed, before in state or ()]
            found = Ladder(self._config, rungs[-1].percent)
        except (TypeError, ValueError, IndexError) as error:
            raise ContractError(f"the state of a ladder is damaged ({error!r}); begin it anew") from error
        passed = tuple(rung.percent for rung in rungs)
        ahead = found.percents if self.percent in found.percents[:2] else (passed[-1], *self.percents)
        found.percents, found.rungs = (*passed[:-1], *ahead), rungs
        if self.percent != passed[-1]:
            found.begin(seen)
        return found
