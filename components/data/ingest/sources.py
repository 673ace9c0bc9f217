"""The list of what can be ingested, and how a source's name finds its reader.

Reads no data itself; `check_source` looks before a run starts.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest import fashion_mnist, folder, idx_files, shapes, tables
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.listing import WILDCARD
from penstock.components.data.ingest.rows import SourceRows
from penstock.components.data.ingest.storage import Storage, local_path, shown

__all__ = ["SOURCES", "Source", "anchored_source", "check_source", "find_source"]


class Source(NamedTuple):
    """One kind of source, as `penstock datasets` lists it.

    Attributes:
        options: of those in `SOME_SOURCES_ONLY`, the ones that it has.
    """

    name: str
    description: str
    example: str
    load: Callable[[IngestConfig], SourceRows]
    options: tuple[str, ...] = ()


TABLE = ("max_missing", "classes", "image_column", "label_column", "split_column", "id_column", "slice_columns")
SOME_SOURCES_ONLY = (*TABLE, "delimiter")

FASHION_MNIST = Source(
    "fashion-mnist", "70,000 grey pictures of clothes, 28x28, 10 classes; found on this machine or downloaded",
    "fashion-mnist", fashion_mnist.load)
SHAPES = Source(
    "synthetic://shapes", "noisy circles, squares, triangles, … drawn on the spot; keys rows, seed, size, classes",
    shapes.EXAMPLE, shapes.load)
FOLDER = Source(
    "FOLDER", "a folder of class folders with images, with or without a level train/ and test/ above them; like every "
    "file below, on this machine or at any fsspec address (s3://bucket/pets)", "./pets", folder.load)
CSV = Source(
    "CSV", "one line per image: its path (relative to the file, absolute, or an address) or itself in base64, and its "
    "label; columns split and id if there; .csv, .tsv, .csv.gz", "./photos.csv", tables.load_csv, SOME_SOURCES_ONLY)
PARQUET = Source(
    "PARQUET", "the same with paths, bytes, or Hugging Face's structs of both; * takes several files, named after "
    "their splits", "s3://bucket/pets/*.parquet", tables.load_parquet, TABLE)
IDX = Source(
    "IDX", "the four files of MNIST and its kin, one of which is named", "./mnist/train-images-idx3-ubyte.gz",
    idx_files.load, ("classes",))
SOURCES = (FASHION_MNIST, FOLDER, CSV, PARQUET, IDX, SHAPES)
SUFFIXES = {".csv": CSV, ".csv.gz": CSV, ".tsv": CSV, ".tsv.gz": CSV, ".parquet": PARQUET}


def find_source(source: str) -> Source:
    """Return the reader of `source`.

    Raises:
        ConfigError: no reader knows it; the nearest name or the examples are in the text.
    """
    if source == FASHION_MNIST.name:
        return FASHION_MNIST
    if source.startswith("synthetic://"):
        return SHAPES
    here = local_path(source)
    if here is not None and here.is_dir():
        return FOLDER
    file = shown(source).partition("::")[0].rstrip("/").rpartition("/")[2]
    if idx_files.NAME.fullmatch(file):
        return IDX
    for suffix, known in SUFFIXES.items():
        if file.lower().endswith(suffix):
            return known
    if here is None or "/" in source:
        return FOLDER
    close = difflib.get_close_matches(source.partition("?")[0], [FASHION_MNIST.name, SHAPES.name], n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "there are " + ", ".join(known.example for known in SOURCES)
    raise ConfigError(f"source {source!r} is neither a known dataset nor a folder or file here; {hint}")


def check_source(config: IngestConfig) -> Source:
    """Look at everything that is wrong with a source as far as that is quick to see; asks no server.

    Returns:
        Its reader.

    Raises:
        ConfigError: the source is unknown, or not on this machine, or has no such option.
    """
    source = find_source(config.source)
    for name in SOME_SOURCES_ONLY:
        value = getattr(config, name)
        if name not in source.options and value != IngestConfig.model_fields[name].default:
            having = ", ".join(known.name for known in SOURCES if name in known.options)
            raise ConfigError(f"{name}={value!r} is no option of source {config.source!r}, but of {having}")
    if source in (FASHION_MNIST, SHAPES):
        return source
    here = local_path(config.source)
    if here is None:
        Storage().locate(config.source)
    elif WILDCARD not in here.name and not here.exists():
        kind = "folder" if source is FOLDER else "file"
        raise ConfigError(f"source={config.source!r} is no {kind} here (looked from {Path.cwd()})")
    return source


def anchored_source(source: str) -> str:
    """Make the path of a folder or file that is on this machine absolute; anything else is returned as it is."""
    here = local_path(source)
    if source == FASHION_MNIST.name or here is None or not (here.exists() or WILDCARD in here.name):
        return source
    return str(here.absolute())
