"""What is asked for in the middle of a job: deletion, a watch that may not last, objects that are not there."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import LogLine, Manifest, NotFound, ObjectRef, outcome

KINDS = ("Job", "PyTorchJob", "TrainJob")
LIMIT = timedelta(minutes=10)


@pytest.mark.parametrize("kind", KINDS)
def test_deletion_in_the_middle(bed: Any, kind: str) -> None:
    """It ends the pods, the watch and the log; nothing of the job is left."""
    job = bed.apply(bed.job(kind, bed.long, nodes=1 if kind == "Job" else 2))
    ref = ObjectRef.of(job)
    seen: list[Manifest] = []
    lines: list[LogLine] = []
    watch = threading.Thread(target=lambda: seen.extend(bed.connect().watch(ref, LIMIT)), daemon=True)
    logs = threading.Thread(target=lambda: lines.extend(bed.connect().logs(ref)), daemon=True)
    watch.start()
    logs.start()
    bed.eventually(lambda: lines and seen, lambda: (lines, seen))
    assert bed.running(job) == (1 if kind == "Job" else 2)

    bed.plane.delete(ref)

    assert bed.plane.get(ref) is None
    assert bed.running(job) == 0
    watch.join(LIMIT.total_seconds())
    logs.join(LIMIT.total_seconds())
    assert not watch.is_alive()
    assert not logs.is_alive()
    assert {outcome(state) for state in seen} == {""}
    assert {line.text for line in lines} == {"begin"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_watch_ends_with_its_time(bed: Any, kind: str) -> None:
    job = bed.apply(bed.job(kind, bed.long))

    *_, last = bed.plane.watch(ObjectRef.of(job), timedelta(seconds=1))

    assert outcome(last) == ""
    assert last["metadata"]["uid"] == job["metadata"]["uid"]
    assert outcome(bed.get(job)) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_can_be_used_again(bed: Any, kind: str) -> None:
    job = bed.job(kind, bed.long)
    first = bed.apply(job)
    bed.plane.delete(ObjectRef.of(job))

    second = bed.apply(job)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert outcome(second) == ""


@pytest.mark.parametrize("kind", [*KINDS, "InferenceService", "Lease"])
def test_what_is_not_there(bed: Any, kind: str) -> None:
    versions = {"InferenceService": "serving.kserve.io/v1beta1", "Lease": "coordination.k8s.io/v1"}
    version = versions.get(kind) or bed.job(kind, "")["apiVersion"]
    ref = ObjectRef(version, kind, "nobody")

    bed.plane.delete(ref)

    assert bed.plane.get(ref) is None
    assert list(bed.plane.watch(ref, LIMIT)) == []
    assert bed.plane.failure(ref) == ""
    with pytest.raises(NotFound, match="nobody: there is no such"):
        list(bed.plane.logs(ref))
