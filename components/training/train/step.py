"""Train a classifier: give a job to the control plane, wait, and take the model out of the work folder.

Knows no plane and no PyTorch: what every rank does is `training.worker`.
"""

import logging
import os
import threading
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from shutil import copyfile

from pydantic import Field

from penstock.components import images
from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import TRAINED_MANIFEST, WEIGHTS, TrainedModel
from penstock.components.control.base import (
    ControlPlane,
    JobFailed,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    condition,
    outcome,
)
from penstock.components.control.connect import connect
from penstock.components.control.launcher import last_lines, sigterm_raises
from penstock.components.training.job import JobKind, training_job
from penstock.components.training.worker.config import WorkerConfig, WorkFolder, local_path
from penstock.components.training.worker.metrics import parse_metric

__all__ = ["TrainConfig", "job_of", "run", "write_page"]

KEPT_LINES = 500  # torchrun adds some fifty for each agent that fails
LOG_SECONDS = 5.0  # for the last lines, once the job has ended
WATCH_SECONDS = 1.0
log = logging.getLogger(__name__)


class TrainConfig(WorkerConfig):
    """How to train, and with what."""

    kind: JobKind = Field(default="PyTorchJob", description=(
        "PyTorchJob: Training Operator 1; TrainJob: Kubeflow Trainer 2, runtime torch-distributed. Same weights."))
    threads: int = Field(default=0, ge=0, le=256, description="Of each worker. 0: this machine's cores / workers.")
    max_restarts: int = Field(default=3, ge=0, le=100, description=(
        "How often a killed or failed worker may send all back to the last checkpoint. 0: never. Of a PyTorchJob; a "
        "TrainJob's runtime says it: torch-distributed 6."))
    timeout_minutes: float = Field(default=120, gt=0, le=100_000, description="On this step's own clock.")
    work: str = Field(default="", description=(
        "Folder for checkpoints that outlives the step, seen by all workers. \"\": beside the model output."))

    def worker(self) -> WorkerConfig:
        """Return what determines the weights: the part that the ranks read."""
        return WorkerConfig.model_validate(self.model_dump(include=set(WorkerConfig.model_fields)))


def run(dataset: Path | str, model: Path | str, config: TrainConfig, *, run_id: str,
        dataset_uri: str = "") -> dict[str, float]:
    """Train on a dataset folder, into the new TrainedModel folder `model`.

    What an earlier try has done is kept: a finished model is taken as it is, a killed training goes on from its last
    whole epoch and ends in the same weights.

    Args:
        dataset_uri: the same folder as the workers see it; "": `dataset`.

    Returns:
        The metrics of the last epoch.

    Raises:
        ContractError: the work folder or the model folder holds something else.
        JobFailed: the job failed or took too long; the text has its reason and last log lines.
        ObjectConflict: another living process trains under this run id.
        StepError: training diverged.
    """
    content_hash = Dataset(dataset).manifest.content_hash
    work = WorkFolder(Path(local_path(config.work) if config.work else f"{model}-work").absolute())
    work.claim(config.worker(), content_hash)
    if work.hopeless():
        raise StepError(work.hopeless())
    if not (work.model / TRAINED_MANIFEST).is_file():
        cores = len(os.sched_getaffinity(0))
        uri = dataset_uri or str(Path(dataset).absolute())
        _train(connect(), job_of(config, run_id, uri, work.folder, content_hash, cores), work, config)
    return _hand_over(TrainedModel(work.model), Path(model), run_id).manifest.metrics


def write_page(model: Path | str, page: Path | str) -> None:
    """Write the page of the TrainedModel folder `model` to the file `page`."""
    from penstock.components.training.train.page import render

    trained = TrainedModel(model)
    Path(page).write_text(render(trained.manifest, trained.weights_sha256), encoding="utf-8")


