"""One bed for both control planes: what a test of their common behaviour needs, on this machine or on a cluster.

The cluster is that of KUBECONFIG. Its pods run the image of `images.LIGHT`, and each test leaves nothing behind.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.components import images
from penstock.components.control.base import ControlPlane, Manifest, ObjectRef
from penstock.components.control.connect import connect
from penstock.components.control.laptop import processes
from penstock.manifests import load

PATIENCE = 300.0  # seconds until an effect must have come; a busy cluster pulls, schedules and restarts slowly
LONG = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the first process of a container has no default for it
print("begin", flush=True)
time.sleep(600)
"""


class Bed:
    """One plane, and shorthand for what every test does with it.

    Args:
        name: `laptop` or `kubernetes`, as PENSTOCK_PLANE has it.
    """

    long = LONG

    def __init__(self, name: str) -> None:
        self.name = name
        self.plane = connect()
        self._applied: list[ObjectRef] = []

    def connect(self) -> ControlPlane:
        """Return a plane object of its own."""
        return connect()

    def job(self, kind: str, script: str, *, nodes: int = 1, deadline: int = 0) -> Manifest:
        """Fill a job that fails with the first failure where its kind can say so.

        Args:
            nodes: pods; a Job has one.
            deadline: seconds, 0: none.
        """
        job = _FILLERS[kind](script, nodes)
        job["metadata"] = {"name": f"conformance-{uuid.uuid4().hex[:8]}", "namespace": "default",
                           "labels": {"app.kubernetes.io/part-of": "penstock"}}
        if deadline:
            policy = job["spec"]["runPolicy"] if kind == "PyTorchJob" else job["spec"]
            policy["activeDeadlineSeconds"] = deadline
        return job

    def apply(self, manifest: Manifest) -> Manifest:
        """Apply, and delete it when the test ends."""
        self.delete_in_the_end(ObjectRef.of(manifest))
        return self.plane.apply(manifest)

    def delete_in_the_end(self, ref: ObjectRef) -> None:
        """Delete an object when the test ends, before those that were named or applied earlier."""
        self._applied.append(ref)

    def get(self, manifest: Manifest) -> Manifest:
        """Return the object, which must be there."""
        found = self.plane.get(ObjectRef.of(manifest))
        assert found is not None
        return found

    def running(self, job: Manifest) -> int:
        """Count the pods that there are of a job, or the processes in their place."""
        if self.name == "laptop":
            return len(processes.marked(job["metadata"]["uid"]))
        from penstock.components.control.kubernetes_api import Api
        from penstock.components.control.kubernetes_pods import find_pods

        api = Api("")
        return len(find_pods(api, api.place(ObjectRef.of(job)), job))

    def eventually(self, look: Callable[[], Any], told: Callable[[], object] = str) -> Any:
        """Look until there is something to see, and return that; `told` says what was there instead."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            assert time.monotonic() < deadline, f"it did not come about: {told()}"
            time.sleep(0.1)
        return found

    def clean(self) -> None:
        """Delete what was applied."""
        with ExitStack() as stack:
            for ref in self._applied:
                stack.callback(self.plane.delete, ref)
        self._applied.clear()


def _batch_job(script: str, nodes: int) -> Manifest:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main"} | _container(script)]}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 0, "template": {"spec": pod}}}


def _pytorch_job(script: str, nodes: int) -> Manifest:
    job = load("jobs/pytorchjob.yaml")
    job["spec"]["elasticPolicy"] |= {"minReplicas": nodes, "maxReplicas": nodes}
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker |= {"replicas": nodes, "restartPolicy": "Never"}
    worker["template"]["spec"]["containers"] = [{"name": "pytorch"} | _container(script)]
    return job


def _train_job(script: str, nodes: int) -> Manifest:
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
            "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": nodes} | _container(script)}}


def _container(script: str) -> Manifest:
    return {"image": images.LIGHT, "command": ["python", "-c"], "args": [script]}


_FILLERS: dict[str, Callable[[str, int], Manifest]] = {
    "Job": _batch_job, "PyTorchJob": _pytorch_job, "TrainJob": _train_job}
# Restarts of a container and the operator's own deadline take minutes on a cluster: there these begin with the session.
_SLOW: dict[str, Callable[[Bed], Manifest]] = {
    "TrainJob that fails": lambda bed: bed.job("TrainJob", "print('bad', flush=True); raise SystemExit(3)"),
    "PyTorchJob with a deadline": lambda bed: bed.job("PyTorchJob", LONG, deadline=2),
}


@pytest.fixture(scope="session")
def slow_jobs() -> Iterator[Callable[[Bed, str], Manifest]]:
    """Give each slow job, begun; a cluster's all begin with the first call."""
    begun: dict[str, Manifest] = {}
    beds: list[Bed] = []

    def begin(bed: Bed, name: str = "") -> Manifest:
        if bed.name == "laptop":
            return bed.apply(_SLOW[name](bed)) if name else {}
        if not begun:
            beds.append(Bed(bed.name))
            begun.update({key: beds[0].apply(fill(bed)) for key, fill in _SLOW.items()})
        return begun.get(name, {})

    yield begin
    for bed in beds:
        bed.clean()


@pytest.fixture(params=["laptop", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def bed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        slow_jobs: Callable[[Bed, str], Manifest]) -> Iterator[Bed]:
    """Give one plane after the other."""
    if request.param == "kubernetes" and not os.environ.get("KUBECONFIG"):
        pytest.skip("needs a cluster: set KUBECONFIG")
    monkeypatch.setenv("PENSTOCK_PLANE", request.param)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    bed = Bed(request.param)
    slow_jobs(bed, "")
    yield bed
    bed.clean()
