"""A service account with the role of manifests/rbac: all that the steps do works.

Without it they say which rule is missing.
"""

import base64
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from penstock.components import images
from penstock.components.control.base import Manifest, ObjectRef, outcome
from penstock.components.control.inference_service import Placement, inference_service
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.kubernetes_api import Api
from penstock.components.control.kubernetes_errors import Forbidden
from penstock.components.control.lease import CanaryLease
from penstock.manifests import load

pytestmark = pytest.mark.cluster


@pytest.fixture
def team(plane: KubernetesPlane, name: str) -> Iterator[str]:
    """A namespace with the service account `runner`."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    plane.apply(space)
    plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner", "namespace": name}})
    yield name
    plane.delete(ObjectRef.of(space))


@pytest.fixture
def runner(team: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesPlane:
    """The plane as that service account."""
    api = Api()
    path = api.path(ObjectRef("v1", "ServiceAccount", "runner", team))
    token = api.send("POST", f"{path}/token", "get a token", {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    config["users"] = [{"name": "runner", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"] |= {"user": "runner", "namespace": team}
    (tmp_path / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("PENSTOCK_NAMESPACE", raising=False)
    return KubernetesPlane()


def grant(plane: KubernetesPlane, team: str) -> None:
    binding = load("rbac/rolebinding.yaml")
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "runner", "namespace": team}]
    for manifest in (load("rbac/role.yaml"), binding):
        manifest["metadata"]["namespace"] = team
        plane.apply(manifest)


def training() -> Manifest:
    job = load("jobs/pytorchjob.yaml")
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"] = [
        {"name": "pytorch", "image": images.LIGHT, "command": ["python", "-c", "print('train_loss=0.5')"]}]
    return job


def test_without_the_role_it_says_which_rule_is_missing(runner: KubernetesPlane, team: str) -> None:
    assert runner.namespace == team
    with pytest.raises(Forbidden, match=rf"system:serviceaccount:{team}:runner may not get pytorchjobs of API group "
                       rf'kubeflow\.org in namespace {team}; missing is the rule {{apiGroups: \["kubeflow\.org"\], '
                       r"resources: \[pytorchjobs\], verbs: \[get\]}"):
        runner.apply(training())


def test_with_the_role_a_run_can_do_all_it_must(plane: KubernetesPlane, runner: KubernetesPlane, team: str) -> None:
    grant(plane, team)
    job, ref = training(), ObjectRef.of(training())

    runner.apply(job)
    assert [line.text for line in runner.logs(ref)] == ["train_loss=0.5"]
    *_, ended = runner.watch(ref, timedelta(minutes=3))
    assert outcome(ended) == "succeeded"
    assert runner.failure(ref) == ""
    runner.delete(ref)

    runner.apply(load("serving/servingruntime.yaml"))
    runner.apply(load("serving/servingruntime.yaml"))
    candidate = Placement("v1", "pvc://none/v1", "penstock-onnx")
    isvc = inference_service("digits", *candidate[:2], runtime=candidate.runtime)
    runner.apply(isvc | {"metadata": isvc["metadata"] | {"resourceVersion": "0"}})
    runner.apply(isvc)
    runner.delete(ObjectRef.of(isvc))
    with CanaryLease(runner, "digits", "run-1") as lease:
        lease.renew()
        lease.release()

    with pytest.raises(Forbidden, match="may not create secrets of API group core"):
        runner.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "resourceVersion": "0"},
                      "data": {"key": base64.b64encode(b"value").decode()}})
