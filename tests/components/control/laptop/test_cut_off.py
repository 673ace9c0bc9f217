"""An owner that dies at any of its writes, or of anything that goes wrong in it: whoever waits for the object hears."""

import errno
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.components import images
from penstock.components.contracts.errors import DiskFull
from penstock.components.control.base import ControlError, Manifest, ObjectRef, condition, outcome
from penstock.components.control.laptop import agents, processes
from penstock.components.control.laptop.experiment_status import is_over
from penstock.components.control.laptop.plane import LaptopPlane
from penstock.components.control.laptop.store import Store
from penstock.components.control.laptop.trouble import in_words

PATIENCE = timedelta(seconds=60)
EXPERIMENT = ObjectRef("kubeflow.org/v1beta1", "Experiment", "toy")
# A thread that ends in a defect shows its stack.
DEFECTS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
OWNER = """
import json, os, signal, sys
from datetime import timedelta
from pathlib import Path
from penstock.components.control.base import ObjectRef
from penstock.components.control.laptop import store
from penstock.components.control.laptop.plane import LaptopPlane
root, manifest, deadly = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
whole, written = store.write_atomically, []
def write(path, content):
    written.append(path)
    if len(written) >= deadly > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, content)
store.write_atomically = write
plane = LaptopPlane(root)
plane.apply(manifest)
list(plane.watch(ObjectRef.of(manifest), timedelta(seconds=60)))
"""


def container(*words: str) -> Manifest:
    return {"image": images.LIGHT, "command": ["python"], "args": [*words]}


def batch_job(*words: str) -> Manifest:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main"} | container(*words or ("-c", ""))]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "toy"},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}}}


def train_job() -> Manifest:
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "toy"},
            "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": container("-c", "") | {"numNodes": 1}}}


@pytest.fixture
def experiment(tmp_path: Path) -> Manifest:
    """Two trials, one after the other, whose score is their parameter."""
    script = tmp_path / "trial.py"
    script.write_text("import sys; print('score=' + sys.argv[1])")
    job = batch_job(str(script), "${trialParameters.x}")
    del job["metadata"]
    return {"apiVersion": EXPERIMENT.api_version, "kind": EXPERIMENT.kind, "metadata": {"name": "toy"}, "spec": {
        "objective": {"type": "maximize", "objectiveMetricName": "score"},
        "algorithm": {"algorithmName": "random"}, "parallelTrialCount": 1, "maxTrialCount": 2,
        "parameters": [{"name": "x", "parameterType": "double", "feasibleSpace": {"min": "0", "max": "1"}}],
        "trialTemplate": {
            "primaryContainerName": "main", "trialParameters": [{"name": "x", "reference": "x"}],
            "trialSpec": job}}}


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LaptopPlane]:
    monkeypatch.setattr("penstock.components.control.laptop.agents.END_SECONDS", 0.5)
    plane = LaptopPlane(tmp_path / "laptop")
    yield plane
    for ref in (ObjectRef.of(batch_job()), EXPERIMENT):
        plane.delete(ref)


def finish(plane: LaptopPlane, manifest: Manifest) -> Manifest:
    """Wait for the end, in the log as in the object."""
    list(plane.logs(ObjectRef.of(manifest)))
    *_, last = plane.watch(ObjectRef.of(manifest), PATIENCE)
    return last


@pytest.mark.parametrize(("kind", "writes"), [
    ("Job", 3), ("TrainJob", 3), pytest.param("Experiment", 12, marks=pytest.mark.slow)])
def test_who_comes_after_a_killed_owner_gets_the_result(
        kind: str, writes: int, experiment: Manifest, tmp_path: Path) -> None:
    manifest = {"Job": batch_job(), "TrainJob": train_job(), "Experiment": experiment}[kind]
    for deadly in itertools.count(1):
        root = tmp_path / str(deadly)
        owner = subprocess.run([sys.executable, "-c", OWNER, root, json.dumps(manifest), str(deadly)])
        if owner.returncode == 0:
            break
        assert owner.returncode == -signal.SIGKILL

        plane = LaptopPlane(root)
        plane.apply(manifest)
        last = finish(plane, manifest)
        assert outcome(last) == "succeeded", f"killed at write {deadly}: {last['status']}"
        assert last["status"].get("trialsSucceeded", 2) == 2
        plane.delete(ObjectRef.of(manifest))
    assert deadly > writes


@pytest.mark.parametrize("kind", ["Job", "Experiment"])
def test_an_object_without_a_status_is_made_anew(kind: str, experiment: Manifest, tmp_path: Path) -> None:
    """As an older penstock, killed between the two files, left it."""
    manifest, root = {"Job": batch_job(), "Experiment": experiment}[kind], tmp_path / "laptop"
    subprocess.run([sys.executable, "-c", OWNER, root, json.dumps(manifest), "3"])
    (root / "objects" / kind.lower() / "status" / "default.toy.json").unlink()

    plane = LaptopPlane(root)
    plane.apply(manifest)

    assert outcome(finish(plane, manifest)) == "succeeded"
    plane.delete(ObjectRef.of(manifest))


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, which: Callable[..., bool],
            times: int = 1) -> None:
    """Let the first calls of a function for which `which` holds raise an error."""
    whole, left = getattr(owner, name), [error] * times

    def call(*arguments: Any, **options: Any) -> Any:
        if left and which(*arguments):
            raise left.pop()
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


