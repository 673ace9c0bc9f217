"""Agents: the processes that stand for the pods of a job on this machine.

Starts and ends them with all that they started, and says where their output is. Knows no status and no condition:
`job_keeper` does; nor what a controller injects: `job_kinds` does.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from penstock.components.control.base import ControlError, Manifest
from penstock.components.control.laptop import processes
from penstock.components.control.laptop.job_kinds import kind_of

__all__ = ["attempts", "end_agents", "log_path", "pod_names", "start_agent"]

END_SECONDS = 5.0  # from SIGTERM to SIGKILL: a checkpoint is whole or absent, so nothing is lost


def start_agent(job: Manifest, index: int, attempt: int, port: int, logs: Path) -> processes.Process:
    """Start one agent in a process group of its own, but in this session, its output appended to its log.

    Args:
        port: free on this machine, for whatever the agents of this job must meet at.
        logs: folder of the logs.

    Raises:
        ControlError: its program is not installed.
    """
    kind = kind_of(job)
    container, name = kind.plan(job).container, kind.pod_name(job, index, attempt)
    asked = {entry["name"]: str(entry["value"]) for entry in container.get("env", [])}
    network = {"PET_LOCAL_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": _loopback()}  # in the place of a pod network
    command = _installed([*container["command"], *container.get("args", [])])
    _end_line(log_path(logs, name))
    return processes.start(command, asked | kind.environment(job, index, port) | network, log_path(logs, name),
                           owner=job["metadata"]["uid"], name=name)


def end_agents(job: Manifest, pod: str = "") -> None:
    """End every process of a job, or of one of its pods, also those whose agent was killed.

    torchrun starts its workers in sessions of their own, so neither group nor parent tells whose they are: the mark in
    their environment does.

    Raises:
        ControlError: one survives even SIGKILL.
    """
    grace = END_SECONDS
    while left := processes.marked(job["metadata"]["uid"], pod):
        processes.end_all(left, grace)
        grace = 0  # what was started meanwhile has no claim to patience


def log_path(logs: Path, pod: str) -> Path:
    """Return the file that has what a pod printed."""
    return logs / f"{pod}.log"


def pod_names(job: Manifest, logs: Path) -> list[str]:
    """Return the names of all pods that the job has had so far, by replica, then by attempt."""
    name = kind_of(job).pod_name
    return [name(job, index, attempt) for index in range(kind_of(job).plan(job).replicas)
            for attempt in range(attempts(job, index, logs))]


def attempts(job: Manifest, index: int, logs: Path) -> int:
    """Return how many pods replica `index` has had: each has left its log."""
    if kind_of(job).plan(job).in_place:
        return 1
    attempt, before = 0, ""
    while (name := kind_of(job).pod_name(job, index, attempt)) != before and log_path(logs, name).exists():
        attempt, before = attempt + 1, name
    return attempt


def _end_line(log: Path) -> None:
    """What a container started again prints does not go on where its former life broke off."""
    if log.exists() and log.read_bytes()[-1:] not in (b"", b"\n"):
        with log.open("ab") as file:
            file.write(b"\n")


def _installed(command: Sequence[str]) -> list[str]:
    """Take Python and its scripts from this interpreter's installation, as an image would have them on its PATH."""
    program = command[0]
    if program in ("python", "python3"):
        return [sys.executable, *command[1:]]
    script = Path(sys.executable).with_name(program)
    if not script.is_file():
        raise ControlError(f"{script} is not there: install penstock with its torch extra into this environment")
    return [str(script), *command[1:]]


def _loopback() -> str:
    return next(name for name, addresses in psutil.net_if_addrs().items()
                if any(address.address == "127.0.0.1" for address in addresses))
