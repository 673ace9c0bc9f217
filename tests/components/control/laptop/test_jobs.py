"""The PyTorchJob controller: small Python programs as agents, real processes, real files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.components.control.base import (
    ControlError,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    condition,
)
from penstock.components.control.laptop import processes
from penstock.components.control.laptop.job_kinds import JOBS
from penstock.components.control.laptop.jobs import JobController
from penstock.components.control.laptop.store import Store
from penstock.manifests import load

PATIENCE = timedelta(seconds=120)
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobController]:
    monkeypatch.setattr("penstock.components.control.laptop.agents.END_SECONDS", 0.5)
    store = Store(tmp_path / "objects")
    controller = JobController(store, tmp_path / "logs")
    yield controller
    for job in store.list("PyTorchJob"):
        controller.delete(ObjectRef.of(job))
        assert processes.marked(job["metadata"]["uid"]) == []


def job_of(program: str, workers: int = 1, restart: str = "OnFailure", **policy: Any) -> Manifest:
    job = load("jobs/pytorchjob.yaml")
    job["metadata"]["name"] = "toy"
    job["spec"]["elasticPolicy"] |= {"minReplicas": workers, "maxReplicas": workers}
    job["spec"]["runPolicy"] |= policy
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker |= {"replicas": workers, "restartPolicy": restart}
    worker["template"]["spec"]["containers"][0] |= {"command": ["python", "-c"], "args": [program]}
    return job


REF = ObjectRef.of(job_of(""))


def stored(folder: Path) -> Manifest | None:
    return Store(folder / "objects").load(REF)


def finish(controller: JobController) -> Manifest:
    return list(controller.watch(REF, PATIENCE))[-1]


def wait_for(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def true_conditions(job: Manifest) -> dict[str, str]:
    return {entry["type"]: entry["reason"] for entry in job["status"]["conditions"] if entry["status"] == "True"}


def test_environment_is_the_operators() -> None:
    """Seen on training-operator 1.9.4 for two elastic workers; only the endpoint is this machine's."""
    assert JOBS["PyTorchJob"].environment(job_of("", workers=2), 0, 4321) == {
        "PYTHONUNBUFFERED": "1", "PET_NNODES": "2:2", "PET_NPROC_PER_NODE": "1", "PET_MAX_RESTARTS": "0",
        "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": "127.0.0.1:4321"}


def test_agents_run_with_the_environment_and_their_lines_are_read(controller: JobController) -> None:
    controller.apply(job_of("import os, json; print(json.dumps(dict(os.environ)))", workers=2))

    lines = list(controller.logs(REF))

    assert {line.pod for line in lines} == {"toy-worker-0", "toy-worker-1"}
    first, second = (json.loads(line.text) for line in lines)
    endpoint = first["PET_RDZV_ENDPOINT"]
    assert second["PET_RDZV_ENDPOINT"] == endpoint
    injected = JOBS["PyTorchJob"].environment(job_of("", workers=2), 0, int(endpoint.rpartition(":")[2]))
    asked = {"MALLOC_ARENA_MAX": "1"}
    network = {"PET_LOCAL_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    assert first.items() >= (injected | asked | network).items()
    assert {name for name in first if name.startswith("PET_")} == {
        name for name in injected | network if name.startswith("PET_")}
    assert true_conditions(finish(controller)) == {"Created": "PyTorchJobCreated", "Succeeded": "PyTorchJobSucceeded"}


def test_status_is_written_as_the_operator_writes_it(controller: JobController) -> None:
    controller.apply(job_of("import time; time.sleep(0.5)"))
    states = list(controller.watch(REF, PATIENCE))

    assert any(true_conditions(state).get("Running") == "PyTorchJobRunning" for state in states)
    status = states[-1]["status"]
    assert condition(states[-1], "Running")["status"] == "False"
    assert condition(states[-1], "Succeeded")["message"] == "PyTorchJob default/toy successfully completed."
    assert status["replicaStatuses"]["Worker"]["succeeded"] == 1
    assert status["completionTime"] >= status["startTime"]


FAIL_ONCE = "import pathlib, sys; p = pathlib.Path({path!r}); old = p.exists(); p.touch(); sys.exit(0 if old else 3)"


def test_a_failed_agent_starts_again(controller: JobController, tmp_path: Path) -> None:
    controller.apply(job_of(FAIL_ONCE.format(path=str(tmp_path / "seen")), backoffLimit=2))

    states = list(controller.watch(REF, PATIENCE))

    # As on a cluster: the kubelet starts a container again in place, its pod has not stopped to run.
    assert not any(condition(state, "Restarting") for state in states)
    assert true_conditions(states[-1])["Succeeded"] == "PyTorchJobSucceeded"


def test_the_job_fails_at_its_backoff_limit(controller: JobController) -> None:
    controller.apply(job_of("print('no data', flush=True); raise SystemExit(4)", backoffLimit=3))

    lines = [line.text for line in controller.logs(REF)]

    assert lines == ["no data"] * 3  # the first start and two restarts: the operator fails at the limit, not past it
    failed = condition(finish(controller), "Failed")
    assert failed["reason"] == "PyTorchJobFailed"
    assert failed["message"] == "Job toy has failed because it has reached the specified backoff limit"


def test_restart_policy_never_fails_at_once_and_ends_the_other(controller: JobController, tmp_path: Path) -> None:
    program = f"import os, time; os.open({str(tmp_path / 'first')!r}, os.O_CREAT | os.O_EXCL); time.sleep(60)"
    uid = controller.apply(job_of(program, workers=2, restart="Never"))["metadata"]["uid"]

    failed = condition(finish(controller), "Failed")

    assert failed["message"] == "PyTorchJob toy is failed because 1 Worker replica(s) failed."
    assert processes.marked(uid) == []


def test_clean_pod_policy_none_leaves_the_other_running(controller: JobController, tmp_path: Path) -> None:
    program = f"import os, time; os.open({str(tmp_path / 'first')!r}, os.O_CREAT | os.O_EXCL); time.sleep(60)"
    uid = controller.apply(job_of(program, workers=2, restart="Never", cleanPodPolicy="None"))["metadata"]["uid"]

    assert condition(finish(controller), "Failed")
    assert len(processes.marked(uid)) == 1


def test_a_deadline_is_kept(controller: JobController) -> None:
    uid = controller.apply(job_of(SLEEP, activeDeadlineSeconds=1))["metadata"]["uid"]

    failed = condition(finish(controller), "Failed")

    assert failed["message"] == "Job toy has failed because it was active longer than specified deadline"
    assert processes.marked(uid) == []


ESCAPING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"],
                 start_new_session=True)
