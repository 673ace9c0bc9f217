"""Folders that are complete or absent, and files that are known by their sha256.

The mechanism below every contract. Knows no schema: `dataset` and `model` say what is inside.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.components.contracts.errors import ContractError

__all__ = ["SealedManifest", "complete_folder", "file_sha256", "read_checked", "text_sha256", "write_atomically"]


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
    """
    if folder.exists():
        raise ContractError(f"{folder} exists already; it is never changed in place, write beside it")
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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file so that a reader sees the old content or the new, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
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
