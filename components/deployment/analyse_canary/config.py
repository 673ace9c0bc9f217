"""How a canary is analysed: how many requests, which limits, how sure.

Holds the options and what they must fulfil together; analyses nothing.
"""

from typing import Literal

from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ConfigError

__all__ = ["AnalyseCanaryConfig"]


class AnalyseCanaryConfig(Config):
    """What is asked of a canary before it is promoted.

    The sample is fixed here, beforehand, and judged once at its end; a limit is kept when the far end of a one-sided
    interval at `alpha` keeps it, so a canary that nothing is known of is not promoted.
    """

    mode: Literal["replay", "observe"] = Field(default="replay", description="replay: send held-out rows through the "
                                               "gateway; observe: watch the requests of others.")
    requests: int = Field(default=2000, ge=1, description="Requests to send or see, of both versions together.")
    rate: float = Field(default=100, gt=0, description="Requests per second at most, in a replay.")
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests under way at once, in a replay.")
    timeout: float = Field(default=300, gt=0, description="Seconds until the sample must be complete; else it is no "
                           "evidence, and the traffic goes back.")
    split: str = Field(default="test", min_length=1, description="Split of the dataset whose rows are sent.")
    min_requests_per_version: int = Field(default=100, ge=1, description="Answers that each version must have given; a "
                                          "first version gets so many requests.")
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
    min_agreement: float = Field(default=0, ge=0, le=1, description="Least share of paired rows with the same answer; "
                                 "0: off.")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Risk of promoting a version that breaks a limit.")

    @property
    def level(self) -> float:
        """Return the two-sided level whose ends are one-sided bounds at `alpha`."""
        return 1 - 2 * self.alpha

    def check_sample(self, percent: int) -> None:
        """Make sure that the sample can show what is asked.

        Args:
            percent: of the requests, for the canary.

        Raises:
            ConfigError: even a canary without one error would be sent back, for want of evidence.
        """
        from penstock.components.evidence.fixed import least_sample  # scipy: a second, to read options only

        share = percent / 100
        expected = self.requests * share
        sure = expected - 3 * (expected * (1 - share)) ** 0.5  # the gateway draws lots; 3 sigma fewer still do
        needed = least_sample(self.max_error_rate_increase, self.alpha)
        if self.max_error_rate_increase < 1 and sure < needed:
            raise ConfigError(
                f"requests={self.requests} at {percent} % give the canary about {expected:.0f} answers; to show an "
                f"error rate that is no more than {self.max_error_rate_increase:g} higher takes {needed} without one "
                f"error: set requests to {_round_up((needed + 3 * needed**0.5 + 9) / share)}, or allow more")


def _round_up(value: float) -> int:
    return -int(-value // 50) * 50
