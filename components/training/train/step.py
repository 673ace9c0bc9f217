"""Train a classifier: fill a PyTorchJob, give it to the control plane, wait, and take the model out of the work folder.

Knows no plane and no PyTorch: what every rank does is `training.worker`.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from types import FrameType

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
)
from penstock.components.control.connect import connect
from penstock.components.training.worker.config import WorkerConfig, WorkFolder, local_path
from penstock.components.training.worker.metrics import parse_metric
from penstock.manifests import load

__all__ = ["TrainConfig", "last_lines", "run", "training_job"]

LAST_LINES = 15  # of the log, in the text of a failure
KEPT_LINES = 500  # torchrun adds some fifty for each agent that fails
LOG_SECONDS = 5.0  # for the last lines, once the job has ended
WATCH_SECONDS = 1.0
FINISHED = ("Succeeded", "Failed")
log = logging.getLogger(__name__)


class TrainConfig(WorkerConfig):
    """How to train, and with what."""

    threads: int = Field(default=0, ge=0, le=256, description="Of each worker. 0: this machine's cores / workers.")
    max_restarts: int = Field(default=3, ge=0, le=100, description=(
        "How often a killed or failed worker may send all back to the last checkpoint. 0: never."))
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
    if work.diverged():
        raise StepError(work.diverged())
    if not (work.model / TRAINED_MANIFEST).is_file():
        cores = len(os.sched_getaffinity(0))
        uri = dataset_uri or str(Path(dataset).absolute())
        _train(connect(), training_job(config, run_id, uri, work.folder, content_hash, cores), work, config)
    return _hand_over(TrainedModel(work.model), Path(model), run_id).manifest.metrics


def training_job(config: TrainConfig, run_id: str, dataset_uri: str, work: Path, dataset_hash: str,
                 cores: int) -> Manifest:
    """Fill the PyTorchJob of one training.

    Args:
        cores: of the machine that the workers share, for `threads = 0`.
    """
    job = load("jobs/pytorchjob.yaml")
    job["metadata"]["name"] = f"train-{run_id}"
    inputs = config.worker().fingerprint(dataset_hash, images.VERSION)
    job["metadata"]["labels"] |= {"penstock.dev/run": run_id, "penstock.dev/inputs": inputs}
    job["spec"]["elasticPolicy"] |= {"minReplicas": config.workers, "maxReplicas": config.workers}
    # A lost worker takes the others with it, so each restarts; and the operator fails a job at the limit, not past it.
    job["spec"]["runPolicy"]["backoffLimit"] = config.max_restarts * config.workers + 1
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker["replicas"] = config.workers
    container = worker["template"]["spec"]["containers"][0]
    container["image"] = images.TORCH
    container["args"] = ["--dataset", dataset_uri, "--work", str(work)]
    threads = config.threads or max(1, cores // config.workers)
    container["env"].append({"name": "OMP_NUM_THREADS", "value": str(threads)})
    return job


def _train(plane: ControlPlane, job: Manifest, work: WorkFolder, config: TrainConfig) -> None:
    ref = ObjectRef.of(job)
    earlier = plane.get(ref)
    if earlier is not None and any(condition(earlier, kind) for kind in FINISHED):
        plane.delete(ref)  # it ended without a model; the work folder has what it got done
    lines = deque[str](maxlen=KEPT_LINES)
    with _sigterm_raises():
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
    failed = condition(job, "Failed")
    if failed or not (work.model / TRAINED_MANIFEST).is_file():
        reason = f"{failed['reason']}: {failed['message']}" if failed else f"it succeeded, but {work.model} is missing"
        raise JobFailed("\n".join([f"{ref} failed: {reason}", "last log lines:", *last_lines(lines)]))


def _wait(plane: ControlPlane, ref: ObjectRef, work: WorkFolder, minutes: float) -> Manifest:
    """Return the finished job; the clock is this step's own, for a cluster's deadlines come late."""
    deadline = time.monotonic() + minutes * 60
    while time.monotonic() < deadline:
        for job in plane.watch(ref, timedelta(seconds=WATCH_SECONDS)):
            if any(condition(job, kind).get("status") == "True" for kind in FINISHED):
                return job
        if work.diverged():
            raise StepError(work.diverged())
        if plane.get(ref) is None:
            raise JobFailed(f"{ref} was deleted by somebody else; start this step again to go on")
    raise JobFailed(f"{ref} has not finished within timeout_minutes={minutes:g}; it was ended, and a run with a longer "
                    "time-out goes on from the last checkpoint")


def last_lines(lines: Sequence[str]) -> list[str]:
    """Return the last lines, up to a worker's ERROR if there is one: what torchrun adds says only that it failed."""
    errors = [index for index, line in enumerate(lines) if " ERROR " in line]
    end = errors[-1] + 1 if errors else len(lines)
    return list(lines)[max(0, end - LAST_LINES) : end]


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


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that the job is deleted on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever owns it ends this one
        return

    def leave(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # a second one would interrupt the deletion
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
