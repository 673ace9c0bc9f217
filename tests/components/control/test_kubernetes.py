"""The Kubernetes plane against a small HTTP server that speaks the API: what is asked, what is made of the answers."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.components.control import kubernetes_pods
from penstock.components.control.base import (
    HASH_ANNOTATION,
    ControlError,
    JobFailed,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    manifest_hash,
)
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.kubernetes_errors import Unreachable

JOB = "/apis/batch/v1/namespaces/team/jobs"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/team/leases"
PODS = "/api/v1/namespaces/team/pods"
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}


def job(command: str = "true", **metadata: object) -> Manifest:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "namespace": "default"} | metadata,
            "spec": {"command": command}}


def lease(holder: str, version: str | None = None) -> Manifest:
    metadata = {"name": "x-canary"} | ({"resourceVersion": version} if version else {})
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {"holderIdentity": holder}}


def pod(name: str, status: Manifest, **metadata: object) -> Manifest:
    found = {"uid": f"uid-{name}", "name": name, "namespace": "team", "creationTimestamp": "2026-11-21T10:00:01Z"}
    return {"metadata": found | metadata, "spec": {"containers": [{"name": "main"}]}, "status": status}


REF = ObjectRef.of(job())
UNPULLED = {"containerStatuses": [{"name": "main", "image": "no/such:1", "state": {"waiting": {
    "reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]}


def test_a_job_is_created_in_our_namespace_and_adopted_by_its_hash(plane: KubernetesPlane, server: Any) -> None:
    first, again = plane.apply(job()), plane.apply(job())

    assert first["metadata"]["uid"] == again["metadata"]["uid"]
    assert first["metadata"]["annotations"] == {HASH_ANNOTATION: manifest_hash(job())}
    posts = [(path, query) for method, path, query, _ in server.requests if method == "POST"]
    assert posts == [(JOB, {"fieldManager": "penstock", "fieldValidation": "Strict"})]
    with pytest.raises(ObjectConflict, match="is immutable, so delete it first"):
        plane.apply(job("false"))


def test_a_job_whose_creation_was_lost_on_the_way_is_ours(plane: KubernetesPlane, server: Any) -> None:
    created = plane.apply(job())
    server.answers["GET", f"{JOB}/x"] = [(404, {})]  # another process creates it between our look and our request

    assert plane.apply(job())["metadata"]["uid"] == created["metadata"]["uid"]


def test_version_zero_means_that_there_is_none(plane: KubernetesPlane, server: Any) -> None:
    plane.apply(lease("run-1", "0"))

    with pytest.raises(ObjectConflict, match="already exists"):
        plane.apply(lease("run-2", "0"))


def test_an_update_swaps_one_version_for_the_next_and_owns_its_fields(
        plane: KubernetesPlane, server: Any) -> None:
    created = plane.apply(lease("run-1", "0"))

    updated = plane.apply(lease("run-2", created["metadata"]["resourceVersion"]))

    assert updated["spec"]["holderIdentity"] == "run-2"
    assert updated["metadata"]["managedFields"] == [{"manager": "penstock", "operation": "Apply"}]
    method, path, query, body = server.requests[-1]
    assert (method, path, query) == ("PATCH", f"{LEASE}/x-canary",
                                     {"fieldManager": "penstock", "fieldValidation": "Strict"})
    assert body["metadata"]["resourceVersion"] == str(int(updated["metadata"]["resourceVersion"]) - 1)
    with pytest.raises(ObjectConflict, match=r"is at version \d+ now, the manifest expects"):
        plane.apply(lease("run-3", created["metadata"]["resourceVersion"]))


def test_what_is_gone_is_not_at_any_version(plane: KubernetesPlane) -> None:
    with pytest.raises(ObjectConflict, match="does not exist"):
        plane.apply(lease("run-1", "77"))


def test_a_dry_run_is_marked_as_one(plane: KubernetesPlane, server: Any) -> None:
    plane.dry_run(job())

    assert server.requests[-1][2] == {"dryRun": "All", "fieldManager": "penstock", "fieldValidation": "Strict"}


def test_a_kind_that_is_not_installed_says_what_is_missing(plane: KubernetesPlane) -> None:
    with pytest.raises(ControlError, match=r"has no PyTorchJob \(kubeflow\.org/v1\).*install the Training Operator"):
        plane.get(ObjectRef("kubeflow.org/v1", "PyTorchJob", "x"))


def test_no_cluster_says_which_and_how_to_check(plane: KubernetesPlane, server: Any) -> None:
    server.stop()

    with pytest.raises(Unreachable, match=rf"cannot look up .*http://127\.0\.0\.1:{server.port}.*kubectl get --raw"):
        plane.get(REF)
    server.start()  # for the fixture


def test_without_a_kubeconfig_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))

    with pytest.raises(ControlError, match=r"no cluster is configured.*set KUBECONFIG"):
        KubernetesPlane()


def test_a_watch_ends_with_the_job(plane: KubernetesPlane, server: Any) -> None:
    plane.apply(job())
    watch = plane.watch(REF, timedelta(seconds=30))
    assert "status" not in next(watch)

    server.put(f"{JOB}/x", server.objects[f"{JOB}/x"] | {"status": COMPLETE})

    assert [found["status"] for found in watch] == [COMPLETE]


def test_a_watch_ends_with_deletion_and_with_time(plane: KubernetesPlane, server: Any) -> None:
    assert list(plane.watch(REF, timedelta(seconds=30))) == []
    plane.apply(job())
    assert len(list(plane.watch(REF, timedelta(seconds=0.1)))) == 1
    watch = plane.watch(REF, timedelta(seconds=30))
    next(watch)

    server.remove(f"{JOB}/x")

    assert list(watch) == []


def test_a_watch_outlives_a_lost_history_and_a_restart(plane: KubernetesPlane, server: Any) -> None:
    plane.apply(job())
    server.compacted = server.version + 1  # every version is too old to watch from
    watch = plane.watch(REF, timedelta(seconds=60))
    next(watch)
    server.put(f"{JOB}/x", server.objects[f"{JOB}/x"] | {"status": {"active": 1}})
    assert next(watch)["status"] == {"active": 1}
    server.stop()

    threading.Timer(0.5, server.start, (server.port,)).start()
    server.put(f"{JOB}/x", server.objects[f"{JOB}/x"] | {"status": COMPLETE})

    assert next(watch)["status"] == COMPLETE


def test_deletion_waits_for_the_object_and_its_pods(plane: KubernetesPlane, server: Any) -> None:
    plane.delete(REF)
    plane.apply(job())
    server.put(f"{PODS}/x-1", pod("x-1", {}))
    threading.Timer(0.3, server.remove, (f"{PODS}/x-1",)).start()

    plane.delete(REF)

    assert server.objects == {}
    deletion = next(body for method, _, _, body in server.requests if method == "DELETE")
    assert deletion["propagationPolicy"] == "Background"


def test_an_image_that_cannot_be_pulled_fails_the_job(
        plane: KubernetesPlane, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_pods, "START_SECONDS", 0.2)
    plane.apply(job())
    server.put(f"{PODS}/x-1", pod("x-1", UNPULLED))

    with pytest.raises(JobFailed, match=r"Job team/x cannot start: pod x-1: .*no/such:1: ImagePullBackOff: Back-off"):
        list(plane.logs(REF))
    assert "ImagePullBackOff" in plane.failure(REF)


def test_the_lines_of_all_pods_come_in_order_of_time(plane: KubernetesPlane, server: Any) -> None:
    plane.apply(job())
    texts = {"x-0": "2026-11-21T10:00:02.000000001Z one\n2026-11-21T10:00:04.5Z three\n",
             "x-1": "2026-11-21T11:00:03.000000000+01:00 two\n"}
    for name, text in texts.items():
        server.put(f"{PODS}/{name}", pod(name, {}))
        server.answers["GET", f"{PODS}/{name}/log"] = [(400, {"message": "container is waiting to start"})]
        server.logs[f"{PODS}/{name}/log"] = text
    threading.Timer(0.4, lambda: server.put(f"{JOB}/x", server.objects[f"{JOB}/x"] | {"status": COMPLETE})).start()

    assert list(plane.logs(REF)) == [("x-0", "one"), ("x-1", "two"), ("x-0", "three")]


def test_no_job_no_log(plane: KubernetesPlane) -> None:
    with pytest.raises(NotFound, match="Job team/x"):
        list(plane.logs(REF))


def test_a_dry_run_of_what_is_there_is_an_apply(plane: KubernetesPlane, server: Any) -> None:
    plane.apply(lease("run-1", "0"))

    plane.dry_run(lease("run-1"))

    method, _, query, _ = server.requests[-1]
    assert (method, query["dryRun"], query["force"]) == ("PATCH", "All", "true")


def test_a_write_in_between_stops_only_who_asked_for_a_version(plane: KubernetesPlane, server: Any) -> None:
    created = plane.apply(lease("run-1", "0"))
    busy = (409, {"message": "the object has been modified"})
    server.answers["PATCH", f"{LEASE}/x-canary"] = [busy, busy]

    with pytest.raises(ObjectConflict, match="get it again, look, and apply anew"):
        plane.apply(lease("run-2", created["metadata"]["resourceVersion"]))
    assert plane.apply(lease("run-3"))["spec"]["holderIdentity"] == "run-3"
