"""How a job ends: conditions, reasons, messages and counts are those of the controllers, on both planes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import Manifest, ObjectRef, outcome

LIMIT = timedelta(minutes=15)  # a failed node of a TrainJob is restarted for five minutes on a cluster
BAD = "print('bad', flush=True); raise SystemExit(3)"


def finish(bed: Any, job: Manifest) -> Manifest:
    *_, last = bed.plane.watch(ObjectRef.of(job), LIMIT)
    return last


def ends(job: Manifest) -> list[tuple[str, str, str]]:
    """Return the conditions that hold when all is over."""
    return [(entry["type"], entry["reason"], entry["message"]) for entry in job["status"]["conditions"]
            if entry["status"] == "True" and entry["type"] not in ("Created", "Running")]


def counts(job: Manifest) -> dict[str, int]:
    """Return the counts of pods, or of Jobs, that a status has."""
    status = job["status"]
    held = status | status.get("replicaStatuses", {}).get("Worker", {}) | next(iter(status.get("jobsStatus", [])), {})
    return {key: value for key, value in held.items() if isinstance(value, int)}


NODE = {"active": 0, "failed": 0, "ready": 0, "succeeded": 0, "suspended": 0}


@pytest.mark.parametrize(("kind", "nodes", "expected", "counted"), [
    ("Job", 1, [("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"),
                ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")],
     {"succeeded": 1, "ready": 0, "terminating": 0}),
    ("PyTorchJob", 1, [("Succeeded", "PyTorchJobSucceeded", "PyTorchJob {namespace}/{name} successfully completed.")],
     {"succeeded": 1}),
    ("TrainJob", 2, [("Complete", "AllJobsCompleted", "jobset completed successfully")], NODE | {"succeeded": 1}),
])
def test_success(bed: Any, kind: str, nodes: int, expected: list[tuple[str, str, str]],
                 counted: dict[str, int]) -> None:
    job = bed.apply(bed.job(kind, "print('good', flush=True)", nodes=nodes))

    done = finish(bed, job)

    assert outcome(done) == "succeeded"
    assert ends(done) == [(entry, reason, text.format(**job["metadata"])) for entry, reason, text in expected]
    bed.eventually(lambda: counts(bed.get(job)) == counted, lambda: bed.get(job)["status"])
    assert bed.plane.failure(ObjectRef.of(job)) == ""


@pytest.mark.parametrize(("kind", "expected", "counted"), [
    ("Job", [("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
             ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")],
     {"failed": 1, "ready": 0, "terminating": 0}),
    ("PyTorchJob", [("Failed", "PyTorchJobFailed", "PyTorchJob {name} is failed because 1 Worker replica(s) failed.")],
     {"failed": 1}),
])
def test_an_exit_code(bed: Any, kind: str, expected: list[tuple[str, str, str]], counted: dict[str, int]) -> None:
    job = bed.apply(bed.job(kind, BAD))

    failed = finish(bed, job)

    assert outcome(failed) == "failed"
    assert ends(failed) == [(entry, reason, text.format(**job["metadata"])) for entry, reason, text in expected]
    bed.eventually(lambda: counts(bed.get(job)) == counted, lambda: bed.get(job)["status"])
    assert "ended with exit code 3 (Error)" in bed.plane.failure(ObjectRef.of(job))


@pytest.mark.parametrize(("kind", "expected"), [
    ("Job", [("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline"),
             ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")]),
    ("TrainJob", [("Failed", "DeadlineExceeded", "TrainJob exceeded its active deadline")]),
])
def test_a_deadline(bed: Any, kind: str, expected: list[tuple[str, str, str]]) -> None:
    job = bed.apply(bed.job(kind, bed.long, deadline=2))

    assert ends(finish(bed, job)) == expected
    bed.eventually(lambda: not bed.running(job), lambda: bed.running(job))


@pytest.mark.parametrize(("name", "expected"), [
    ("TrainJob that fails", ("Failed", "FailedJobs",
                             "jobset failed due to one or more job failures (first failed job: {name}-node-0)")),
    ("PyTorchJob with a deadline", ("Failed", "PyTorchJobFailed",
                                    "Job {name} has failed because it was active longer than specified deadline")),
])
def test_what_takes_minutes_on_a_cluster(bed: Any, slow_jobs: Callable[[Any, str], Manifest], name: str,
                                         expected: tuple[str, str, str]) -> None:
    job = slow_jobs(bed, name)

    failed = finish(bed, job)

    assert outcome(failed) == "failed"
    assert ends(failed) == [tuple(text.format(**job["metadata"]) for text in expected)]
    bed.eventually(lambda: not bed.running(job), lambda: bed.running(job))
