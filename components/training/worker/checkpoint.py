"""Checkpoints: one file per epoch, known by the hash in its name.

`epoch-0003-<sha256, 16 digits>.pt` is written beside its place and renamed, so it is whole unless the disk damaged it,
and then the one before it is used. Knows nothing of networks: a state is a dictionary of tensors and plain values.
"""

import hashlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import torch

from penstock.components.contracts.folder import write_atomically

__all__ = ["load_newest", "save"]

KEEP = 2  # the newest, and one to fall back on
log = logging.getLogger(__name__)
_NAME = re.compile(r"epoch-(\d+)-([0-9a-f]{16})\.pt")


def save(folder: Path, epoch: int, state: dict[str, Any]) -> Path:
    """Write the state after `epoch` epochs and drop all but the newest files.

    Raises:
        DiskFull: there is no room for it; the older ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / f"epoch-{epoch:04d}-{_digest(buffer.getvalue())}.pt"
    write_atomically(path, buffer.getvalue())
    for _, _, old in _newest_first(folder)[KEEP:]:
        old.unlink()
    return path


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Read the newest file that is whole.

    Returns:
        The number of epochs done and the state, or None where nothing usable is left.
    """
    for epoch, digest, path in _newest_first(folder):
        data = path.read_bytes()
        if _digest(data) == digest:
            return epoch, torch.load(io.BytesIO(data), weights_only=True)
        log.warning("checkpoint=%s damaged=true action=use-the-one-before", path)
    return None


def _newest_first(folder: Path) -> list[tuple[int, str, Path]]:
    """Return (epochs, digest, path) of every file, the newest first."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("*.pt"))
    return sorted(((int(name[1]), name[2], path) for name, path in named if name), reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
