"""What a classifier's answers are worth: pure functions from arrays to numbers.

Knows neither files nor models nor verdicts: `evaluate` measures with it, `gate` compares with it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.reports import ClassMetrics

__all__ = [
    "Calibration",
    "calibration",
    "class_metrics",
    "confusion_matrix",
    "expected_calibration_error",
    "log_loss",
    "macro_f1",
]

Integers = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)  # bounds the loss of one row at 15.9; float32 carries no more


class Calibration(NamedTuple):
    """Rows grouped by the confidence of the predicted class; each field has one value per bin."""

    confidence: Floats  # mean stated confidence; the middle of the bin where it is empty
    accuracy: Floats  # share of right answers; 0 where the bin is empty
    counts: Integers


def confusion_matrix(labels: Integers, predicted: Integers, classes: int) -> Integers:
    """Count the rows of every pair.

    Args:
        labels: (N,) class indices.
        predicted: (N,) class indices.

    Returns:
        (classes, classes) int64, [true][predicted].
    """
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_metrics(confusion: Integers, names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Measure each class by itself; a share of nothing (no such row, or never predicted) counts as 0."""
    hits = np.diagonal(confusion).astype(float)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return tuple(
        ClassMetrics(name=name, support=int(support[i]), precision=float(precision[i]), recall=float(recall[i]),
                     f1=float(f1[i]))
        for i, name in enumerate(names))


def macro_f1(per_class: Sequence[ClassMetrics]) -> float:
    """Average F1 over the classes that have rows; 0 where none has."""
    scores = [entry.f1 for entry in per_class if entry.support]
    return sum(scores) / len(scores) if scores else 0.0


def calibration(confidence: Floats, correct: npt.NDArray[np.bool_], bins: int) -> Calibration:
    """Group rows into `bins` equal ranges of confidence, each open below and closed above.

    Args:
        confidence: (N,) probability given to the predicted class.
        correct: (N,) whether that class was the true one.
    """
    index = np.clip(np.ceil(confidence.astype(float) * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = np.maximum(counts, 1)
    stated = np.bincount(index, weights=confidence, minlength=bins) / filled
    reached = np.bincount(index, weights=correct, minlength=bins) / filled
    return Calibration(np.where(counts > 0, stated, (np.arange(bins) + 0.5) / bins), reached, counts)


def expected_calibration_error(found: Calibration) -> float:
    """Average the gap between confidence and accuracy over the rows (Naeini et al. 2015, equal-width bins)."""
    gaps = np.abs(found.confidence - found.accuracy)
    return float((gaps * found.counts).sum() / max(found.counts.sum(), 1))


def log_loss(label_probability: Floats) -> float:
    """Average the negative log of the probability that was given to the true class, in nats.

    Args:
        label_probability: (N,), N at least 1.
    """
    return float(-np.log(np.maximum(label_probability.astype(float), LEAST_PROBABILITY)).mean())
