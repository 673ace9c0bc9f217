"""Ingesting: the right source is found, its rows become a dataset, and a mistake is told before anything is written."""

from pathlib import Path

import pytest
from PIL import Image

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.data.ingest.sources import SOURCES, anchored_source, check_source, find_source
from penstock.components.data.ingest.step import IngestConfig, run

SHAPES = "synthetic://shapes?rows=20&size=8"


def test_a_source_becomes_a_dataset(tmp_path: Path) -> None:
    run(tmp_path / "d", IngestConfig(source=SHAPES))

    dataset = Dataset(tmp_path / "d")
    assert dataset.description.source == SHAPES
    assert {name: split.rows for name, split in dataset.manifest.splits.items()} == {"train": 20, "test": 4}
    assert dataset.manifest.columns == ("background", "id", "image", "label", "size")


def test_the_same_source_gives_the_same_content(tmp_path: Path) -> None:
    first, again, other = (run(tmp_path / name, IngestConfig(source=source)).manifest.content_hash
                           for name, source in (("a", SHAPES), ("b", SHAPES), ("c", f"{SHAPES}&seed=1")))

    assert first == again != other


def test_a_retry_finds_its_finished_output_and_other_options_do_not(tmp_path: Path) -> None:
    config = IngestConfig(source=SHAPES)
    first = run(tmp_path / "d", config).manifest
    assert run(tmp_path / "d", config).manifest == first
    assert run(tmp_path / "d", config.model_copy(update={"cache": str(tmp_path)})).manifest == first

    with pytest.raises(ContractError, match="exists already"):
        run(tmp_path / "d", config.model_copy(update={"limit": 5}))


def test_a_folder_that_has_changed_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (4, 4), 10).save(tmp_path / "pets" / name / "1.png")
    config = IngestConfig(source=str(tmp_path / "pets"))
    run(tmp_path / "d", config)

    Image.new("L", (4, 4), 20).save(tmp_path / "pets" / "cat" / "1.png")
    with pytest.raises(ContractError, match="exists already"):
        run(tmp_path / "d", config)


@pytest.mark.parametrize(("source", "message"), [
    ("fashion-mnst", r"did you mean 'fashion-mnist'\?"),
    ("fashion_mnist", r"did you mean 'fashion-mnist'\?"),
    ("imagenet", r"nor a folder or file here; there are fashion-mnist, \./pets, \./photos\.csv, "),
    ("s4://bucket/images", "unknown scheme s4://"),
    ("./nowhere", r"source='\./nowhere' is no folder here \(looked from"),
    ("nowhere.csv", "source='nowhere.csv' is no file here"),
    ("file:///nowhere/t10k-labels-idx1-ubyte", "is no file here"),
])
def test_an_unknown_source_is_refused_with_what_there_is(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "d", IngestConfig(source=source))

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'imagesize', did you mean 'image_size'\?"):
        IngestConfig.parse({"imagesize": 32})


def test_numbers_may_arrive_as_floats() -> None:
    config = IngestConfig.parse({"image_size": 32.0, "channels": 3.0, "limit": 10.0})

    assert (config.image_size, config.channels, config.limit) == (32, 3, 10)


def test_the_listed_examples_find_their_own_source() -> None:
    assert [find_source(source.example) for source in SOURCES] == list(SOURCES)


def test_a_folder_may_be_given_as_file_address_or_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)

    assert find_source("pets") == find_source(f"file://{tmp_path}/pets") == find_source(f"{tmp_path}/pets")


@pytest.mark.parametrize(("source", "name"), [
    ("photos.csv", "CSV"), ("s3://bucket/Photos.CSV", "CSV"), ("./photos.tsv.gz", "CSV"), ("s3://b/a*.csv", "CSV"),
    ("zip://photos.csv::s3://bucket/all.zip", "CSV"), ("https://host/photos.csv?signature=1", "CSV"),
    ("s3://bucket/train-*.parquet", "PARQUET"), ("train.parquet", "PARQUET"), ("s3://bucket/parquet", "FOLDER"),
    ("gs://bucket/mnist/train-images-idx3-ubyte.gz", "IDX"), ("t10k-labels.idx1-ubyte", "IDX"),
    ("s3://bucket", "FOLDER"), ("~/pets", "FOLDER"), ("synthetic://shapes?rows=10", "synthetic://shapes"),
])
def test_a_source_is_known_by_its_name(source: str, name: str) -> None:
    assert find_source(source).name == name


def test_a_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").mkdir()

    assert find_source(str(tmp_path / "pets.csv")).name == "FOLDER"


@pytest.mark.parametrize(("source", "option", "message"), [
    (SHAPES, {"label_column": "x"}, r"label_column='x' is no option of source 'synthetic.*, but of CSV, PARQUET$"),
    ("fashion-mnist", {"classes": ["a", "b"]}, r"classes=\('a', 'b'\) is no option of .*, but of CSV, PARQUET, IDX"),
    ("s3://bucket/a.parquet", {"delimiter": ";"}, "delimiter=';' is no option of .*, but of CSV"),
    ("s3://bucket/pets", {"max_missing": 1}, "max_missing=1 is no option"),
])
def test_an_option_of_another_source_is_refused(source: str, option: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_source(IngestConfig.parse({"source": source, **option}))


def test_a_source_is_looked_at_without_asking_a_server() -> None:
    assert check_source(IngestConfig(source="s3://bucket/pets")).name == "FOLDER"
    assert check_source(IngestConfig(source="./photos-*.csv", delimiter=";")).name == "CSV"


@pytest.mark.parametrize(("source", "expected"), [
    ("pets", "{here}/pets"), ("./photos.csv", "{here}/photos.csv"), ("a/*.parquet", "{here}/a/*.parquet"),
    ("file:///etc/../etc", "/etc/../etc"), ("s3://bucket/pets", None),
    ("fashion-mnist", None), (SHAPES, None), ("zip://pets::/data/pets.zip", None), ("imagenet", None)])
def test_a_path_is_made_absolute_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: str | None
) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "photos.csv").touch()
    monkeypatch.chdir(tmp_path)

    assert anchored_source(source) == (expected.format(here=tmp_path) if expected else source)
