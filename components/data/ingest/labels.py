"""Labels and splits as people write them, turned into class numbers and the names of splits.

Pure: columns in, arrays out.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.components.contracts.errors import ContractError
from penstock.components.data.ingest.table import RowPlaces

__all__ = ["SPLITS", "as_texts", "is_split_name", "number_labels", "read_splits", "split_of_file"]

SPLITS = ("train", "validation", "test")
WRITTEN = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
           "val": "validation", "dev": "validation", "test": "test", "testing": "test"}
NUMBER = re.compile(r"-?\d+")
MOST_CLASSES = 2**15 - 1  # labels are int16
LISTED = 20


def as_texts(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.str_]:
    """Write every value as a text, without the space around it; what is missing as "".

    Whole numbers that some program made fractions of, because one was missing, become whole again.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    texts = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    whole = pc.replace_substring_regex(texts, r"^(-?\d+)\.0+$", r"\1")
    return np.array(whole.to_pylist(), dtype=object)


def read_splits(texts: npt.NDArray[np.str_], places: RowPlaces) -> npt.NDArray[np.str_]:
    """Turn what stands in a split column into `train`, `validation` and `test`.

    Raises:
        ContractError: something else stands there, or no row is for training.
    """
    for text in sorted(set(texts)):
        if text.lower() not in WRITTEN:
            raise ContractError(f"{places.many(np.flatnonzero(texts == text))}: {text!r} is no split; write "
                                f"{', '.join(SPLITS)}, or set split_column to none")
    splits = np.array([WRITTEN[text.lower()] for text in texts], dtype=object)
    if "train" not in splits:
        raise ContractError(f"none of the {len(splits):,} rows is for training, all are "
                            f"{' or '.join(sorted(set(splits)))}; bring training rows, or set split_column to none")
    return splits


def is_split_name(name: str) -> bool:
    """Say whether a file or folder is named after a split, or after nothing."""
    return name.lower() in {*WRITTEN, ""}


def split_of_file(name: str) -> str:
    """Return the split that a file is named after (`test-00000-of-00001.parquet`), else `train`."""
    return WRITTEN.get(re.split(r"[-_.]", name.lower(), maxsplit=1)[0], "train")


def number_labels(texts: npt.NDArray[np.str_], splits: npt.NDArray[np.str_], names: Sequence[str],
                  places: RowPlaces) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
    """Turn labels into class numbers.

    Args:
        texts: (N,) class names, or numbers.
        splits: (N,) the split of each row.
        names: of the classes, in the order of their numbers; empty: those of the training rows, sorted.

    Returns:
        (N,) numbers, and the class names.

    Raises:
        ContractError: a label is missing, negative, or no class of the training rows; or there is one class only.
    """
    if (empty := np.flatnonzero(texts == "")).size:
        raise ContractError(f"{len(empty):,} of {len(texts):,} rows have no label: {places.many(empty)}")
    there = sorted(set(texts))
    are_numbers = all(NUMBER.fullmatch(text) for text in there)
    if are_numbers and (negative := [text for text in there if int(text) < 0]):
        rows = np.flatnonzero(np.isin(texts, negative))
        raise ContractError(f"{len(rows):,} rows have label {negative[0]}, which by custom means none: "
                            f"{places.many(rows)}; leave them out")
    trained = set(texts[splits == "train"])
    if are_numbers and names and not set(there) <= set(names):
        classes = tuple(names)
        number = {text: int(text) for text in there if int(text) < len(names)}
    else:
        classes = tuple(names) or tuple(sorted(trained, key=int if are_numbers else None))
        number = {name: index for index, name in enumerate(classes)}
    if strange := [text for text in there if text not in number]:
        rows = np.flatnonzero(texts == strange[0])
        known = ", ".join(classes) if len(classes) <= LISTED else f"{', '.join(classes[:LISTED])}, …"
        raise ContractError(f"{places.many(rows)}: label {strange[0]!r} is no class; there are {len(classes):,}"
                            f"{'' if names else ' in the training rows'}: {known}")
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise ContractError(f"the training rows have {len(classes):,} classes ({', '.join(classes[:LISTED])}), 2 to "
                            f"{MOST_CLASSES:,} can be learned; is the label column the right one?")
    return np.array([number[text] for text in texts], np.int16), classes
