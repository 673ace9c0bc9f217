"""How the traffic of a service is moved: change the object, then wait until the effect is seen.

The moves that several deployment steps make: start a trial, change its share, finish it, go back to stable. Decides
nothing, and looks at what the routes say on its own clock, because conditions and deadlines of a control plane come
late.
"""

import logging
import time
from collections.abc import Callable

from penstock.components.contracts.errors import StepError
from penstock.components.control.base import ABSENT, ControlPlane, Manifest, ObjectConflict
from penstock.components.control.inference_service import (
    NOTHING,
    SETTLED,
    Placement,
    canary_percent,
    canary_version,
    failure,
    inference_service,
    is_newest_ready,
    is_ready,
    is_settled,
    named,
    newest_revision,
    percent_of,
    service_ref,
    stable,
    traffic,
    with_percent,
)
from penstock.components.control.lease import CanaryLease

__all__ = ["change_share", "describe", "finish_trial", "return_to_stable", "start_trial"]

POLL = 0.2  # seconds between two looks at the object
ATTEMPTS = 5  # a status written in between is no reason to give up
STALE_SECONDS = 5.0  # after a change the status may speak of what was there before
TROUBLE_SECONDS = 20.0  # pods that stay so long without their image, or die again and again, will not recover
LOOK_SECONDS = 2.0  # between two looks at pods

logger = logging.getLogger(__name__)


def start_trial(plane: ControlPlane, service: str, candidate: Placement, percent: int, lease: CanaryLease,
                timeout: float) -> Manifest:
    """Put a version on trial, beside the stable one or, where there is none, with all traffic; wait until it answers.

    Args:
        percent: of the requests, for a version beside a stable one.
        timeout: seconds until the new revision must have its share.

    Raises:
        StepError: the new revision failed, or has not got its share in time.
        LeaseLost: another run may act on the service now.
    """
    before = plane.get(service_ref(service))
    old = newest_revision(before) if before else ""

    def trial(present: Manifest | None) -> Manifest:
        return _filled(service, candidate, stable(present) if present else NOTHING, percent)

    def has_its_share(isvc: Manifest) -> bool:
        current = _is_observed(isvc) or newest_revision(isvc) != old or time.monotonic() > changed + STALE_SECONDS
        if current and is_ready(isvc):
            return True
        reason = (failure(isvc) if current else "") or pods.lasting_trouble()
        if reason:
            raise StepError(f"version {candidate.version} of {service} does not start: {reason}")
        return False

    _change(plane, service, trial)
    changed, pods = time.monotonic(), _Pods(plane, service)
    return _await(plane, service, has_its_share, timeout, lease)


def change_share(plane: ControlPlane, service: str, version: str, percent: int, lease: CanaryLease,
                 timeout: float) -> Manifest:
    """Give the version on trial another share of the requests, and wait until it has it.

    Args:
        percent: of the requests, 1 to 99.
        timeout: seconds.

    Raises:
        StepError: another version is on trial, or none; it failed meanwhile; or the traffic did not move in time.
        LeaseLost: another run may act on the service now.
    """
    def has_it(isvc: Manifest) -> bool:
        changed = "" if canary_version(isvc) == version else "somebody else changed the service"
        if reason := changed or failure(isvc):
            raise StepError(f"version {version} of {service} is lost: {reason}")
        return is_ready(isvc)

    def other_share(present: Manifest | None) -> Manifest:
        tried, share = _on_trial(present)
        if present is None or tried != version or not share:
            raise StepError(f"{service} has {tried or 'no version'} on trial at {share} %, and {version} was to get "
                            f"{percent} %: somebody else changed it, or the lease lapsed; start a new run")
        return with_percent(present, percent)

    lease.check()
    _change(plane, service, other_share)
    return _await(plane, service, has_it, timeout, lease)


def finish_trial(plane: ControlPlane, service: str, version: str, percent: int, lease: CanaryLease,
                 timeout: float) -> Manifest:
    """Give the version on trial all traffic and wait until the other revision has left; done already is fine.

    Args:
        percent: the share it was judged with.
        timeout: seconds.

    Raises:
        StepError: another version or share is on trial than was judged, or the traffic did not move in time.
        LeaseLost: another run may act on the service now.
    """
    def all_traffic(present: Manifest | None) -> Manifest:
        if present is not None and stable(present).version == version:
            return with_percent(present, SETTLED)
        tried, share = _on_trial(present)
        if present is None or tried != version or share not in (percent, 100):
            raise StepError(f"{service} has {tried or 'no version'} on trial at {share} %, and {version} was "
                            f"judged at {percent} %: somebody else changed it, or the lease lapsed; start a new run")
        return with_percent(present, 100)

    def promoted(present: Manifest | None) -> Manifest:
        return with_percent(present or all_traffic(None), SETTLED)

    lease.check()
    _change(plane, service, all_traffic)
    _await(plane, service, lambda isvc: is_ready(isvc) and _sole(isvc) == newest_revision(isvc), timeout, lease)
    _change(plane, service, promoted)  # only now: what is called stable has been seen to hold the traffic
    return _await(plane, service, lambda isvc: is_ready(isvc) and _sole(isvc) != "", timeout, lease)


