"""Measure a trained model on held-out rows: accuracy, per class, ranking, calibration, slices, with what it rests on.

Judges nothing: the verdict is always `measured`, and `gate` decides what it is worth.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.model import TrainedModel
from penstock.components.contracts.reports import EvaluationReport, SliceMetrics
from penstock.components.evaluation.metrics import (
    calibration,
    class_metrics,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
)
from penstock.components.evaluation.predictions import PREDICTIONS, Predictions
from penstock.components.evaluation.ranking import Ranking, rank_classes, ranking_metrics
from penstock.components.evaluation.slices import slice_columns, slices_of
from penstock.components.evidence.fixed import proportion

__all__ = ["EvaluateConfig", "log_metrics", "measure", "run"]


class EvaluateConfig(Config):
    """What to measure and how finely."""

    split: str = Field(default="test", min_length=1, description="Split to measure on; nobody trained or chose on it.")
    batch_size: int = Field(default=512, ge=1, description="Rows per forward pass; changes memory and speed only.")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of every two-sided interval.")
    ece_bins: int = Field(default=15, ge=1, le=1000, description="Equal ranges of confidence behind the ECE.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice by; empty: all there are.")
    min_slice_rows: int = Field(default=30, ge=1, description="Rows a slice needs to be listed; 1: list every slice.")
    max_slices: int = Field(default=50, ge=0, description="A column with more values is left out, unless slice_columns "
                                                          "names it; 0: none is left out.")
    worst_errors: int = Field(default=30, ge=0, le=500, description="Most confident errors shown as pictures; 0: none.")


def run(dataset: Path | str, model: Path | str, target: Path | str, config: EvaluateConfig) -> EvaluationReport:
    """Measure the TrainedModel `model` on one split of `dataset` and write the report folder `target`.

    Beside the report lies `predictions.parquet`, one answer per row, for the gate's paired comparison.

    Raises:
        ConfigError: a slice column does not exist.
        ContractError: a folder is damaged, or the model knows other classes or another image shape than the dataset.
        StepError: the split is missing or has no rows.
    """
    from penstock.components.evaluation.evaluate.page import render

    source, trained = Dataset(dataset), TrainedModel(model)
    trained.require_fit(source)
    rows = _rows(source, config.split)
    images = images_array(rows, source.description.image)
    probabilities = _probabilities(trained, images, config.batch_size)
    answers = Predictions.of(rows, probabilities)
    ranking = rank_classes(probabilities, answers.labels)
    report = measure(source, trained, rows, answers, ranking, config)
    page = render(report, answers, ranking, images, trained.manifest, source, config.worst_errors)
    return report.save(target, page, {PREDICTIONS: answers.to_parquet()})


def measure(dataset: Dataset, model: TrainedModel, rows: pa.Table, answers: Predictions, ranking: Ranking,
            config: EvaluateConfig) -> EvaluationReport:
    """Turn the answers to the rows of a split into the report."""
    classes = dataset.description.classes
    confusion = confusion_matrix(answers.labels, answers.predicted, len(classes))
    per_class = class_metrics(confusion, classes)
    correct = answers.correct
    accuracy = proportion(int(correct.sum()), len(correct), config.confidence)
    return EvaluationReport(
        verdict="measured",
        reason=f"accuracy {accuracy.estimate:.2%} on {len(correct):,} rows of {config.split} "
               f"({100 * accuracy.level:g}% interval {accuracy.lower:.2%} to {accuracy.upper:.2%})",
        dataset_hash=dataset.manifest.content_hash,
        model=model.weights_sha256,
        split=config.split,
        rows=len(correct),
        accuracy=accuracy,
        macro_f1=macro_f1(per_class),
        log_loss=log_loss(answers.label_probability),
        ece=expected_calibration_error(calibration(answers.confidence, correct, config.ece_bins)),
        ece_bins=config.ece_bins,
        per_class=per_class,
        confusion=tuple(tuple(map(int, line)) for line in confusion),
        macro_auc=ranking.macro.auc if ranking.macro else 0.0,
        macro_average_precision=ranking.macro.average_precision if ranking.macro else 0.0,
        ranking=ranking_metrics(ranking.classes, classes),
        slices=_slices(rows, correct, config),
    )


class ClassificationLog(Protocol):
    """What KFP's ClassificationMetrics artifact takes."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


class MetricsLog(Protocol):
    """What KFP's Metrics artifact takes."""

    def log_metric(self, metric: str, value: float) -> None: ...


def log_metrics(report: EvaluationReport, classification: ClassificationLog, metrics: MetricsLog) -> None:
    """Hand the figures to the Kubeflow UI; the next step reads them from the report, never from there."""
    classification.log_confusion_matrix([entry.name for entry in report.per_class], [*map(list, report.confusion)])
    figures = {"accuracy": report.accuracy.estimate, "accuracy_lower": report.accuracy.lower,
               "accuracy_upper": report.accuracy.upper, "macro_f1": report.macro_f1, "log_loss": report.log_loss,
               "ece": report.ece, "macro_auc": report.macro_auc,
               "macro_average_precision": report.macro_average_precision}
    for name, value in figures.items():
        metrics.log_metric(name, value)


def _rows(dataset: Dataset, split: str) -> pa.Table:
    present = dataset.manifest.splits
    if split not in present or not present[split].rows:
        filled = sorted(name for name, entry in present.items() if entry.rows)
        raise StepError(f"split={split!r} has no rows in {dataset.folder}; set split to one of {filled}")
    return dataset.read(split)


def _slices(rows: pa.Table, correct: npt.NDArray[np.bool_], config: EvaluateConfig) -> tuple[SliceMetrics, ...]:
    groups = [slices_of(rows, column) for column in slice_columns(rows, config.slice_columns)]
    most = 0 if config.slice_columns else config.max_slices
    return tuple(
        SliceMetrics(column=part.column, value=part.value, rows=len(part.rows),
                     accuracy=proportion(int(correct[part.rows].sum()), len(part.rows), config.confidence))
        for group in groups if not most or len(group) <= most
        for part in group if len(part.rows) >= config.min_slice_rows)


def _probabilities(model: TrainedModel, images: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
    """Classify (N, H, W, C) uint8 images with torch; returns (N, classes) float32."""
    import torch

    from penstock.components.training.worker.models import WithPreprocessing, load_trained

    network, manifest = load_trained(model.folder)
    pixels_in = WithPreprocessing(network, manifest.preprocessing).eval()
    with torch.inference_mode():
        logits = [pixels_in(torch.from_numpy(images[start : start + batch_size]))
                  for start in range(0, len(images), batch_size)]
        return torch.softmax(torch.cat(logits), dim=1).numpy()
