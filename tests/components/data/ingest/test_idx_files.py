"""IDX files beside each other, here or elsewhere; Fashion-MNIST's are known by their content."""

import gzip
import hashlib
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest

from penstock.components.contracts.dataset import images_array
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.data.ingest import fashion_mnist, idx_files
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 5)).astype(np.uint8)
LABELS = (np.arange(30) % 3).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 20 training and 10 test pictures as MNIST is published."""
    (tmp_path / "mnist").mkdir()
    for split, rows in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        (tmp_path / "mnist" / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[rows])))
        (tmp_path / "mnist" / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[rows])))
    return tmp_path / "mnist"


def load(source: object, **options: object) -> SourceRows:
    return idx_files.load(IngestConfig.parse({"source": str(source), **options}))


@pytest.mark.parametrize("named", ["train-images-idx3", "t10k-labels-idx1"])
def test_any_of_the_four_finds_the_others(folder: Path, named: str) -> None:
    rows = load(folder / f"{named}-ubyte.gz")

    assert {split: len(table) for split, table in rows.splits.items()} == {"train": 20, "test": 10}
    assert rows.description.name == "mnist"
    assert rows.description.classes == ("0", "1", "2")
    assert rows.splits["test"]["id"].to_pylist()[0] == "test-00000"
    assert rows.splits["test"]["label"].to_pylist() == LABELS[20:].tolist()
    np.testing.assert_array_equal(images_array(rows.splits["train"], rows.description.image)[..., 0], IMAGES[:20])


def test_unpacked_files_class_names_and_no_test_split(tmp_path: Path) -> None:
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(LABELS))
    rows = load(tmp_path / "train-images.idx3-ubyte", classes=["a", "b", "c"], limit=4, image_size=8)

    assert list(rows.splits) == ["train"]
    assert rows.description.classes == ("a", "b", "c")
    assert rows.description.image.shape == (8, 8, 1)
    assert rows.splits["train"]["label"].to_pylist() == [0, 1, 2, 0]


def test_files_elsewhere_that_are_fashion_mnist_are_that_dataset(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table, kind, number in ((fashion_mnist.IMAGES, "images", 3), (fashion_mnist.LABELS, "labels", 1)):
        for split, prefix in (("train", "train"), ("test", "t10k")):
            file = folder / f"{prefix}-{kind}-idx{number}-ubyte.gz"
            content = gzip.decompress(file.read_bytes())
            monkeypatch.setitem(table, split, fashion_mnist.IdxFile(
                file.name, len(content), hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(fashion_mnist, "FILES", (*fashion_mnist.IMAGES.values(), *fashion_mnist.LABELS.values()))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", folder)
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/raw/{file.name}", file.read_bytes())

    elsewhere = load("memory://raw/train-images-idx3-ubyte.gz")
    here = fashion_mnist.load(IngestConfig(cache=str(tmp_path / "cache")))
    assert elsewhere.description.classes == here.description.classes == fashion_mnist.CLASSES
    assert elsewhere.description.name == "fashion-mnist"
    assert elsewhere.splits == here.splits
    assert elsewhere.fingerprint == here.fingerprint


packed = partial(gzip.compress, mtime=0)  # with the time in it, two workers would give a test two names


@pytest.mark.parametrize(("name", "content", "message"), [
    ("train-labels-idx1-ubyte.gz", packed(idx(LABELS[:19])), "train has 20 images and 19 labels"),
    ("train-images-idx3-ubyte.gz", packed(idx(IMAGES[:20]))[:90], r"\(90 bytes\) is truncated or no \.gz file"),
    ("train-images-idx3-ubyte.gz", packed(idx(IMAGES[:20])[:-1]), r"615 bytes, its header promises 616"),
    ("train-images-idx3-ubyte.gz", packed(b"PK.."), "no IDX file of bytes in 3 dimensions: .* with 50 4b"),
    ("train-images-idx3-ubyte.gz", packed(b""), "it begins with nothing"),
    ("t10k-labels-idx1-ubyte.gz", packed(idx(LABELS[:10] + 1)), "test has label 3, there are 3 classes"),
    ("t10k-images-idx3-ubyte.gz", packed(idx(IMAGES[20:, :, 1:])), "training and test images differ in size"),
])
def test_damage_is_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ContractError, match=message):
        load(folder / "train-images-idx3-ubyte.gz")


@pytest.mark.parametrize(("absent", "message"), [
    (["t10k-labels-idx1-ubyte.gz"], r"t10k-labels-idx1-ubyte\.gz is not there, t10k-images-idx3-ubyte\.gz needs it"),
    (["train-images-idx3-ubyte.gz"], r"train-images-idx3-ubyte\.gz is not there, train-labels-idx1-ubyte\.gz needs it"),
    (["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], r"images-idx3-ubyte\.gz is not there; it, and"),
])
def test_a_missing_companion_is_named(folder: Path, absent: list[str], message: str) -> None:
    for name in absent:
        (folder / name).unlink()
    with pytest.raises(ConfigError, match=message):
        load(folder / "train-images-idx3-ubyte.gz")
