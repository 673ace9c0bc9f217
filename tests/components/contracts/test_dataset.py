"""The dataset contract: what is written is read, and what is broken is found."""

import json
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.components.contracts.dataset import (
    MANIFEST,
    Dataset,
    DatasetManifest,
    Description,
    ImageFormat,
    content_hash,
    images_array,
    rows_table,
    write_dataset,
)
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import file_sha256

TOY = Description(name="toy", source="test", classes=("ankle boot", "bag"),
                  image=ImageFormat(height=2, width=2, channels=1))


def rows(count: int, first: int = 0) -> pa.Table:
    ids = range(first, first + count)
    return pa.table({
        "id": [f"row-{i}" for i in ids],
        "image": pa.array([bytes([i % 256] * 4) for i in ids], pa.binary(4)),
        "label": pa.array([i % 2 for i in ids], pa.int16()),
    })


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    ids = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=12))
    column: Any = lambda values: draw(st.lists(values, min_size=len(ids), max_size=len(ids)))  # noqa: E731
    return pa.table({
        "id": pa.array(ids, pa.string()),
        "image": pa.array(column(st.binary(min_size=4, max_size=4)), pa.binary(4)),
        "label": pa.array(column(st.integers(0, 1)), pa.int16()),
        "source": pa.array(column(st.none() | st.sampled_from(["web", "None", ""])), pa.string()),
        "weight": pa.array(column(st.floats(allow_nan=False)), pa.float64()),
    })


@settings(max_examples=40)
@given(table=tables(), rows_per_shard=st.integers(1, 5))
def test_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, rows_per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("round") / "d"
    write_dataset(folder, TOY, {"train": table}, rows_per_shard=rows_per_shard)

    read = Dataset(folder)
    assert read.read("train").equals(table)
    assert read.description == TOY
    assert read.rows == len(table)
    assert list(read.manifest.splits["train"].class_counts.values()) == [
        table["label"].to_pylist().count(label) for label in (0, 1)]


@settings(max_examples=40)
@given(table=tables(), shards=st.tuples(st.integers(1, 5), st.integers(1, 5)), order=st.randoms(use_true_random=False))
def test_content_hash_ignores_shards_and_order(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, shards: tuple[int, int], order: Any
) -> None:
    folder = tmp_path_factory.mktemp("hash")
    shuffled = table.take(pa.array(order.sample(range(len(table)), len(table)), pa.int64()))

    hashes = {write_dataset(folder / str(index), TOY, {"train": part}, rows_per_shard=size).manifest.content_hash
              for index, (part, size) in enumerate(zip((table, shuffled), shards, strict=True))}
    assert hashes == {content_hash({"train": table}, TOY)}


@pytest.mark.parametrize("compression", ["none", "snappy", "lz4", "gzip"])
def test_content_hash_ignores_compression(tmp_path: Path, compression: str) -> None:
    written = write_dataset(tmp_path / "d", TOY, {"train": rows(9)})
    shard = tmp_path / "d" / "train-00000.parquet"
    pq.write_table(written.read("train"), shard, compression=compression)
    train = written.manifest.splits["train"]
    entry = train.shards[0].model_copy(update={"sha256": file_sha256(shard)})
    splits = {"train": train.model_copy(update={"shards": (entry,)})}
    written.manifest.model_copy(update={"splits": splits}).save(tmp_path / "d" / MANIFEST)

    again = Dataset(tmp_path / "d")
    assert content_hash(again.read_all(), TOY) == again.manifest.content_hash == content_hash({"train": rows(9)}, TOY)


