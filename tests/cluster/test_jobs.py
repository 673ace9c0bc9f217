"""What a cluster alone has: pods in their own network, images that must be pulled, memory limits, an image of ours."""

import logging
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

from penstock.components import images
from penstock.components.control import kubernetes_pods
from penstock.components.control.base import JobFailed, Manifest, ObjectRef, UnsupportedField, outcome
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.kubernetes_errors import Refused
from penstock.components.training.worker.metrics import parse_metric
from penstock.manifests import load

pytestmark = pytest.mark.cluster
WAIT = timedelta(minutes=5)
METRICS = """
import time
from penstock.components.training.worker.metrics import format_metric
for epoch in range(3):
    print(format_metric("train_loss", 0.5**epoch), flush=True)
    time.sleep(0.3)
"""
EAT = "import time; kept = [bytearray(1 << 20) for _ in range(400)]; time.sleep(60)"
log = logging.getLogger(__name__)


@pytest.fixture
def job(plane: KubernetesPlane, request: pytest.FixtureRequest) -> Iterator[Manifest]:
    """A job of the kind that the test is about, deleted afterwards."""
    made = MAKERS[request.param]()
    made["metadata"] |= {"name": f"test-{uuid.uuid4().hex[:8]}", "namespace": "default"}
    yield made
    plane.delete(ObjectRef.of(made))


def batch_job(script: str = METRICS, **container: object) -> Manifest:
    main = {"name": "main", "image": images.LIGHT, "command": ["python", "-c", script]} | container
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "spec": {
        "backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [main]}}}}


def pytorch_job() -> Manifest:
    made = load("jobs/pytorchjob.yaml")
    made["spec"]["elasticPolicy"] |= {"minReplicas": 2, "maxReplicas": 2}
    worker = made["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker["replicas"] = 2
    worker["template"]["spec"]["containers"] = [
        {"name": "pytorch", "image": images.LIGHT, "command": ["python", "-c", METRICS]}]
    return made


def train_job() -> Manifest:
    made = load("jobs/trainjob.yaml")
    made["spec"]["trainer"] = {"numNodes": 2, "image": images.LIGHT, "command": ["python", "-c", METRICS]}
    return made


MAKERS = {"Job": batch_job, "PyTorchJob": pytorch_job, "TrainJob": train_job,
          "unpulled": lambda: batch_job(image="penstock.invalid/none:1"),
          "hungry": lambda: batch_job(EAT, resources={"limits": {"memory": "64Mi"}})}


@pytest.mark.parametrize("job", ["Job", "PyTorchJob", "TrainJob"], indirect=True)
def test_the_metrics_of_a_job_come_from_all_its_pods(plane: KubernetesPlane, job: Manifest) -> None:
    ref = ObjectRef.of(job)
    plane.apply(job)

    lines = list(plane.logs(ref))
    *_, ended = plane.watch(ref, WAIT)

    pods = {line.pod for line in lines}
    assert outcome(ended) == "succeeded"
    assert len(pods) == (1 if ref.kind == "Job" else 2)
    for pod in pods:
        metrics = [parse_metric(line.text) for line in lines if line.pod == pod]
        assert metrics == [("train_loss", value) for value in (1.0, 0.5, 0.25)]
    log.info("kind=%s pods=%d lines=%d conditions=%s", ref.kind, len(pods), len(lines),
             [(entry["type"], entry["reason"]) for entry in ended["status"]["conditions"]])


@pytest.mark.parametrize("job", ["unpulled"], indirect=True)
def test_an_image_that_cannot_be_pulled_ends_the_wait(
        plane: KubernetesPlane, job: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_pods, "START_SECONDS", 10.0)
    plane.apply(job)

    with pytest.raises(JobFailed, match=r"its image cannot be pulled: penstock\.invalid/none:1: (ErrImage|ImagePull)"):
        list(plane.watch(ObjectRef.of(job), WAIT))


@pytest.mark.parametrize("job", ["hungry"], indirect=True)
def test_a_pod_that_ran_out_of_memory_is_called_so(plane: KubernetesPlane, job: Manifest) -> None:
    plane.apply(job)

    *_, ended = plane.watch(ObjectRef.of(job), WAIT)

    assert outcome(ended) == "failed"
    assert re.search(r"container main was killed because it ran out of memory \(OOMKilled, limit 64Mi\)",
                     plane.failure(ObjectRef.of(job)))


@pytest.mark.parametrize("job", ["PyTorchJob"], indirect=True)
def test_a_webhooks_refusal_is_passed_on_word_for_word(plane: KubernetesPlane, job: Manifest) -> None:
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["name"] = "main"

    with pytest.raises(Refused, match=r'admission webhook "validator\.pytorchjob\.training-operator\.kubeflow\.org" '
                       r"denied the request: .*must have at least one container with name pytorch"):
        plane.apply(job)
    assert plane.get(ObjectRef.of(job)) is None


@pytest.mark.parametrize("job", ["PyTorchJob"], indirect=True)
def test_a_field_that_is_none_is_refused_by_name(plane: KubernetesPlane, job: Manifest) -> None:
    job["spec"]["runPolicy"]["backofLimit"] = 3

    with pytest.raises(UnsupportedField, match=r'unknown field "spec\.runPolicy\.backofLimit"'):
        plane.apply(job)
