"""Ask a service about every picture in a folder: a CSV file with a line for each.

Several requests at a time and a bounded number of pictures in memory, however many there are. A short outage is
waited out; a file that is no picture is left out and named. Speaks to the service through `client`.
"""

import csv
import io
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import complete_file
from penstock.components.contracts.image import PICTURE_SUFFIXES, decode_image
from penstock.inference.client import (
    BATCH,
    Prediction,
    ServiceUnavailable,
    ServiceUnreachable,
    predict,
    read_file,
    signature,
)

__all__ = ["COLUMNS", "BatchSummary", "predict_folder"]

COLUMNS = ("path", "class", "probability", "version")
WORKERS = 4  # requests at a time: more than one predictor computes, few enough to leave others their turn
WAITING = 2 * WORKERS  # batches decoded or answered and not yet written
PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt; then the outage is the caller's

Progress = Callable[[int, int], None]  # pictures done, pictures in all
WriteRow = Callable[[Sequence[str]], object]


class BatchSummary(NamedTuple):
    """What came of a folder.

    Attributes:
        pictures: lines of the CSV file.
        unreadable: one text per file or folder that was left out, naming it and the reason.
        classes: pictures by predicted class, the most frequent first.
        versions: pictures by the model version that answered.
        seconds: from the first request to the finished file.
    """

    out: Path
    pictures: int
    unreadable: tuple[str, ...]
    classes: dict[str, int]
    versions: dict[str, int]
    seconds: float


class _Answers(NamedTuple):
    """One batch: the files that hold a picture, what the service said to them, and why the others do not."""

    paths: list[Path]
    prediction: Prediction
    unreadable: list[str]


def predict_folder(url: str, model: str, folder: Path, out: Path,
                   progress: Progress = lambda done, total: None) -> BatchSummary:
    """Classify every picture below `folder` and write `out`, whole or not at all.

    The lines are `path,class,probability,version`; paths are relative to `folder`, a folder's own files come before
    those of its folders, each by name. Files that are no pictures by their name, hidden ones, and folders behind
    links are passed over.

    Args:
        url: the gateway or a predictor, for example `http://127.0.0.1:8480`.
        out: CSV file in UTF-8; one that is there is replaced at the end.
        progress: called in this thread, at the start and after each batch.

    Raises:
        ConfigError: there is no such folder, or `out` is one or cannot be written.
        ContractError: the folder holds no picture, or none that can be read.
        DiskFull: there is no room for `out`.
        ServiceError: nothing answers, the model is unknown, it refuses a picture, or an outage outlasts 8 s.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder.absolute()}; give one that holds pictures")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; give the name of a CSV file")
    total = sum(1 for _ in _pictures(folder, []))
    if not total:
        raise ContractError(f"{folder} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))}), nor do its folders")
    shape = signature(url, model)
    started = time.monotonic()
    try:
        with complete_file(out) as file:
            text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")  # names are bytes, not text
            summary = _write(csv.writer(text).writerow, _Asker(url, model, shape), folder, total, progress)
            text.detach()
            if not summary.pictures:
                raise ContractError(f"none of the {total:,} files below {folder} is a readable picture; the first: "
                                    f"{summary.unreadable[0]}")
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}; name another file") from error
    return summary._replace(out=out, seconds=time.monotonic() - started)


class _Asker:
    """Decodes and asks; safe to call from several threads."""

    def __init__(self, url: str, model: str, shape: tuple[int, int, int]) -> None:
        self._url, self._model, self._shape = url, model, shape
        self.stop = threading.Event()  # set: no further attempt

    def __call__(self, paths: Sequence[Path]) -> _Answers:
        kept, pictures, unreadable = [], [], []
        for path in paths:
            try:
                pictures.append(decode_image(read_file(path), *self._shape, str(path)))
                kept.append(path)
            except ContractError as error:
                unreadable.append(str(error))
        images = np.stack(pictures) if pictures else np.empty((0, *self._shape), np.uint8)
        return _Answers(kept, self._predict(images), unreadable)

    def _predict(self, images: npt.NDArray[np.uint8]) -> Prediction:
        for pause in PAUSES:
            try:
                return predict(self._url, self._model, images)
            except (ServiceUnavailable, ServiceUnreachable):
                if self.stop.wait(pause):
                    raise
        return predict(self._url, self._model, images)


def _write(write_row: WriteRow, ask: _Asker, folder: Path, total: int, progress: Progress) -> BatchSummary:
    classes, versions = Counter[str](), Counter[str]()
    unreadable: list[str] = []
    done = 0
    write_row(COLUMNS)
    progress(0, total)
    with closing(_in_order(ask, _pictures(folder, unreadable))) as batches:
        for answers in batches:
            told = answers.prediction
            for path, name, row, version in zip(answers.paths, told.classes, told.probabilities, told.versions,
                                                strict=True):
                write_row((path.relative_to(folder).as_posix(), name, f"{row.max():.6f}", version))
            unreadable += answers.unreadable
            classes.update(told.classes)
            versions.update(told.versions)
            done += len(answers.paths) + len(answers.unreadable)
            progress(done, max(done, total))  # files may have come since they were counted
    return BatchSummary(Path(), classes.total(), tuple(unreadable), dict(classes.most_common()),
                        dict(versions.most_common()), 0.0)


def _in_order(ask: _Asker, paths: Iterator[Path]) -> Generator[_Answers]:
    """Ask in batches, a few at a time, and yield the answers in the order of the paths."""
    waiting: deque[Future[_Answers]] = deque()
    with ThreadPoolExecutor(WORKERS, "predict") as pool:
        try:
            while batch := list(islice(paths, BATCH)):
                waiting.append(pool.submit(ask, batch))
                if len(waiting) == WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            ask.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _pictures(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Walk through the pictures below a folder; folders that cannot be read are noted."""
    def note(error: OSError) -> None:
        unreadable.append(f"{error.filename} cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            is_picture = path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith(".")
            if is_picture and (path.is_file() or path.is_symlink()):
                yield path