time.sleep(60)
"""


def test_delete_ends_the_whole_tree_even_what_left_the_session(controller: JobController, tmp_path: Path) -> None:
    uid = controller.apply(job_of(ESCAPING))["metadata"]["uid"]
    tree = wait_for(lambda: len(found := processes.marked(uid)) == 2 and found)

    controller.delete(REF)

    assert processes.marked(uid) == []
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)
    assert stored(tmp_path) is None
    controller.delete(REF)


def test_a_killed_agent_leaves_no_orphan_behind_when_it_starts_again(controller: JobController) -> None:
    uid = controller.apply(job_of(ESCAPING, backoffLimit=2))["metadata"]["uid"]
    first = wait_for(lambda: len(found := processes.marked(uid)) == 2 and found)
    agent = next(process for process in first if process.ppid() == os.getpid())

    agent.kill()

    second = wait_for(lambda: len(found := [p for p in processes.marked(uid) if p not in first]) == 2 and found)
    assert set(processes.marked(uid)) == set(second)


def test_adopts_the_same_job_and_refuses_another_of_its_name(controller: JobController) -> None:
    uid = controller.apply(job_of(SLEEP))["metadata"]["uid"]

    assert controller.apply(job_of(SLEEP))["metadata"]["uid"] == uid
    assert len(processes.marked(uid)) == 1
    with pytest.raises(ObjectConflict, match="a PyTorchJob is immutable, so delete it first"):
        controller.apply(job_of("print()"))


OWNER = """
import json, sys, time
from pathlib import Path
from penstock.components.control.laptop.job_kinds import JOBS
from penstock.components.control.laptop.jobs import JobController
from penstock.components.control.laptop.store import Store
root, job = Path(sys.argv[1]), json.loads(sys.argv[2])
JobController(Store(root / "objects"), root / "logs").apply(job)
print("applied", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("changed", [False, True])
def test_a_job_of_a_dead_process_is_taken_over_and_of_a_living_one_is_not(
        controller: JobController, tmp_path: Path, changed: bool) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), json.dumps(job_of(SLEEP))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "applied\n"
            job = stored(tmp_path)
            assert job is not None
            orphans = processes.marked(job["metadata"]["uid"])
            with pytest.raises(ObjectConflict, match=f"kept by the living process {owner.pid}"):
                controller.apply(job_of(SLEEP))
        finally:
            owner.send_signal(signal.SIGKILL)
    assert len(orphans) == 1

    taken = controller.apply(job_of(SLEEP, activeDeadlineSeconds=60) if changed else job_of(SLEEP))

    # The same job stays the same object, with new processes; another of its name replaces it.
    assert (taken["metadata"]["uid"] != job["metadata"]["uid"]) == changed
    assert not any(orphan in processes.marked(job["metadata"]["uid"]) for orphan in orphans)
    assert len(processes.marked(taken["metadata"]["uid"])) == 1
    assert taken["status"]["startTime"] >= job["status"]["startTime"]


def test_a_deletion_by_another_process_restarts_nothing(controller: JobController, tmp_path: Path) -> None:
    uid = controller.apply(job_of(SLEEP, backoffLimit=5))["metadata"]["uid"]

    JobController(Store(tmp_path / "objects"), tmp_path / "logs").delete(REF)

    assert stored(tmp_path) is None
    assert list(controller.watch(REF, PATIENCE)) == []
    assert processes.marked(uid) == []


def test_a_program_that_is_not_installed_is_named(controller: JobController, tmp_path: Path) -> None:
    job = job_of("")
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["command"] = ["torchrum"]

    with pytest.raises(ControlError, match="torchrum is not there: install penstock with its torch extra"):
        controller.apply(job)
    assert stored(tmp_path) is None


def test_logs_of_no_job(controller: JobController) -> None:
    with pytest.raises(NotFound, match="PyTorchJob default/toy: there is no such job"):
        list(controller.logs(REF))


def test_watch_ends_with_its_time(controller: JobController) -> None:
    controller.apply(job_of(SLEEP))

    states = list(controller.watch(REF, timedelta(seconds=0.5)))

    assert states
    assert "Succeeded" not in true_conditions(states[-1])
