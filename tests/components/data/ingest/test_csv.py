"""CSV files of images and labels: read as people write them, and refused with the rows that are wrong."""

import base64
import gzip
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from penstock.components.contracts.dataset import images_array
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.image import decode_image
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows
from penstock.components.data.ingest.tables import load_csv

Paint = Callable[..., Path]
FILES = ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png")
LABELS = ("cat", "cat", "dog", "dog")
PLAIN = "path,label\n" + "".join(f"{file},{label}\n" for file, label in zip(FILES, LABELS, strict=True))


@pytest.fixture
def folder(tmp_path: Path, paint: Paint) -> Path:
    for index, name in enumerate(FILES):
        paint(tmp_path / name, seed=index)
    return tmp_path


def read(folder: Path, text: str | bytes, name: str = "photos.csv", **options: object) -> SourceRows:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return load_csv(IngestConfig.parse({"source": str(folder / name), **options}))


def column(rows: SourceRows, name: str, split: str = "train") -> list[object]:
    values: list[object] = rows.splits[split][name].to_pylist()
    return values


def test_paths_are_relative_to_the_file_and_become_ids(folder: Path) -> None:
    rows = read(folder, PLAIN)

    assert rows.description.name == "photos"
    assert rows.description.classes == ("cat", "dog")
    assert rows.description.image.shape == (8, 8, 3)
    assert column(rows, "id") == list(FILES)
    assert column(rows, "label") == [0, 0, 1, 1]
    expected = np.stack([decode_image((folder / name).read_bytes(), 0, 0, 3) for name in FILES])
    np.testing.assert_array_equal(images_array(rows.splits["train"], rows.description.image), expected)


@pytest.mark.parametrize(("text", "name"), [
    ("\ufeff" + PLAIN, "photos.csv"),
    (PLAIN.replace("\n", "\r\n"), "photos.csv"),
    (PLAIN.replace(",", ";"), "photos.csv"),
    (PLAIN.replace(",", "\t"), "photos.tsv"),
    (PLAIN.replace(",", " | ").replace(" | ", "|  "), "photos.csv"),
    (PLAIN.replace(",", ", "), "photos.csv"),
    (PLAIN.replace("path,label", '"Path","LABEL"'), "photos.csv"),
    (PLAIN.replace("\ndogs", "\n\ndogs"), "photos.csv"),
    (gzip.compress(PLAIN.encode(), mtime=0), "photos.csv.gz"),
])
def test_it_is_read_however_it_is_written(folder: Path, text: str | bytes, name: str) -> None:
    rows = read(folder, text, name)

    assert (column(rows, "id"), column(rows, "label")) == (list(FILES), [0, 0, 1, 1])


def test_a_delimiter_and_columns_may_be_given(folder: Path) -> None:
    text = "a,b:where:what\n" + "".join(f"x,y:{file}:{label}\n" for file, label in zip(FILES, LABELS, strict=True))
    rows = read(folder, text, delimiter=":", image_column="where", label_column="what", slice_columns=["a,b"])

    assert column(rows, "label") == [0, 0, 1, 1]
    assert column(rows, "a,b") == ["x,y"] * 4


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_is_a_picture_known_by_its_hash(folder: Path, prefix: str) -> None:
    data = [(folder / name).read_bytes() for name in FILES] * 50  # more than a batch
    lines = [f"{prefix}{base64.b64encode(image).decode()}\t{label}" for image, label in
             zip(data, LABELS * 50, strict=True)]
    rows = read(folder, "image\tlabel\n" + "\n".join(lines))

    images = images_array(rows.splits["train"], rows.description.image)
    assert images.shape == (200, 8, 8, 3)
    np.testing.assert_array_equal(images[197], decode_image(data[1], 0, 0, 3))
    ids = column(rows, "id")
    assert len({str(row_id).partition("#")[0] for row_id in ids}) == 4
    assert ids[4] == f"{ids[0]}#2"


def test_a_photo_in_base64_may_be_longer_than_pythons_limit(tmp_path: Path, paint: Paint) -> None:
    texts = [base64.b64encode(paint(tmp_path / f"{seed}.bmp", (256, 256), seed=seed).read_bytes()).decode()
             for seed in range(2)]
    assert len(texts[0]) > 131_072

    assert read(tmp_path, f"image,label\n{texts[0]},a\n{texts[1]},b\n").description.image.shape == (256, 256, 3)


def test_absolute_paths_and_addresses(folder: Path) -> None:
    fsspec.filesystem("memory").pipe("/bucket/far.png", (folder / FILES[0]).read_bytes())
    lines = [f"{folder / FILES[1]},a", "memory://bucket/far.png,b", f"file://{folder / FILES[2]},b",
             f"../{folder.name}/{FILES[3]},a"]
    rows = read(folder, "\n".join(["path,label", *lines]))

    assert column(rows, "label") == [0, 1, 1, 0]
    assert column(rows, "id")[1] == "memory://bucket/far.png"


