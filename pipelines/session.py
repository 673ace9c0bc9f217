"""End every process of a session, and no other.

All steps of a run, and what they start, live in the session of the child that runs kfp. Services do not: the
laptop's supervisor leads its own. Knows nothing of runs.
"""

import os
import signal
import time
from contextlib import suppress

import psutil

__all__ = ["end_session", "members"]

GRACE = 10.0  # seconds between SIGTERM and SIGKILL: a training step deletes its job in between


def members(leader: int, created: float) -> list[psutil.Process]:
    """Return the live processes of the session that process `leader` founded at `created` (seconds since the epoch).

    The number of a session is not given away again while one of its processes lives, so members are strangers only
    if they, or a new process with the leader's pid, are of another time.
    """
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            if os.getsid(pid) != leader:
                continue
            process = psutil.Process(pid)
            if pid == leader and process.create_time() != created:
                return []
            if process.create_time() >= created and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_session(leader: int, created: float, grace: float = GRACE) -> int:
    """Ask every process of the session but this one to end, and kill those that do not.

    Args:
        grace: seconds they have.

    Returns:
        How many processes there were to end.
    """
    ended: set[int] = set()
    for sent, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, GRACE)):
        deadline = time.monotonic() + seconds
        asked: set[int] = set()
        while left := [process for process in members(leader, created) if process.pid != os.getpid()]:
            for process in left:
                if process.pid not in asked:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(sent)
                asked.add(process.pid)
            ended |= asked
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)  # psutil would wait by reaping, and a child is its parent's to reap
        else:
            return len(ended)
    return len(ended)
