"""The KFP faces of evaluate and gate, called as the executor calls them: with artifacts and plain values."""

from pathlib import Path

import pytest
from kfp import dsl

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.reports import PAGE, EvaluationReport, GateReport
from penstock.components.evaluation.evaluate.component import evaluate
from penstock.components.evaluation.gate.component import gate


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, dsl.Artifact]:
    """Output artifacts whose folder exists and whose path does not, as kfp gives them."""
    kinds = {"report": dsl.Artifact, "page": dsl.HTML, "metrics": dsl.Metrics,
             "classification": dsl.ClassificationMetrics}
    return {name: kind(name=name, uri=str(tmp_path / name)) for name, kind in kinds.items()}


def test_evaluate_writes_report_page_and_metrics(sides: Dataset, good: Path, outputs: dict[str, dsl.Artifact]) -> None:
    evaluate.python_func(dataset=dsl.Dataset(uri=str(sides.folder)), model=dsl.Model(uri=str(good)), **outputs,
                         config={"ece_bins": 10.0})

    report = EvaluationReport.load(outputs["report"].path)
    assert report.ece_bins == 10
    assert Path(outputs["page"].path).read_text() == (Path(outputs["report"].path) / PAGE).read_text()
    assert outputs["metrics"].metadata["accuracy"] == report.accuracy.estimate
    assert "confusionMatrix" in outputs["classification"].metadata


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, "pass"), (1.0, "fail")])
def test_gate_answers_with_its_verdict(home: Path, sides: Dataset, good: Path, outputs: dict[str, dsl.Artifact],
                                       tmp_path: Path, limit: float, verdict: str) -> None:
    from penstock.components.evaluation.evaluate.step import EvaluateConfig, run

    run(sides.folder, good, tmp_path / "evaluation", EvaluateConfig())
    found = gate.python_func(
        dataset=dsl.Dataset(uri=str(sides.folder)), evaluation=dsl.Artifact(uri=str(tmp_path / "evaluation")),
        report=outputs["report"], page=outputs["page"], service="sides",
        registry=str(tmp_path / "registry"), config={"min_accuracy": limit})

    assert found == verdict == GateReport.load(outputs["report"].path).verdict
    assert "nothing serves yet" in Path(outputs["page"].path).read_text()