def test_a_whole_source_in_another_file_system(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in FILES:
        memory.pipe(f"/set/{name}", (folder / name).read_bytes())
    memory.pipe("/set/lists/photos.csv", PLAIN.replace("\n", "\n../").removesuffix("../").encode())
    rows = load_csv(IngestConfig(source="memory://set/lists/photos.csv"))

    assert rows.splits["train"]["image"] == read(folder, PLAIN).splits["train"]["image"]


@pytest.mark.parametrize(("header", "message"), [
    ("a,b", r"photos\.csv \(delimiter ','\) has no column that is known to hold the image \(image, img, .*"
            r"name it with image_column\. Its columns are 'a', 'b'"),
    ("path,b", r"known to hold the label \(label, .*name it with label_column\. Its columns are 'path', 'b'"),
    ("path label", r"Its columns are 'path label'"),
])
def test_a_file_without_the_columns_lists_those_it_has(folder: Path, header: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(folder, PLAIN.replace("path,label", header))


@pytest.mark.parametrize("option", ["image_column", "label_column", "split_column", "id_column"])
def test_a_configured_column_must_be_there(folder: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"has no column {option}='Label'. Its columns are 'path', 'label'"):
        read(folder, PLAIN, **{option: "Label"})


@pytest.mark.parametrize(("text", "message"), [
    (b"", "is empty; its first line must name the columns"),
    (b"path,label\n", "has a header and no rows"),
    (b"path,label,path\n", "more than one column 'path'"),
    (PLAIN.encode() + b"dogs/3.png,h\xfcndchen\n", r"is not UTF-8: .* at byte .*0xfc.*save it as"),
    (PLAIN.encode("utf-16"), r"is not UTF-8: .* at byte 0 \(0xff\)"),
    (PLAIN.encode() + b"a,b,c\n", r"line 6: 3 fields, the header has 2: 'a, b, c'; put fields that hold a ','"),
    (PLAIN.encode() + b'"a,b\n', "unexpected end of data; is a double quote left open"),
    (PLAIN.encode() + b"dogs/1.png,\ndogs/2.png, \n", r"2 of 6 rows have no label: photos\.csv rows 5-6$"),
    (PLAIN.replace("dog", "cat").encode(), r"have 1 classes \(cat\), 2 to 32,767 can be learned"),
    (PLAIN.replace(",dog", ",-1").replace(",cat", ",3").encode(), r"2 rows have label -1, .*: photos\.csv rows 3-4;"),
])
def test_bad_content_is_refused_with_its_place(folder: Path, text: bytes, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read(folder, text)


def test_a_truncated_gz_file(folder: Path) -> None:
    with pytest.raises(ContractError, match=r"photos\.csv\.gz is truncated or no \.gz file"):
        read(folder, gzip.compress(PLAIN.encode())[:-20], "photos.csv.gz")


def test_missing_files_are_named_with_their_rows_and_counted(folder: Path) -> None:
    text = PLAIN + "".join(f"dogs/{index}.png,dog\n" for index in range(3, 9)) + "cats/1.png,cat\nx/y,dog\n,cat\n"
    with pytest.raises(ContractError, match=(
            rf"^8 of 13 rows have no image that is there: photos\.csv rows 5-10, 12-13 \(dogs/3\.png, dogs/4\.png, "
            rf"dogs/5\.png\)\. Paths are relative to {folder}; bring the files, or let .* max_missing")):
        read(folder, text, max_missing=7)


def test_as_many_missing_files_as_allowed_are_left_out_and_counted(folder: Path) -> None:
    rows = read(folder, PLAIN + "dogs/3.png,dog\n", max_missing=1)

    assert column(rows, "id") == list(FILES)
    assert rows.description.unreadable == {"train": 1}


def test_after_very_many_missing_files_the_count_is_given_up(folder: Path) -> None:
    text = PLAIN + "".join(f"gone/{index}.png,dog\n" for index in range(5000))
    with pytest.raises(ContractError, match=r"^1,\d\d\d or more of 5,004 rows have no image"):
        read(folder, text)


def test_no_pictures_are_named_or_left_out(folder: Path) -> None:
    (folder / "dogs" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ContractError, match=r"1 of 4 rows .* hold no picture: photos\.csv row 3 \(dogs/1\.png\) is no"):
        read(folder, PLAIN)

    rows = read(folder, PLAIN, skip_unreadable=True)
    assert column(rows, "label") == [0, 0, 1]
    assert rows.description.unreadable == {"train": 1}


def test_damaged_base64_is_no_picture(folder: Path) -> None:
    good = base64.b64encode((folder / FILES[0]).read_bytes()).decode()
    with pytest.raises(ContractError, match=r"2 of 4 rows .*photos\.csv row 2 is no readable image"):
        read(folder, f"image,label\n{good},a\n{good[:-7]},b\n{good},b\nnone!,a\n")


def test_a_limit_reads_only_what_it_takes(folder: Path) -> None:
    rows = read(folder, PLAIN + "gone.png,dog\n", limit=2)

    assert column(rows, "id") == ["cats/1.png", "dogs/1.png"]


def test_the_fingerprint_follows_every_column_and_every_picture(folder: Path, paint: Paint) -> None:
    text = "path,label,light\n" + "".join(f"{file},{label},day\n" for file, label in zip(FILES, LABELS, strict=True))
    seen = {read(folder, text, slice_columns=["light"]).fingerprint for _ in range(2)}
    assert len(seen) == 1

    seen.add(read(folder, text.replace("day\ndogs", "night\ndogs"), slice_columns=["light"]).fingerprint)
    seen.add(read(folder, text.replace("2.png,cat", "2.png,dog")).fingerprint)
    paint(folder / FILES[0], seed=99)
    seen.add(read(folder, text, slice_columns=["light"]).fingerprint)
    assert len(seen) == 4
