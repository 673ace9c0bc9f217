"""The gate's rules: from measured numbers to checks, each with the number, the rule and what it rests on.

Arithmetic only: reads no file and asks no control plane.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.reports import Check, EvaluationReport
from penstock.components.evaluation.metrics import (
    calibration,
    class_metrics,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
)
from penstock.components.evaluation.predictions import Predictions
from penstock.components.evidence.paired import Comparison

__all__ = ["Contest", "GateConfig", "Part", "absolute_checks", "change_checks", "figures", "finding"]

LEAST_P = 0.0001  # a smaller chance is not told apart: no decision turns on it
Finding = Literal["worse", "no worse", "undecided"]


class GateConfig(Config):
    """What a candidate must reach, and how much it may lose against the version that serves now."""

    enabled: bool = Field(default=True, description="false: every candidate passes, and the report says why.")
    min_accuracy: float = Field(default=0.0, ge=0, le=1, description="Least accuracy, a share; 0: off.")
    min_class_recall: float = Field(default=0.0, ge=0, le=1, description="Least recall of every class; 0: off.")
    max_ece: float = Field(default=1.0, ge=0, le=1, description="Largest expected calibration error; 1: off.")
    max_accuracy_drop: float = Field(default=0.005, ge=0, le=1, description="Accuracy that may be lost against the "
                                     "serving version on the same rows, a share; 1: off.")
    max_macro_f1_drop: float = Field(default=1.0, ge=0, le=1, description="Macro F1 that may be lost; 1: off.")
    max_ece_rise: float = Field(default=1.0, ge=0, le=1, description="Calibration error that may be gained; 1: off.")
    max_slice_drop: float = Field(default=0.05, ge=0, le=1, description="Accuracy that a slice or a class may lose; it "
                                  "counts where the rows prove it; 1: off.")
    min_slice_rows: int = Field(default=30, ge=1, description="Rows a slice or class needs to be compared; 1: all are.")
    require_evidence: bool = Field(default=False, description="true: limits must be kept by the near end of the "
                                   "interval, and an undecided slice blocks.")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of the two-sided intervals.")

    @property
    def compares(self) -> bool:
        """Whether any limit against the serving version is set."""
        return min(self.max_accuracy_drop, self.max_macro_f1_drop, self.max_ece_rise, self.max_slice_drop) < 1


class Part(NamedTuple):
    """One slice or class of the split, compared."""

    name: str  # "source = web", "class = bag"
    comparison: Comparison


class Contest(NamedTuple):
    """The candidate and the serving version on the same rows."""

    version: str
    serving: dict[str, float]
    overall: Comparison
    parts: tuple[Part, ...]


def figures(answers: Predictions, classes: Sequence[str], ece_bins: int) -> dict[str, float]:
    """Sum up one model's answers; both sides go through here, so that they are measured alike."""
    per_class = class_metrics(confusion_matrix(answers.labels, answers.predicted, len(classes)), classes)
    return {
        "accuracy": float(answers.correct.mean()),
        "macro_f1": macro_f1(per_class),
        "min_class_recall": min(entry.recall for entry in per_class if entry.support),
        "log_loss": log_loss(answers.label_probability),
        "ece": expected_calibration_error(calibration(answers.confidence, answers.correct, ece_bins)),
    }


def absolute_checks(evaluation: EvaluationReport, config: GateConfig) -> list[Check]:
    """Hold the candidate against the limits that need no other model; a limit that is off makes no check."""
    checks = []
    accuracy = evaluation.accuracy
    if config.min_accuracy:
        interval = f"{accuracy.level:.0%} interval {accuracy.lower:.2%} to {accuracy.upper:.2%}"
        value = accuracy.lower if config.require_evidence else accuracy.estimate
        bound = "lower bound " if config.require_evidence else ""
        checks.append(Check(name="accuracy", passed=value >= config.min_accuracy, value=value,
                            rule=f"{bound}>= {config.min_accuracy:g}", detail=interval))
    if config.min_class_recall:
        weakest = min((entry for entry in evaluation.per_class if entry.support), key=lambda entry: entry.recall)
        checks.append(Check(name="class_recall", passed=weakest.recall >= config.min_class_recall, value=weakest.recall,
                            rule=f">= {config.min_class_recall:g}",
                            detail=f"weakest class is {weakest.name}, {weakest.support:,} rows"))
    if config.max_ece < 1:
        checks.append(Check(name="calibration_error", passed=evaluation.ece <= config.max_ece, value=evaluation.ece,
                            rule=f"<= {config.max_ece:g}", detail=f"{evaluation.ece_bins} bins"))
    return checks


