"""The processes that the supervisor keeps: started on files only, found again by pid and start time, ended for sure.

Each carries a mark in its environment, which its children inherit, so that none is missed whatever became of its
parent. Knows neither predictors nor Envoy.
"""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel

from penstock.components.control.base import ControlError

__all__ = ["MARK", "Process", "end_all", "exit_code", "free_port", "is_alive", "marked", "send", "start",
           "this_process"]

MARK = "PENSTOCK_SUPERVISED"  # "<root of the plane>|<name of the process>"
KILL_SECONDS = 5.0  # what is gone some seconds after SIGKILL is gone; what is not hangs in the kernel
POLL_SECONDS = 0.02
CLOCK_SECONDS = 2.0  # a start time is computed from the boot time, which moves when the clock is set
PORTS = range(20_000, 32_000)  # below the kernel's range for outgoing connections, which come and go
_children: dict[int, subprocess.Popen[bytes]] = {}


class Process(BaseModel):
    """A process, so that another with the same pid is not mistaken for it; `created` in seconds since the epoch."""

    pid: int
    created: float


def start(command: Sequence[str], env: Mapping[str, str], log: Path, owner: str, name: str) -> Process:
    """Start a process in a group of its own, cwd `/`, its output appended to `log`.

    Args:
        env: added to this process's own.
        owner: root of the plane; with `name` it makes the mark.

    Raises:
        ControlError: the program cannot be started.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0, cwd="/",
                env={**os.environ, **env, MARK: f"{owner}|{name}"})
        except OSError as error:
            raise ControlError(f"{name}: cannot start {command[0]}: {error}") from error
    _children[child.pid] = child
    try:
        return Process(pid=child.pid, created=psutil.Process(child.pid).create_time())
    except psutil.NoSuchProcess:
        return Process(pid=child.pid, created=time.time())


def this_process() -> Process:
    """Name the process that asks."""
    return Process(pid=os.getpid(), created=psutil.Process().create_time())


def is_alive(process: Process | None) -> bool:
    """Say whether this very process runs; a zombie does not."""
    return process is not None and _find(process) is not None


def exit_code(process: Process) -> int | None:
    """Return how a process ended, as Kubernetes says it (128 + signal); None where this one is not its parent."""
    child = _children.get(process.pid)
    code = child.poll() if child else None
    return code if code is None or code >= 0 else 128 - code


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal; no error where the process has ended meanwhile."""
    found = _find(process)
    if found is not None:
        try:
            found.send_signal(number)
        except psutil.NoSuchProcess:
            return


def marked(owner: str, name: str = "") -> list[psutil.Process]:
    """Find every living process with the mark of this owner, and of this name where one is given."""
    return [process for process in psutil.process_iter() if _has_mark(process, f"{owner}|", name)]


def end_all(processes: Collection[psutil.Process], grace: float) -> list[int]:
    """End processes: SIGTERM, and SIGKILL after `grace` seconds (0: at once).

    Returns:
        Their pids.

    Raises:
        ControlError: one survives even that.
    """
    for process in processes:
        _signal(process, signal.SIGTERM if grace else signal.SIGKILL)
    left = _wait(processes, grace or KILL_SECONDS)
    for process in left:
        _signal(process, signal.SIGKILL)
    survivors = [process.pid for process in _wait(left, KILL_SECONDS)]
    if survivors:
        raise ControlError(f"processes {survivors} do not end; look at them with ps")
    return [process.pid for process in processes]


def free_port() -> int:
    """Pick a loopback port that nobody uses now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _find(process: Process) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) < CLOCK_SECONDS
        return found if same and _runs(found) else None
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process) -> bool:
    """A zombie does not run; but one whose main thread has ended first looks like a zombie to all but its parent."""
    child = _children.get(process.pid)
    if child is not None and child.poll() is None:
        return True
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(processes: Collection[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after so long; psutil's own wait would take the exit codes of children away."""
    deadline = time.monotonic() + seconds
    while True:
        left = [process for process in processes if _runs(process)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_SECONDS)


def _has_mark(process: psutil.Process, owner: str, name: str) -> bool:
    try:
        mark = process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # gone, a zombie, or another user's
        return False
    return mark.startswith(owner) and (not name or mark == owner + name) and process.pid != os.getpid()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
