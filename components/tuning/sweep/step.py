"""Search the training options: fill a Katib Experiment, give it to the control plane, wait, and take the best trial.

Knows no plane and no algorithm: the laptop's stand-in for Katib is `control.laptop`, a trial is a training job.
"""

import logging
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.reports import SweepReport, SweepTrial
from penstock.components.control.base import (
    HASH_ANNOTATION,
    ControlPlane,
    JobFailed,
    Manifest,
    ObjectConflict,
    ObjectRef,
    condition,
    manifest_hash,
    outcome,
)
from penstock.components.control.connect import connect
from penstock.components.control.launcher import sigterm_raises
from penstock.components.training.worker.config import WorkFolder, local_path
from penstock.components.tuning.sweep.config import SweepConfig
from penstock.components.tuning.sweep.experiment import check_sweep, experiment, fingerprint
from penstock.components.tuning.sweep.follow import Follower
from penstock.components.tuning.sweep.space import tuned
from penstock.components.tuning.sweep.trials import best_trial, brief, table_csv

__all__ = ["TRIALS", "SweepConfig", "check_sweep", "run"]

TRIALS = "trials.csv"
WATCH_SECONDS = 1.0
log = logging.getLogger(__name__)


def run(dataset: Path | str, report: Path | str, train: Mapping[str, object], config: SweepConfig, *, run_id: str,
        dataset_uri: str = "") -> dict[str, object]:
    """Find better training options, and write the report folder `report`.

    A repeated step adopts the Experiment that it left, or takes the report that it finished.

    Args:
        train: options of the training that the sweep is for.
        run_id: names the Experiment, so that a repeated step finds its own.
        dataset_uri: the dataset as the trials see it; "": `dataset`.

    Returns:
        `train` with the best trial's parameters put in; as it is where `max_trials` is 0.

    Raises:
        ConfigError: the space is impossible, or Katib would refuse the Experiment; nothing has started.
        ContractError: `report` holds the report of another sweep.
        JobFailed: the Experiment took too long, or was deleted.
        ObjectConflict: another living process sweeps under this run id.
        StepError: more trials failed than may, or none has a finite objective; the text has the last error.
    """
    if not config.max_trials:
        return _pass_on(Path(report), train, config)
    content_hash = Dataset(dataset).manifest.content_hash
    inputs = fingerprint(config, train, content_hash)
    if Path(report).exists():
        found = SweepReport.load(report)
        if found.inputs != inputs:
            raise ContractError(f"{report} holds the report of another sweep; give this run its own output")
        return tuned(train, found.changed)
    work = Path(local_path(config.work) if config.work else f"{report}-work").absolute()
    uri = dataset_uri or str(Path(dataset).absolute())
    wanted = experiment(config, train, run_id, uri, work, content_hash)
    found = _judge(*_search(connect(), wanted, config, work), config, inputs)
    _save(found, report, config)
    return tuned(train, found.changed)


def _pass_on(report: Path, train: Mapping[str, object], config: SweepConfig) -> dict[str, object]:
    off = SweepReport(verdict="off", reason="max_trials is 0: training takes the options as they are",
                      objective=config.objective, goal_type=config.direction, algorithm=config.algorithm)
    _save(off, report, config)
    return dict(train)


def _search(plane: ControlPlane, manifest: Manifest, config: SweepConfig,
            work: Path) -> tuple[list[SweepTrial], SweepTrial, bool]:
    """Run the Experiment to its end; return its trials, the best, and whether the goal was reached."""
    ref = ObjectRef.of(manifest)
    _forget_useless(plane, ref, manifest)
    follower = Follower(plane, config, work)
    with sigterm_raises():
        try:
            plane.apply(manifest)
            found = _wait(plane, ref, follower, config)
        except ObjectConflict:
            raise  # it is somebody else's, and stays
        except BaseException:
            plane.delete(ref)
            raise
        finally:
            follower.close()
            _make_room(work, ref.name)
    trials = follower.trials(found)
    best = best_trial(trials, config.objective, config.direction)
    if best is None or outcome(found) == "failed":
        raise StepError(_why(found, plane.failure(ref), trials, follower, config))
    return trials, best, condition(found, "Succeeded").get("reason") == "ExperimentGoalReached"


