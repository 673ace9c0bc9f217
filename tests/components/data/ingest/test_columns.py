"""What the columns of a table mean: labels as names or numbers, splits, ids and slices."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows
from penstock.components.data.ingest.tables import load_csv

Paint = Callable[..., Path]


@pytest.fixture
def read(tmp_path: Path, paint: Paint) -> Callable[..., SourceRows]:
    """Read a CSV file, whose first column names one of ten pictures."""
    for index in range(10):
        paint(tmp_path / f"{index}.png", seed=index)

    def load(header: str, *lines: str, **options: object) -> SourceRows:
        numbered = [f"{index}.png,{line}" for index, line in enumerate(lines)]
        (tmp_path / "photos.csv").write_text("\n".join([f"path,{header}", *numbered]))
        return load_csv(IngestConfig.parse({"source": str(tmp_path / "photos.csv"), **options}))

    return load


Read = Callable[..., SourceRows]


@pytest.mark.parametrize(("labels", "given", "classes", "numbers"), [
    (["b", "a", "b"], [], ("a", "b"), [1, 0, 1]),
    (["10", "9", "10"], [], ("9", "10"), [1, 0, 1]),
    (["0", "2", "0.0"], [], ("0", "2"), [0, 1, 0]),
    (["0", "2", "0"], ["cat", "cow", "dog"], ("cat", "cow", "dog"), [0, 2, 0]),
    (["dog", "cat", "dog"], ["dog", "cat"], ("dog", "cat"), [0, 1, 0]),
    (["10", "9", "10"], ["10", "9"], ("10", "9"), [0, 1, 0]),
    (["1e3", "a", "a"], [], ("1e3", "a"), [0, 1, 1]),
])
def test_labels_are_names_or_numbers(
    read: Read, labels: list[str], given: list[str], classes: tuple[str, ...], numbers: list[int]
) -> None:
    rows = read("label", *labels, classes=given)

    assert rows.description.classes == classes
    assert rows.splits["train"]["label"].to_pylist() == numbers


@pytest.mark.parametrize(("labels", "given", "message"), [
    (["0", "3", "1"], ["a", "b"], r"photos\.csv row 2: label '3' is no class; there are 2: a, b"),
    (["a", "x", "x"], ["a", "b"], r"photos\.csv rows 2-3: label 'x' is no class; there are 2: a, b"),
])
def test_a_label_beyond_the_given_classes_is_refused(
    read: Read, labels: list[str], given: list[str], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        read("label", *labels, classes=given)


@pytest.mark.parametrize("classes", [["a"], ["a", "a"]])
def test_classes_must_be_two_different_names(classes: list[str]) -> None:
    with pytest.raises(ConfigError, match="give two or more different names"):
        IngestConfig.parse({"classes": classes})


def test_a_split_column_is_read_as_people_write_it(read: Read) -> None:
    rows = read("label,split", "a,Train", "b,training", "a,val", "b,dev", "a,test")

    assert {name: table["id"].to_pylist() for name, table in rows.splits.items()} == {
        "train": ["0.png", "1.png"], "validation": ["2.png", "3.png"], "test": ["4.png"]}
    assert rows.splits["train"].column_names == ["id", "image", "label"]


def test_a_split_column_may_be_left_alone(read: Read) -> None:
    assert list(read("label,split", "a,x", "b,y", split_column="none").splits) == ["train"]


@pytest.mark.parametrize(("lines", "message"), [
    (["a,train", "b,train", "a,held out"], r"photos\.csv row 3: 'held out' is no split; write train, validation, test"),
    (["a,train", "b,"], "row 2: '' is no split"),
    (["a,test", "b,val"], "none of the 2 rows is for training, all are test or validation"),
    (["a,train", "b,train", "c,test"], r"row 3: label 'c' is no class; there are 2 in the training rows: a, b"),
])
def test_a_split_that_leaves_something_open_is_refused(read: Read, lines: list[str], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read("label,split", *lines)


def test_an_id_column_names_the_rows(read: Read) -> None:
    assert read("label,ID", "a,x-1", "b,7").splits["train"]["id"].to_pylist() == ["x-1", "7"]
    assert read("label,key", "a,k", "b,l", id_column="key").splits["train"]["id"].to_pylist() == ["k", "l"]


@pytest.mark.parametrize(("lines", "message"), [
    (["a,1", "b,2", "a,1", "b,1"], r"1 ids occur more than once, '1' in photos\.csv rows 1, 3-4; .*id_column to none"),
    (["a,1", "b,"], r"photos\.csv row 2: there is no id"),
])
def test_ids_must_be_there_and_differ(read: Read, lines: list[str], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read("label,id", *lines)

    assert read("label,id", *lines, id_column="none").splits["train"]["id"].to_pylist()[0] == "0.png"


def test_slice_columns_are_kept_when_asked_for(read: Read) -> None:
    lines = ("a,day,left", "b,night,right")

    assert read("label,light,side", *lines).splits["train"].column_names == ["id", "image", "label"]
    one = read("label,light,side", *lines, slice_columns=["light"]).splits["train"]
    assert one["light"].to_pylist() == ["day", "night"]
    assert one.column_names == ["id", "image", "label", "light"]
    every = read("label,light,side", *lines, slice_columns=["*"]).splits["train"]
    assert every.column_names == ["id", "image", "label", "light", "side"]


@pytest.mark.parametrize(("asked", "message"), [
    ("weather", r"has no column 'weather', which slice_columns names\. Its columns are 'path', 'label'"),
    ("label", "column 'label' cannot be a slice column"),
])
def test_a_slice_column_that_cannot_be_is_refused(read: Read, asked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("label", "a", "b", slice_columns=[asked])
