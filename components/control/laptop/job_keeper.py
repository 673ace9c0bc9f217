"""Keeps one PyTorchJob: watches its agents, restarts those that failed, and says how it ended.

The rules are those of training-operator 1.9 (pkg/controller.v1/common/job.go, pkg/core/job.go) and of the kubelet,
which restarts a failed container in place. Reads nothing from a user and refuses nothing: `jobs` and `fields` did.
"""

import logging
import threading
import time
from pathlib import Path

from penstock.components.control.base import ControlError, Manifest, ObjectRef
from penstock.components.control.laptop import agents, processes
from penstock.components.control.laptop.job_status import count_replicas, is_finished, set_condition
from penstock.components.control.laptop.store import Store

__all__ = ["JobKeeper"]

POLL_SECONDS = 0.1
LINGER_SECONDS = 5.0  # once the first agent has succeeded, the others have this long to leave by themselves
log = logging.getLogger(__name__)


class JobKeeper:
    """The agents of one job and the thread that watches them.

    Args:
        store: where the job is, and where its status goes.
        job: as it is in the store.
        logs: the output file of each agent.
    """

    def __init__(self, store: Store, job: Manifest, logs: list[Path]) -> None:
        self._store, self._job, self._logs = store, job, logs
        self._name, self._uid = job["metadata"]["name"], job["metadata"]["uid"]
        self._port = processes.free_port()
        self._started = time.monotonic()
        self._agents: list[processes.Process] = []
        self._restarts = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"job-{self._name}", daemon=True)

    def start(self) -> None:
        """Start every agent, then watch.

        Raises:
            ControlError: an agent cannot be started; none is left.
        """
        try:
            self._agents = [self._start_agent(index) for index in range(len(self._logs))]
        except ControlError:
            agents.end_agents(self._job)
            raise
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; the agents are left as they are."""
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            present = self._store.load(ObjectRef.of(self._job))
            if present is None or present["metadata"]["uid"] != self._uid:
                return  # deleted, perhaps by another process, which then ends the agents
            before = str(self._job["status"])
            try:
                self._reconcile()
            except (ControlError, OSError) as error:
                self._fail(f"Job {self._name} has failed because this machine cannot keep it: {error}")
            if str(self._job["status"]) != before:
                self._store.put_status(ObjectRef.of(self._job), self._uid, self._job["status"])
            if is_finished(self._job):
                return

    def _reconcile(self) -> None:
        policy = self._job["spec"]["runPolicy"]
        codes = [processes.exit_code(agent) for agent in self._agents]
        active, succeeded = codes.count(None), codes.count(0)
        failed = [index for index, code in enumerate(codes) if code]
        count_replicas(self._job, active, succeeded, len(failed))
        if succeeded:
            self._succeed(policy.get("cleanPodPolicy", "None"))
        elif time.monotonic() - self._started > policy.get("activeDeadlineSeconds", float("inf")):
            agents.end_agents(self._job)
            self._fail(f"Job {self._name} has failed because it was active longer than specified deadline")
        elif failed and agents.worker(self._job).get("restartPolicy") == "Never":
            if policy.get("cleanPodPolicy", "None") != "None":
                agents.end_agents(self._job)
            self._fail(f"PyTorchJob {self._name} is failed because {len(failed)} Worker replica(s) failed.")
        elif failed:
            self._restart({index: codes[index] for index in failed}, policy.get("backoffLimit"))
        else:
            message = f"PyTorchJob {self._job['metadata']['namespace']}/{self._name} is running."
            set_condition(self._job, "Running", message)

    def _succeed(self, clean_pod_policy: str) -> None:
        """With an elasticPolicy one agent's success is the job's."""
        deadline = time.monotonic() + LINGER_SECONDS
        while any(processes.is_alive(agent) for agent in self._agents) and time.monotonic() < deadline:
            if self._stopped.wait(POLL_SECONDS):
                return
        if clean_pod_policy != "None":
            agents.end_agents(self._job)
        count_replicas(self._job, 0, len(self._agents), 0)  # as the operator does with those still active
        namespace = self._job["metadata"]["namespace"]
        set_condition(self._job, "Succeeded", f"PyTorchJob {namespace}/{self._name} successfully completed.")

    def _restart(self, failed: dict[int, int | None], limit: int | None) -> None:
        self._restarts += len(failed)
        if limit is not None and self._restarts >= max(limit, 1):  # the operator fails *at* the limit, not past it
            agents.end_agents(self._job)
            self._fail(f"Job {self._name} has failed because it has reached the specified backoff limit")
            return
        message = f"PyTorchJob {self._name} is restarting because {len(failed)} Worker replica(s) failed."
        set_condition(self._job, "Restarting", message)
        for index, code in failed.items():
            log.warning("pod=%s exit_code=%s restarts=%d limit=%s", agents.pod_name(self._job, index), code,
                        self._restarts, limit)
            agents.end_agents(self._job, index)
            self._agents[index] = self._start_agent(index)

    def _start_agent(self, index: int) -> processes.Process:
        return agents.start_agent(self._job, index, self._port, self._logs[index])

    def _fail(self, message: str) -> None:
        set_condition(self._job, "Failed", message)
