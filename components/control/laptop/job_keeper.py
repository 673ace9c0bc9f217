"""Keeps one job: watches its agents, starts those again that failed, and says how it ended.

The rules are the same for all kinds, `job_kinds` has what differs; a failed agent starts again at once, without the
kubelet's delay. Reads nothing from a user and refuses nothing: `jobs` and `fields` did.
"""

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from penstock.components.control.base import Manifest, ObjectRef
from penstock.components.control.laptop import agents, processes
from penstock.components.control.laptop.job_kinds import kind_of
from penstock.components.control.laptop.job_status import Cause, Counts, is_finished
from penstock.components.control.laptop.store import Store
from penstock.components.control.laptop.trouble import TROUBLE, in_words, insist

__all__ = ["JobKeeper"]

POLL_SECONDS = 0.1
LINGER_SECONDS = 5.0  # once the first agent has succeeded, the others have this long to leave by themselves
KILLED = 137  # 128 + SIGKILL
log = logging.getLogger(__name__)


class JobKeeper:
    """The agents of one job and the thread that watches them.

    Args:
        store: where the job is, and where its status goes.
        job: as it is in the store, with a status.
        logs: folder of the agents' output files.
    """

    def __init__(self, store: Store, job: Manifest, logs: Path) -> None:
        self._store, self._job, self._logs = store, job, logs
        self._kind = kind_of(job)
        self._plan = self._kind.plan(job)
        self._name, self._uid = job["metadata"]["name"], job["metadata"]["uid"]
        self._port = processes.free_port()
        self._deadline = time.monotonic() + self._plan.deadline - _age(job)
        self._agents: list[processes.Process] = []
        self._pods: list[str] = []
        self._failures = 0
        self._trouble = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"job-{self._name}", daemon=True)

    @property
    def trouble(self) -> str:
        """What the last agent that failed died of, "" where none has."""
        return self._trouble

    def start(self) -> None:
        """Start every agent, then watch.

        Raises:
            ControlError: an agent cannot be started; none is left.
        """
        try:
            for index in range(self._plan.replicas):
                self._start_agent(index)
            self._thread.start()
        except Exception:
            agents.end_agents(self._job)
            raise

    def stop(self) -> None:
        """Watch no longer; the agents are left as they are."""
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        """Look at the job until it is over; whatever goes wrong ends it."""
        try:
            while not self._stopped.wait(POLL_SECONDS) and self._look():
                pass
        except Exception as error:
            self._give_up(error)
            if not isinstance(error, TROUBLE):  # a defect, to be seen with its stack
                raise

    def _look(self) -> bool:
        """Bring the job up to date; say whether there is more to come."""
        present = self._store.load(ObjectRef.of(self._job))
        if present is None or present["metadata"]["uid"] != self._uid:
            agents.end_agents(self._job)  # deleted by another process, perhaps just when one started again here
            return False
        before = str(self._job["status"])
        self._reconcile()
        if str(self._job["status"]) != before:
            self._save()
        return not is_finished(self._job)

    def _give_up(self, error: Exception) -> None:
        """End the job for good, for somebody waits for that; what it had come to before stays."""
        log.error("job=%s event=given_up error=%s", self._name, in_words(error))
        over = is_finished(self._job)
        try:
            with suppress(*TROUBLE):  # `error` says what is wrong with this machine
                if not over:
                    agents.end_agents(self._job)
        finally:
            if not over:
                message = f"Job {self._name} has failed because this machine cannot keep it: {in_words(error)}"
                self._kind.fail(self._job, Cause.MACHINE, message)
            insist(self._save, self._stopped)

    def _save(self) -> None:
        self._store.put_status(ObjectRef.of(self._job), self._uid, self._job["status"])

    def _reconcile(self) -> None:
        codes = [processes.exit_code(agent) for agent in self._agents]
        succeeded, failed = codes.count(0), [index for index, code in enumerate(codes) if code]
        self._failures += len(failed)
        for index in failed:
            container = self._plan.container.get("name", "node")  # a TrainJob's has no name of its own
            self._trouble = f"pod {self._pods[index]}: container {container} {_ending(codes[index])}"
            log.warning("%s failures=%d limit=%s", self._trouble, self._failures, self._plan.limit)
        active = codes.count(None) + (len(failed) if self._plan.in_place else 0)
        self._kind.count(self._job, Counts(active, succeeded, 0 if self._plan.in_place else self._failures))
        if succeeded == self._plan.replicas or (succeeded and self._plan.one_suffices):
            self._succeed()
        elif time.monotonic() > self._deadline:
            self._fail(Cause.DEADLINE)
        elif self._failures >= self._plan.limit:
            self._fail(Cause.FAILURES)
        else:
            for index in failed:
                agents.end_agents(self._job, self._pods[index])
                self._start_agent(index)

    def _start_agent(self, index: int) -> None:
        attempt = 0 if self._plan.in_place else agents.attempts(self._job, index, self._logs)
        self._pods[index:index + 1] = [self._kind.pod_name(self._job, index, attempt)]
        self._agents[index:index + 1] = [agents.start_agent(self._job, index, attempt, self._port, self._logs)]

    def _succeed(self) -> None:
        deadline = time.monotonic() + LINGER_SECONDS
        while any(processes.is_alive(agent) for agent in self._agents) and time.monotonic() < deadline:
            if self._stopped.wait(POLL_SECONDS):
                return
        self._clean()
        self._kind.succeed(self._job)

    def _fail(self, cause: Cause) -> None:
        self._clean()
        self._kind.fail(self._job, cause)

    def _clean(self) -> None:
        if not self._plan.spares:
            agents.end_agents(self._job)


def _ending(code: int | None) -> str:
    if code == KILLED:
        return f"was killed (exit code {code}): by somebody, or because this machine ran out of memory"
    return f"ended with exit code {code} (Error)"


def _age(job: Manifest) -> float:
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds()
