"""How a canary is analysed: how many requests, which limits, how sure.

Holds the options and what they must fulfil together; analyses nothing.
"""

import logging
import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ConfigError

if TYPE_CHECKING:
    from penstock.components.evidence.planning import Rung

__all__ = ["BUCKET", "BURSTS", "AnalyseCanaryConfig"]

BURSTS = 0.1  # of alpha, for bursts of errors: each decides alone
BUCKET = 0.25  # width of the predictor's latency buckets, relative (inference/metrics.py)
ENDLESS = 10**8  # requests
LARGEST = 0.95  # limit on a share that a test can still be held against

logger = logging.getLogger(__name__)


class AnalyseCanaryConfig(Config):
    """What is asked of a canary before it is promoted.

    The evidence is weighed at every look: the tests hold whenever and however often one looks (docs/statistics.md).
    A canary is promoted once every limit is shown to be kept, sent back once one is shown to be broken, and sent back
    as well where `requests` are used up before that: what is not known counts against it.
    """

    mode: Literal["replay", "observe"] = Field(default="replay", description="replay: send held-out rows through the "
                                               "gateway; observe: watch the requests of others.")
    requests: int = Field(default=5000, ge=1, description="Requests to send or see at most, of both versions together; "
                          "fewer where the evidence is there sooner.")
    rate: float = Field(default=100, gt=0, description="Requests per second at most, in a replay.")
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests under way at once, in a replay.")
    timeout: float = Field(default=300, gt=0, description="Seconds until the evidence must be there; else the traffic "
                           "goes back.")
    ladder: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        default=(), description="Percent of the requests that the canary climbs to, one after the other, from "
        "`roll_out.canary_percent` on: [20, 50]; it is promoted from the last. []: it stays at its share.")
    rung_increase: float = Field(default=0, ge=0, le=1, description="Error rate gained that would have been found in "
                                 "9 of 10 cases before the canary climbs: how long it stays at each share. 0: a tenth, "
                                 "or twice max_error_rate_increase where that is more.")
    requests_per_session: int = Field(default=0, ge=0, description="Requests of one client at most that may fail "
                                      "together; 1: all are independent; 0: not known, which mode observe refuses; "
                                      "a replay's are ours, and independent.")
    split: str = Field(default="test", min_length=1, description="Split of the dataset whose rows are sent.")
    min_requests_per_version: int = Field(default=100, ge=1, description="Answers that each version must have given; a "
                                          "first version is asked until it has.")
    max_error_rate_increase: float = Field(default=0.01, gt=0, le=1, description="Error rate that may be gained, a "
                                           "share; 1: off.")
    max_latency_increase: float = Field(default=0.5, ge=0, description="Latency that may be gained at "
                                        "`latency_quantile`, relative: 0.5 is half as slow again; 0: off.")
    latency_quantile: float = Field(default=0.95, gt=0, lt=1, description="Which latency: 0.95 is that of the slowest "
                                    "request in 20.")
    latency_floor_ms: float = Field(default=25, ge=0, description="Milliseconds of difference that nobody minds, "
                                    "whatever they are relative to stable; 0: off.")
    max_accuracy_drop: float = Field(default=0.03, gt=0, le=1, description="Accuracy that may be lost on labelled "
                                     "rows, a share; 1: off.")
    paired_rows: int = Field(default=500, ge=0, description="Rows that both versions are asked directly, for accuracy "
                             "and agreement row by row; 0: off, accuracy is compared between the requests of each.")
    max_class_shift: float = Field(default=0.25, gt=0, le=1, description="Share of the answers that may move to other "
                                   "classes than stable's; more than that sends back, less proves nothing; 1: off.")
    min_agreement: float = Field(default=0, ge=0, le=1, description="Least share of paired rows with the same answer; "
                                 "0: off.")
    work: str = Field(default="", description="Folder for what a replay has seen so far, that outlives the step. "
                      "\"\": beside the report.")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Risk of promoting a version that breaks a limit, and "
                         "of calling one worse that breaks none.")

    @field_validator("max_error_rate_increase", "max_accuracy_drop")
    @classmethod
    def _is_testable(cls, limit: float, field: ValidationInfo) -> float:
        if LARGEST < limit < 1:
            raise ValueError(f"{field.field_name}={limit:g}: a limit above {LARGEST:g} shuts nothing out; give less, "
                             f"or 1 to switch it off")
        return limit

    @model_validator(mode="after")
    def _check_ladder(self) -> Self:
        if list(self.ladder) != sorted(set(self.ladder)):
            raise ValueError(f"ladder={list(self.ladder)} must climb: ascending, each percent once, such as [20, 50]")
        if self.rung_increase and self.max_error_rate_increase < 1 and \
                self.rung_increase < 2 * self.max_error_rate_increase:
            raise ValueError(f"rung_increase={self.rung_increase:g} must be twice "
                             f"max_error_rate_increase={self.max_error_rate_increase:g} at least, or 0")
        return self

    @property
    def level(self) -> float:
        """Return the two-sided level whose ends are one-sided bounds at `alpha`."""
        return 1 - 2 * self.alpha

    @property
    def block(self) -> int:
        """Return how many requests may depend on each other; those of a replay are ours, and independent."""
        return self.requests_per_session if self.mode == "observe" else 1

    @property
    def tests(self) -> int:
        """Return how many tests watch for a canary that is worse, each with its part of alpha."""
        replays = self.mode == "replay"
        return ((self.max_error_rate_increase < 1) + bool(self.max_latency_increase)
                + (replays and self.max_accuracy_drop < 1) + (replays and self.max_class_shift < 1))

    @property
    def alpha_alone(self) -> float:
        """Return the alpha at which one test sends a canary back if no other has anything against it (Holm)."""
        return self.alpha * (1 - BURSTS) / max(self.tests, 1)

    @property
    def most_requests(self) -> int:
        """Return how many requests of a replay there are at most; a first version must have its answers."""
        return max(self.requests, self.min_requests_per_version)

    def climb(self, percent: int) -> tuple[int, ...]:
        """Return the shares, in percent, of a canary that begins with `percent`."""
        return (percent, *(rung for rung in self.ladder if rung > percent))

    def rung_requests(self, percent: int, error_rate: float = 0.0) -> int:
        """Return after how many requests of both versions a canary may leave the rung at `percent`.

        Args:
            error_rate: of stable.
        """
        from penstock.components.evidence.planning import samples_needed
        from penstock.components.evidence.rate import RateTest

        if not self.ladder or percent == 100:
            return 0
        limit = self.max_error_rate_increase
        if limit == 1:
            return math.ceil(self.min_requests_per_version * 100 / percent)
        test, increase = RateTest(limit, self.alpha_alone, block=self.block), self.increase
        return samples_needed(test, min(error_rate, 1 - increase), increase, percent / 100)

    @property
    def increase(self) -> float:
        """Return the error rate gained that a rung must be able to find."""
        return self.rung_increase or min(max(0.1, 2 * self.max_error_rate_increase), 1.0)

    def rungs(self, percent: int, error_rate: float = 0.0) -> "tuple[Rung, ...]":
        """Return every share and how long it is held; without a ladder a canary may be promoted at any time."""
        from penstock.components.evidence.planning import Rung

        return tuple(Rung(each / 100, self.rung_requests(each, error_rate)) for each in self.climb(percent))

    def latency_requests(self, rungs: "tuple[Rung, ...]") -> int:
        """Return about how many requests of both versions show that even a canary without any latency keeps its limit.

        Counted by a test that is fed with one: windows of a quantile far out are large. 0: the limit is off.
        """
        import numpy as np

        from penstock.components.evidence.latency import LatencyTest
        from penstock.components.evidence.planning import of_canary

        if not self.max_latency_increase:
            return 0
        test = LatencyTest(self.max_latency_increase, (self.latency_quantile,), self.alpha,
                           floor=self.latency_floor_ms / 1000)
        sent = 0
        while test.decide().verdict != "within" and sent < ENDLESS:
            step = max(20, sent // 50)
            canary = int(of_canary(sent + step, rungs)) - int(of_canary(sent, rungs))
            test.update(stable=np.full(step - canary, 1.0), canary=np.full(canary, 1e-3))
            sent += step
        return sent

    def check_sample(self, percent: int, rows: int | None = None) -> None:
        """Make sure that the sample can show what is asked.

        Args:
            percent: of the requests, for the canary.
            rows: of the split; None: not known yet.

        Raises:
            ConfigError: even a canary without one error would be sent back, for want of requests, of rows or of time; a
                limit is one that no test can hold; or nothing is said of how the requests of others depend on each
                other.
        """
        from penstock.components.evidence.decision import round_up
        from penstock.components.evidence.planning import of_canary

        if self.mode == "observe":
            self._check_observed()
        self._check_rows(rows)
        rungs, shares = self.rungs(percent), " → ".join(f"{each} %" for each in self.climb(percent))
        needed, what = self._needed(rungs, shares)
        held = sum(rung.requests for rung in rungs)
        ladder = f" ({held:,} of them to hold each share of the ladder)" if held else ""
        if self.requests < needed:
            raise ConfigError(f"requests={self.requests} are too few {what}: that takes about {needed:,}{ladder}; set "
                              f"requests to {round_up(needed * 1.5)}, or allow more")
        judged = self.max_accuracy_drop < 1 or self.min_agreement > 0
        asked = min(self.paired_rows, rows) if rows and judged else 0  # of each; without stable's part there is no pair
        if self.mode == "replay" and needed + asked > self.rate * self.timeout:
            pairs = f", and {2 * asked:,} for rows that both answer" if asked else ""
            raise ConfigError(
                f"timeout={self.timeout:g} ends the analysis after {self.rate * self.timeout:,.0f} requests at "
                f"rate={self.rate:g}, too few {what}: that takes about {needed:,}{ladder}{pairs}; set timeout to "
                f"{round_up(1.5 * (needed + 2 * asked) / self.rate)}, or a higher rate")
        last = rungs[-1].share
        smaller, canary = min(last, 1 - last), float(of_canary(self.requests, rungs))
        fewest = int(min(canary, self.requests - canary))
        if fewest < self.min_requests_per_version:
            enough = max(self.requests, held) + (self.min_requests_per_version - fewest) / smaller
            raise ConfigError(
                f"min_requests_per_version={self.min_requests_per_version} cannot be reached: of {self.requests:,} "
                f"requests one version gets about {fewest:,} at {shares}; set requests to {round_up(1.2 * enough)}")

    def _needed(self, rungs: "tuple[Rung, ...]", shares: str) -> tuple[int, str]:
        """Return how many requests a canary takes at least, and for what."""
        from penstock.components.evidence.planning import cost
        from penstock.components.evidence.rate import RateTest

        needed, what = sum(rung.requests for rung in rungs), f"to hold a share of {shares} in turn"
        if self.max_error_rate_increase < 1:
            test = RateTest(self.max_error_rate_increase, self.alpha, block=self.block)
            needed = cost(test, baseline=0.0, effect=0.0, share=rungs).requests
            what = (f"to show at {shares} an error rate that is no more than {self.max_error_rate_increase:g} higher, "
                    f"without one error")
        try:
            latency = self.latency_requests(rungs)
        except ConfigError as error:
            raise ConfigError(f"max_latency_increase: {error}") from error
        if latency <= needed:
            return needed, what
        return latency, (f"to show at {shares} that latency at p{100 * self.latency_quantile:g} is no more than "
                         f"{self.max_latency_increase:.0%} higher, even of a canary that answers at once")

    def _check_observed(self) -> None:
        if not self.requests_per_session:
            raise ConfigError(
                "requests_per_session=0: requests of one client may fail together, and 20 that do would count as 20 "
                "proofs; say how many at most (requests_per_session=20), or 1 where all are independent")
        if self.block > 1 and self.max_latency_increase:
            raise ConfigError(
                f"max_latency_increase={self.max_latency_increase:g} needs independent requests, but "
                f"requests_per_session={self.block}: counters do not tell sessions apart; set max_latency_increase=0")
        if 0 < self.max_latency_increase < BUCKET and not self.latency_floor_ms:
            raise ConfigError(
                f"max_latency_increase={self.max_latency_increase:g} cannot be told from counters: the predictor's "
                f"buckets are {BUCKET:.0%} wide; set it to {BUCKET:g} or more, or say with latency_floor_ms how many "
                f"milliseconds nobody minds")

    def _check_rows(self, rows: int | None) -> None:
        """Hold the limits against what rows show where both versions give the same answer to each."""
        from scipy.special import ndtri

        asked = min(self.paired_rows, self.paired_rows if rows is None else rows)
        if not asked:
            return
        square = float(ndtri(self.alpha)) ** 2
        left = square / (asked + square)  # the end of Tango's interval without a change, and of Wilson's without a miss
        split = f"split {self.split} has {asked:,} rows" if asked < self.paired_rows else f"paired_rows={asked}"
        if left > 1 - self.min_agreement:
            raise ConfigError(
                f"min_agreement={self.min_agreement:g} cannot be shown: {split}, and where both versions agree on all "
                f"of them {1 - left:.1%} are sure; set it to {math.floor(100 - 100 * left) / 100:g}, or to 0: off")
        if left > self.max_accuracy_drop:
            logger.warning(
                "max_accuracy_drop=%g %s: where both versions give the same answers %.2g points remain open, so only a "
                "canary that has more of them right is promoted; it takes %d, or max_accuracy_drop=%g, or 1: off",
                self.max_accuracy_drop, split, 100 * left,
                math.ceil(square * (1 - self.max_accuracy_drop) / self.max_accuracy_drop),
                math.ceil(100 * left) / 100)
