"""Experiments that run to their end: counts, conditions, the best trial, what each trial leaves."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from penstock.components import images
from penstock.components.control.base import LogLine, Manifest, ObjectRef, condition, outcome
from penstock.manifests import load

PATIENCE = timedelta(seconds=60)
REF = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep")


def test_runs_to_max_trials_and_finds_the_best(bench: Any) -> None:
    status = bench.run(bench.experiment())
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in status["conditions"]] == [
        ("Created", "True", "ExperimentCreated"), ("Running", "False", "ExperimentRunning"),
        ("Succeeded", "True", "ExperimentMaxTrialsReached")]
    points = bench.points()
    name, x = max(points, key=lambda point: float(point[1]))
    assert status["currentOptimalTrial"] == {
        "bestTrialName": name, "parameterAssignments": [{"name": "x", "value": x}],
        "observation": {"metrics": [
            {"name": "score", "min": f"{float(x):.6e}", "max": f"{float(x):.6e}", "latest": f"{float(x):.6e}"},
            {"name": "other", "min": "1", "max": "1", "latest": "1"}]}}
    assert {key: status[key] for key in status if key.lower().startswith(("trial", "succ", "fail", "run"))} == {
        "trials": 4, "trialsSucceeded": 4, "succeededTrialList": [name for name, _ in points]}
    assert status["startTime"] <= status["completionTime"]
    assert bench.jobs() == []  # retain is false
    trial = bench.trial(name)
    assert outcome(trial) == "succeeded"
    assert condition(trial, "Succeeded")["reason"] == "TrialSucceeded. Job reason: PyTorchJobSucceeded"
    lines = list(bench.plane.logs(REF))
    assert LogLine(f"{name}-worker-0", f"score={float(x):.6e} other=1") in lines
    assert len(lines) == 8
    assert [line.pod for line in bench.plane.logs(ObjectRef.of(trial))] == [f"{name}-worker-0"] * 2


@pytest.mark.parametrize("algorithm", ["random", "tpe", "grid"])
def test_same_seed_gives_the_same_trials_twice(bench: Any, algorithm: str) -> None:
    manifest = bench.experiment(algorithm=algorithm)
    manifest["spec"]["parameters"][0]["feasibleSpace"]["step"] = "0.25"
    bench.run(manifest)
    first = bench.points()
    bench.plane.delete(REF)
    assert bench.trials() == []
    bench.run(manifest)
    assert bench.points() == first
    assert len({name for name, _ in first}) == 4


def test_never_more_trials_than_parallel(bench: Any) -> None:
    bench.hold.touch()
    bench.plane.apply(bench.experiment(f"while={bench.hold}", parallelTrialCount=3, maxTrialCount=5))
    bench.eventually(lambda: bench.began() == 3)
    seen = [bench.running()]
    bench.hold.unlink()
    seen += [status["status"].get("trialsRunning", 0) for status in bench.plane.watch(REF, PATIENCE)]
    assert max(seen) == 3
    assert len(bench.trials()) == 5


def test_goal_ends_it_and_kills_what_runs(bench: Any) -> None:
    """Trial 0 has the goal and ends, trial 1 would run for ever."""
    bench.hold.touch()
    manifest = bench.experiment(f"while={bench.hold}.${{trialParameters.x}}")
    bench.plane.apply(bench.experiment(maxTrialCount=2))
    bench.finish()
    (_, first), (_, second) = bench.points()
    bench.plane.delete(REF)
    (bench.folder / f"hold.{second}").touch()
    manifest["spec"]["objective"]["goal"] = float(first) - 0.01
    status = bench.run(manifest)
    assert condition({"status": status}, "Succeeded")["reason"] == "ExperimentGoalReached"
    assert status["currentOptimalTrial"]["parameterAssignments"] == [{"name": "x", "value": first}]
    assert (status["trialsSucceeded"], status["trialsKilled"], status["trials"]) == (1, 1, 2)
    assert condition(bench.trial(status["killedTrialList"][0]), "Killed")["status"] == "True"
    assert bench.left() == []


def test_too_many_failed_trials_fail_it(bench: Any) -> None:
    bench.plane.apply(bench.experiment("fail=-1", maxFailedTrialCount=2, parallelTrialCount=1))
    failed = bench.finish()
    assert condition(failed, "Failed")["reason"] == "ExperimentFailed"
    assert condition(failed, "Failed")["message"] == "Experiment has failed because max failed count has reached"
    assert (failed["status"]["trials"], failed["status"]["trialsFailed"]) == (2, 2)
    assert failed["status"]["currentOptimalTrial"] == {"observation": {}}
    last = failed["status"]["failedTrialList"][-1]
    assert condition(bench.trial(last), "Failed")["reason"] == "TrialFailed. Job reason: PyTorchJobFailed"
    assert bench.plane.failure(REF).startswith(f"trial {last}: ")
    assert any("is too much" in line.text for line in bench.plane.logs(REF))


def test_all_trials_failed_and_no_limit_is_a_success_without_a_best(bench: Any) -> None:
    """As seen on Katib 0.19: whoever waits must look for the best trial."""
    status = bench.run(bench.experiment("fail=-1", maxTrialCount=2))
    assert condition({"status": status}, "Succeeded")["reason"] == "ExperimentMaxTrialsReached"
    assert status["currentOptimalTrial"] == {"observation": {}}


@pytest.mark.parametrize("text", ["nan", "inf", "none"])
def test_without_a_finite_number_a_trial_is_never_the_best(bench: Any, text: str) -> None:
    status = bench.run(bench.experiment(f"print={text}", maxTrialCount=2, maxFailedTrialCount=2))
    assert condition({"status": status}, "Failed")["reason"] == "ExperimentFailed"
    assert status["trialMetricsUnavailable"] == 2
    assert status["currentOptimalTrial"] == {"observation": {}}
    trial = bench.trial(status["metricsUnavailableTrialList"][0])
    assert condition(trial, "MetricsUnavailable")["reason"] == "MetricsUnavailable. Job reason: PyTorchJobSucceeded"
    assert "Metrics are not available" in bench.plane.failure(ObjectRef.of(trial))


def test_a_program_that_is_not_there_fails_the_trial_and_says_so(bench: Any) -> None:
    manifest = bench.experiment(maxTrialCount=2, maxFailedTrialCount=1)
    containers = manifest["spec"]["trialTemplate"]["trialSpec"]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    containers["spec"]["containers"][0]["command"] = ["no-such-program"]
    assert "trialsFailed" in bench.run(manifest)
    assert "no-such-program" in bench.plane.failure(REF)


@pytest.mark.parametrize("kind", ["Job", "TrainJob"])
def test_trials_of_other_kinds(bench: Any, kind: str) -> None:
    container = bench.command() | {"image": images.LIGHT}
    pod = {"restartPolicy": "Never", "containers": [container | {"name": "trial"}]}
    trainer = {"runtimeRef": {"name": "torch-distributed"}, "trainer": container | {"numNodes": 1}}
    job: Manifest = {
        "Job": {"apiVersion": "batch/v1", "spec": {"backoffLimit": 0, "template": {"spec": pod}}},
        "TrainJob": {"apiVersion": "trainer.kubeflow.org/v1alpha1", "spec": trainer}}[kind]
    job |= {"kind": kind, "metadata": {}}
    manifest = bench.experiment(job=job, maxTrialCount=2)
    manifest["spec"]["trialTemplate"]["primaryContainerName"] = {"Job": "trial", "TrainJob": "node"}[kind]
    status = bench.run(manifest)
    assert status["trialsSucceeded"] == 2
    assert status["currentOptimalTrial"]["observation"]["metrics"][0]["name"] == "score"
    assert bench.jobs(kind.lower()) == []


def test_retained_jobs_stay_until_the_experiment_goes(bench: Any) -> None:
    manifest = bench.experiment(maxTrialCount=2)
    manifest["spec"]["trialTemplate"]["retain"] = True
    bench.run(manifest)
    assert len(bench.jobs()) == 2
    assert bench.plane.apply(manifest)["status"]["trials"] == 2  # adopted, not run again


def test_only_the_primary_pod_counts(bench: Any) -> None:
    """Two workers print; what the second says is seen, but not measured."""
    bench.script.write_text(bench.script.read_text() + """
import os
rank = "0" if asked["name"] + "-worker-0" in os.environ["PENSTOCK_SUPERVISED"] else "1"
print(f"score=0.00{rank} other=1")
""")
    job = load("jobs/pytorchjob.yaml")
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker |= {"replicas": 2, "restartPolicy": "Never"}
    worker["template"]["spec"]["containers"][0] |= bench.command()
    status = bench.run(bench.experiment(job=job, maxTrialCount=2))
    assert status["currentOptimalTrial"]["observation"]["metrics"][0]["latest"] == "0.000"
    assert {line.pod[-1] for line in bench.plane.logs(REF)} == {"0", "1"}


def test_manifest_is_not_changed(bench: Any) -> None:
    manifest = bench.experiment(maxTrialCount=2)
    before = copy.deepcopy(manifest)
    bench.run(manifest)
    assert manifest == before
