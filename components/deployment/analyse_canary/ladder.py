"""How far up a canary is: the shares of the traffic that it had, how long it held each, and which comes next.

Counts requests; moves no traffic, and judges nothing but whether a rung was held long enough.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.components.contracts.errors import ContractError
from penstock.components.deployment.analyse_canary.analysis import SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig

__all__ = ["Ladder", "Rung", "Seen"]


class Seen(NamedTuple):
    """Requests of a trial so far: sent or counted, answered by each version, and errors of stable among those."""

    requests: int = 0
    stable: int = 0
    canary: int = 0
    errors: int = 0


class Rung(NamedTuple):
    """A share that the canary had, or has.

    Attributes:
        percent: of the requests.
        needed: requests to be seen here before it goes on; 0: it may at any time.
        before: what had been seen when it began.
    """

    percent: int
    needed: int
    before: Seen


class Ladder:
    """The way up of one trial; without `config.ladder` a single rung, which is the top.

    Args:
        percent: that the canary has now.

    Attributes:
        rungs: so far, the last is where it is.
    """

    def __init__(self, config: AnalyseCanaryConfig, percent: int) -> None:
        self._config = config
        self.percents = config.climb(percent)
        self.rungs: list[Rung] = []
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
    def until(self) -> int:
        """Return how many requests of the whole trial must have been seen before the canary leaves this rung."""
        rung = self.rungs[-1]
        return rung.before.requests + rung.needed

    @property
    def next(self) -> int:
        """Return the percent of the next rung."""
        return self.percents[len(self.rungs)]

    def begin(self, seen: Seen) -> None:
        """Note that the canary has its next share from now on."""
        percent, error_rate = self.next, seen.errors / max(seen.stable, 1)
        needed = self._config.rung_requests(percent, error_rate) if len(self.percents) > 1 else 0
        self.rungs.append(Rung(percent, needed, seen))

    def is_enough(self, analysis: SequentialAnalysis, requests: int) -> bool:
        """Whether no further request is needed: something is worse, or all is shown and the last rung was held."""
        held = self.is_top and requests >= self.until
        return analysis.is_worse() or (held and analysis.is_over())

    def answered(self, end: Seen) -> list[tuple[Rung, int, int]]:
        """Return each rung with what stable and the canary answered on it."""
        ends = [*(rung.before for rung in self.rungs[1:]), end]
        return [(rung, after.stable - rung.before.stable, after.canary - rung.before.canary)
                for rung, after in zip(self.rungs, ends, strict=True)]

    def to_state(self) -> list[Rung]:
        """Return the rungs, JSON-ready."""
        return self.rungs

    def restore(self, state: Sequence[Sequence[Any]], seen: Seen) -> None:
        """Go on where `to_state` was taken, or one rung higher: where the traffic was moved just after that.

        Args:
            seen: by the analysis whose state it is.

        Raises:
            ContractError: the canary has got another share in between, or the state is damaged.
        """
        try:
            rungs = [Rung(int(percent), int(needed), Seen(*map(int, before))) for percent, needed, before in state]
            percents = self._config.climb(rungs[0].percent)
            passed = [rung.percent for rung in rungs]
        except (TypeError, ValueError, IndexError) as error:
            raise ContractError(f"the state of a ladder is damaged ({error!r}); begin it anew") from error
        steps = percents.index(self.percent) + 1 - len(rungs) if self.percent in percents else -1
        if tuple(passed) != percents[:len(rungs)] or steps not in (0, 1):
            raise ContractError(f"the canary had {', '.join(map(str, passed))} % in turn and has {self.percent} % now; "
                                f"begin anew")
        self.percents, self.rungs = percents, rungs
        if steps:
            self.begin(seen)
