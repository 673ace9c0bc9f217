"""What a machine does to those who keep something on it: a full disk, no more files or memory, a process out of reach.

Says in words what went wrong, and sees a last word through. Knows nothing of what is kept.
"""

import threading
from collections.abc import Callable

import psutil

from penstock.components.contracts.errors import PenstockError

__all__ = ["TROUBLE", "in_words", "insist"]

TROUBLE = (PenstockError, OSError, MemoryError, psutil.Error)  # anything else is a defect, to be seen with its stack
AGAIN_SECONDS = 0.1


def in_words(error: Exception) -> str:
    """Return what an error says; with its type where its text alone says nothing."""
    return str(error) if isinstance(error, PenstockError | OSError) and str(error) else repr(error)


def insist(act: Callable[[], None], stopped: threading.Event) -> None:
    """Do what somebody waits for, again and again until it is done: a disk that is full may have room again.

    Args:
        stopped: set when nobody waits any more.
    """
    while not stopped.wait(AGAIN_SECONDS):
        try:
            act()
            return
        except TROUBLE:
            continue
