"""Addresses: which file system reads them, and what is said when none can. S3 has a file of its own."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.listing import list_folder
from penstock.components.data.ingest.reading import read_files
from penstock.components.data.ingest.step import run
from penstock.components.data.ingest.storage import Storage, explain, local_path, shown

Paint = Callable[..., Path]
NAMES = ("cat/1.png", "cat/2.png", "dog/deep/1.png")


@pytest.fixture
def pets(tmp_path: Path, paint: Paint) -> Path:
    for index, name in enumerate(NAMES):
        paint(tmp_path / "pets" / name, seed=index)
    return tmp_path / "pets"


def ingest(target: Path, source: object) -> Dataset:
    return run(target, IngestConfig(source=str(source)))


def test_a_folder_is_the_same_dataset_wherever_it_is(pets: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in NAMES:
            memory.pipe(f"/bucket/pets/{name}", (pets / name).read_bytes())
            archive.write(pets / name, f"pets/{name}")
    sources = [pets, f"file://{pets}", "memory://bucket/pets", "memory://bucket/pets/", f"zip://pets::{tmp_path}/pets.zip"]
    datasets = [ingest(tmp_path / f"d{index}", source) for index, source in enumerate(sources)]

    assert len({dataset.manifest.content_hash for dataset in datasets}) == 1
    assert datasets[2].read("train")["id"].to_pylist() == list(NAMES)


def test_class_folders_may_be_links_and_go_round_in_circles(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(pets / name)
    (pets / "dog" / "round").symlink_to(pets / "dog")
    (pets / "dog" / "broken.png").symlink_to(tmp_path / "nowhere.png")

    assert ingest(tmp_path / "d", tmp_path / "linked").read("train")["id"].to_pylist() == list(NAMES)


@pytest.mark.parametrize(("source", "message"), [
    ("s4://bucket/pets", r"unknown scheme s4://; did you mean s3://\? there are .* gs, .* s3, "),
    ("minio://bucket/pets.csv", r"unknown scheme minio://; there are "),
    ("memory://nowhere/pets", "there is no file below it"),
    ("memory://nowhere/pets.csv", "there is no such file"),
    ("memory://nowhere/*.csv", r"nowhere/\*\.csv: there is no such file or folder"),
])
def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ingest(tmp_path / "d", source)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"the package for gs:// is not installed here: .*gcsfs"):
        ingest(tmp_path / "d", "gs://bucket/pets")


@pytest.mark.parametrize(("name", "hint"), [
    ("pets.csv", r"It holds pets\.csv: is .*/set/pets\.csv the source\?"),
    ("train-00000-of-00001.parquet", r"is .*/set/train-00000-of-00001\.parquet the source\?"),
    ("train-images-idx3-ubyte.gz", r"is .*/set/train-images-idx3-ubyte\.gz the source\?"),
])
def test_a_folder_with_another_source_in_it_says_so(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).touch()
    with pytest.raises(ContractError, match=f"holds no folders; .*{hint}"):
        ingest(tmp_path / "d", tmp_path / "set")


def test_a_folder_is_no_table(pets: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/deep/pets.csv/cat/1.png", b"")
    with pytest.raises(ConfigError, match=r"'memory://deep/pets\.csv' is a folder; give the file in it"):
        ingest(tmp_path / "d", "memory://deep/pets.csv")


def test_files_are_read_in_windows_whose_size_follows_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.components.data.ingest.reading.FIRST_FILES", 3)
    monkeypatch.setattr("penstock.components.data.ingest.reading.MOST_FILES", 4)
    monkeypatch.setattr("penstock.components.data.ingest.reading.WINDOW_BYTES", 1000)
    storage = Storage()
    for index in range(20):
        (tmp_path / str(index)).write_bytes(bytes(500 if index < 6 else 10))
    fsspec.filesystem("memory").pipe("/there", b"far")
    places = [*(storage.locate(str(tmp_path / str(index))) for index in range(20)), storage.locate("memory://there"),
              storage.locate("memory://not-there")]
    with caplog.at_level("INFO"):
        windows = list(read_files(places, "twenty files"))

    assert [len(window) for window in windows] == [3, 2, 2, 2, 4, 4, 4, 1]
    merged = {index: data for window in windows for index, data in window.items()}
    assert [len(merged[index] or b"") for index in range(20)] == [500] * 6 + [10] * 14
    assert (merged[20], merged[21]) == (b"far", None)
    assert "source=twenty files read=22 of=22 bytes=3143" in caplog.text


def test_a_file_that_may_not_be_read_is_named_after_the_files_before_it(tmp_path: Path) -> None:
    error = explain("/data/pets/1.png", PermissionError(13, "Permission denied"), "after 3 of 9 files, ")

    assert isinstance(error, StepError)
    assert str(error).startswith("after 3 of 9 files, /data/pets/1.png: the file system refuses to read it: [Errno 13]")


@pytest.mark.parametrize(("uri", "expected"), [
    ("ftp://me:secret@host/pets", "ftp://host/pets"), ("https://host/a.csv?X-Amz-Signature=1", "https://host/a.csv"),
    ("s3://bucket/a@b.png", "s3://bucket/a@b.png"), ("pets?.csv", "pets?.csv")])
def test_an_address_is_shown_without_its_secrets(uri: str, expected: str) -> None:
    assert shown(uri) == expected


@pytest.mark.parametrize(("source", "expected"), [
    ("pets", Path("pets")), ("file:///a/b", Path("/a/b")), ("~/a", Path.home() / "a"), ("s3://a/b", None),
    ("zip://a::b.zip", None)])
def test_a_path_on_this_machine_is_told_from_an_address(source: str, expected: Path | None) -> None:
    assert local_path(source) == expected


def test_a_listing_is_never_that_of_before(paint: Paint, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/again/cat/1.png", b"1")
    assert list_folder(Storage().locate("memory://again")).files == ["cat/1.png"]

    memory.pipe("/again/cat/2.png", b"2")
    assert list_folder(Storage().locate("memory://again")).files == ["cat/1.png", "cat/2.png"]
