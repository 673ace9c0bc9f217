"""The manners of a step that starts something long on a control plane: leave cleanly, and quote the lines that tell.

Starts and waits for nothing itself; the steps do, each for its own object.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

__all__ = ["last_lines", "sigterm_raises"]

LAST_LINES = 15  # of a log, in the text of a failure


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143) for the block, so that what it started is deleted on the way out."""
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


def last_lines(lines: Sequence[str]) -> list[str]:
    """Return the last lines, up to a worker's ERROR if there is one: what torchrun adds says only that it failed."""
    errors = [index for index, line in enumerate(lines) if " ERROR " in line]
    end = errors[-1] + 1 if errors else len(lines)
    return list(lines)[max(0, end - LAST_LINES) : end]
