"""Reads many files, a window at a time: those of a window at once, the next window while the last is being used.

What is held in memory is two windows. Knows no picture.
"""

import errno
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from penstock.components.data.ingest.storage import CONNECTIONS, Location, explain, file_errors, is_no_bucket

__all__ = ["Progress", "read_files", "read_window"]

logger = logging.getLogger(__name__)

FIRST_FILES, MOST_FILES = 64, 512  # a window's; how large the files are is known only after the first
WINDOW_BYTES = 64 * 2**20
LOCAL_THREADS = 8
SECONDS_PER_LINE = 5.0
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Progress:
    """Log lines that say how far the reading has come, one every few seconds and one at the end."""

    def __init__(self, source: str, total: int) -> None:
        self._source, self._total = source, total
        self._read = self._bytes = 0
        self._began = self._said = time.monotonic()

    def add(self, files: int, size: int) -> None:
        """Count files that have been read.

        Args:
            size: bytes of all of them.
        """
        self._read, self._bytes = self._read + files, self._bytes + size
        now = time.monotonic()
        if now - self._said >= SECONDS_PER_LINE or self._read == self._total:
            self._said = now
            logger.info("source=%s read=%d of=%d bytes=%d seconds=%.1f", self._source, self._read, self._total,
                        self._bytes, now - self._began)


def read_files(locations: Sequence[Location], source: str) -> Iterator[dict[int, bytes | None]]:
    """Read files, whatever storage each is on.

    Args:
        source: for texts, what the files belong to.

    Yields:
        Per window, by index into `locations`, each file's content; None where there is no such file.

    Raises:
        StepError: a storage refuses, or has stopped answering; the text says after how many files.
    """
    progress = Progress(source, len(locations))
    with ThreadPoolExecutor(1, "read-ahead") as ahead:
        start, size = 0, FIRST_FILES
        pending = ahead.submit(read_window, locations[:size], 0, len(locations))
        while start < len(locations):
            window = pending.result()
            following = start + len(window)
            largest = max(len(data or b"") for data in window)
            size = max(1, min(MOST_FILES, WINDOW_BYTES // max(largest, 1)))
            if following < len(locations):
                pending = ahead.submit(read_window, locations[following : following + size], following, len(locations))
            progress.add(len(window), sum(len(data or b"") for data in window))
            yield dict(enumerate(window, start))
            start = following


def read_window(locations: Sequence[Location], before: int = 0, total: int = 0) -> list[bytes | None]:
    """Read files at once; None where there is no such file.

    Args:
        before: files read before these, for the text of an error.
        total: files there are, for the same.

    Raises:
        StepError: a storage refuses, or gives no answer.
    """
    by_system: dict[int, list[int]] = {}
    for index, location in enumerate(locations):
        by_system.setdefault(id(location.system), []).append(index)
    contents: list[bytes | None] = [None] * len(locations)
    for indices in by_system.values():
        for index, found in zip(indices, _fetch([locations[index] for index in indices]), strict=False):
            if isinstance(found, bytes):
                contents[index] = found
            elif _is_final(found):
                progress = f"after {before:,} of {total:,} files, " if before else ""
                raise explain(locations[index].uri, found, progress) from found
    return contents


def _is_final(found: bytes | Exception) -> bool:
    """Say whether an error ends the reading: a file that is not there does not, a bucket that is not there does."""
    if isinstance(found, bytes):
        return False
    return not isinstance(found, MISSING) or is_no_bucket(found)


def _fetch(locations: Sequence[Location]) -> list[bytes | Exception]:
    """Read files of one file system; return each content or what went wrong, and stop soon after a final error."""
    system, paths = locations[0].system, [location.path for location in locations]
    found: list[bytes | Exception] = []
    if locations[0].is_local:
        with ThreadPoolExecutor(LOCAL_THREADS) as pool:  # a network mount answers slowly, but many at once
            return list(pool.map(_read_local, paths))
    step = 2 * CONNECTIONS if system.async_impl else 1
    for start in range(0, len(paths), step):
        if system.async_impl:  # not `cat`, which takes a file name with [1] or * in it for a pattern
            found += system.cat_ranges(paths[start : start + step], None, None, batch_size=CONNECTIONS,
                                       on_error="return")
        else:
            found.append(_read_one(system, paths[start]))
        if any(_is_final(one) for one in found[start:]):
            break
    return found


def _read_local(path: str) -> bytes | Exception:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return FileNotFoundError(path) if error.errno == errno.ENAMETOOLONG else error


def _read_one(system: Any, path: str) -> bytes | Exception:
    try:
        content: bytes = system.cat_file(path)
    except file_errors() as error:
        return error
    return content
