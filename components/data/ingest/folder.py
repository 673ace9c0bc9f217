"""A folder of class folders with images: `pets/cat/tom.png`, or `pets/train/cat/tom.png` beside `pets/test/…`.

Reads PNG, JPEG, BMP, GIF and WebP files, in order of their names, and never writes into the folder.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import ExifTags, Image

from penstock.components.contracts.dataset import Description, ImageFormat, rows_table
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import text_sha256
from penstock.components.contracts.image import UNREADABLE, decode_image
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows, choose_rows

__all__ = ["load"]

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
SPLITS = ("train", "test")
GREY_MODES = frozenset({"1", "I", "I;16", "L", "LA"})
NAMED = 5  # files an error names; the count says how many more there are
Result = TypeVar("Result")


class ImageFile(NamedTuple):
    """One picture file by its place; `name` is relative to the source folder and becomes the row's id."""

    path: Path
    name: str
    split: str
    class_name: str


class Header(NamedTuple):
    """What a picture says of itself before its pixels are decoded."""

    height: int
    width: int
    is_grey: bool


class Picture(NamedTuple):
    """One picture decoded: `pixels` is (H, W, C) uint8, `sha256` that of its file."""

    pixels: npt.NDArray[np.uint8]
    sha256: str


def load(config: IngestConfig) -> SourceRows:
    """Read the folder that `config.source` names.

    Returns:
        Split `train`, and `test` where the folder has that level; ids are paths relative to the folder. Images of
        one size are stored raw; of several sizes, with `image_size` 0, as PNG files.

    Raises:
        ConfigError: there is no such folder.
        ContractError: it holds no classes, an empty one, a test class that training lacks, or files that are no
            pictures (unless `skip_unreadable`).
    """
    root = Path(config.source.removeprefix("file://")).expanduser()
    if not root.is_dir():
        raise ConfigError(f"source {config.source!r}: there is no folder {root.absolute()}; "
                          "give one that holds a folder of images per class")
    files = _list_images(root)
    classes = tuple(sorted({file.class_name for file in files if file.split == "train"}))
    files = _limited(files, classes, config.limit)

    headers, no_pictures = _try_each(files, _read_header)
    channels = config.channels or (1 if all(header.is_grey for header in headers.values()) else 3)
    sizes = {(header.height, header.width) for header in headers.values()}
    side = config.image_size
    pictures, damaged = _try_each(list(headers), lambda file: _decode(file, side, channels))
    failures = {**no_pictures, **damaged}
    if failures and not (config.skip_unreadable and pictures):
        raise ContractError(f"{len(failures):,} of {len(files):,} files under {root} hold no picture: "
                            f"{_some(failures)}; mend them, or set skip_unreadable to leave them out")
    for file, reason in failures.items():
        logger.warning("source=%s left_out=%s reason=%r", root, file.name, reason)

    height, width = (side, side) if side else next(iter(sizes)) if len(sizes) == 1 else (0, 0)
    description = Description(
        name=root.resolve().name, source=config.source, classes=classes,
        image=ImageFormat.model_validate({"encoding": "raw" if height else "encoded", "height": height,
                                          "width": width, "channels": channels}),
        unreadable={split: sum(file.split == split for file in failures) for split in SPLITS if failures})
    splits = {split: _table({file: picture for file, picture in pictures.items() if file.split == split}, description)
              for split in SPLITS if any(file.split == split for file in files)}
    content = "\n".join(f"{picture.sha256} {file.name}" for file, picture in pictures.items())
    return SourceRows(description, splits, text_sha256(content))


def _list_images(root: Path) -> list[ImageFile]:
    """List every picture file by split, class and name, and refuse a tree that leaves one of them open."""
    folders = _subfolders(root)
    roots = {"train": root}
    if "train" in folders and _subfolders(folders["train"]):
        unknown = sorted(set(folders) - set(SPLITS))
        if unknown:
            raise ContractError(f"{root} holds train/ beside {', '.join(unknown)}/: only train/ and test/ are read. "
                                "Validation rows are carved out of train/ later; move those images there, or away")
        roots = {split: folders[split] for split in SPLITS if split in folders}
    files = []
    for split, place in roots.items():
        class_folders = _subfolders(place)
        if split == "train" and len(class_folders) < 2:
            found = f"only {next(iter(class_folders))}/" if class_folders else "no folders"
            raise ContractError(f"{place} holds {found}; it needs one folder of images for each of two or more classes")
        for class_name, folder in class_folders.items():
            paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
            if not paths:
                raise ContractError(f"class folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}); "
                                    "fill it, or remove it")
            files += [ImageFile(path, path.relative_to(root).as_posix(), split, class_name) for path in paths]
    known = {file.class_name for file in files if file.split == "train"}
    strange = sorted({file.class_name for file in files} - known)
    if strange:
        raise ContractError(f"{roots['test'] / strange[0]}: {strange[0]!r} is no class of {roots['train']}; "
                            f"its classes are {', '.join(sorted(known))}")
    return sorted(files, key=lambda file: (SPLITS.index(file.split), file.name))


def _subfolders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def _limited(files: list[ImageFile], classes: tuple[str, ...], limit: int) -> list[ImageFile]:
    kept = []
    for split in SPLITS:
        present = [file for file in files if file.split == split]
        labels = np.array([classes.index(file.class_name) for file in present], np.int16)
        kept += [present[row] for row in choose_rows(labels, limit)]
    return kept


def _try_each(files: Sequence[ImageFile], read: Callable[[ImageFile], Result]
              ) -> tuple[dict[ImageFile, Result], dict[ImageFile, str]]:
    """Read all files, on all cores, and return what came of each, and the reasons of those that failed."""
    def attempt(file: ImageFile) -> Result | ContractError:
        try:
            return read(file)
        except ContractError as error:
            return error

    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
        results = dict(zip(files, pool.map(attempt, files), strict=True))
    read_well = {file: result for file, result in results.items() if not isinstance(result, ContractError)}
    return read_well, {file: str(result) for file, result in results.items() if isinstance(result, ContractError)}


def _read_header(file: ImageFile) -> Header:
    try:
        with Image.open(file.path) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) > 4  # a photo turned by 90 degrees
            width, height = reversed(picture.size) if turned else picture.size
            return Header(height, width, picture.mode in GREY_MODES)
    except UNREADABLE as error:
        raise ContractError(f"{file.name}: {error}") from error


def _decode(file: ImageFile, side: int, channels: int) -> Picture:
    data = file.path.read_bytes()
    return Picture(decode_image(data, side, side, channels, file.name), hashlib.sha256(data).hexdigest())


def _table(pictures: dict[ImageFile, Picture], description: Description) -> pa.Table:
    """Make the table of one split: raw pixels where all pictures are alike, else a PNG file each."""
    labels = np.array([description.classes.index(file.class_name) for file in pictures], np.int16)
    ids = [file.name for file in pictures]
    if description.image.encoding == "raw":
        pixels = np.empty((len(ids), *description.image.shape), np.uint8)
        for row, picture in enumerate(pictures.values()):
            pixels[row] = picture.pixels
        return rows_table(ids, pixels, labels)
    images = pa.array([_png(picture.pixels) for picture in pictures.values()], pa.binary())
    return pa.table({"id": pa.array(ids, pa.string()), "image": images, "label": pa.array(labels, pa.int16())})


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _some(failures: dict[ImageFile, str]) -> str:
    listed = "; ".join(list(failures.values())[:NAMED])
    return listed if len(failures) <= NAMED else f"{listed}; and {len(failures) - NAMED:,} more"
