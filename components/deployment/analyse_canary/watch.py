"""Look after a canary while it is analysed: is the trial still what it was, is the lease ours, how far are we.

Ends an analysis that has lost its object, whatever the evidence. Sends no request and counts none; moves the traffic
when it is told to, because what it then expects to see is another thing.
"""

import logging
import time
from collections.abc import Callable

from penstock.components.contracts.errors import StepError
from penstock.components.control.base import ControlPlane, Manifest, ObjectConflict
from penstock.components.control.inference_service import canary_version, failure, percent_of, service_ref
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.observed import Revision
from penstock.components.deployment.traffic import change_share

__all__ = ["Watch", "trouble"]

LOOK = 0.5  # seconds between two looks at the control plane
TELL = 5.0  # seconds between two lines of progress
MOVE = 60.0  # seconds until the canary must have another share; KServe takes a few

logger = logging.getLogger(__name__)


def trouble(isvc: Manifest | None, canary: Revision, percent: int) -> str:
    """Say what has become of a trial, "" where the canary still gets its share."""
    if isvc is None:
        return "the InferenceService was deleted"
    if canary_version(isvc) != canary.version:
        return f"{canary_version(isvc) or 'nothing'} is on trial instead of {canary.version}: somebody else changed it"
    if reason := failure(isvc):
        return f"the canary failed: {reason}"
    if (found := percent_of(isvc, canary.name)) != percent:
        return f"the canary gets {found} % of the requests instead of {percent} %"
    return ""


class Watch:
    """The eye on one trial; `stopped` holds why it ended early, "" while it has not.

    Args:
        timeout: seconds from now; after it `is_over` without `stopped`.
    """

    def __init__(self, plane: ControlPlane, service: str, lease: CanaryLease, canary: Revision, percent: int,
                 timeout: float) -> None:
        self._plane, self._service, self._lease = plane, service, lease
        self._canary, self._percent = canary, percent
        self._start = time.monotonic()
        self._deadline = self._start + timeout
        self._next_look = self._next_line = self._start
        self.stopped = ""

    @property
    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._start

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._deadline

    def is_over(self, progress: Callable[[], str]) -> bool:
        """Look, at most every half second at the control plane, and say whether to end now.

        Args:
            progress: for the log, key=value.

        Raises:
            LeaseLost: another run may act on the service now.
        """
        self._lease.check()
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + TELL
            logger.info("service=%s seconds=%.0f %s", self._service, self.seconds, progress())
        if not self.stopped and now >= self._next_look:
            self._next_look = now + LOOK
            self.stopped = trouble(self._plane.get(service_ref(self._service)), self._canary, self._percent)
        return bool(self.stopped) or self.late

    def change_share(self, percent: int) -> bool:
        """Give the canary another share and wait until it has it; false where that failed, which `stopped` then tells,
        or the time is up.

        Raises:
            LeaseLost: another run may act on the service now.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            change_share(self._plane, self._service, self._canary.version, percent, self._lease, min(MOVE, left))
        except (StepError, ObjectConflict) as error:
            self.stopped = f"the canary did not get {percent} % of the requests: {error}"
            return False
        logger.info("service=%s version=%s event=climb from_percent=%d to_percent=%d", self._service,
                    self._canary.version, self._percent, percent)
        self._percent = percent
        return True