def return_to_stable(plane: ControlPlane, service: str, timeout: float) -> None:
    """Take the traffic from the version on trial, then the version itself; nothing on trial is no error.

    A service that never had a stable version is deleted: before the trial there was none. In KServe the stable version
    comes back as a revision of its own, which must be ready before it is asked to take all: until then "the latest" is
    the version that was on trial.

    Args:
        timeout: seconds for each of the three moves.

    Raises:
        StepError: the traffic did not move in time.
    """
    present = plane.get(service_ref(service))
    if present is None or is_settled(present):
        return
    holds, tried = stable(present), named(present)
    if holds == NOTHING:
        plane.delete(service_ref(service))
    else:
        idle = ""
        if tried != holds:
            _change(plane, service, lambda _: _filled(service, tried, holds, 0))
            idle = newest_revision(_await(plane, service, _is_newest_idle, timeout))
            _change(plane, service, lambda _: _filled(service, holds, holds, 0))
        _await(plane, service, lambda isvc: is_newest_ready(isvc) and newest_revision(isvc) != idle, timeout)
        _change(plane, service, lambda _: _filled(service, holds, holds, SETTLED))
        _await(plane, service, lambda isvc: _sole(isvc) not in ("", idle), timeout)
    logger.warning("service=%s event=returned_to_stable stable=%s removed=%s", service, holds.version or "none",
                   tried.version)


def describe(isvc: Manifest) -> str:
    """Sum up who gets what, in one line, for a log or an error."""
    shares = ", ".join(f"{entry.percent} % to {entry.revision}" for entry in traffic(isvc)) or "no traffic yet"
    wrong = failure(isvc)
    return f"{shares}; newest revision {newest_revision(isvc) or 'none'}" + (f"; {wrong}" if wrong else "")


class _Pods:
    """What is wrong with the pods of the newest revision: KServe 0.20 keeps it to itself beside a stable one."""

    def __init__(self, plane: ControlPlane, service: str) -> None:
        self._plane, self._ref = plane, service_ref(service)
        self._next = 0.0
        self._since: float | None = None

    def lasting_trouble(self) -> str:
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + LOOK_SECONDS
        text = self._plane.failure(self._ref)
        self._since = (self._since or now) if text else None
        return text if self._since and now - self._since >= TROUBLE_SECONDS else ""


def _filled(service: str, wanted: Placement, holds: Placement, percent: int) -> Manifest:
    return inference_service(service, wanted.version, wanted.uri, runtime=wanted.runtime, stable=holds,
                             canary_percent=percent)


def _on_trial(present: Manifest | None) -> tuple[str, int]:
    return (canary_version(present), canary_percent(present)) if present else ("", 0)


def _is_observed(isvc: Manifest) -> bool:
    """Whether the status is surely about the present object; KServe's may never say so again."""
    return int(isvc.get("status", {}).get("observedGeneration", 0)) >= int(isvc["metadata"]["generation"])


def _is_newest_idle(isvc: Manifest) -> bool:
    newest = newest_revision(isvc)
    others = sum(entry.percent for entry in traffic(isvc) if entry.revision != newest)
    return percent_of(isvc, newest) == 0 and others == 100


def _sole(isvc: Manifest) -> str:
    """Return the revision that has all traffic where there is no other entry left, else ""."""
    shares = traffic(isvc)
    return shares[0].revision if [entry.percent for entry in shares] == [100] else ""


def _change(plane: ControlPlane, service: str, build: Callable[[Manifest | None], Manifest]) -> None:
    """Apply what `build` makes of the present object, against that very version of it."""
    attempt = 1
    while True:
        present = plane.get(service_ref(service))
        wanted = build(present)
        wanted["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"] if present else ABSENT
        try:
            plane.apply(wanted)
        except ObjectConflict:
            if attempt == ATTEMPTS:
                raise
            attempt += 1
            time.sleep(POLL)
        else:
            return


def _await(plane: ControlPlane, service: str, reached: Callable[[Manifest], bool], timeout: float,
           lease: CanaryLease | None = None) -> Manifest:
    deadline = time.monotonic() + timeout
    while True:
        if lease:
            lease.check()
        isvc = plane.get(service_ref(service))
        if isvc is None:
            raise StepError(f"InferenceService {service} was deleted while its traffic moved")
        if reached(isvc):
            return isvc
        if time.monotonic() > deadline:
            trouble = plane.failure(service_ref(service))
            raise StepError(f"the traffic of {service} did not move within {timeout:g} s: {describe(isvc)}"
                            + (f"; {trouble}" if trouble else ""))
        time.sleep(POLL)