def of_kind(kind: str) -> Callable[..., bool]:
    return lambda store, ref, *_: ref.kind == kind


@DEFECTS
@pytest.mark.parametrize("error", [psutil.AccessDenied(1), KeyError("HOME"), DiskFull("no space")])
def test_a_job_that_cannot_be_kept_has_failed(
        plane: LaptopPlane, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, processes, "exit_code", error, lambda *_: True)
    job = plane.apply(batch_job("-c", "import time; time.sleep(60)"))

    last = finish(plane, job)

    assert "has failed because this machine cannot keep it: " in condition(last, "Failed")["message"]
    assert in_words(error) in condition(last, "Failed")["message"]
    assert processes.marked(job["metadata"]["uid"]) == []


def test_a_job_that_ended_on_a_full_disk_says_how_when_there_is_room(
        plane: LaptopPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Store, "put_status", DiskFull("no space"), of_kind("Job"), times=3)

    plane.apply(batch_job())

    assert outcome(finish(plane, batch_job())) == "succeeded"


@pytest.mark.parametrize("owner", [(processes, "start"), (processes, "free_port"), (threading.Thread, "start")])
def test_a_job_that_did_not_come_to_be_kept_can_be_had_again(
        plane: LaptopPlane, monkeypatch: pytest.MonkeyPatch, owner: tuple[Any, str]) -> None:
    failing(monkeypatch, *owner, OSError(errno.EMFILE, "Too many open files"), lambda *_: True)
    manifest = batch_job("-c", "import time; time.sleep(0.5)")
    with pytest.raises(OSError, match="Too many open files"):
        plane.apply(manifest)

    job = plane.apply(manifest)

    assert outcome(finish(plane, job)) == "succeeded"
    assert processes.marked(job["metadata"]["uid"]) == []


def test_an_experiment_that_did_not_come_to_be_kept_can_be_had_again(
        plane: LaptopPlane, experiment: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, threading.Thread, "start", OSError(errno.EAGAIN, "no more threads"), lambda *_: True)
    with pytest.raises(OSError, match="no more threads"):
        plane.apply(experiment)

    plane.apply(experiment)

    assert finish(plane, experiment)["status"]["trialsSucceeded"] == 2


@DEFECTS
def test_a_trial_that_cannot_be_run_has_failed(
        plane: LaptopPlane, experiment: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Store, "put", RuntimeError("unheard of"),
            lambda store, manifest: manifest["kind"] == "Job")

    plane.apply(experiment)

    status = finish(plane, experiment)["status"]
    assert (status["trialsFailed"], status["trialsSucceeded"]) == (1, 1)
    assert "unheard of" in plane.failure(EXPERIMENT)


@DEFECTS
def test_a_trial_whose_thread_does_not_start_ends_the_experiment(
        plane: LaptopPlane, experiment: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, threading.Thread, "start", RuntimeError("can't start new thread"),
            lambda thread: thread.name.startswith("toy-"))

    plane.apply(experiment)

    last = finish(plane, experiment)
    assert "can't start new thread" in condition(last, "Failed")["message"]
    assert (last["status"]["trialsKilled"], "trialsRunning" in last["status"]) == (1, False)


@pytest.mark.parametrize("kind", ["Experiment", "Trial"])
def test_an_experiment_that_cannot_be_kept_has_failed(
        plane: LaptopPlane, experiment: Manifest, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    experiment["spec"] |= {"parallelTrialCount": 2}
    failing(monkeypatch, Store, "put_status", DiskFull("no space"), of_kind(kind), times=5)

    plane.apply(experiment)

    last = finish(plane, experiment)
    assert condition(last, "Failed")["message"] == \
        "Experiment has failed because this machine cannot keep it: no space"
    assert "trialsRunning" not in last["status"]
    for name in (name for field, names in last["status"].items() if field.endswith("TrialList") for name in names):
        trial = plane.get(ObjectRef(EXPERIMENT.api_version, "Trial", name))
        assert trial
        assert is_over(trial)


def test_a_trial_that_does_not_end_spares_no_other(
        plane: LaptopPlane, experiment: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    script = pod["containers"][0]["args"][0]
    Path(script).write_text("import time; time.sleep(60)")

    def running() -> list[psutil.Process]:
        return [process for process in psutil.process_iter(["cmdline"]) if script in (process.info["cmdline"] or [])]

    def both_run() -> bool:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while len(running()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        return True

    experiment["spec"] |= {"parallelTrialCount": 2}
    failing(monkeypatch, Store, "put_status", DiskFull("no space"),
            lambda store, ref, uid, status: status.get("trialsRunning") == 2 and both_run())
    failing(monkeypatch, agents, "end_agents", ControlError("processes [1] do not end"), lambda *_: True)

    plane.apply(experiment)

    last = finish(plane, experiment)
    assert condition(last, "Failed")["message"].endswith("cannot keep it: no space")
    assert last["status"]["trialsKilled"] == 2
    left = running()
    assert len(left) == 1  # the one that does not end
    left[0].kill()
