"""The list of what can be ingested, and how a source's name finds its reader.

Reads no data itself.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest import fashion_mnist, folder, shapes
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows

__all__ = ["SOURCES", "Source", "find_source"]


class Source(NamedTuple):
    """One kind of source, as `penstock datasets` lists it."""

    name: str
    description: str
    example: str
    load: Callable[[IngestConfig], SourceRows]


FASHION_MNIST = Source(
    "fashion-mnist", "70,000 grey pictures of clothes, 28x28, 10 classes; found on this machine or downloaded",
    "fashion-mnist", fashion_mnist.load)
SHAPES = Source(
    "synthetic://shapes", "noisy circles, squares, triangles, … drawn on the spot; keys rows, seed, size, classes",
    shapes.EXAMPLE, shapes.load)
FOLDER = Source(
    "FOLDER", "a folder of class folders with images, with or without a level train/ and test/ above them",
    "./pets", folder.load)
SOURCES = (FASHION_MNIST, FOLDER, SHAPES)


def find_source(source: str) -> Source:
    """Return the reader of `source`.

    Raises:
        ConfigError: no reader knows it; the nearest name or the examples are in the text.
    """
    if source == FASHION_MNIST.name:
        return FASHION_MNIST
    if source.startswith("synthetic://"):
        return SHAPES
    if source.startswith("file://") or ("://" not in source and ("/" in source or Path(source).is_dir())):
        return FOLDER
    close = difflib.get_close_matches(source.partition("?")[0], [FASHION_MNIST.name, SHAPES.name], n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "there are " + ", ".join(known.example for known in SOURCES)
    raise ConfigError(f"source {source!r} is neither a known dataset nor a folder here; {hint}")