def test_content_hash_covers_everything_a_model_could_see() -> None:
    table = rows(2)
    variants = [
        ({"train": table}, TOY),
        ({"test": table}, TOY),
        ({"train": table.slice(0, 1), "test": table.slice(1)}, TOY),
        ({"train": table.set_column(2, "label", pa.array([1, 0], pa.int16()))}, TOY),
        ({"train": table.set_column(0, "id", pa.array(["row-1", "row-0"]))}, TOY),
        ({"train": table.append_column("source", pa.array(["web", "web"]))}, TOY),
        ({"train": table.append_column("source", pa.array(["web", None]))}, TOY),
        ({"train": table.append_column("source", pa.array(["web", "None"]))}, TOY),
        ({"train": table.append_column("origin", pa.array(["web", "web"]))}, TOY),
        ({"train": table}, TOY.model_copy(update={"classes": ("bag", "ankle boot")})),
        ({"train": table}, TOY.model_copy(update={"image": ImageFormat(height=1, width=4, channels=1)})),
    ]
    assert len({content_hash(splits, description) for splits, description in variants}) == len(variants)


def test_content_hash_of_old_datasets_stays_theirs() -> None:
    assert content_hash({"train": rows(3)}, TOY) == "97fb1517db5d6d4d7ac433bfdf464cc1"


