"""The job controller of the laptop: agents in the place of pods, kept as the controller of each kind would keep them.

Jobs live inside the process that applied them; `job_keeper` watches their agents there. The store, which other
processes read too, holds each object with its status. Which fields are honoured, `fields` says.
"""

import copy
import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from penstock.components.control.base import (
    ABSENT,
    HASH_ANNOTATION,
    LogLine,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    manifest_hash,
)
from penstock.components.control.laptop import agents
from penstock.components.control.laptop.job_keeper import JobKeeper
from penstock.components.control.laptop.job_kinds import kind_of
from penstock.components.control.laptop.job_status import is_finished
from penstock.components.control.laptop.ownership import adoption, kept_here
from penstock.components.control.laptop.store import POLL_SECONDS, Store

__all__ = ["JobController"]

log = logging.getLogger(__name__)
_keepers: dict[str, JobKeeper] = {}  # by uid; of this process, whichever controller started them
_applying = threading.Lock()  # between a look whether a job is there and the start of its agents


class JobController:
    """Runs PyTorchJobs, TrainJobs and Jobs; any thread may call any method.

    Args:
        store: the objects on disk.
        logs: folder of the agents' output files.
    """

    def __init__(self, store: Store, logs: Path) -> None:
        self._store, self._logs = store, logs

    def apply(self, manifest: Manifest) -> Manifest:
        """Start a job, or adopt the one of the same name and hash.

        A job whose owner died is taken over: what is left of its agents is ended, and new ones start; the training
        itself goes on from its checkpoint. One of another hash is then replaced.

        Raises:
            ObjectConflict: the name is taken by another job, or this one is kept by another living process, or is not
                at the resourceVersion that the manifest names.
        """
        ref = ObjectRef.of(manifest)
        with _applying:
            present = self._store.load(ref)
            if present is None:
                return self._create(manifest)
            metadata = present["metadata"]
            if manifest["metadata"].get("resourceVersion", metadata["resourceVersion"]) != metadata["resourceVersion"]:
                raise ObjectConflict(f"{ref} is at version {metadata['resourceVersion']} now, the manifest expects "
                                     f"{manifest['metadata']['resourceVersion']}: get it again, look, and apply anew")
            found = adoption(present, manifest, ours=is_finished(present) or metadata["uid"] in _keepers)
            if found == "adopt":
                return present
            if found == "take over":
                return self._take_over(present)
            self.delete(ref)
            return self._create(manifest)

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the job now and at each change, until it is finished or gone, or the time is over."""
        yield from self._store.follow(ref, timeout, is_finished)

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of all agents as they come, until the job is finished or gone.

        Raises:
            NotFound: there is no such job.
        """
        job = self._store.load(ref)
        if job is None:
            raise NotFound(f"{ref}: there is no such job, so no log")
        tails: dict[str, _Tail] = {}
        while True:
            current = self._store.load(ref)
            ended = current is None or is_finished(current)
            for pod in agents.pod_names(job, self._logs):
                tail = tails.setdefault(pod, _Tail(pod, agents.log_path(self._logs, pod)))
                yield from tail.lines(ended)
            if ended:
                return
            time.sleep(POLL_SECONDS)

    def failure(self, ref: ObjectRef) -> str:
        """Say what the last agent that failed died of, "" where none has; known in the process that keeps the job."""
        job = self._store.load(ref)
        keeper = _keepers.get(job["metadata"]["uid"]) if job else None
        return keeper.trouble if keeper else ""

    def delete(self, ref: ObjectRef) -> None:
        """End every process of the job and forget it; its logs stay.

        Raises:
            ControlError: a process does not end.
        """
        job = self._store.load(ref)
        if job is None:
            return
        self._store.delete(ref)  # first, so that its keeper, which may be another process, restarts nothing
        keeper = _keepers.pop(job["metadata"]["uid"], None)
        if keeper:
            keeper.stop()
        agents.end_agents(job)

    def _create(self, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        own = {HASH_ANNOTATION: manifest_hash(manifest), **kept_here()}
        annotated = {"resourceVersion": ABSENT} | metadata | {"annotations": metadata.get("annotations", {}) | own}
        begun = copy.deepcopy(manifest)
        kind_of(begun).begin(begun)
        job = self._store.put(manifest | {"metadata": annotated}, status=begun["status"])
        self._logs.mkdir(parents=True, exist_ok=True)
        for index in range(kind_of(job).plan(job).replicas):
            agents.log_path(self._logs, kind_of(job).pod_name(job, index, 0)).unlink(missing_ok=True)
        self._keep(job)
        return copy.deepcopy(job)

    def _take_over(self, present: Manifest) -> Manifest:
        """Go on with a job whose owner died: it stays the same object, its pods are new."""
        present["metadata"]["annotations"] |= kept_here()
        job = self._store.put(present)  # against that very version: of two that find it orphaned, one gets it
        agents.end_agents(job)
        self._keep(job)
        return copy.deepcopy(job)

    def _keep(self, job: Manifest) -> None:
        keeper = JobKeeper(self._store, copy.deepcopy(job), self._logs)
        try:
            keeper.start()
        except Exception:
            self._store.delete(ObjectRef.of(job))
            raise
        _keepers[job["metadata"]["uid"]] = keeper


class _Tail:
    """Reads a growing file line by line."""

    def __init__(self, pod: str, path: Path) -> None:
        self._pod, self._path, self._offset = pod, path, 0

    def lines(self, to_the_end: bool) -> Iterator[LogLine]:
        """Yield what was added since the last call; a line without its end only `to_the_end`."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added if to_the_end else added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            yield LogLine(self._pod, line)
