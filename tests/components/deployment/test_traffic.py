"""Moving traffic while others write the same object, or take it away."""

from typing import Any

import pytest

from penstock.components.contracts.errors import StepError
from penstock.components.control.base import Manifest, ObjectConflict, ObjectRef
from penstock.components.control.inference_service import Placement, canary_version, percent_of, service_ref
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment import traffic
from penstock.components.deployment.traffic import change_share, describe, finish_trial, start_trial

CANDIDATE = Placement("v1", "file:///models/v1", "penstock-onnx")
FIRST = "digits-predictor-00001"


def start(plane: Any) -> Manifest:
    return start_trial(plane, "digits", CANDIDATE, 20, CanaryLease(plane, "digits", "run-1"), timeout=5)


def conflicting(plane: Any, monkeypatch: pytest.MonkeyPatch, times: int) -> list[ObjectRef]:
    """Let the first `times` applications come too late; returns the attempts as they are made."""
    apply, attempts = plane.apply, []

    def late(manifest: Manifest) -> Manifest:
        attempts.append(ObjectRef.of(manifest))
        if len(attempts) <= times:
            raise ObjectConflict("the status was written in between")
        found: Manifest = apply(manifest)
        return found

    monkeypatch.setattr(plane, "apply", late)
    return attempts


def test_a_status_written_in_between_is_no_reason_to_give_up(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = conflicting(plane, monkeypatch, times=4)

    isvc = start(plane)
    assert (canary_version(isvc), percent_of(isvc, FIRST), len(attempts)) == ("v1", 100, 5)
    assert describe(isvc) == f"100 % to {FIRST}; newest revision {FIRST}"


def test_an_object_that_never_stands_still_is(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = conflicting(plane, monkeypatch, times=99)

    with pytest.raises(ObjectConflict, match="written in between"):
        start(plane)
    assert len(attempts) == 5


def test_an_object_that_is_deleted_meanwhile_is_named(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = plane.apply
    monkeypatch.setattr(plane, "apply", lambda manifest: (apply(manifest), plane.delete(service_ref("digits"))))

    with pytest.raises(StepError, match="InferenceService digits was deleted while its traffic moved"):
        start(plane)


def test_pods_that_stay_in_trouble_end_the_wait(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(traffic, "TROUBLE_SECONDS", 0.05)
    plane.stalled, plane.pod_trouble = True, "pod digits-1: the image no/such:1 cannot be pulled"

    with pytest.raises(StepError, match=r"version v1 of digits does not start: pod digits-1: the image no/such:1"):
        start(plane)


def test_what_keeps_the_traffic_is_told_when_the_time_is_over(plane: Any) -> None:
    plane.stalled, plane.pod_trouble = True, "pod digits-1: no node has taken it"

    with pytest.raises(StepError, match=r"did not move within 0\.1 s: no traffic yet; .*; pod digits-1: no node"):
        start_trial(plane, "digits", CANDIDATE, 20, CanaryLease(plane, "digits", "run-1"), timeout=0.1)


def test_a_trial_gets_another_share(plane: Any) -> None:
    start(plane)
    lease = CanaryLease(plane, "digits", "run-1")
    finish_trial(plane, "digits", "v1", 20, lease, timeout=5)
    start_trial(plane, "digits", CANDIDATE._replace(version="v2", uri="file:///models/v2"), 20, lease, timeout=5)

    isvc = change_share(plane, "digits", "v2", 50, lease, timeout=5)
    assert percent_of(isvc, "digits-predictor-00002") == percent_of(isvc, FIRST) == 50
    with pytest.raises(StepError, match="digits has v2 on trial at 50 %, and v3 was to get 60 %: somebody else"):
        change_share(plane, "digits", "v3", 60, lease, timeout=5)
    plane.lapse("digits")
    with pytest.raises(StepError, match=r"digits has v2 on trial at 0 %, and v2 was to get 60 %: .*the lease lapsed"):
        change_share(plane, "digits", "v2", 60, lease, timeout=5)


def test_a_service_that_is_gone_gets_no_share(plane: Any) -> None:
    with pytest.raises(StepError, match="digits has no version on trial at 0 %"):
        change_share(plane, "digits", "v1", 50, CanaryLease(plane, "digits", "run-1"), timeout=5)
