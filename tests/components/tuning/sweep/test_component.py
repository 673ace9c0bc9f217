"""The KFP face of sweep, called as the executor calls it: with artifacts and plain values."""

from pathlib import Path

from kfp import dsl

from penstock.components.contracts.reports import PAGE, SweepReport
from penstock.components.tuning.sweep.component import sweep


def test_no_sweep_returns_the_training_options(tmp_path: Path) -> None:
    train = {"epochs": 3.0, "network": "linear"}
    report, page = (dsl.Artifact(uri=str(tmp_path / "report")), dsl.HTML(uri=str(tmp_path / "page")))

    found = sweep.python_func(dataset=dsl.Dataset(uri=str(tmp_path / "data")), report=report, page=page, run_id="r-1",
                              train=train, config={"max_trials": 0.0})

    assert found == train
    assert SweepReport.load(report.path).verdict == "off"
    assert Path(page.path).read_text() == (Path(report.path) / PAGE).read_text()
