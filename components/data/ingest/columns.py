"""Which column of a table holds what: as configured, else by the names that people give them.

Looks at names and types only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest.config import NO_COLUMN, IngestConfig
from penstock.components.data.ingest.table import Table

__all__ = ["Columns", "choose_columns", "is_bytes", "is_struct", "is_text", "plain_type"]

KNOWN = {
    "image": ("image", "img", "image_path", "path", "file_name", "filename", "file_path", "filepath", "file",
              "image_file", "image_bytes", "picture", "photo"),
    "label": ("label", "class", "class_name", "category", "target", "label_name", "labels", "fine_label", "y"),
    "split": ("split", "subset", "partition"),
    "id": ("id",),
}
EVERYTHING = ("*",)
OF_A_DATASET = ("id", "image", "label")


class Columns(NamedTuple):
    """Names of columns; "": there is none."""

    image: str
    label: str
    split: str
    id: str
    slices: tuple[str, ...]


def choose_columns(table: Table, config: IngestConfig) -> Columns:
    """Choose the columns of a table.

    Raises:
        ConfigError: a column that is needed, or configured, is not there or of a type that cannot be; the text lists
            the columns there are.
    """
    image = _choose(table, "image", config.image_column)
    label = _choose(table, "label", config.label_column)
    split = _choose(table, "split", config.split_column)
    row_id = _choose(table, "id", config.id_column)
    chosen = Columns(image, label, split, row_id, _slices(table, config.slice_columns, {image, label, split, row_id}))
    kind = table.schema.field(image).type
    if not (is_text(kind) or is_bytes(kind) or is_struct(kind)):
        raise ConfigError(f"{table.said}: column {image!r} is {kind}; images are paths (text), picture files (binary), "
                          f"or a struct of bytes and path. {_there_are(table)}")
    for name in filter(None, (label, split, row_id)):
        if not _is_plain(table, name):
            raise ConfigError(f"{table.said}: column {name!r} is {table.schema.field(name).type}, a text or a number "
                              f"is needed. {_there_are(table)}")
    return chosen


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column holds text."""
    kind = plain_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Say whether a column holds bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
                or pa.types.is_fixed_size_binary(kind))


def is_struct(kind: pa.DataType) -> bool:
    """Say whether a column holds images as Hugging Face writes them: a struct of bytes and path."""
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}


def _choose(table: Table, role: str, configured: str) -> str:
    names = table.schema.names
    needed = role in ("image", "label")
    if configured and (needed or configured != NO_COLUMN):
        if configured not in names:
            raise ConfigError(f"{table.said} has no column {role}_column={configured!r}. {_there_are(table)}")
        return configured
    if configured == NO_COLUMN:
        return ""
    lower = {name.lower(): name for name in reversed(names)}
    found = next((lower[name] for name in KNOWN[role] if name in lower), "")
    if needed and not found:
        raise ConfigError(f"{table.said} has no column that is known to hold the {role} ({', '.join(KNOWN[role])}); "
                          f"name it with {role}_column. {_there_are(table)}")
    return found


def _slices(table: Table, configured: Sequence[str], taken: set[str]) -> tuple[str, ...]:
    if tuple(configured) == EVERYTHING:
        return tuple(name for name in table.schema.names
                     if name not in {*taken, *OF_A_DATASET} and _is_plain(table, name))
    for name in configured:
        if name not in table.schema.names:
            raise ConfigError(f"{table.said} has no column {name!r}, which slice_columns names. {_there_are(table)}")
        if name in taken or name in OF_A_DATASET:
            raise ConfigError(f"{table.said}: column {name!r} cannot be a slice column: a dataset has one of that "
                              f"name, or it is read as something else. {_there_are(table)}")
        if not _is_plain(table, name):
            raise ConfigError(f"{table.said}: column {name!r} is {table.schema.field(name).type}, which cannot be "
                              "sliced by; a text or a number can")
    return tuple(configured)


def _is_plain(table: Table, name: str) -> bool:
    kind = plain_type(table.schema.field(name).type)
    return bool(is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _there_are(table: Table) -> str:
    return f"Its columns are {', '.join(map(repr, table.schema.names))}"
