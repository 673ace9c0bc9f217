"""The PyTorchJob controller of the laptop: torchrun agents in the place of pods, kept as training-operator 1.9 would.

Jobs live inside the process that applied them; `job_keeper` watches their agents there. The store, which other
processes read too, holds each object with its status. Which fields are honoured, `fields` says.
"""

import copy
import logging
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil

from penstock.components.control.base import (
    HASH_ANNOTATION,
    ControlError,
    LogLine,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    manifest_hash,
)
from penstock.components.control.laptop import agents, processes
from penstock.components.control.laptop.job_keeper import JobKeeper
from penstock.components.control.laptop.job_status import is_finished, now, set_condition
from penstock.components.control.laptop.store import ABSENT, Store

__all__ = ["JobController"]

POLL_SECONDS = 0.1
OWNER_ANNOTATION = "penstock.dev/owner"  # pid and start time of the process that keeps the job
log = logging.getLogger(__name__)


class JobController:
    """Runs PyTorchJobs.

    Args:
        store: the objects on disk.
        logs: folder of the agents' output files.
    """

    def __init__(self, store: Store, logs: Path) -> None:
        self._store, self._logs = store, logs
        self._keepers: dict[str, JobKeeper] = {}

    def apply(self, manifest: Manifest) -> Manifest:
        """Start a job, or adopt the one of the same name and hash.

        A job whose owner died is taken over, whatever its hash: what is left of its agents is ended, and new ones
        start; the training itself goes on from its checkpoint.

        Raises:
            ObjectConflict: the name is taken by another job, or this one is kept by another living process.
        """
        ref = ObjectRef.of(manifest)
        present = self._store.load(ref)
        if present is not None:
            owner = processes.Process.model_validate_json(present["metadata"]["annotations"][OWNER_ANNOTATION])
            ours = is_finished(present) or present["metadata"]["uid"] in self._keepers
            if ours or processes.is_alive(owner):
                if present["metadata"]["annotations"][HASH_ANNOTATION] != manifest_hash(manifest):
                    raise ObjectConflict(f"{ref} exists and is another; a job is immutable, so delete it first")
                if not ours:
                    raise ObjectConflict(f"{ref} is kept by the living process {owner.pid}; wait for it, or end it")
                return present
            log.info("job=%s owner=%d dead=true action=take-over", ref.name, owner.pid)
            self.delete(ref)
        return self._start(manifest)

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the job as it is now, or None."""
        return self._store.load(ref)

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the job now and at each change, until it is finished or gone, or the time is over."""
        deadline = time.monotonic() + timeout.total_seconds()
        seen: Manifest | None = None
        while (job := self._store.load(ref)) is not None:
            if job != seen:
                yield job
                seen = job
            if is_finished(job) or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of all agents as they come, until the job is finished or gone.

        Raises:
            NotFound: there is no such job.
        """
        job = self._store.load(ref)
        if job is None:
            raise NotFound(f"{ref}: there is no such job, so no log")
        tails = [_Tail(agents.pod_name(job, index), self._log(job, index)) for index in range(_replicas(job))]
        while True:
            current = self._store.load(ref)
            ended = current is None or is_finished(current)
            for tail in tails:
                yield from tail.lines(ended)
            if ended:
                return
            time.sleep(POLL_SECONDS)

    def delete(self, ref: ObjectRef) -> None:
        """End every process of the job and forget it; its logs stay.

        Raises:
            ControlError: a process does not end.
        """
        job = self._store.load(ref)
        if job is None:
            return
        uid = job["metadata"]["uid"]
        self._store.delete(ref)  # first, so that its keeper, which may be another process, restarts nothing
        keeper = self._keepers.pop(uid, None)
        if keeper:
            keeper.stop()
        agents.end_agents(job)

    def _start(self, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        own = {HASH_ANNOTATION: manifest_hash(manifest), OWNER_ANNOTATION: _owner()}
        annotated = metadata | {"annotations": metadata.get("annotations", {}) | own, "resourceVersion": ABSENT}
        job = self._store.put(manifest | {"metadata": annotated})
        job["status"] = {"startTime": now()}
        set_condition(job, "Created", f"PyTorchJob {metadata['name']} is created.")
        self._store.put_status(ObjectRef.of(job), job["metadata"]["uid"], job["status"])
        self._logs.mkdir(parents=True, exist_ok=True)
        logs = [self._log(job, index) for index in range(_replicas(job))]
        for path in logs:
            path.write_bytes(b"")
        keeper = JobKeeper(self._store, job, logs)
        try:
            keeper.start()
        except ControlError:
            self._store.delete(ObjectRef.of(job))
            raise
        self._keepers[job["metadata"]["uid"]] = keeper
        return copy.deepcopy(job)

    def _log(self, job: Manifest, index: int) -> Path:
        return self._logs / f"{agents.pod_name(job, index)}.log"


class _Tail:
    """Reads a growing file line by line."""

    def __init__(self, pod: str, path: Path) -> None:
        self._pod, self._path, self._offset = pod, path, 0

    def lines(self, to_the_end: bool) -> Iterator[LogLine]:
        """Yield what was added since the last call; a line without its end only `to_the_end`."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added if to_the_end else added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            yield LogLine(self._pod, line)


def _replicas(job: Manifest) -> int:
    return int(agents.worker(job).get("replicas", 1))


def _owner() -> str:
    return processes.Process(pid=os.getpid(), created=psutil.Process().create_time()).model_dump_json()
