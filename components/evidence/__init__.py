"""The statistics behind every verdict, offline and live: numpy and scipy only, no I/O.

Sequential tests share one shape: `update` as often as there is something new, `decide` as often as one likes,
`to_state` and `from_state` in between. What they promise, and how that was measured: docs/statistics.md.
"""

from penstock.components.evidence.asymptotic import AsymptoticRateTest
from penstock.components.evidence.combining import budget, combine
from penstock.components.evidence.count import CountTest
from penstock.components.evidence.decision import NEVER, Decision, Verdict
from penstock.components.evidence.dependence import by_session
from penstock.components.evidence.distribution import DistributionTest
from penstock.components.evidence.drift_stream import DriftMonitor
from penstock.components.evidence.hard_stop import HardStop
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MixTest
from penstock.components.evidence.planning import samples_needed
from penstock.components.evidence.rate import RateTest

__all__ = [
    "NEVER",
    "AsymptoticRateTest",
    "CountTest",
    "Decision",
    "DistributionTest",
    "DriftMonitor",
    "HardStop",
    "LatencyTest",
    "MixTest",
    "RateTest",
    "Verdict",
    "budget",
    "by_session",
    "combine",
    "samples_needed",
]
