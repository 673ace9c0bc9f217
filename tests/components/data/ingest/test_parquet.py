"""Parquet files of images and labels, as pandas, pyarrow and Hugging Face write them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.components.contracts.dataset import images_array
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.image import decode_image
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows
from penstock.components.data.ingest.tables import load_parquet

Paint = Callable[..., Path]
ROWS = 300  # more than two batches
NAMES = [f"{row}.png" for row in range(ROWS)]
LABELS = [("cat", "dog", "cow")[row % 3] for row in range(ROWS)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, paint: Paint) -> list[bytes]:
    folder = tmp_path_factory.mktemp("pictures")
    return [paint(folder / name, (6, 4), seed=row).read_bytes() for row, name in enumerate(NAMES)]


def read(folder: Path, table: pa.Table, name: str = "pets.parquet", **options: object) -> SourceRows:
    pq.write_table(table, folder / name, row_group_size=70)
    return load_parquet(IngestConfig.parse({"source": str(folder / name), **options}))


def hugging_face(pictures: list[bytes], paths: list[str | None], **names: list[str]) -> pa.Table:
    """Make a table as `Dataset.to_parquet` does: a struct per image, class numbers, their names in the metadata."""
    images = pa.array([{"bytes": data, "path": path} for data, path in zip(pictures, paths, strict=True)],
                      pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"img": images, "label": pa.array([row % 3 for row in range(len(pictures))], pa.int64())})
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog", "cow"]}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_become_rows_known_by_their_hash(tmp_path: Path, pictures: list[bytes], kind: pa.DataType) -> None:
    rows = read(tmp_path, pa.table({"image": pa.array(pictures, kind), "label": LABELS}))
    table = rows.splits["train"]

    assert rows.description.classes == ("cat", "cow", "dog")
    assert rows.description.image.shape == (4, 6, 3)
    assert len(set(table["id"].to_pylist())) == ROWS
    assert table["label"].to_pylist()[:4] == [0, 2, 1, 0]
    np.testing.assert_array_equal(images_array(table, rows.description.image),
                                  np.stack([decode_image(data, 0, 0, 3) for data in pictures]))


def test_hugging_faces_structs_and_class_names(tmp_path: Path, pictures: list[bytes]) -> None:
    rows = read(tmp_path, hugging_face(pictures, list(NAMES)))

    assert rows.description.classes == ("cat", "dog", "cow")
    assert rows.splits["train"]["id"].to_pylist() == NAMES
    assert rows.splits["train"]["label"].to_pylist()[:4] == [0, 1, 2, 0]


def test_a_struct_without_bytes_names_a_file(tmp_path: Path, pictures: list[bytes]) -> None:
    (tmp_path / NAMES[150]).write_bytes(pictures[150])
    cut = [*pictures[:150], None, *pictures[151:]]
    rows = read(tmp_path, hugging_face(cut, list(NAMES)))
    np.testing.assert_array_equal(images_array(rows.splits["train"], rows.description.image)[150],
                                  decode_image(pictures[150], 0, 0, 3))

    (tmp_path / NAMES[150]).unlink()
    with pytest.raises(ContractError, match=r"^1 of 300 rows .*: pets\.parquet row 151 \(150\.png\)"):
        read(tmp_path, hugging_face(cut, list(NAMES)))


def test_a_struct_without_paths_is_known_by_its_hash(tmp_path: Path, pictures: list[bytes]) -> None:
    by_hash = read(tmp_path, hugging_face(pictures, [None] * ROWS))
    plain = read(tmp_path, pa.table({"image": pictures, "label": LABELS}))

    assert by_hash.splits["train"]["id"] == plain.splits["train"]["id"]


@pytest.mark.parametrize("labels", [
    pa.array(LABELS).dictionary_encode(), pa.array(LABELS, pa.large_string()), pa.array(LABELS, pa.string_view()),
    pa.array([row % 3 == 0 for row in range(ROWS)]), pa.array([float(row % 3) for row in range(ROWS)]),
    pa.array([row % 3 for row in range(ROWS)], pa.uint8())])
def test_labels_of_any_type(tmp_path: Path, pictures: list[bytes], labels: pa.Array) -> None:
    rows = read(tmp_path, pa.table({"image": pictures, "label": labels}))

    assert len(set(rows.splits["train"]["label"].to_pylist())) == len(rows.description.classes) in (2, 3)
    assert not any("." in name for name in rows.description.classes)


def test_paths_and_slices_of_other_types(tmp_path: Path, pictures: list[bytes]) -> None:
    for name, data in zip(NAMES, pictures, strict=True):
        (tmp_path / name).write_bytes(data)
    rows = read(tmp_path, pa.table({
        "path": pa.array(NAMES).dictionary_encode(), "label": LABELS, "year": pa.array([2020 + row % 2 for row in
        range(ROWS)], pa.int16()), "place": pa.array(["a", None] * 150).dictionary_encode(), "box": [[1, 2]] * ROWS,
    }), slice_columns=["*"], limit=7)

    table = rows.splits["train"]
    assert table["id"].to_pylist() == NAMES[:7]
    assert table["year"].to_pylist() == [2020, 2021] * 3 + [2020]
    assert table["place"].to_pylist() == ["a", None] * 3 + ["a"]
    assert table.column_names == ["id", "image", "label", "year", "place"]


def test_several_files_are_split_by_their_names(tmp_path: Path, pictures: list[bytes]) -> None:
    table = pa.table({"image": pictures, "label": LABELS})
    (tmp_path / "pets").mkdir()
    for name, start, end in (("train-00000-of-00002", 0, 100), ("train-00001-of-00002", 100, 200),
                             ("validation-00000-of-00001", 200, 250), ("test-00000-of-00001", 250, 300)):
        pq.write_table(table.slice(start, end - start), tmp_path / "pets" / f"{name}.parquet")
    rows = load_parquet(IngestConfig(source=f"{tmp_path}/pets/*.parquet", limit=90))

    assert {name: len(part) for name, part in rows.splits.items()} == {"train": 90, "validation": 50, "test": 50}
    assert rows.description.name == "pets"
    whole = read(tmp_path, table)
    assert set(rows.splits["train"]["id"].to_pylist()) <= set(whole.splits["train"]["id"].to_pylist())


def test_sizes_that_differ_are_kept_as_files_or_made_equal(tmp_path: Path, pictures: list[bytes], paint: Paint) -> None:
    wide = paint(tmp_path / "wide.png", (30, 5)).read_bytes()
    table = pa.table({"image": [*pictures[:200], wide, *pictures[200:]], "label": [*LABELS, "cat"]})
    kept = read(tmp_path, table)

    assert kept.description.image.encoding == "encoded"
    for row in (0, 200, 300):
        np.testing.assert_array_equal(decode_image(kept.splits["train"]["image"][row].as_py(), 0, 0, 3),
                                      decode_image(table["image"][row].as_py(), 0, 0, 3))
    assert read(tmp_path, table, image_size=9).description.image.shape == (9, 9, 3)


@pytest.mark.parametrize(("columns", "message"), [
    ({"image": [[1, 2]], "label": ["a"]}, r"column 'image' is list<.*int64>; images are paths .*'image', 'label'"),
    ({"image": [b"x"], "label": [["a"]]}, r"column 'label' is list<.*>, a text or a number is needed"),
    ({"pixels": [b"x"], "label": ["a"]}, r"pets\.parquet has no column that is known to hold the image"),
])
def test_columns_of_a_wrong_kind_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, pa.table(columns))


def test_a_nested_column_cannot_be_sliced_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column 'box' is list<.*>, which cannot be sliced by"):
        read(tmp_path, pa.table({"image": [b"x"], "label": ["a"], "box": [[1]]}), slice_columns=["box"])


def test_missing_labels_and_images_are_named(tmp_path: Path, pictures: list[bytes]) -> None:
    labels: list[float | None] = [0.0, None, 1.0, None]
    with pytest.raises(ContractError, match=r"2 of 4 rows have no label: pets\.parquet rows 2, 4"):
        read(tmp_path, pa.table({"image": pictures[:4], "label": labels}))

    with pytest.raises(ContractError, match=r"1 of 3 rows have no image that is there: pets\.parquet row 2\. Paths"):
        read(tmp_path, pa.table({"image": [pictures[0], None, pictures[1]], "label": LABELS[:3]}))


@pytest.mark.parametrize("damage", [lambda data: b"PAR1 no more", lambda data: data[: len(data) // 2], lambda data: b"",
                                    lambda data: data[:2000] + bytes(2000) + data[4000:]])
def test_a_damaged_file_is_named(tmp_path: Path, pictures: list[bytes], damage: Callable[[bytes], bytes]) -> None:
    pq.write_table(pa.table({"image": pictures, "label": LABELS}), tmp_path / "whole.parquet")
    (tmp_path / "pets.parquet").write_bytes(damage((tmp_path / "whole.parquet").read_bytes()))

    with pytest.raises(ContractError, match=r"pets\.parquet"):
        load_parquet(IngestConfig(source=str(tmp_path / "pets.parquet")))


@pytest.mark.parametrize("metadata", [b"{", b"[1]", b'{"info": 3}'])
def test_damaged_class_names_are_told(tmp_path: Path, pictures: list[bytes], metadata: bytes) -> None:
    table = hugging_face(pictures[:6], list(NAMES[:6])).replace_schema_metadata({"huggingface": metadata})
    with pytest.raises(ContractError, match=r"pets\.parquet: its metadata 'huggingface' is damaged"):
        read(tmp_path, table)
