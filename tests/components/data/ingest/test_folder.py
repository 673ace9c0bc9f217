"""A folder of class folders: read in a stable order, and refused with the name of what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.components.contracts.dataset import images_array
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.image import decode_image
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.folder import load
from penstock.components.data.ingest.rows import SourceRows


def paint(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def pets(root: Path, **options: object) -> SourceRows:
    return load(IngestConfig.parse({"source": str(root), **options}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(["dog/b.png", "cat/10.png", "cat/9.jpg", "dog/deep/a.bmp"]):
        paint(tmp_path / "pets" / name, seed=index)
    return tmp_path / "pets"


def test_class_folders_become_classes_and_paths_ids(folder: Path) -> None:
    rows = pets(folder)

    assert rows.description.name == "pets"
    assert rows.description.classes == ("cat", "dog")
    assert rows.splits["train"]["id"].to_pylist() == ["cat/10.png", "cat/9.jpg", "dog/b.png", "dog/deep/a.bmp"]
    assert rows.splits["train"]["label"].to_pylist() == [0, 0, 1, 1]
    assert list(rows.splits) == ["train"]


def test_pixels_are_those_of_the_files(folder: Path) -> None:
    rows = pets(folder)
    expected = [decode_image((folder / name).read_bytes(), 0, 0, 3) for name in rows.splits["train"]["id"].to_pylist()]

    np.testing.assert_array_equal(images_array(rows.splits["train"], rows.description.image), np.stack(expected))


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "gif", "webp", "PNG"])
def test_every_format_is_read(folder: Path, kind: str) -> None:
    paint(folder / "cat" / f"more.{kind}")

    assert f"cat/more.{kind}" in pets(folder).splits["train"]["id"].to_pylist()


def test_other_files_and_hidden_folders_are_no_images(folder: Path) -> None:
    before = pets(folder).splits
    (folder / "cat" / "notes.txt").write_text("fluffy")
    (folder / "README.md").write_text("pets")
    paint(folder / ".thumbnails" / "a.png")

    assert pets(folder).splits == before


def test_train_and_test_levels_become_splits(tmp_path: Path) -> None:
    for index, name in enumerate(["train/cat/1.png", "train/dog/1.png", "test/dog/1.png"]):
        paint(tmp_path / name, seed=index)
    rows = pets(tmp_path)

    assert rows.splits["train"]["id"].to_pylist() == ["train/cat/1.png", "train/dog/1.png"]
    assert rows.splits["test"]["id"].to_pylist() == ["test/dog/1.png"]
    assert rows.splits["test"]["label"].to_pylist() == [1]


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    for name in ("train/1.png", "car/1.png"):
        paint(tmp_path / name)

    assert pets(tmp_path).description.classes == ("car", "train")


def test_mixed_sizes_are_kept_as_files_or_made_equal(folder: Path) -> None:
    paint(folder / "cat" / "wide.png", size=(20, 10))
    kept, made_equal = pets(folder), pets(folder, image_size=6)

    assert kept.description.image.encoding == "encoded"
    assert kept.description.image.shape == (0, 0, 3)
    wide = kept.splits["train"]["image"].to_pylist()[kept.splits["train"]["id"].to_pylist().index("cat/wide.png")]
    np.testing.assert_array_equal(decode_image(wide, 0, 0, 3),
                                  decode_image((folder / "cat" / "wide.png").read_bytes(), 0, 0, 3))
    assert made_equal.description.image.shape == (6, 6, 3)
    assert images_array(made_equal.splits["train"], made_equal.description.image).shape == (5, 6, 6, 3)


def test_grey_folders_stay_grey_and_one_coloured_picture_makes_all_rgb(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", mode="L")
    paint(tmp_path / "b" / "1.png", mode="L")
    assert pets(tmp_path).description.image.channels == 1
    assert pets(tmp_path, channels=3).description.image.channels == 3

    paint(tmp_path / "b" / "2.png")
    assert pets(tmp_path).description.image.channels == 3
    assert pets(tmp_path, channels=1).description.image.channels == 1


def test_a_limit_takes_from_every_class(folder: Path) -> None:
    assert pets(folder, limit=2).splits["train"]["id"].to_pylist() == ["cat/10.png", "dog/b.png"]


def test_the_fingerprint_changes_with_a_file_and_with_nothing_else(folder: Path) -> None:
    first = pets(folder).fingerprint
    assert pets(folder).fingerprint == first

    paint(folder / "cat" / "10.png", seed=99)
    assert pets(folder).fingerprint != first


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_file_that_is_no_picture_is_named_or_left_out_and_counted(folder: Path, content: bytes | None) -> None:
    whole = (folder / "dog" / "b.png").read_bytes()
    (folder / "cat" / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ContractError, match=r"1 of 5 files under .*/pets hold no picture: .*cat/bad\.png.*skip_un"):
        pets(folder)

    rows = pets(folder, skip_unreadable=True)
    assert "cat/bad.png" not in rows.splits["train"]["id"].to_pylist()
    assert rows.description.unreadable == {"train": 1, "test": 0}


def test_of_many_bad_files_a_few_are_named(folder: Path) -> None:
    for index in range(9):
        (folder / "cat" / f"bad-{index}.png").write_bytes(b"")

    with pytest.raises(ContractError, match=r"9 of 13 files .*bad-4\.png.*; and 4 more"):
        pets(folder)


def test_a_folder_without_any_picture_is_refused_even_so(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"no picture")

    with pytest.raises(ContractError, match="2 of 2 files"):
        pets(tmp_path, skip_unreadable=True)


def test_a_missing_folder_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*/nowhere; give one that holds"):
        pets(tmp_path / "nowhere")


@pytest.mark.parametrize(("files", "message"), [
    ([], "holds no folders; it needs one folder of images for each of two or more classes"),
    (["1.png"], "holds no folders"),
    (["cat/1.png"], "holds only cat/"),
    (["cat/1.png", "dog/notes.txt"], r"class folder .*/dog holds no image \(\.bmp, \.gif"),
    (["train/cat/1.png", "train/dog/1.png", "test/cow/1.png", "test/cat/1.png"],
     r"test/cow: 'cow' is no class of .*train; its classes are cat, dog"),
    (["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"], "train/ beside val/: only train/ and"),
])
def test_a_tree_that_leaves_a_class_open_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        path = tmp_path / name
        if path.suffix == ".png":
            paint(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("no image")

    with pytest.raises(ContractError, match=message):
        pets(tmp_path)
