"""Moving traffic while others write the same object, or take it away."""

from typing import Any

import pytest

from penstock.components.contracts.errors import StepError
from penstock.components.control.base import Manifest, ObjectConflict, ObjectRef
from penstock.components.control.inference_service import Placement, canary_version, percent_of, service_ref
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.traffic import describe, start_trial

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
