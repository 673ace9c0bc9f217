"""A job is started once: who applies it again gets the one that is there, also after the death of who started it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import Manifest, ObjectConflict, ObjectRef, outcome

KINDS = ("Job", "PyTorchJob", "TrainJob")
STEP = """
import json, sys, time
from penstock.components.control.connect import connect
print(connect().apply(json.loads(sys.argv[1]))["metadata"]["uid"], flush=True)
time.sleep(600)
"""


@contextmanager
def step(job: Manifest) -> Iterator[str]:
    """Run a step that applies a job and waits; yield the job's uid; kill the step as nothing can resist."""
    with subprocess.Popen([sys.executable, "-c", STEP, json.dumps(job)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_starts_again_goes_on_with_its_job(bed: Any, kind: str) -> None:
    job = bed.job(kind, bed.long)
    with step(job) as uid:
        assert uid == bed.get(job)["metadata"]["uid"]

    adopted = bed.apply(job)

    assert adopted["metadata"]["uid"] == uid
    assert outcome(adopted) == ""
    assert next(bed.plane.logs(ObjectRef.of(job))).text == "begin"
    assert bed.running(adopted) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_may_apply_twice(bed: Any, kind: str) -> None:
    job = bed.job(kind, bed.long)
    first = bed.apply(job)

    second = bed.connect().apply(job)

    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    bed.eventually(lambda: bed.running(first) == 1, lambda: bed.running(first))


@pytest.mark.parametrize("kind", KINDS)
def test_another_job_of_the_name_is_a_conflict(bed: Any, kind: str) -> None:
    job = bed.job(kind, bed.long)
    first = bed.apply(job)
    other = bed.job(kind, "print('another')") | {"metadata": job["metadata"]}

    with pytest.raises(ObjectConflict, match=r"exists and is another; a .*Job is immutable, so delete it first"):
        bed.apply(other)

    assert bed.get(job)["metadata"]["uid"] == first["metadata"]["uid"]
    assert outcome(bed.get(job)) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_job_is_adopted_with_its_result(bed: Any, kind: str) -> None:
    job = bed.job(kind, "print('done')")
    first = bed.apply(job)
    assert [outcome(state) for state in bed.plane.watch(ObjectRef.of(job), timedelta(minutes=10))][-1] == "succeeded"

    again = bed.apply(job)

    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    assert outcome(again) == "succeeded"


def lease(name: str, holder: str, version: str | None = None) -> Manifest:
    metadata = {"name": name, "namespace": "default"} | ({} if version is None else {"resourceVersion": version})
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 30}}


def test_compare_and_swap(bed: Any) -> None:
    """Of two that saw the same version one writes; "0" is the version of what is not there."""
    name = bed.job("Job", "")["metadata"]["name"]
    first = bed.apply(lease(name, "a", "0"))
    with pytest.raises(ObjectConflict, match=name):
        bed.apply(lease(name, "b", "0"))
    version = first["metadata"]["resourceVersion"]

    second = bed.apply(lease(name, "b", version))

    assert second["metadata"]["resourceVersion"] != version
    with pytest.raises(ObjectConflict, match=name):
        bed.apply(lease(name, "c", version))
    assert bed.get(second)["spec"]["holderIdentity"] == "b"
    bed.plane.delete(ObjectRef.of(second))
    with pytest.raises(ObjectConflict, match=name):
        bed.apply(lease(name, "d", second["metadata"]["resourceVersion"]))
    assert bed.plane.get(ObjectRef.of(second)) is None
