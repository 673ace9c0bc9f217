"""The options of `ingest`, which the step and every source read."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from penstock.components.contracts.config import Config

__all__ = ["IngestConfig", "cache_folder"]


class IngestConfig(Config):
    """Where images come from and what becomes of them on the way in."""

    source: str = Field(
        default="fashion-mnist", min_length=1,
        description="fashion-mnist, synthetic://shapes?rows=600&seed=0, or a folder of class folders with images.")
    image_size: int = Field(
        default=0, ge=0, le=4096,
        description="Side in pixels of the square that every image is resized to. 0: as they are.")
    channels: Literal[0, 1, 3] = Field(default=0, description="1: grey, 3: RGB. 0: as the source.")
    limit: int = Field(
        default=0, ge=0, description="Rows per split at most, the classes sharing them evenly. 0: all.")
    skip_unreadable: bool = Field(
        default=False, description="Leave out files that hold no picture, and count them in the manifest.")
    cache: str = Field(
        default="", description="Folder for downloads. \"\": penstock/datasets in $XDG_CACHE_HOME or ~/.cache.")


def cache_folder(config: IngestConfig) -> Path:
    """Return the folder for downloads; it may not exist yet."""
    if config.cache:
        return Path(config.cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "datasets"
