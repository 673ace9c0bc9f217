"""Locks between the processes of one home; the kernel lets go of them when a process dies, however it dies.

Knows their names, not what they guard: START is held while a service is applied or everything is stopped, SUPERVISOR by
the supervisor as long as it lives.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["START", "SUPERVISOR", "is_held", "locked"]

START, SUPERVISOR = "start.lock", "supervisor.lock"
POLL_SECONDS = 0.02


@contextmanager
def locked(root: Path, name: str, patience: float) -> Iterator[bool]:
    """Hold a lock for the block.

    Args:
        patience: seconds to wait for it.

    Yields:
        Whether it is held; after `patience` the block runs without it.
    """
    root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with (root / name).open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(POLL_SECONDS)
        yield True


def is_held(root: Path, name: str) -> bool:
    """Say whether some process holds a lock."""
    with locked(root, name, 0) as free:
        return not free
