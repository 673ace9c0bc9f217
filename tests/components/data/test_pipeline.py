"""The three data components through KFP's own local runner."""

from pathlib import Path

import pytest
from kfp import dsl, local

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.reports import PAGE, ValidationReport
from penstock.components.data.ingest.component import ingest
from penstock.components.data.split.component import split
from penstock.components.data.validate.component import validate


@dsl.pipeline
def data(ingest_config: dict, validate_config: dict, split_config: dict) -> str:  # type: ignore[type-arg]
    rows = ingest(config=ingest_config)
    judged = validate(dataset=rows.outputs["dataset"], config=validate_config)
    split(rows=rows.outputs["dataset"], config=split_config).after(judged)
    return judged.outputs["Output"]


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def found(outputs: Path, pattern: str) -> Path:
    (path,) = outputs.glob(f"*/{pattern}")
    return path


def test_data_flows_through_the_three_components(outputs: Path) -> None:
    run = data(ingest_config={"source": "synthetic://shapes?rows=60&size=8", "limit": 50},
               validate_config={"min_rows_per_class": 1}, split_config={"validation": 0.2, "seed": 3})

    assert run.output == "pass"
    report = ValidationReport.load(found(outputs, "validate/report"))
    assert report.rows == {"train": 50, "test": 12}
    assert found(outputs, "validate/page").read_text() == (found(outputs, "validate/report") / PAGE).read_text()
    dataset = Dataset(found(outputs, "split/dataset"))
    assert dataset.rows == 62
    assert report.content_hash == Dataset(found(outputs, "ingest/dataset")).manifest.content_hash
    assert dataset.manifest.splits["validation"].rows > 0


def test_a_bad_verdict_is_an_answer_not_a_failure(outputs: Path) -> None:
    run = data(ingest_config={"source": "synthetic://shapes?rows=20&size=8"},
               validate_config={"min_rows_per_class": 1000}, split_config={"validation": 0.3})

    assert run.output == "fail"
    assert "rows_per_class is 4" in ValidationReport.load(found(outputs, "validate/report")).reason


def test_an_unknown_option_fails_the_step(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="ingest"):
        data(ingest_config={"sourc": "x"}, validate_config={}, split_config={})

    assert "did you mean 'source'?" in capfd.readouterr().out