def job_of(config: TrainConfig, run_id: str, dataset_uri: str, work: Path, dataset_hash: str, cores: int) -> Manifest:
    """Fill the object of one training.

    Args:
        cores: of the machine that the workers share, for `threads = 0`.
    """
    inputs = config.worker().fingerprint(dataset_hash, images.VERSION)
    return training_job(
        f"train-{run_id}", {"penstock.dev/run": run_id, "penstock.dev/inputs": inputs}, kind=config.kind,
        workers=config.workers, threads=config.threads or max(1, cores // config.workers),
        max_restarts=config.max_restarts, args=["--dataset", dataset_uri, "--work", str(work)])


def _train(plane: ControlPlane, job: Manifest, work: WorkFolder, config: TrainConfig) -> None:
    ref = ObjectRef.of(job)
    earlier = plane.get(ref)
    if earlier is not None and outcome(earlier):
        plane.delete(ref)  # it ended without a model; the work folder has what it got done
    lines = deque[str](maxlen=KEPT_LINES)
    with sigterm_raises():
        try:
            plane.apply(job)
            reader = threading.Thread(target=_read_logs, args=(plane, ref, lines), name="logs", daemon=True)
            reader.start()
            job = _wait(plane, ref, work, config.timeout_minutes)
        except ObjectConflict:
            raise  # it is somebody else's job, and stays
        except BaseException:
            plane.delete(ref)
            raise
    reader.join(timeout=LOG_SECONDS)
    failed = condition(job, "Failed") if outcome(job) == "failed" else {}
    if failed or not (work.model / TRAINED_MANIFEST).is_file():
        reason = f"{failed['reason']}: {failed['message']}" if failed else f"it succeeded, but {work.model} is missing"
        why = plane.failure(ref) if failed else ""
        raise JobFailed("\n".join([f"{ref} failed: {reason}", *filter(None, [why]), "last log lines:",
                                   *last_lines(lines)]))


def _wait(plane: ControlPlane, ref: ObjectRef, work: WorkFolder, minutes: float) -> Manifest:
    """Return the finished job; the clock is this step's own, for a cluster's deadlines come late."""
    deadline = time.monotonic() + minutes * 60
    while time.monotonic() < deadline:
        for job in plane.watch(ref, timedelta(seconds=WATCH_SECONDS)):
            if outcome(job):
                return job
        if work.hopeless():
            raise StepError(work.hopeless())
        if plane.get(ref) is None:
            raise JobFailed(f"{ref} was deleted by somebody else; start this step again to go on")
    raise JobFailed(f"{ref} has not finished within timeout_minutes={minutes:g}; it was ended, and a run with a longer "
                    "time-out goes on from the last checkpoint")


def _read_logs(plane: ControlPlane, ref: ObjectRef, lines: deque[str]) -> None:
    try:
        for pod, text in plane.logs(ref):
            lines.append(text)
            metric = parse_metric(text)
            if metric:
                log.info("pod=%s metric=%s value=%.6g", pod, *metric)
            else:
                log.info("pod=%s %s", pod, text)
    except NotFound:
        log.info("job=%s deleted=true", ref.name)
    except JobFailed as error:  # the waiting thread hears the same from `watch`, and raises it
        log.info("job=%s started=false reason=%s", ref.name, error)


def _hand_over(trained: TrainedModel, target: Path, run_id: str) -> TrainedModel:
    """Copy the model out of the work folder, with the run's id in its origin; the same one at `target` stays."""
    if target.exists():
        present = TrainedModel(target)
        if present.weights_sha256 != trained.weights_sha256:
            raise ContractError(f"{target} holds other weights than {trained.folder}; give this run its own output")
        return present
    origin = trained.manifest.origin.model_copy(update={"run_id": run_id})
    with complete_folder(target) as building:
        copyfile(trained.folder / WEIGHTS, building / WEIGHTS)
        trained.manifest.model_copy(update={"origin": origin}).save(building / TRAINED_MANIFEST)
    return TrainedModel(target)
