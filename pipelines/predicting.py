"""What `penstock predict` says: a line for each picture, or a file for a whole folder and a summary.

Finds the service on the control plane; the requests are those of `inference`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from penstock.components.contracts.errors import ContractError
from penstock.components.control.connect import connect
from penstock.components.control.inference_service import service_ref, url
from penstock.inference.batch import BatchSummary, predict_folder
from penstock.inference.client import ServiceUnknown, predict_files

__all__ = ["predict_batch", "predict_images"]

SHOWN = 5  # unreadable files that are named


def predict_images(name: str, images: Sequence[Path]) -> Iterator[str]:
    """Ask about each picture.

    Yields:
        For each: its path, class, probability, and the version that answered.

    Raises:
        ServiceUnknown: nothing of this name serves.
        ServiceError, ContractError: see `predict_files`.
    """
    found = predict_files(_url(name), name, images)
    for path, label, row, version in zip(images, found.classes, found.probabilities, found.versions, strict=True):
        yield f"{path}: {label} ({row.max():.1%}, version {version})"


def predict_batch(name: str, folder: Path, out: Path, stream: TextIO) -> Iterator[str]:
    """Ask about every picture below a folder and write the CSV file `out`; progress goes to `stream`.

    Yields:
        The lines of the summary.

    Raises:
        ContractError: the file is written, but some pictures could not be read; it names the first.
        ServiceUnknown: nothing of this name serves.
        ConfigError, ServiceError: see `predict_folder`.
    """
    address = _url(name)
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as shown:
        task = shown.add_task("", total=None)
        done = predict_folder(address, name, folder, out,
                              lambda at, total: shown.update(task, completed=at, total=total))
    yield from _summary(done)
    if done.unreadable:
        lost = len(done.unreadable)
        more = [f"and {lost - SHOWN:,} more"] if lost > SHOWN else []
        raise ContractError("\n  ".join([f"{lost:,} of {lost + done.pictures:,} files were left out:",
                                         *done.unreadable[:SHOWN], *more]))


def _summary(done: BatchSummary) -> Iterator[str]:
    rate = done.pictures / done.seconds if done.seconds else 0
    yield f"{done.out}: {done.pictures:,} pictures in {done.seconds:.1f} s ({rate:,.0f} a second)"
    yield "classes   " + ", ".join(f"{label} {count:,}" for label, count in done.classes.items())
    yield "versions  " + ", ".join(f"{version} {count:,}" for version, count in done.versions.items())


def _url(name: str) -> str:
    live = connect().get(service_ref(name))
    if live is None:
        raise ServiceUnknown(f"there is no service {name!r}; see `penstock laptop status`")
    return url(live)
