"""The status of an InferenceService, with the names that KServe's Knative mode gives things.

Pure: from what the supervisor knows to the object's status.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from penstock.components.control.base import condition
from penstock.components.control.laptop.revisions import Failure, Revision, Service
from penstock.components.control.laptop.traffic import Target, targets

__all__ = ["GatewayView", "LeaseView", "service_status"]

RESTARTS = "penstock.dev/{}-restarts"
State = tuple[str, str, str]  # status, reason, message


class GatewayView(NamedTuple):
    """What a service's status says about Envoy; `failure` is "" while it runs."""

    url: str
    restarts: int
    failure: str


class LeaseView(NamedTuple):
    """The canary lease of a service; `holder` "" is nobody."""

    holder: str
    renewed: str


def service_status(service: Service, gateway: GatewayView, lease: LeaseView,
                   before: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a service.

    `traffic` holds the weights that Envoy routes by, not those that are asked for; Ready is True when both are the same
    and what they lead to serves.

    Args:
        before: the status until now; a condition that stays keeps its lastTransitionTime.
    """
    state = service.roll_out
    predictor, routes = _predictor_ready(service), _routes_ready(service, gateway)
    conditions = {"PredictorReady": predictor, "RoutesReady": routes, "Ready": _worst(predictor, routes)}
    if service.lapsed:
        conditions["CanaryLease"] = ("False", "LeaseLapsed", f"{service.lapsed} has not renewed its lease in time; the "
                                     "canary's traffic went back to stable")
    elif lease.holder:
        conditions["CanaryLease"] = ("True", "LeaseHeld", f"held by {lease.holder}, renewed {lease.renewed}")
    revisions = {"latestCreatedRevision": state.created, "latestReadyRevision": state.ready,
                 "latestRolledoutRevision": state.rolled_out, "previousRolledoutRevision": state.previous}
    return {
        "observedGeneration": service.generation,
        "url": gateway.url,
        "deploymentMode": "Knative",
        "conditions": [_condition(kind, conditions[kind], before) for kind in sorted(conditions)],
        "components": {"predictor": {name: revision for name, revision in revisions.items() if revision}
                       | {"traffic": [_target(service, target) for target in service.live]}},
        "modelStatus": _model_status(service),
        "annotations": {
            RESTARTS.format("gateway"): str(gateway.restarts),
            RESTARTS.format("predictor"): str(sum(revision.restarts for revision in service.revisions.values()))},
    }


def _predictor_ready(service: Service) -> State:
    state, serving = service.roll_out, service.serving()
    if service.refusal:
        return "False", service.refusal.reason, service.refusal.message
    stable = service.revisions.get(state.rolled_out)
    if stable and stable.name not in serving:
        message = stable.failure.message if stable.failure else ""
        return ("False", "Restarting", message) if stable.restarts else ("Unknown", "Starting", f"{stable.name} starts")
    created = service.revisions[state.created]
    asked_for = state.percent > 0 or not stable
    if asked_for and created.phase == "failed" and created.failure:
        return "False", "RevisionFailed", created.failure.message
    if asked_for and created.name not in serving:
        return "Unknown", "Starting", f"{created.name} is not ready yet"
    return "True", "PredictorReady", _restarts(service.revisions.values())


def _routes_ready(service: Service, gateway: GatewayView) -> State:
    if gateway.failure:
        return "False", "GatewayDown", gateway.failure
    wanted = targets(service.roll_out, service.serving())
    if not wanted or service.live != wanted:
        return "Unknown", "Pending", "the gateway has not taken the traffic that is asked for yet"
    times = f"Envoy was started again {gateway.restarts} time(s); requests on their way at that moment were lost"
    return "True", "RoutesReady", times if gateway.restarts else ""


def _restarts(revisions: Iterable[Revision]) -> str:
    crashed = [revision for revision in revisions if revision.restarts]
    return "; ".join(f"{revision.name} was started again {revision.restarts} time(s)" for revision in crashed)


def _worst(*states: State) -> State:
    for status in ("False", "Unknown"):
        for state in states:
            if state[0] == status:
                return state
    return "True", "Ready", ""


def _condition(kind: str, state: State, before: Mapping[str, Any]) -> dict[str, str]:
    status, reason, message = state
    old = condition({"status": before}, kind)
    stamp = old["lastTransitionTime"] if old.get("status") == status else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp}


def _target(service: Service, target: Target) -> dict[str, Any]:
    entry = {"revisionName": target.revision, "percent": target.percent, "latestRevision": target.latest,
             "tag": "latest" if target.latest else "prev"}
    revision = service.revisions[target.revision]
    return entry | ({"url": f"http://127.0.0.1:{revision.port}"} if revision.process else {})


def _model_status(service: Service) -> dict[str, Any]:
    state = service.roll_out
    created = service.revisions.get(state.created)
    failure = _failure(service, created)
    if service.refusal:
        transition = "InvalidSpec"
    elif created is None or (state.percent and created.phase in ("ended", "starting")):
        transition = "InProgress"
    elif state.percent and created.phase == "failed":
        transition = "BlockedByFailedLoad"
    else:
        transition = "UpToDate"
    if failure is None:
        return {"transitionStatus": transition}
    info: dict[str, Any] = {"reason": failure.reason, "message": failure.message}
    if failure.exit_code >= 0:
        info["exitCode"] = failure.exit_code
    if failure.revision:
        info["modelRevisionName"] = failure.revision
    return {"transitionStatus": transition, "lastFailureInfo": info}


def _failure(service: Service, created: Revision | None) -> Failure | None:
    stable = service.revisions.get(service.roll_out.rolled_out)
    return service.refusal or (created and created.failure) or (stable and stable.failure) or None
