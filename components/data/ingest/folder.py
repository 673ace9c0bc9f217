"""A folder of class folders with images: `pets/cat/tom.png`, or `pets/train/cat/tom.png` beside `pets/test/…`.

Reads PNG, JPEG, BMP, GIF and WebP files, here or at an address (`s3://bucket/pets`), in order of their names, and
never writes into the folder.
"""

import logging
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from penstock.components.contracts.dataset import Description
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import text_sha256
from penstock.components.contracts.image import PICTURE_SUFFIXES
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.listing import Listing, list_folder
from penstock.components.data.ingest.pictures import Pictures
from penstock.components.data.ingest.reading import read_files
from penstock.components.data.ingest.rows import SourceRows, choose_rows, first_few
from penstock.components.data.ingest.storage import Location, Storage

__all__ = ["load"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")
OTHER_SOURCES = (".csv", ".csv.gz", ".parquet", "-ubyte", "-ubyte.gz")


class ImageFile(NamedTuple):
    """One picture file; `name` is relative to the source folder and becomes the row's id."""

    name: str
    split: str
    class_name: str


def load(config: IngestConfig) -> SourceRows:
    """Read the folder that `config.source` names.

    Returns:
        Split `train`, and `test` where the folder has that level; ids are paths relative to the folder. Images of
        one size are stored raw; of several sizes, with `image_size` 0, as PNG files.

    Raises:
        ConfigError: there is no such folder.
        ContractError: it holds no classes, an empty one, a test class that training lacks, or files that are no
            pictures (unless `skip_unreadable`).
        StepError: the storage refuses, or gives no answer.
    """
    root = Storage().locate(config.source)
    files = _list_images(root, list_folder(root))
    classes = tuple(sorted({file.class_name for file in files if file.split == "train"}))
    files = _limited(files, classes, config.limit)

    pictures = Pictures(config.image_size, config.channels, lambda row: files[row].name)
    for window in read_files([root.join(file.name) for file in files], root.uri):
        # None: removed since it was listed
        pictures.add({row: data or b"" for row, data in window.items()})
    failures = pictures.failures
    if failures and not (config.skip_unreadable and len(pictures)):
        raise ContractError(f"{len(failures):,} of {len(files):,} files under {root.uri} hold no picture: "
                            f"{first_few(failures.values())}; mend them, or set skip_unreadable to leave them out")
    for row, reason in failures.items():
        logger.warning("source=%s left_out=%s reason=%r", root.uri, files[row].name, reason)

    description = Description(
        name=root.name or "images", source=config.source, classes=classes, image=pictures.image,
        unreadable={split: sum(files[row].split == split for row in failures) for split in SPLITS if failures})
    content = "\n".join(f"{pictures.sha256[row]} {file.name}" for row, file in enumerate(files) if row not in failures)
    splits = {split: _table([row for row, file in enumerate(files) if file.split == split and row not in failures],
                            files, pictures, classes)
              for split in SPLITS if any(file.split == split for file in files)}
    return SourceRows(description, splits, text_sha256(content))


def _list_images(root: Location, listing: Listing) -> list[ImageFile]:
    """List every picture file by split, class and name, and refuse a tree that leaves one of them open."""
    tree = _Tree(listing)
    top = tree.below("")
    roots = {"train": ""}
    if "train" in top and tree.below("train/"):
        unknown = sorted(set(top) - set(SPLITS))
        if unknown:
            raise ContractError(f"{root.uri} holds train/ beside {', '.join(unknown)}/: only train/ and test/ are "
                                "read. Validation rows are carved out of train/ later; move those images there, or "
                                "away")
        roots = {split: f"{split}/" for split in SPLITS if split in top}
    files = []
    for split, place in roots.items():
        class_names = tree.below(place)
        if split == "train" and len(class_names) < 2:
            found = f"only {class_names[0]}/" if class_names else "no folders"
            raise ContractError(f"{root.join(place).uri.rstrip('/')} holds {found}; it needs one folder of images for "
                                f"each of two or more classes{_other_source(root, listing)}")
        for class_name in class_names:
            names = tree.images(f"{place}{class_name}/")
            if not names:
                raise ContractError(f"class folder {root.join(place + class_name).uri} holds no image "
                                    f"({', '.join(sorted(PICTURE_SUFFIXES))}); fill it, or remove it")
            files += [ImageFile(name, split, class_name) for name in names]
    known = {file.class_name for file in files if file.split == "train"}
    strange = sorted({file.class_name for file in files} - known)
    if strange:
        raise ContractError(f"{root.join('test/' + strange[0]).uri}: {strange[0]!r} is no class of "
                            f"{root.join(roots['train']).uri.rstrip('/')}; its classes are {', '.join(sorted(known))}")
    return sorted(files, key=lambda file: (SPLITS.index(file.split), file.name))


class _Tree:
    """Questions about a listing, answered from one pass over it."""

    def __init__(self, listing: Listing) -> None:
        self._below: dict[str, set[str]] = {}
        for folder in listing.folders:
            parent, _, name = folder.rpartition("/")
            self._below.setdefault(f"{parent}/" if parent else "", set()).add(name)
        self._images: dict[str, list[str]] = {}
        for file in listing.files:
            if PurePosixPath(file).suffix.lower() in PICTURE_SUFFIXES:
                for place in PurePosixPath(file).parents:
                    self._images.setdefault(f"{place}/", []).append(file)

    def below(self, place: str) -> list[str]:
        """Return the folders directly below; what begins with a dot is hidden."""
        return sorted(name for name in self._below.get(place, ()) if not name.startswith("."))

    def images(self, place: str) -> list[str]:
        return self._images.get(place, [])


def _other_source(root: Location, listing: Listing) -> str:
    """Name a file at the top of the folder that is a source of its own."""
    found = sorted(file for file in listing.files if "/" not in file and file.endswith(OTHER_SOURCES))
    return f". It holds {found[0]}: is {root.join(found[0]).uri} the source?" if found else ""


def _limited(files: list[ImageFile], classes: tuple[str, ...], limit: int) -> list[ImageFile]:
    kept = []
    for split in SPLITS:
        present = [file for file in files if file.split == split]
        labels = np.array([classes.index(file.class_name) for file in present], np.int16)
        kept += [present[row] for row in choose_rows(labels, limit)]
    return kept


def _table(rows: list[int], files: list[ImageFile], pictures: Pictures, classes: tuple[str, ...]) -> pa.Table:
    labels = [classes.index(files[row].class_name) for row in rows]
    return pa.table({"id": pa.array([files[row].name for row in rows], pa.string()), "image": pictures.take(rows),
                     "label": pa.array(labels, pa.int16())})
