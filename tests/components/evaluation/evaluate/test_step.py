"""Evaluating a small trained model: the report's numbers agree with each other, and bad input is explained."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import WEIGHTS, TrainedModel
from penstock.components.contracts.reports import PAGE, EvaluationReport
from penstock.components.evaluation.evaluate.step import EvaluateConfig, log_metrics, run
from penstock.components.evaluation.predictions import Predictions

DEFAULTS = EvaluateConfig()


def test_the_report_agrees_with_its_own_predictions(sides: Dataset, good: Path, tmp_path: Path) -> None:
    report = run(sides.folder, good, tmp_path / "report", DEFAULTS)
    answers = Predictions.load(tmp_path / "report")

    assert EvaluationReport.load(tmp_path / "report") == report
    assert report.verdict == "measured"
    assert report.model == TrainedModel(good).weights_sha256
    assert report.dataset_hash == sides.manifest.content_hash
    assert answers.ids == sides.read("test")["id"].to_pylist()
    assert report.accuracy.estimate == answers.correct.mean() > 0.7
    assert np.trace(report.confusion) == answers.correct.sum()
    assert sum(map(sum, report.confusion)) == report.rows == 120
    assert [entry.support for entry in report.per_class] == [40, 40, 40]
    assert [entry.name for entry in report.ranking] == ["dark", "left", "right"]
    assert report.macro_auc == pytest.approx(np.mean([entry.auc for entry in report.ranking]))
    assert 0.8 < report.macro_average_precision < report.macro_auc < 1
    assert report.reason.startswith(f"accuracy {report.accuracy.estimate:.2%} on 120 rows of test")


def test_slices_cover_the_split_and_a_column_of_many_values_is_left_out(
        sides: Dataset, good: Path, tmp_path: Path) -> None:
    report = run(sides.folder, good, tmp_path / "report", DEFAULTS)

    assert {(part.column, part.value): part.rows for part in report.slices} == {
        ("light", "lamp"): 90, ("light", "sun"): 30}
    weighted = sum(part.rows * part.accuracy.estimate for part in report.slices)
    assert weighted == pytest.approx(120 * report.accuracy.estimate)
    assert "Left out, for too many values or too few rows: scan." in (tmp_path / "report" / PAGE).read_text()


def test_a_named_column_is_kept_however_many_values_it_has(sides: Dataset, good: Path, tmp_path: Path) -> None:
    named = EvaluateConfig(slice_columns=("scan",), min_slice_rows=1)

    assert len(run(sides.folder, good, tmp_path / "report", named).slices) == 120


def test_batch_size_changes_nothing_and_a_retry_finds_its_report(sides: Dataset, good: Path, tmp_path: Path) -> None:
    first = run(sides.folder, good, tmp_path / "report", EvaluateConfig(batch_size=7))
    again = run(sides.folder, good, tmp_path / "report", EvaluateConfig(batch_size=7))
    whole = run(sides.folder, good, tmp_path / "whole", EvaluateConfig(batch_size=10_000))

    assert first == again
    assert first.confusion == whole.confusion
    assert first.log_loss == pytest.approx(whole.log_loss, rel=1e-5)


def test_the_page_shows_everything_and_loads_nothing(sides: Dataset, good: Path, tmp_path: Path) -> None:
    report = run(sides.folder, good, tmp_path / "report", EvaluateConfig(worst_errors=5))
    page = (tmp_path / "report" / PAGE).read_text()

    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == ["Headline", "Classes", "Confusion", "Ranking", "Calibration", "Slices", "Worst errors"]
    assert page.count("<img") == 5
    assert f"{report.accuracy.estimate:.2%}" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_the_worst_errors_are_those_the_model_was_surest_of(sides: Dataset, good: Path, tmp_path: Path) -> None:
    run(sides.folder, good, tmp_path / "report", EvaluateConfig(worst_errors=1))
    answers = Predictions.load(tmp_path / "report")
    surest = answers.confidence[~answers.correct].max()

    assert f", {surest:.1%}\nis " in (tmp_path / "report" / PAGE).read_text()


def test_figures_reach_the_kubeflow_ui(sides: Dataset, good: Path, tmp_path: Path) -> None:
    from kfp.dsl import ClassificationMetrics, Metrics

    report = run(sides.folder, good, tmp_path / "report", DEFAULTS)
    classification, metrics = ClassificationMetrics(), Metrics()
    log_metrics(report, classification, metrics)

    assert metrics.metadata["accuracy"] == report.accuracy.estimate
    assert set(metrics.metadata) == {"accuracy", "accuracy_lower", "accuracy_upper", "macro_f1", "log_loss", "ece",
                                     "macro_auc", "macro_average_precision"}
    matrix = classification.metadata["confusionMatrix"]
    assert [entry["displayName"] for entry in matrix["annotationSpecs"]] == ["dark", "left", "right"]
    assert [row["row"] for row in matrix["rows"]] == [list(line) for line in report.confusion]


def test_a_split_without_rows_is_refused_with_those_that_have_some(sides: Dataset, good: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"split='holdout' has no rows .* one of \['test', 'train', 'validation'\]"):
        run(sides.folder, good, tmp_path / "report", EvaluateConfig(split="holdout"))
    assert not (tmp_path / "report").exists()


def test_a_model_for_other_classes_is_refused(sides: Dataset, train_sides: Callable[..., Path], tmp_path: Path) -> None:
    other = train_sides(steps=0, classes=("dark", "left", "top"))

    with pytest.raises(ContractError, match="give the dataset it was trained on"):
        run(sides.folder, other, tmp_path / "report", DEFAULTS)


def test_a_damaged_weight_file_is_named(sides: Dataset, train_sides: Callable[..., Path], tmp_path: Path) -> None:
    damaged = train_sides(steps=0)
    content = bytearray((damaged / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (damaged / WEIGHTS).write_bytes(content)

    with pytest.raises(ContractError, match=WEIGHTS):
        run(sides.folder, damaged, tmp_path / "report", DEFAULTS)


def test_a_mistyped_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown field 'ece_bin', did you mean 'ece_bins'"):
        EvaluateConfig.parse({"ece_bin": 15})
    assert EvaluateConfig.parse({"ece_bins": 10.0, "slice_columns": ["light"]}).ece_bins == 10
