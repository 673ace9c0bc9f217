"""Folders that are complete or absent, and files that are known by their sha256.

The mechanism below every contract. Knows no schema: `dataset` and `model` say what is inside.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.components.contracts.errors import ContractError, DiskFull

__all__ = [
    "SealedManifest",
    "append",
    "complete_file",
    "complete_folder",
    "file_sha256",
    "read_checked",
    "text_sha256",
    "write_atomically",
]

MAKE_ROOM = "make room there, or write to another disk"
FULL = {  # what is wrong, and what to do
    errno.ENOSPC: ("the disk is full", MAKE_ROOM),
    errno.EDQUOT: ("the disk quota is used up", MAKE_ROOM),
    errno.EFBIG: ("a file would be larger than this process may write", "raise `ulimit -f`"),
}
MIB = 2**20


class SealedManifest(BaseModel):
    """The one JSON file that vouches for the others in its folder.

    `seal` is the sha256 of the manifest's canonical form without the seal, so a changed manifest is found too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seal: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a manifest.

        Raises:
            ContractError: the file is missing, damaged, or its seal does not fit.
        """
        if not path.is_file():
            raise ContractError(f"{path.parent} is incomplete: {path.name} is missing (was its producer interrupted?)")
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ContractError(f"{path} is damaged: {place}: {first['msg']}") from error
        if manifest.seal != manifest._own_hash():
            raise ContractError(f"{path} is damaged: its seal does not fit its content")
        return manifest

    def save(self, path: Path) -> Self:
        """Seal the manifest, write it, and return it sealed."""
        sealed = self.model_copy(update={"seal": self._own_hash()})
        path.write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return sealed

    def _own_hash(self) -> str:
        return text_sha256(json.dumps(self.model_dump(mode="json", exclude={"seal"}), sort_keys=True))


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Build a folder beside its place and rename it there when the block ends; after an error nothing is left.

    Yields:
        An empty folder to write into.

    Raises:
        ContractError: `folder` exists already.
        DiskFull: there is no room for it.
    """
    if folder.exists():
        raise ContractError(f"{folder} exists already; it is never changed in place, write beside it")
    with _room_for(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield building
            building.chmod(0o755)  # mkdtemp gives 0700; a predictor reads it as another user
            _flush(building)
            building.rename(folder)
        except BaseException:
            shutil.rmtree(building)
            raise


@contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it there when the block ends; after an error the old one is as it was.

    Yields:
        An empty file to write into.

    Raises:
        DiskFull: there is no room for it.
    """
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file so that a reader sees the old content or the new, never half of one.

    Raises:
        DiskFull: there is no room for it; the old content stays.
    """
    with complete_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def append(path: Path, content: str) -> None:
    """Add to the end of a file; it is on the disk then.

    Raises:
        DiskFull: there is no room for it; the file is as it was.
    """
    with _room_for(path):
        size = path.stat().st_size
        try:
            with path.open("ab") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.truncate(path, size)
            raise


def read_checked(path: Path, sha256: str, vouched_by: str) -> bytes:
    """Read a file whose hash is known.

    Raises:
        ContractError: the file is missing or is not the one that `vouched_by` describes; its path is in the text.
    """
    if not path.is_file():
        raise ContractError(f"{path} is named in {vouched_by} but missing")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ContractError(f"{path} is not the file that {vouched_by} describes ({len(data):,} bytes, sha256 differs)")
    return data


def file_sha256(path: Path) -> str:
    """Hash a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Hash a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _flush(folder: Path) -> None:
    """Ask the disk for every byte, so that a rename seen after a power cut names a whole folder."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Say what could not be written, how much room there is and what to do, where a write fails for want of room."""
    try:
        yield
    except Exception as error:
        if (number := _full(error)) is None:
            raise
        reason, remedy = FULL[number]
        raise DiskFull(f"{path} could not be written: {reason}; {_room(path)}. Nothing half written is left; "
                       f"{remedy}, then start again") from error


def _full(error: Exception) -> int | None:
    """Return the errno where there is no room, else None. Rust libraries put the number into their text."""
    if isinstance(error, OSError):
        return error.errno if error.errno in FULL else None
    return next((number for number in FULL if f"(os error {number})" in str(error)), None)


def _room(path: Path) -> str:
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    disk = os.statvfs(place)
    room = (f"{disk.f_bavail * disk.f_frsize / MIB:,.1f} of {disk.f_blocks * disk.f_frsize / MIB:,.1f} MiB are free in "
            f"{place} now that the half-written part is removed")
    return room if disk.f_favail or not disk.f_files else f"{room}, but no file more fits: all inodes are used"
