"""IDX files, as MNIST and its kin are published: `mnist/train-images-idx3-ubyte.gz` and its three companions.

The source is any one of them, here or at an address; the others are looked for beside it.
"""

import hashlib
import re

import numpy as np

from penstock.components.contracts.dataset import Description, ImageFormat
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import text_sha256
from penstock.components.data.ingest import fashion_mnist
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.idx_format import idx_table, parse_idx, unpack
from penstock.components.data.ingest.reading import read_window
from penstock.components.data.ingest.rows import SourceRows
from penstock.components.data.ingest.storage import Location, Storage

__all__ = ["NAME", "load"]

NAME = re.compile(r"(?P<before>.*)(train|t10k|test)-(images|labels)(?P<mark>[-.])idx[13]-ubyte(?P<after>(\.gz)?)")
SPLITS = {"train": ("train",), "test": ("t10k", "test")}


def load(config: IngestConfig) -> SourceRows:
    """Read the files beside the one that `config.source` names.

    Returns:
        Split `train`, and `test` where its files are there; ids `train-00000` and so on, in the files' order. What is
        Fashion-MNIST by its content is the same dataset as the source of that name.

    Raises:
        ConfigError: images or labels are not there.
        ContractError: a file is damaged, or there are not as many labels as images.
        StepError: the storage refuses, or gives no answer.
    """
    chosen = Storage().locate(config.source)
    contents = {split: found for split, names in SPLITS.items() if (found := _read_split(chosen, names))}
    if "train" not in contents:
        raise ConfigError(f"source {chosen.uri!r}: {_beside(chosen, 'train', 'images').uri} is not there; it, and the "
                          "labels beside it, are needed")
    hashes = [hashlib.sha256(content).hexdigest() for pair in contents.values() for content in pair]
    if set(hashes) == {file.sha256 for file in fashion_mnist.FILES} and not config.classes:
        return fashion_mnist.read(contents, config)

    parsed = {split: _parse(chosen, split, *pair) for split, pair in contents.items()}
    known = np.unique(parsed["train"][1])
    classes = config.classes or tuple(map(str, range(int(known.max()) + 1)))
    for split, (_, labels) in parsed.items():
        if labels.max() >= len(classes) or (not config.classes and not np.isin(labels, known).all()):
            raise ContractError(f"{chosen.uri}: {split} has label {labels.max()}, there are {len(classes)} classes")
    tables = {split: idx_table(split, images, labels, config) for split, (images, labels) in parsed.items()}
    shapes = {shape for _, shape in tables.values()}
    if len(shapes) > 1:
        raise ContractError(f"{chosen.uri}: training and test images differ in size, {shapes}; set image_size")
    height, width, channels = shapes.pop()
    description = Description(
        name=chosen.folder.rstrip("/").rpartition("/")[2] or "idx", source=config.source, classes=classes,
        image=ImageFormat.model_validate({"height": height, "width": width, "channels": channels}))
    return SourceRows(description, {split: table for split, (table, _) in tables.items()}, text_sha256("".join(hashes)))


def _beside(chosen: Location, split: str, kind: str) -> Location:
    """Return where a companion of the chosen file is."""
    name = NAME.fullmatch(chosen.name)
    if name is None:
        raise ConfigError(f"source {chosen.uri!r} is not named like train-images-idx3-ubyte.gz")
    file = f"{name['before']}{split}-{kind}{name['mark']}idx{3 if kind == 'images' else 1}-ubyte{name['after']}"
    return Location(chosen.system, chosen.path.removesuffix(chosen.name) + file, f"{chosen.folder}/{file}")


def _read_split(chosen: Location, names: tuple[str, ...]) -> tuple[bytes, bytes] | None:
    """Return images and labels of a split, unpacked; None where neither is there."""
    for name in names:
        places = [_beside(chosen, name, kind) for kind in ("images", "labels")]
        images, labels = (
            unpack(place.uri, data) if data is not None and place.name.endswith(".gz") else data
            for place, data in zip(places, read_window(places), strict=True))
        if images is not None and labels is not None:
            return images, labels
        if images is not None or labels is not None:
            there, absent = places if labels is None else reversed(places)
            raise ConfigError(f"source {chosen.uri!r}: {absent.uri} is not there, {there.name} needs it")
    return None


def _parse(chosen: Location, split: str, images: bytes, labels: bytes) -> tuple[np.ndarray, np.ndarray]:
    pixels = parse_idx(f"{chosen.folder}: images of {split}", images, 3)
    classes = parse_idx(f"{chosen.folder}: labels of {split}", labels, 1)
    if len(pixels) != len(classes) or not len(pixels):
        raise ContractError(f"{chosen.folder}: {split} has {len(pixels):,} images and {len(classes):,} labels")
    return pixels, classes