def change_checks(candidate: dict[str, float], contest: Contest, config: GateConfig) -> list[Check]:
    """Hold the candidate against the serving version; a limit that is off makes no check."""
    checks = []
    if config.max_accuracy_drop < 1:
        checks.append(_accuracy_change(contest.overall, config))
    if config.max_macro_f1_drop < 1:
        change = candidate["macro_f1"] - contest.serving["macro_f1"]
        checks.append(Check(name="macro_f1_change", passed=change >= -config.max_macro_f1_drop, value=change,
                            rule=f">= -{config.max_macro_f1_drop:g}",
                            detail=f"serving {contest.serving['macro_f1']:.4f}"))
    if config.max_ece_rise < 1:
        change = candidate["ece"] - contest.serving["ece"]
        checks.append(Check(name="calibration_error_change", passed=change <= config.max_ece_rise, value=change,
                            rule=f"<= {config.max_ece_rise:g}", detail=f"serving {contest.serving['ece']:.4f}"))
    if config.max_slice_drop < 1:
        checks += _part_checks(contest.parts, config)
    return checks


def finding(comparison: Comparison, max_drop: float) -> Finding:
    """Say what the rows show about a loss of more than `max_drop`: it is there, it is not, or they are too few."""
    if comparison.difference.upper < -max_drop:
        return "worse"
    return "no worse" if comparison.difference.lower >= -max_drop else "undecided"


def _accuracy_change(overall: Comparison, config: GateConfig) -> Check:
    difference = overall.difference
    value = difference.lower if config.require_evidence else difference.estimate
    bound = "lower bound " if config.require_evidence else ""
    chance = f"p = {overall.p_value:.2g}" if overall.p_value >= LEAST_P else f"p < {LEAST_P}"
    detail = (f"{difference.level:.0%} interval {difference.lower:+.2%} to {difference.upper:+.2%}; of "
              f"{overall.rows:,} rows only the candidate has {overall.gained:,} right, only the serving version "
              f"{overall.lost:,} (exact McNemar {chance})")
    return Check(name="accuracy_change", passed=value >= -config.max_accuracy_drop, value=value,
                 rule=f"{bound}>= -{config.max_accuracy_drop:g}", detail=detail)


def _part_checks(parts: Sequence[Part], config: GateConfig) -> list[Check]:
    worse = [part for part in parts if finding(part.comparison, config.max_slice_drop) == "worse"]
    undecided = [part for part in parts if finding(part.comparison, config.max_slice_drop) == "undecided"]
    total, limit = f"of {len(parts)} slices and classes", f"{config.max_slice_drop:g}"
    return [
        Check(name="slices_worse", passed=not worse, value=len(worse), rule="= 0",
              detail=f"{len(worse)} {total} lost more than {limit}, by all of the interval{_names(worse)}"),
        Check(name="slices_undecided", passed=not undecided, value=len(undecided), rule="= 0",
              detail=f"{len(undecided)} {total} have too few rows to rule out a loss of {limit}{_names(undecided)}",
              blocking=config.require_evidence),
    ]


def _names(parts: Sequence[Part], most: int = 5) -> str:
    """Name the slices that lost most, after a colon; "" for none."""
    ordered = sorted(parts, key=lambda part: part.comparison.difference.estimate)
    shown = ", ".join(f"{part.name} {part.comparison.difference.estimate:+.1%}" for part in ordered[:most])
    return (f": {shown}" if shown else "") + (f" and {len(parts) - most} more" if len(parts) > most else "")
