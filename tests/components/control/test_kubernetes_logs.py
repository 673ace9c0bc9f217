"""Logs of pods that restart, wait and vanish, and of services; the server is the small one of the conftest."""

from typing import Any

from penstock.components.control.base import Manifest, ObjectRef
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.kubernetes_api import Api
from penstock.components.control.kubernetes_logs import PodLog

PODS = "/api/v1/namespaces/team/pods"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/team/inferenceservices/digits"
REF = ObjectRef("serving.kserve.io/v1beta1", "InferenceService", "digits")


def pod(name: str, restarts: int = 0, revision: str = "", state: Manifest | None = None) -> Manifest:
    status = {"name": "main", "restartCount": restarts, "state": state or {}}
    return {"metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", "labels": {
                "serving.knative.dev/revision": revision}, "creationTimestamp": "2026-11-21T10:00:01Z"},
            "spec": {"containers": [{"name": "main"}, {"name": "queue-proxy"}]},
            "status": {"containerStatuses": [status]}}


def texts(log: PodLog, found: Manifest) -> list[str]:
    return [entry.line.text for entry in log.new(found)]


def test_each_line_comes_once_though_a_second_is_read_again(server: Any, plane: KubernetesPlane) -> None:
    log, path = PodLog(Api(), pod("x-0")), f"{PODS}/x-0/log"
    first = "2026-11-21T10:00:02.100000000Z a\n2026-11-21T10:00:02.200000000Z b\n"
    more = f"{first}2026-11-21T10:00:02.200000000Z c\n2026-11-21T10:00:03.0Z \n"
    server.answers["GET", path] = [(200, first), (200, first), (200, more), (404, {})]

    assert [texts(log, pod("x-0")) for _ in range(4)] == [["a", "b"], [], ["c", ""], []]
    queries = [query for _, found, query, _ in server.requests if found == path]
    assert queries[0] == {"container": "main", "timestamps": "true"}
    assert queries[3]["sinceTime"] == "2026-11-21T10:00:03Z"


def test_the_last_lines_of_a_container_that_was_restarted_are_not_lost(server: Any, plane: KubernetesPlane) -> None:
    log = PodLog(Api(), pod("x-0"))
    server.answers["GET", f"{PODS}/x-0/log"] = [
        (200, "2026-11-21T10:00:02.0Z begun\n"), (200, "2026-11-21T10:00:03.0Z dying\n"),
        (200, "2026-11-21T10:00:04.0Z begun again\n")]

    assert texts(log, pod("x-0")) == ["begun"]
    assert texts(log, pod("x-0", restarts=1)) == ["dying", "begun again"]
    assert [query.get("previous") for _, path, query, _ in server.requests if path.endswith("/log")] == [
        None, "true", None]


def test_a_service_gives_what_its_pods_have_printed_and_what_the_newest_died_of(
        server: Any, plane: KubernetesPlane) -> None:
    status = {"components": {"predictor": {"latestCreatedRevision": "digits-predictor-00002"}}}
    server.put(SERVICE, {"kind": "InferenceService", "metadata": {"name": "digits"}, "status": status})
    failed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    for name, number, state in (("old", "1", failed), ("new", "2", {})):
        server.put(f"{PODS}/{name}", pod(name, revision=f"digits-predictor-0000{number}", state=state))
        server.logs[f"{PODS}/{name}/log"] = f"2026-11-21T10:00:0{number}.0Z {name}\n"

    assert list(plane.logs(REF)) == [("old", "old"), ("new", "new")]
    assert plane.failure(REF) == ""
    server.put(f"{PODS}/new", pod("new", revision="digits-predictor-00002", state=failed))
    assert plane.failure(REF) == "pod new: container main ended with exit code 1 (Error)"


def test_a_server_that_is_busy_is_asked_again(server: Any, plane: KubernetesPlane) -> None:
    server.put(SERVICE, {"kind": "InferenceService", "metadata": {"name": "digits"}})
    server.answers["GET", SERVICE] = [(429, {"message": "slow down"}), (503, "starting")]

    assert (plane.get(REF) or {})["metadata"]["name"] == "digits"
