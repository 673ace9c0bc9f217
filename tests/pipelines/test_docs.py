"""The README.md of every step folder says what its code says."""

from pathlib import Path

import pytest

from penstock.pipelines.docs import LAPTOP_PAGE, laptop_page, readme, step_folders


@pytest.mark.parametrize("folder", list(step_folders()), ids=lambda folder: folder.name)
def test_readme_is_in_sync(folder: Path) -> None:
    written = (folder / "README.md").read_text(encoding="utf-8")
    assert written == readme(folder), "run `python -m penstock.pipelines.docs`"


def test_the_page_of_honoured_fields_is_in_sync() -> None:
    assert LAPTOP_PAGE.read_text(encoding="utf-8") == laptop_page(), "run `python -m penstock.pipelines.docs`"