def _forget_useless(plane: ControlPlane, ref: ObjectRef, manifest: Manifest) -> None:
    """Delete what an earlier try left, unless it still runs or has the answer."""
    earlier = plane.get(ref)
    if earlier is None or not outcome(earlier):
        return
    same = earlier["metadata"].get("annotations", {}).get(HASH_ANNOTATION) == manifest_hash(manifest)
    if outcome(earlier) == "failed" or not same:
        plane.delete(ref)


def _wait(plane: ControlPlane, ref: ObjectRef, follower: Follower, config: SweepConfig) -> Manifest:
    """Return the finished Experiment; the clock is this step's own, for Katib has none."""
    deadline = time.monotonic() + config.timeout_minutes * 60
    while True:
        for found in plane.watch(ref, timedelta(seconds=WATCH_SECONDS)):
            follower.see(found)
            if outcome(found):
                return found
        present = plane.get(ref)
        if present is None:
            raise JobFailed(f"{ref} was deleted by somebody else; start this step again")
        if time.monotonic() > deadline:
            ended = present.get("status", {}).get("trialsSucceeded", 0)
            raise JobFailed(f"{ref} has not finished within timeout_minutes={config.timeout_minutes:g}, with {ended} "
                            f"of max_trials={config.max_trials} done; it was ended. Give it more time, or fewer trials")


def _judge(trials: list[SweepTrial], best: SweepTrial, goal_reached: bool, config: SweepConfig,
           inputs: str) -> SweepReport:
    value = best.metrics[config.objective]
    useful = sum(not trial.reason for trial in trials)
    parameters = ", ".join(f"{name} {brief(text)}" for name, text in best.parameters.items())
    reason = f"{config.objective} {value:.4g} with {parameters}: the best of {useful} trials"
    if goal_reached:
        reason += f", which ended early: goal {config.goal:g} is reached"
    if useful < len(trials):
        reason += f"; {len(trials) - useful} more came to nothing"
    log.info("best=%s %s=%.6g trials=%d useful=%d goal_reached=%s", best.name, config.objective, value, len(trials),
             useful, goal_reached)
    return SweepReport(
        verdict="succeeded", reason=reason, inputs=inputs, objective=config.objective, goal_type=config.direction,
        goal=config.goal, algorithm=config.algorithm, trials=tuple(trials), best=best.name, best_value=value,
        changed=best.parameters)


def _why(found: Manifest, pods: str, trials: list[SweepTrial], follower: Follower, config: SweepConfig) -> str:
    """Say why nothing came of the Experiment, with the last failed trial's error and log lines.

    Args:
        pods: what the plane knows of their end, "" for nothing.
    """
    failed = [trial for trial in trials if trial.reason and trial.status != "Killed"]
    ended = condition(found, "Failed")
    state = f": {ended['reason']}: {ended['message']}" if ended.get("status") == "True" else ""
    text = (f"{ObjectRef.of(found)} came to nothing: {len(failed)} of {len(trials)} trials failed "
            f"(max_failed_trials={config.max_failed_trials}){state}")
    if not failed:
        return text
    last = failed[-1]
    parameters = ", ".join(f"{name}={brief(value)}" for name, value in last.parameters.items())
    lines = follower.log_of(last.name)
    return "\n".join([text, f"the last, {last.name} with {parameters}: {last.reason}",
                      *([pods] if pods else []), *(["last log lines:", *lines] if lines else [])])


def _make_room(work: Path, name: str) -> None:
    """Remove networks and checkpoints of the trials: each is trained again, longer; what they logged stays."""
    for folder in work.glob(f"{name}-*"):
        trial = WorkFolder(folder)
        for weights in (trial.checkpoints, trial.model):
            shutil.rmtree(weights, ignore_errors=True)  # a pod that is just ending may still write there


def _save(found: SweepReport, report: Path | str, config: SweepConfig) -> None:
    from penstock.components.tuning.sweep.page import render

    found.save(report, render(found, config), {TRIALS: table_csv(found.trials)} if found.trials else {})
