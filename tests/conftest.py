"""What many tests start from: a home of their own, a small dataset, and the same hypothesis examples every time."""

from pathlib import Path

import pytest
from hypothesis import settings

from penstock.components.data.ingest.step import IngestConfig, run

# No deadline: the machine may be busy. Derandomized: a test that was green stays green until the code changes.
settings.register_profile("penstock", deadline=None, derandomize=True)
settings.load_profile("penstock")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give penstock an empty home that goes with the test."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("PENSTOCK_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a dataset folder once: 200 training and 40 test pictures of 16x16 in 4 classes, with slice columns."""
    folder = tmp_path_factory.mktemp("shapes") / "dataset"
    run(folder, IngestConfig(source="synthetic://shapes?rows=200&size=16&classes=4"))
    return folder
