"""`s3://` against a real S3 server, a process of its own: what is read, and what is said when something is wrong."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, PenstockError, StepError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.pictures import Pictures
from penstock.components.data.ingest.step import run

Paint = Callable[..., Path]
NAMES = ("cat/1.png", "cat/2 [1]*.png", "dog/1.png", "dog/deep/ü.png")


@pytest.fixture
def pets(s3: Any, paint: Paint) -> Path:
    folder = s3.root / "bucket" / "pets"
    for index, name in enumerate(NAMES):
        paint(folder / name, seed=index)
    return Path(folder)


def ingest(target: Path, source: str, **options: object) -> Dataset:
    return run(target, IngestConfig.parse({"source": source, **options}))


def refused(target: Path, source: str, **options: object) -> PenstockError:
    """Return the error of an ingest that fails, which has left nothing behind."""
    with pytest.raises(PenstockError) as caught:
        ingest(target / "d", source, **options)
    assert list(target.glob("*d*")) == []
    return caught.value


def test_the_server_is_a_process_that_refuses_a_request_without_a_signature(s3: Any, pets: Path) -> None:
    assert Path(psutil.Process(s3.process.pid).exe()).name == "rclone"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{s3.url}/bucket/pets/cat/1.png")
    assert caught.value.code in (400, 403)
    with caught.value:
        assert b"<Error><Code>" in caught.value.read().replace(b"\n", b"").replace(b"  ", b"")


def test_a_folder_is_the_same_dataset_from_s3_as_from_here(pets: Path, tmp_path: Path) -> None:
    here, there = ingest(tmp_path / "here", str(pets)), ingest(tmp_path / "there", "s3://bucket/pets")

    assert there.manifest.content_hash == here.manifest.content_hash
    assert sorted(there.read("train")["id"].to_pylist()) == sorted(NAMES)
    assert (there.description.name, there.description.source) == ("pets", "s3://bucket/pets")


def test_a_csv_names_files_beside_it_and_elsewhere(pets: Path, tmp_path: Path) -> None:
    lines = ["path,label", *(f"pets/{name},{name[:3]}" for name in NAMES), "s3://bucket/pets/cat/1.png,cat",
             f"{pets}/dog/1.png,dog"]
    (pets.parent / "photos.csv").write_text("\n".join(lines))
    dataset = ingest(tmp_path / "d", "s3://bucket/photos.csv")

    assert dataset.rows == 6
    ids = dataset.read("train")["id"].to_pylist()
    assert {"pets/cat/1.png", "s3://bucket/pets/cat/1.png", f"{pets}/dog/1.png"} <= set(ids)
    (pets.parent / "photos.csv").unlink()


def test_parquet_files_of_several_splits(s3: Any, pets: Path, tmp_path: Path) -> None:
    images = [(pets / name).read_bytes() for name in NAMES]
    table = pa.table({"image": images, "label": [name[:3] for name in NAMES]})
    (s3.root / "bucket" / "data").mkdir(exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(table, s3.root / "bucket" / "data" / f"{split}-00000-of-00001.parquet")
    dataset = ingest(tmp_path / "d", "s3://bucket/data/*.parquet")

    assert {name: split.rows for name, split in dataset.manifest.splits.items()} == {"train": 4, "test": 4}


@pytest.mark.parametrize(("name", "value"), [
    ("AWS_SECRET_ACCESS_KEY", "another"), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_ACCESS_KEY_ID", None)])
@pytest.mark.parametrize("source", ["s3://bucket/pets", "s3://bucket/photos.csv", "s3://bucket/*.parquet"])
def test_a_wrong_key_names_the_address_and_the_variables(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    error = refused(tmp_path, source)

    assert isinstance(error, StepError)
    text = str(error)
    assert source in text
    assert f"AWS_ACCESS_KEY_ID ({'set' if value or 'SECRET' in name else 'not set'})" in text
    assert "AWS_SECRET_ACCESS_KEY (set)" in text
    assert os.environ["AWS_ENDPOINT_URL"] in text
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text


@pytest.mark.parametrize(("source", "message"), [
    ("s3://bucket/pet", "'s3://bucket/pet': there is no file below it"),
    ("s3://bucket/none.csv", "s3://bucket/none.csv: there is no such file"),
    ("s3://bucket/none-*.parquet", "no file has such a name"),
    ("s3://absent/pets", "there is no bucket 'absent' at http"),
    ("s3://absent/photos.csv", "there is no bucket 'absent' at http"),
    ("s3://absent/*.csv", "there is no bucket 'absent' at http"),
])
def test_what_is_not_there_is_named(pets: Path, tmp_path: Path, source: str, message: str) -> None:
    error = refused(tmp_path, source)

    assert isinstance(error, ConfigError)
    assert message in str(error)


@pytest.mark.parametrize("source", ["s3://bucket/pets", "s3://bucket/photos.csv", "s3://bucket/*.parquet"])
def test_a_server_that_does_not_answer_is_given_up_on(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
    error = refused(tmp_path, source)

    assert isinstance(error, StepError)
    assert f"{source}: http://127.0.0.1:9 gives no answer" in str(error)


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_a_server_that_goes_in_the_middle_leaves_nothing(
    mortal_s3: Any, paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bucket = mortal_s3.root / "bucket"
    picture = paint(bucket / "pets" / "cat" / "0.png").read_bytes()
    rows = 700  # three windows of files
    for index in range(rows):
        path = bucket / "pets" / ("cat" if index % 2 else "dog") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
    paths = [f"pets/{'cat' if row % 2 else 'dog'}/{row}.png,{row % 2}" for row in range(rows)]
    (bucket / "pets.csv").write_text("\n".join(["path,label", *paths]))
    pq.write_table(pa.table({"image": [picture + bytes([row % 256]) for row in range(rows)],
                             "label": [row % 2 for row in range(rows)]}), bucket / "pets.parquet", row_group_size=100)
    decode, calls = Pictures.add, []

    def stop_the_server(pictures: Pictures, files: dict[int, bytes]) -> None:
        if files and not calls:
            mortal_s3.process.kill()
            mortal_s3.process.wait()
            calls.append(len(files))
        decode(pictures, files)

    monkeypatch.setattr(Pictures, "add", stop_the_server)
    source = "s3://bucket/pets" + {"folder": "", "csv": ".csv", "parquet": ".parquet"}[kind]
    error = refused(tmp_path, source)

    assert calls
    assert isinstance(error, StepError)
    assert f"{mortal_s3.url} gives no answer" in str(error)
    assert "Nothing was written" in str(error)
    if kind != "parquet":
        assert "of 70" in str(error)
