"""Tables of images and labels, CSV or Parquet, one file or several: `photos.csv`, `s3://bucket/train-*.parquet`.

An image is a file that a row names, or is in the row. Puts the pieces together: `columns` says what is where, `labels`
what it means, `image_column` reads, `pictures` decodes.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.components.contracts.dataset import Description
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import text_sha256
from penstock.components.data.ingest.columns import Columns, choose_columns, is_struct, is_text, plain_type
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.csv_table import CsvTable
from penstock.components.data.ingest.image_column import ImageColumn, is_base64, light_name
from penstock.components.data.ingest.labels import (
    SPLITS,
    as_texts,
    is_split_name,
    number_labels,
    read_splits,
    split_of_file,
)
from penstock.components.data.ingest.listing import expand
from penstock.components.data.ingest.parquet_table import ParquetTable
from penstock.components.data.ingest.pictures import Pictures
from penstock.components.data.ingest.rows import SourceRows, choose_rows, first_few
from penstock.components.data.ingest.storage import Location, Storage, shown
from penstock.components.data.ingest.table import RowPlaces, Table

__all__ = ["load_csv", "load_parquet"]

logger = logging.getLogger(__name__)

NAMED = 3
ENOUGH = 1000  # missing files beyond the limit: then the count is "or more", for each costs a request
ID_DIGITS = 32


class _Rows(NamedTuple):
    """All rows of all tables, without their images.

    Attributes:
        splits, labels, ids: (N,); `ids` are "" where the hash of the image is to be taken.
        slices: N rows.
        images: one per table.
    """

    places: RowPlaces
    splits: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int16]
    classes: tuple[str, ...]
    ids: list[str]
    slices: pa.Table
    images: list[ImageColumn]


def load_csv(config: IngestConfig) -> SourceRows:
    """Read CSV files, see `_load`; images are paths, or base64."""
    return _load(config, lambda location: CsvTable(location, config.delimiter))


def load_parquet(config: IngestConfig) -> SourceRows:
    """Read Parquet files, see `_load`; images are paths, bytes, or structs of both."""
    return _load(config, ParquetTable)


def _load(config: IngestConfig, open_table: Callable[[Location], Table]) -> SourceRows:
    """Read the tables that `config.source` names.

    Returns:
        Splits as the split column, or the files' names, say; ids are those of the id column, else the paths of the
        images, else hashes of their bytes. Images of one size are stored raw; of several, with `image_size` 0, as PNG.

    Raises:
        ConfigError: there is no such file, or no such column.
        ContractError: a file is damaged, a row has no label, more rows than `max_missing` have no image, or files are
            no pictures (unless `skip_unreadable`).
        StepError: a storage refuses, or gives no answer.
    """
    storage = Storage()
    location = storage.locate(config.source)
    tables = [open_table(found) for found in expand(location)]
    rows = _read_rows(tables, config)
    chosen = np.zeros(len(rows.labels), np.bool_)
    for split in SPLITS:
        within = np.flatnonzero(rows.splits == split)
        chosen[within[choose_rows(rows.labels[within], config.limit)]] = True

    pictures = Pictures(config.image_size, config.channels, lambda row: _name(rows, row))
    missing = _read_pictures(rows, chosen, pictures, storage, config)
    _refuse(rows, missing, pictures, int(chosen.sum()), location, config)

    ids = _unique([row_id or pictures.sha256.get(row, "")[:ID_DIGITS] for row, row_id in enumerate(rows.ids)])
    left_out = {*missing, *pictures.failures}
    by_split = {split: [row for row in np.flatnonzero(chosen & (rows.splits == split)).tolist() if row not in left_out]
                for split in SPLITS if split in rows.splits}
    description = Description(
        name=_dataset_name(location), source=shown(config.source), classes=rows.classes,
        image=pictures.image,
        unreadable={split: int(sum(rows.splits[row] == split for row in left_out)) for split in by_split if left_out})
    content = "\n".join(f"{pictures.sha256[row]} {split} {rows.labels[row]} {ids[row]}"
                        for split, numbers in by_split.items() for row in numbers)
    tables_by_split = {split: _table(rows, ids, numbers, pictures) for split, numbers in by_split.items()}
    kept = [row for numbers in by_split.values() for row in numbers]
    slices = rows.slices.take(pa.array(kept, pa.int64())).to_pydict() if rows.slices.column_names else {}
    return SourceRows(description, tables_by_split, text_sha256(content + repr(slices)))


def _dataset_name(location: Location) -> str:
    """Name the dataset after the file; after its folder where the file is named after a split."""
    stem = location.name.partition(".")[0].partition("*")[0].strip("-_")
    folder = location.folder.rstrip("/").rpartition("/")[2]
    return folder if is_split_name(stem) and folder else stem or "table"


def _read_rows(tables: Sequence[Table], config: IngestConfig) -> _Rows:
    """Read everything but the images."""
    columns = choose_columns(tables[0], config)
    logger.info("source=%s files=%d image_column=%s label_column=%s split_column=%s id_column=%s", config.source,
                len(tables), columns.image, columns.label, columns.split, columns.id)
    parts = [_read_light(table, choose_columns(table, config)) for table in tables]
    light = pa.concat_tables([part for part, _ in parts], promote_options="permissive")
    counts = [len(part) for part, _ in parts]
    places = RowPlaces([table.location.name for table in tables], np.repeat(np.arange(len(tables)), counts),
                       np.concatenate([np.arange(count) for count in counts]))
    if not len(light):
        raise ContractError(f"{tables[0].location.uri} has a header and no rows")

    if columns.split:
        splits = read_splits(as_texts(light[columns.split]), places)
    else:
        names = [split_of_file(table.location.name) if len(tables) > 1 else "train" for table in tables]
        splits = read_splits(np.repeat(np.array(names, dtype=object), counts), places)
    given = config.classes or tables[0].class_names(columns.label)
    labels, classes = number_labels(as_texts(light[columns.label]), splits, given, places)
    images = [image for _, image in parts]
    ids = _ids(as_texts(light[columns.id]), places) if columns.id else [
        shown(path) for image, count in zip(images, counts, strict=True) for path in (image.paths or [""] * count)]
    return _Rows(places, splits, labels, classes, ids, light.select(columns.slices), images)


def _read_light(table: Table, columns: Columns) -> tuple[pa.Table, ImageColumn]:
    """Read a table without the bytes of its images."""
    kind = table.schema.field(columns.image).type
    path_column = light_name(kind, columns.image)
    names = list(dict.fromkeys(filter(None, (columns.label, columns.split, columns.id, *columns.slices))))
    light = pa.schema([(name, plain_type(table.schema.field(name).type)) for name in names]).empty_table()
    parts, paths, in_table = [light], list[str](), not is_text(kind)
    for batch in table.batches(list(dict.fromkeys([*names, path_column] if path_column else names))):
        parts.append(pa.table([batch.column(name).cast(light.schema.field(name).type) for name in names], names))
        if not path_column or (in_table and is_text(kind)):  # base64 is read when it is decoded
            continue
        column = batch.column(columns.image)
        column = pc.struct_field(column, "path") if is_struct(kind) else column
        paths += as_texts(column).tolist()
        if is_text(kind) and is_base64(next(filter(None, paths), "")):
            in_table, paths = True, []
    return pa.concat_tables(parts), ImageColumn(table, columns.image, paths, in_table)


def _read_pictures(rows: _Rows, chosen: npt.NDArray[np.bool_], pictures: Pictures, storage: Storage,
                   config: IngestConfig) -> list[int]:
    """Read and decode the images of the chosen rows, and return the rows whose image is not there."""
    missing: list[int] = []
    for index, column in enumerate(rows.images):
        within = np.flatnonzero(rows.places.table == index)
        for window in column.read(np.flatnonzero(chosen[within]), storage):
            found = {int(within[row]): data for row, data in window.items()}
            missing += [row for row, data in found.items() if data is None]
            pictures.add({row: data for row, data in found.items() if data is not None})
            if len(missing) > config.max_missing + ENOUGH:
                return sorted(missing)
    return sorted(missing)


def _refuse(rows: _Rows, missing: Sequence[int], pictures: Pictures, total: int, location: Location,
            config: IngestConfig) -> None:
    """Refuse rows without an image, unless as many may be left out, and files that are no pictures, likewise."""
    if len(missing) > config.max_missing or len(missing) == total:
        named = [path for row in missing[:NAMED] if (path := _path(rows, row))]
        count = f"{len(missing):,}{' or more' if len(missing) > config.max_missing + ENOUGH else ''}"
        raise ContractError(
            f"{count} of {total:,} rows have no image that is there: {rows.places.many(np.array(missing))}"
            f"{' (' + ', '.join(named) + ')' if named else ''}. Paths are relative to {location.folder}; bring the "
            "files, or let as many rows be left out with max_missing")
    failures = pictures.failures
    if failures and not (config.skip_unreadable and len(pictures)):
        raise ContractError(f"{len(failures):,} of {total:,} rows of {location.uri} hold no picture: "
                            f"{first_few(failures.values())}; mend them, or set skip_unreadable to leave them out")
    for row in missing:
        logger.warning("source=%s left_out=%r reason=missing", location.uri, _name(rows, row))
    for row, reason in failures.items():
        logger.warning("source=%s left_out=%r reason=%r", location.uri, _name(rows, row), reason)


def _path(rows: _Rows, row: int) -> str:
    paths = rows.images[rows.places.table[row]].paths
    return shown(paths[rows.places.row[row]]) if paths else ""


def _name(rows: _Rows, row: int) -> str:
    path = _path(rows, row)
    return f"{rows.places.one(row)} ({path})" if path else rows.places.one(row)


def _ids(texts: npt.NDArray[np.str_], places: RowPlaces) -> list[str]:
    """Check the ids that a table brings."""
    values, inverse, counts = np.unique(texts.astype(str), return_inverse=True, return_counts=True)
    if (empty := np.flatnonzero(texts == "")).size:
        raise ContractError(f"{places.many(empty)}: there is no id; fill it in, or set id_column to none")
    if (twice := np.flatnonzero(counts > 1)).size:
        raise ContractError(f"{len(twice):,} ids occur more than once, {str(values[twice[0]])!r} in "
                            f"{places.many(np.flatnonzero(inverse == twice[0]))}; a row is known by its id: mend them, "
                            "or set id_column to none")
    return [str(text) for text in texts]


def _unique(ids: Sequence[str]) -> list[str]:
    """Number what occurs again: `cat.png`, `cat.png#2`."""
    seen: dict[str, int] = {}
    numbered = []
    for row_id in ids:
        seen[row_id] = seen.get(row_id, 0) + 1
        numbered.append(row_id if seen[row_id] == 1 else f"{row_id}#{seen[row_id]}")
    return numbered


def _table(rows: _Rows, ids: Sequence[str], numbers: list[int], pictures: Pictures) -> pa.Table:
    table = pa.table({"id": pa.array([ids[row] for row in numbers], pa.string()), "image": pictures.take(numbers),
                      "label": pa.array(rows.labels[numbers], pa.int16())})
    for name in rows.slices.column_names:
        table = table.append_column(name, rows.slices[name].take(pa.array(numbers, pa.int64())))
    return table
