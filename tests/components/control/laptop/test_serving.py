"""Revisions of a service: when one is made, when one comes back, how many are kept."""

from typing import Any

import pytest

from penstock.components.control.base import Manifest, condition
from penstock.components.control.laptop.revisions import Failure, Service
from penstock.components.control.laptop.service_status import GatewayView, LeaseView, service_status
from penstock.components.control.laptop.serving import KEPT_REVISIONS, take_up
from penstock.components.control.laptop.traffic import RollOut, targets

RUNTIME: Manifest = {"spec": {"supportedModelFormats": [{"name": "onnx"}], "containers": [{"command": ["serve"]}]}}
GATEWAY, LEASE = GatewayView("http://127.0.0.1:8480", 0, ""), LeaseView("", "")


def name(number: int) -> str:
    return f"m-predictor-{number:05d}"


def take(service: Service, model: str, percent: int | None = None) -> str:
    """Take up a model, and return the revision that stands for it."""
    predictor: dict[str, Any] = {"model": {
        "modelFormat": {"name": "onnx"}, "runtime": "r", "storageUri": f"file:///{model}"}}
    if percent is not None:
        predictor["canaryTrafficPercent"] = percent
    metadata = {"name": "m", "generation": service.generation + 1}
    take_up(service, {"metadata": metadata, "spec": {"predictor": predictor}}, RUNTIME)
    return service.roll_out.created


def rolled_out(service: Service) -> None:
    """Pretend that the newest revision has been rolled out."""
    state = service.roll_out
    service.revisions[state.created].phase = "ready"
    service.roll_out = RollOut(100, state.created, state.created, state.created, state.rolled_out)
    service.live = targets(service.roll_out, service.serving())


@pytest.fixture
def service() -> Service:
    made = Service(name="m", uid="1")
    take(made, "a")
    rolled_out(made)
    return made


def test_a_changed_template_is_a_new_revision_and_a_changed_percent_is_not(service: Service) -> None:
    assert take(service, "b", 20) == name(2)
    assert take(service, "b", 50) == name(2)
    assert (service.roll_out.percent, service.generation) == (50, 3)


def test_stables_own_template_brings_stable_back(service: Service) -> None:
    take(service, "b", 20)

    assert take(service, "a", 20) == name(1)
    assert service.roll_out.previous == "", "or the percent would be taken for a roll back to what was before stable"


def test_a_failed_revision_is_tried_anew_where_it_would_get_traffic(service: Service) -> None:
    take(service, "b", 20)
    service.revisions[name(2)].phase = "failed"

    assert take(service, "b", 0) == name(2)
    assert take(service, "b", 20) == name(3)


def test_old_revisions_are_forgotten_but_no_number_comes_twice(service: Service) -> None:
    made = [take(service, f"model-{index}", 20) for index in range(2 * KEPT_REVISIONS)]

    assert made == [name(number) for number in range(2, 2 * KEPT_REVISIONS + 2)]
    assert name(1) in service.revisions, "it holds the traffic"
    assert made[-1] in service.revisions
    assert len(service.revisions) <= KEPT_REVISIONS + 3


@pytest.mark.parametrize(("phase", "percent", "ready", "transition"), [
    ("starting", 20, "Unknown", "InProgress"),
    ("ready", 20, "True", "UpToDate"),
    ("failed", 20, "False", "BlockedByFailedLoad"),
    ("failed", 0, "True", "UpToDate"),
    ("ended", 0, "True", "UpToDate"),
])
def test_ready_follows_what_is_asked_for(service: Service, phase: Any, percent: int, ready: str,
                                         transition: str) -> None:
    take(service, "b", percent)
    revision = service.revisions[name(2)]
    revision.phase = phase
    revision.failure = Failure(reason="ModelLoadFailed", message="no", exit_code=3, revision=revision.name)
    service.roll_out = service.roll_out._replace(ready=name(2) if phase == "ready" else name(1))
    service.live = targets(service.roll_out, service.serving())

    status = service_status(service, GATEWAY, LEASE, {})

    assert condition({"status": status}, "Ready")["status"] == ready
    assert status["modelStatus"] == {"transitionStatus": transition, "lastFailureInfo": {
        "reason": "ModelLoadFailed", "message": "no", "exitCode": 3, "modelRevisionName": name(2)}}


def test_ready_waits_for_the_gateway(service: Service) -> None:
    take(service, "b", 20)
    service.revisions[name(2)].phase = "ready"
    service.roll_out = service.roll_out._replace(ready=name(2))

    status = service_status(service, GATEWAY, LEASE, {})

    assert condition({"status": status}, "PredictorReady")["status"] == "True"
    assert condition({"status": status}, "RoutesReady")["status"] == "Unknown"
    assert [entry["percent"] for entry in status["components"]["predictor"]["traffic"]] == [100]
    down = service_status(service, GatewayView("", 1, "Envoy ended"), LEASE, {})
    assert condition({"status": down}, "Ready")["reason"] == "GatewayDown"


def test_a_condition_that_stays_keeps_its_time(service: Service) -> None:
    before = service_status(service, GATEWAY, LEASE, {})
    for entry in before["conditions"]:
        entry["lastTransitionTime"] = "2020-01-01T00:00:00Z"

    after = service_status(service, GATEWAY, LeaseView("run-1", "now"), before)

    times = {entry["type"]: entry["lastTransitionTime"] for entry in after["conditions"]}
    assert times["Ready"] == "2020-01-01T00:00:00Z"
    assert times["CanaryLease"] > "2026"