@given(file=st.sampled_from(["train-00000.parquet", "train-00001.parquet", MANIFEST]),
       position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_and_its_file_named(
    tmp_path_factory: pytest.TempPathFactory, file: str, position: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip") / "d"
    intact = write_dataset(folder, TOY, {"train": rows(4)}, rows_per_shard=2).manifest
    content = bytearray((folder / file).read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    (folder / file).write_bytes(content)

    if file == MANIFEST and same_json(bytes(content), intact):
        assert Dataset(folder).manifest == intact
    else:
        with pytest.raises(ContractError, match=re.escape(str(folder / file))):
            Dataset(folder).read("train")


def same_json(content: bytes, manifest: DatasetManifest) -> bool:
    """White space between two fields may change without harm; nothing else may."""
    try:
        return bool(json.loads(content) == manifest.model_dump(mode="json"))
    except ValueError:
        return False


@pytest.mark.parametrize("damage", ["truncated", "missing", "exchanged"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    write_dataset(tmp_path / "d", TOY, {"train": rows(4)}, rows_per_shard=2)
    first, second = tmp_path / "d" / "train-00000.parquet", tmp_path / "d" / "train-00001.parquet"
    if damage == "truncated":
        second.write_bytes(second.read_bytes()[:-1])
    elif damage == "missing":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes())

    with pytest.raises(ContractError, match=r"train-00001\.parquet is (named|not the file)"):
        Dataset(tmp_path / "d").read("train")


@pytest.mark.parametrize("operation", [
    "tempfile.mkdtemp", "pyarrow.parquet.write_table", "pathlib.Path.open", "pathlib.Path.write_text",
    "pathlib.Path.chmod", "os.open", "os.fsync", "pathlib.Path.rename",
])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, error: type[BaseException]
) -> None:
    module, _, name = operation.rpartition(".")
    intact, failed = getattr(resolve_name(module), name), []

    def fail_once(*arguments: object, **options: object) -> object:
        if failed:
            return intact(*arguments, **options)
        failed.append(True)
        raise error("stopped")

    monkeypatch.setattr(operation, fail_once)
    with pytest.raises(error, match="stopped"):
        write_dataset(tmp_path / "d", TOY, {"train": rows(4), "test": rows(2, first=4)}, rows_per_shard=2)

    assert list(tmp_path.iterdir()) == []


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from penstock.components.contracts.dataset import Description, ImageFormat, rows_table, write_dataset

folder, deadly = Path(sys.argv[1]), int(sys.argv[2])
image = ImageFormat(height=2, width=2, channels=1)
table = rows_table(["a", "b"], np.zeros((2, 2, 2, 1), np.uint8), np.array([0, 1]))
operations = 0

def count(event, arguments):
    global operations
    if event.split(".")[0] in {"open", "os", "tempfile", "shutil"}:
        operations += 1
        if operations == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
description = Description(name="d", source="s", classes=("x", "y"), image=image)
write_dataset(folder, description, {"train": table, "test": table.slice(0, 0)})
print(operations)
"""


def test_a_killed_writer_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    def write(name: str, deadly: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / name), str(deadly)],
                              capture_output=True, text=True, timeout=60)

    operations = int(write("whole", 0).stdout)
    assert operations > 8
    for deadly in np.linspace(1, operations, 7).astype(int):
        assert write(f"cut-{deadly}", deadly).returncode == -9
        if (tmp_path / f"cut-{deadly}").exists():
            assert Dataset(tmp_path / f"cut-{deadly}").read("train").num_rows == 2
    assert Dataset(tmp_path / "whole").read("train").num_rows == 2


def test_the_same_inputs_find_the_finished_folder_and_others_do_not(tmp_path: Path) -> None:
    first = write_dataset(tmp_path / "d", TOY, {"train": rows(4)}, made_from="inputs")
    assert write_dataset(tmp_path / "d", TOY, {"train": rows(4)}, made_from="inputs").manifest == first.manifest

    for made_from in ("others", ""):
        with pytest.raises(ContractError, match="exists already"):
            write_dataset(tmp_path / "d", TOY, {"train": rows(4)}, made_from=made_from)


@pytest.mark.parametrize(("splits", "message"), [
    ({}, "at least one split"),
    ({"train": rows(2).drop_columns(["label"])}, r"train: columns \['label'\] are missing"),
    ({"train": rows(2).set_column(2, "label", pa.array([0, 2], pa.int16()))}, "label 2 has no class; there are 2"),
    ({"train": rows(2).set_column(2, "label", pa.array([0, -1], pa.int16()))}, "label -1 has no class"),
    ({"train": rows(2).set_column(2, "label", pa.array([0, None], pa.int16()))}, "may not be null"),
    ({"train": rows(2).set_column(1, "image", pa.array([b"123", b"456"], pa.binary(3)))}, r"\(2, 2, 1\) needs"),
    ({"train": rows(2).set_column(0, "id", pa.array(["a", "a"]))}, "ids repeat"),
    ({"train": rows(2), "test": rows(1)}, "ids repeat"),
])
def test_rows_that_break_the_contract_are_refused(tmp_path: Path, splits: dict[str, pa.Table], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        write_dataset(tmp_path / "d", TOY, splits)

    assert list(tmp_path.iterdir()) == []


def test_class_names_that_repeat_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="class names repeat"):
        write_dataset(tmp_path / "d", TOY.model_copy(update={"classes": ("bag", "bag")}), {"train": rows(2)})


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    written = write_dataset(tmp_path / "d", TOY, {"train": rows(2), "test": rows(1, first=2)})
    with pytest.raises(ContractError, match=r"no split 'tset'; it has \['test', 'train'\]"):
        written.read("tset")


def test_images_come_back_as_arrays_across_shards(tmp_path: Path) -> None:
    image = ImageFormat(height=4, width=3, channels=3)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 3, 3)).astype(np.uint8)
    table = rows_table([f"{i}" for i in range(7)], pixels, np.zeros(7, int))
    written = write_dataset(tmp_path / "d", TOY.model_copy(update={"image": image}), {"train": table}, rows_per_shard=3)

    read = written.read("train")
    np.testing.assert_array_equal(images_array(read, image), pixels)
    np.testing.assert_array_equal(images_array(read.slice(2, 3), image), pixels[2:5])
    assert images_array(read.slice(0, 0), image).shape == (0, 4, 3, 3)


def test_images_of_many_sizes_are_no_array() -> None:
    with pytest.raises(ContractError, match="ingest them with an image_size"):
        images_array(rows(1), ImageFormat(encoding="encoded", height=0, width=0, channels=1))


def test_the_manifest_is_plain_json_for_other_tools(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", TOY, {"train": rows(3)}, rows_per_shard=2)
    manifest = json.loads((tmp_path / "d" / MANIFEST).read_text())

    assert manifest["splits"]["train"]["class_counts"] == {"ankle boot": 2, "bag": 1}
    assert [shard["rows"] for shard in manifest["splits"]["train"]["shards"]] == [2, 1]
    assert manifest["columns"] == ["id", "image", "label"]
