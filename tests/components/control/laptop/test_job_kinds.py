"""TrainJob and Job: what their pods are given and what their status says, with small Python programs as agents."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.components import images
from penstock.components.control.base import Manifest, ObjectConflict, ObjectRef, condition
from penstock.components.control.laptop import processes
from penstock.components.control.laptop.job_kinds import JOBS
from penstock.components.control.laptop.plane import LaptopPlane

PATIENCE = timedelta(seconds=120)
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LaptopPlane]:
    monkeypatch.setattr("penstock.components.control.laptop.agents.END_SECONDS", 0.5)
    plane = LaptopPlane(tmp_path)
    yield plane
    for path in (tmp_path / "objects").glob("*/*.json"):
        plane.delete(ObjectRef.of(json.loads(path.read_text())))


def container(program: str) -> Manifest:
    return {"image": images.LIGHT, "command": ["python", "-c"], "args": [program]}


def train_job(program: str, nodes: int = 1, **spec: Any) -> Manifest:
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "toy"},
            "spec": {"runtimeRef": {"name": "torch-distributed"},
                     "trainer": container(program) | {"numNodes": nodes}} | spec}


def batch_job(program: str, restart: str = "Never", name: str = "toy", **spec: Any) -> Manifest:
    pod = {"restartPolicy": restart, "containers": [{"name": "main"} | container(program)]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"template": {"spec": pod}} | spec}


def finish(plane: LaptopPlane, job: Manifest) -> Manifest:
    return list(plane.watch(ObjectRef.of(job), PATIENCE))[-1]


def told(job: Manifest) -> list[tuple[str, str, str, str]]:
    return [(entry["type"], entry["status"], entry["reason"], entry["message"])
            for entry in job["status"].get("conditions", [])]


def test_a_train_job_gets_the_environment_of_its_runtime() -> None:
    """Seen on Trainer 2.3.0 for two nodes, there with <job>-node-0-0.<job> and 29500 for the master."""
    job = train_job("", nodes=2)
    assert JOBS["TrainJob"].environment(job, 1, 4321) == {
        "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": "4321"}
    job["spec"]["trainer"]["numProcPerNode"] = 3
    assert JOBS["TrainJob"].environment(job, 1, 4321)["PET_NPROC_PER_NODE"] == "3"
    assert JOBS["Job"].environment(batch_job(""), 0, 4321) == {}


def test_the_nodes_of_a_train_job_meet_and_it_completes(plane: LaptopPlane) -> None:
    program = ("import json, os; "
               "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('PET_') or k == 'MINE'}))")
    job = train_job(program, nodes=2)
    job["spec"]["trainer"]["env"] = [{"name": "MINE", "value": "1"}]
    plane.apply(job)

    lines = list(plane.logs(ObjectRef.of(job)))
    done = finish(plane, job)

    assert sorted(line.pod.rpartition("-")[0] for line in lines) == ["toy-node-0-0", "toy-node-0-1"]
    first, second = sorted((json.loads(line.text) for line in lines), key=lambda env: env["PET_NODE_RANK"])
    assert (first.pop("PET_NODE_RANK"), second.pop("PET_NODE_RANK")) == ("0", "1")
    assert first == second
    assert (first["MINE"], first["PET_NNODES"], first["PET_MASTER_ADDR"]) == ("1", "2", "127.0.0.1")
    assert told(done) == [("Complete", "True", "AllJobsCompleted", "jobset completed successfully")]
    assert done["status"]["jobsStatus"] == [
        {"name": "node", "active": 0, "failed": 0, "ready": 0, "succeeded": 1, "suspended": 0}]


def test_a_train_job_fails_with_its_job_after_six_failures(plane: LaptopPlane) -> None:
    job = train_job("print('no data', flush=True); raise SystemExit(4)")
    plane.apply(job)

    assert [line.text for line in plane.logs(ObjectRef.of(job))] == ["no data"] * 6
    failed = finish(plane, job)
    message = "jobset failed due to one or more job failures (first failed job: toy-node-0)"
    assert told(failed) == [("Failed", "True", "FailedJobs", message)]
    assert failed["status"]["jobsStatus"][0]["failed"] == 1


def test_a_train_job_needs_every_node(plane: LaptopPlane, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    program = (f"import os, pathlib, time; p = pathlib.Path({str(flag)!r})\n"
               "while os.environ['PET_NODE_RANK'] == '1' and not p.exists(): time.sleep(0.02)")
    job = plane.apply(train_job(program, nodes=2))
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while len(processes.marked(job["metadata"]["uid"])) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert condition(plane.get(ObjectRef.of(job)) or {}, "Complete") == {}
    flag.touch()
    assert condition(finish(plane, job), "Complete")["status"] == "True"


@pytest.mark.parametrize(("job", "status"), [
    (train_job(SLEEP, activeDeadlineSeconds=1),
     [("Failed", "True", "DeadlineExceeded", "TrainJob exceeded its active deadline")]),
    (batch_job(SLEEP, activeDeadlineSeconds=1),
     [(kind, "True", "DeadlineExceeded", "Job was active longer than specified deadline")
      for kind in ("FailureTarget", "Failed")]),
], ids=["TrainJob", "Job"])
def test_a_deadline_ends_all_pods(plane: LaptopPlane, job: Manifest, status: list[Any]) -> None:
    uid = plane.apply(job)["metadata"]["uid"]

    assert told(finish(plane, job)) == status
    assert processes.marked(uid) == []


def test_a_job_completes(plane: LaptopPlane) -> None:
    job = batch_job("print('hello')")
    plane.apply(job)

    lines = list(plane.logs(ObjectRef.of(job)))
    done = finish(plane, job)

    assert [line.text for line in lines] == ["hello"]
    assert told(done) == [(kind, "True", "CompletionsReached", "Reached expected number of succeeded pods")
                          for kind in ("SuccessCriteriaMet", "Complete")]
    counts = {key: value for key, value in done["status"].items() if isinstance(value, int)}
    assert counts == {"succeeded": 1, "ready": 0, "terminating": 0}
    assert done["status"]["completionTime"] >= done["status"]["startTime"]


@pytest.mark.parametrize(("restart", "limit", "starts", "pods", "failed"), [
    ("Never", 0, 1, 1, 1),
    ("Never", 2, 3, 3, 3),  # each a pod of its own
    ("OnFailure", 3, 3, 1, 1),  # Kubernetes fails *at* the limit where containers start again in place
])
def test_a_job_fails_at_its_backoff_limit(
        plane: LaptopPlane, restart: str, limit: int, starts: int, pods: int, failed: int) -> None:
    job = batch_job("print('bad', flush=True); raise SystemExit(3)", restart, backoffLimit=limit)
    plane.apply(job)

    lines = list(plane.logs(ObjectRef.of(job)))
    ended = finish(plane, job)

    assert [line.text for line in lines] == ["bad"] * starts
    assert len({line.pod for line in lines}) == pods
    assert told(ended) == [(kind, "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
                           for kind in ("FailureTarget", "Failed")]
    assert ended["status"]["failed"] == failed
    assert plane.failure(ObjectRef.of(job)) == f"pod {lines[-1].pod}: container main ended with exit code 3 (Error)"
    assert "active" not in ended["status"]
    assert "completionTime" not in ended["status"]


def test_a_killed_pod_is_told(plane: LaptopPlane) -> None:
    job = batch_job("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", backoffLimit=0)
    plane.apply(job)

    assert plane.failure(ObjectRef.of(batch_job("", name="nobody"))) == ""
    assert condition(finish(plane, job), "Failed")["reason"] == "BackoffLimitExceeded"
    assert "container main was killed (exit code 137): by somebody, or" in plane.failure(ObjectRef.of(job))


def test_a_version_that_is_not_the_newest_is_a_conflict(plane: LaptopPlane) -> None:
    job = batch_job(SLEEP)
    job["metadata"]["resourceVersion"] = "0"
    stored = plane.apply(job)

    with pytest.raises(ObjectConflict, match="the manifest expects 0"):
        plane.apply(job)
    job["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    assert plane.apply(job)["metadata"]["uid"] == stored["metadata"]["uid"]


def test_several_threads_and_planes_share_the_jobs_of_a_process(plane: LaptopPlane, tmp_path: Path) -> None:
    """Each thread runs jobs of its own to the end, and all of them want one more by the same name."""
    count, shared, ended = 4, [], []

    def run(number: int) -> None:
        own = LaptopPlane(tmp_path)
        shared.append(own.apply(batch_job(SLEEP, name="shared"))["metadata"]["uid"])
        for turn in range(3):
            job = batch_job(f"print({number}, {turn})", name=f"job-{number}-{turn}")
            own.apply(job)
            texts = [line.text for line in own.logs(ObjectRef.of(job))]
            ended.append((texts, condition(finish(own, job), "Complete")["reason"]))
            own.delete(ObjectRef.of(job))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(shared) == count
    assert len(set(shared)) == 1
    assert len(processes.marked(shared[0])) == 1
    assert sorted(ended) == [([f"{number} {turn}"], "CompletionsReached") for number in range(count)
                             for turn in range(3)]
