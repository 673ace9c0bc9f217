"""Validation: every kind of trouble is found in a dataset made to have it, named in the reason, and drawn."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from penstock.components.contracts.dataset import Dataset, Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.reports import PAGE, ValidationReport
from penstock.components.data.validate.step import ValidateConfig, run

TWO = Description(name="toy", source="test", classes=("cat", "dog"), image=ImageFormat(height=4, width=4, channels=1))
RANDOM = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 1)).astype(np.uint8)


def rows(name: str, pictures: list[int], labels: list[int]) -> pa.Table:
    chosen = RANDOM[np.array(pictures, int)]
    return rows_table([f"{name}-{row}" for row in range(len(pictures))], chosen, np.array(labels, int))


def judged(tmp_path: Path, splits: dict[str, pa.Table], description: Description = TWO,
           **options: object) -> ValidationReport:
    write_dataset(tmp_path / "d", description, splits)
    return run(tmp_path / "d", tmp_path / "report", ValidateConfig.parse(options))


def broken(report: ValidationReport) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


def test_a_sound_dataset_passes_and_its_page_shows_it(shapes: Path, tmp_path: Path) -> None:
    report = run(shapes, tmp_path / "report", ValidateConfig())

    assert report.verdict == "pass"
    assert report.reason == "240 rows in 4 classes pass all 6 checks."
    assert report.rows == {"train": 200, "test": 40}
    assert report.class_counts["train"] == dict.fromkeys(["circle", "square", "triangle", "cross"], 50)
    assert report.content_hash == Dataset(shapes).manifest.content_hash
    assert ValidationReport.load(tmp_path / "report") == report
    page = (tmp_path / "report" / PAGE).read_text()
    assert page.count("<img") == 40
    assert page.count("<svg") == 2 * 3  # each plot for a wide screen and for a phone
    assert "background" in page


def test_the_same_dataset_gives_the_same_files(shapes: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(shapes, tmp_path / name, ValidateConfig())

    for file in ("report.json", PAGE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_repeated_pictures_are_counted_and_shown(tmp_path: Path) -> None:
    pictures = [*range(40), *range(4)]
    report = judged(tmp_path, {"train": rows("train", pictures, [row % 2 for row in range(44)])})

    assert broken(report) == ["duplicate_share"]
    assert report.duplicates == {"train": 4}
    assert report.reason.startswith("duplicate_share is 0.09091, the rule is <= 0.01 (train: 4)")
    page = (tmp_path / "report" / PAGE).read_text()
    assert "4 pictures occur more than once" in page
    assert "train: train-40, cat" in page


def test_a_picture_under_two_labels_is_found(tmp_path: Path) -> None:
    pictures, labels = [*range(200), 7], [row % 2 for row in range(201)]
    report = judged(tmp_path, {"train": rows("train", pictures, labels)})

    assert broken(report) == ["conflicting_labels"]
    assert report.conflicting_labels == 1


def test_a_picture_in_two_splits_is_found(tmp_path: Path) -> None:
    labels = [row % 2 for row in range(40)]
    splits = {"train": rows("train", list(range(40)), labels), "test": rows("test", [*range(40, 78), 0, 1], labels)}
    report = judged(tmp_path, splits)

    assert broken(report) == ["leaked"]
    assert report.leaked == {"train/test": 2}
    assert report.duplicates == {"train": 0, "test": 0}


def test_few_and_unbalanced_rows_are_found(tmp_path: Path) -> None:
    report = judged(tmp_path, {"train": rows("train", list(range(100)), [0] * 97 + [1] * 3)})

    assert broken(report) == ["rows_per_class", "class_imbalance"]
    assert "rows_per_class is 3, the rule is >= 10 (rarest: dog)" in report.reason


def test_an_empty_dataset_fails(tmp_path: Path) -> None:
    report = judged(tmp_path, {"train": rows("train", [], [])})

    assert broken(report) == ["rows_per_class"]
    assert report.rows == {"train": 0}


def test_a_class_without_rows_fails_whatever_the_balance(tmp_path: Path) -> None:
    report = judged(tmp_path, {"train": rows("train", list(range(15)), [0] * 15)})

    assert broken(report) == ["rows_per_class"]
    assert report.class_counts == {"train": {"cat": 15, "dog": 0}}


def test_images_without_a_picture_are_counted_with_those_that_ingest_left_out(tmp_path: Path) -> None:
    buffers = [io.BytesIO() for _ in range(40)]
    for row, buffer in enumerate(buffers):
        Image.fromarray(RANDOM[row, :, :, 0]).resize((10 + row, 12)).save(buffer, "PNG")
    files = [buffer.getvalue() for buffer in buffers]
    files[3] = files[3][:40]
    table = pa.table({"id": [f"{row}" for row in range(40)], "image": pa.array(files, pa.binary()),
                      "label": pa.array([row % 2 for row in range(40)], pa.int16())})
    description = TWO.model_copy(update={
        "image": ImageFormat(encoding="encoded", height=0, width=0, channels=1), "unreadable": {"train": 2}})
    report = judged(tmp_path, {"train": table}, description)

    assert broken(report) == ["unreadable_share"]
    assert report.unreadable == {"train": 3}
    assert report.rows == {"train": 39}
    assert "sizes of their own, grey" in (tmp_path / "report" / PAGE).read_text()


def test_encoded_pictures_are_compared_by_their_pixels(tmp_path: Path) -> None:
    files = []
    for row in range(40):
        buffer = io.BytesIO()
        picture = Image.fromarray(RANDOM[row % 39, :, :, 0]).resize((10 + row % 39, 12))
        picture.save(buffer, "PNG", compress_level=row % 10)
        files.append(buffer.getvalue())
    table = pa.table({"id": [f"{row}" for row in range(40)], "image": pa.array(files, pa.binary()),
                      "label": pa.array([row % 2 for row in range(40)], pa.int16())})
    description = TWO.model_copy(update={"image": ImageFormat(encoding="encoded", height=0, width=0, channels=1)})
    report = judged(tmp_path, {"train": table}, description)

    assert files[0] != files[39]
    assert report.duplicates == {"train": 1}


def test_a_threshold_that_is_off_lets_everything_pass_and_still_shows_the_number(tmp_path: Path) -> None:
    off = {"min_rows_per_class": 0, "max_class_imbalance": 0, "max_duplicate_share": 1, "max_conflicting_labels": -1,
           "max_leaked": -1, "max_unreadable_share": 1}
    splits = {"train": rows("train", [0] * 30, [0] * 29 + [1]), "test": rows("test", [0], [0])}
    report = judged(tmp_path, splits, **off)

    assert report.verdict == "pass"
    assert {check.rule for check in report.checks} == {"not limited"}
    assert {check.name: check.value for check in report.checks}["leaked"] == 1


def test_a_damaged_dataset_is_no_verdict_but_an_error(shapes: Path, tmp_path: Path) -> None:
    for file in shapes.iterdir():
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / file.name).write_bytes(file.read_bytes()[:-1])

    with pytest.raises(ContractError, match="is not the file that"):
        run(tmp_path / "d", tmp_path / "report", ValidateConfig())
    assert not (tmp_path / "report").exists()


def test_a_dataset_needs_training_rows(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="has no train split to judge; it has test"):
        judged(tmp_path, {"test": rows("test", [0], [0])})


def test_an_unknown_threshold_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'max_leak', did you mean 'max_leaked'\?"):
        ValidateConfig.parse({"max_leak": 3})
