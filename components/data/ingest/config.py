"""The options of `ingest`, which the step and every source read."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from penstock.components.contracts.config import Config

__all__ = ["NO_COLUMN", "IngestConfig", "cache_folder"]

NO_COLUMN = "none"


class IngestConfig(Config):
    """Where images come from and what becomes of them on the way in."""

    source: str = Field(
        default="fashion-mnist", min_length=1,
        description="fashion-mnist, synthetic://shapes?rows=600&seed=0, a folder of class folders with images, a CSV "
                    "or Parquet file (* for several), or an IDX file; here or at an fsspec address: s3://bucket/pets.")
    image_size: int = Field(
        default=0, ge=0, le=4096,
        description="Side in pixels of the square that every image is resized to. 0: as they are.")
    channels: Literal[0, 1, 3] = Field(default=0, description="1: grey, 3: RGB. 0: as the source.")
    limit: int = Field(
        default=0, ge=0, description="Rows per split at most, the classes sharing them evenly. 0: all.")
    skip_unreadable: bool = Field(
        default=False, description="Leave out files that hold no picture, and count them in the manifest.")
    max_missing: int = Field(
        default=0, ge=0, description="CSV, Parquet: rows without their image that may be left out, counted in the "
                                     "manifest. 0: none.")
    classes: tuple[str, ...] = Field(
        default=(), description="CSV, Parquet, IDX: class names in the order of their numbers. Empty: from the labels.")
    image_column: str = Field(
        default="", description="CSV, Parquet: paths (relative to the file, absolute, or URIs) or image bytes (base64 "
                                "in text). \"\": image, img, path, file_name, ….")
    label_column: str = Field(
        default="", description="CSV, Parquet: class names, or numbers. \"\": label, class, category, target, ….")
    split_column: str = Field(
        default="", description="CSV, Parquet: train, validation or test. \"\": split, subset, …, where there; none: "
                                "by the file's name (train-….parquet), else all are train.")
    id_column: str = Field(
        default="", description="CSV, Parquet: what a row is known by for ever. \"\": id, where there; none: the "
                                "image's path, or the hash of its bytes.")
    slice_columns: tuple[str, ...] = Field(
        default=(), description="CSV, Parquet: columns kept, to slice by in evaluation. Empty: none; [\"*\"]: all.")
    delimiter: str = Field(
        default="", max_length=1, description="CSV: what is between two fields. \"\": whichever of , ; tab | splits "
                                              "the first line most.")
    cache: str = Field(
        default="", description="Folder for downloads. \"\": penstock/datasets in $XDG_CACHE_HOME or ~/.cache.")

    @model_validator(mode="after")
    def _classes_are_classes(self) -> "IngestConfig":
        if self.classes and len(set(self.classes)) < max(len(self.classes), 2):
            raise ValueError(f"classes={list(self.classes)}: give two or more different names, "
                             "for example [\"cat\", \"dog\"]")
        return self


def cache_folder(config: IngestConfig) -> Path:
    """Return the folder for downloads; it may not exist yet."""
    if config.cache:
        return Path(config.cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "datasets"
