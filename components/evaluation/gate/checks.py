"""The gate's rules: from measured numbers to checks, each with the number, the rule and what it rests on.

Arithmetic only: reads no file and asks no control plane.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field
from scipy.special import ndtri

from penstock.components.contracts.config import Config
from penstock.components.contracts.reports import Check, EvaluationReport, Interval
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
from penstock.components.evidence.slices import (
    POWER,
    SliceFinding,
    detectable_loss,
    judge_slices,
    not_shown,
    points,
)

__all__ = [
    "Contest",
    "GateConfig",
    "Part",
    "absolute_checks",
    "chance",
    "change_checks",
    "figures",
    "judge_parts",
]

LEAST_P = 0.0001  # a smaller chance is not told apart: no decision turns on it
SHOWN = f"would be shown to break the limit with {POWER:.0%} chance"


class GateConfig(Config):
    """What a candidate must reach, and how much it may lose against the version that serves now."""

    enabled: bool = Field(default=True, description="false: every candidate passes, and the report says why.")
    min_accuracy: float = Field(default=0.0, ge=0, le=1, description="Least accuracy, a share; 0: off.")
    min_class_recall: float = Field(default=0.0, ge=0, le=1, description="Least recall of every class; 0: off.")
    max_ece: float = Field(default=1.0, ge=0, le=1, description="Largest expected calibration error; 1: off.")
    max_accuracy_drop: float = Field(default=0.005, ge=0, le=1, description="Accuracy that may be lost against the "
                                     "serving version on the same rows, a share; 1: off.")
    max_macro_f1_drop: float = Field(default=1.0, ge=0, le=1, description="Macro F1 that may be lost; 1: off.")
    max_ece_rise: float = Field(default=1.0, ge=0, le=1, description="Calibration error that may be gained, a root "
                                "mean square over the bins less what chance adds; 1: off.")
    max_slice_drop: float = Field(default=0.05, ge=0, le=1, description="Accuracy that a slice or a class may lose; it "
                                  "counts where the rows show it; 1: off.")
    min_slice_rows: int = Field(default=30, ge=1, description="Rows a slice or class needs to be compared; 1: all are.")
    slice_fdr: float = Field(default=0.05, gt=0, lt=0.5, description="False discovery rate over slices and classes: "
                             "the share of those called worse that may be so by chance, on average.")
    require_evidence: bool = Field(default=False, description="true: limits must be kept by the worse end of the "
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
    found: SliceFinding | None  # None: the limit on slices is off


class Contest(NamedTuple):
    """The candidate and the serving version on the same rows; an interval is None where its limit is off."""

    version: str
    serving: dict[str, float]
    overall: Comparison
    parts: tuple[Part, ...]
    macro_f1: Interval | None = None  # the candidate's minus the serving version's
    calibration: Interval | None = None


def judge_parts(slices: Mapping[str, Comparison], config: GateConfig) -> tuple[Part, ...]:
    """Say of each slice and class what its rows show; the more of them there are, the more each must show."""
    if config.max_slice_drop == 1:
        return tuple(Part(name, comparison, None) for name, comparison in slices.items())
    found = judge_slices([*slices.values()], config.max_slice_drop, config.slice_fdr)
    return tuple(Part(name, comparison, entry)
                 for (name, comparison), entry in zip(slices.items(), found, strict=True))


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
        least = max(config.min_accuracy - _visible(accuracy), 0)
        interval = f"{_told(accuracy, '.2%')}; a true accuracy of {least:.2%} {SHOWN}"
        value = accuracy.lower if config.require_evidence else accuracy.estimate
        bound = "lower bound " if config.require_evidence else ""
        checks.append(Check(name="accuracy", passed=value >= config.min_accuracy, value=value,
                            rule=f"{bound}>= {config.min_accuracy:g}", detail=interval))
    if config.min_class_recall:
        weakest = min((entry for entry in evaluation.per_class if entry.support), key=lambda entry: entry.recall)
        checks.append(Check(name="class_recall", passed=weakest.recall >= config.min_class_recall, value=weakest.recall,
                            rule=f">= {config.min_class_recall:g}",
                            detail=f"weakest class is {weakest.name}; its {weakest.support:,} rows cannot be relied on "
                                   f"to show less than {points(_visible_recall(weakest.support, config))} too few"))
    if config.max_ece < 1:
        checks.append(Check(name="calibration_error", passed=evaluation.ece <= config.max_ece, value=evaluation.ece,
                            rule=f"<= {config.max_ece:g}", detail=f"{evaluation.ece_bins} bins"))
    return checks


def change_checks(contest: Contest, config: GateConfig) -> list[Check]:
    """Hold the candidate against the serving version; a limit that is off makes no check."""
    checks = []
    if config.max_accuracy_drop < 1:
        checks.append(_accuracy_change(contest.overall, config))
    if contest.macro_f1:
        checks.append(_no_lower("macro_f1_change", contest.macro_f1, config.max_macro_f1_drop, config,
                                f"serving {contest.serving['macro_f1']:.4f}; a true loss of "
                                f"{config.max_macro_f1_drop + _visible(contest.macro_f1):.2g} {SHOWN}"))
    if contest.calibration:
        checks.append(_calibration_change(contest.calibration, config))
    if config.max_slice_drop < 1:
        checks += _part_checks(contest.parts, config)
    return checks


def chance(p_value: float) -> str:
    """Say a p-value: p = 0.2, or p < 0.0001."""
    return f"p = {p_value:.2g}" if p_value >= LEAST_P else f"p < {LEAST_P}"


def _no_lower(name: str, found: Interval, drop: float, config: GateConfig, remark: str, scale: str = "+.4f") -> Check:
    value, bound = (found.lower, "lower bound ") if config.require_evidence else (found.estimate, "")
    return Check(name=name, passed=value >= -drop, value=value, rule=f"{bound}>= -{drop:g}",
                 detail=f"{_told(found, scale)}; {remark}")


def _visible(found: Interval) -> float:
    """Return how far beyond a limit the truth must be for an interval as wide as this to lie beyond it, all of it.

    With probability POWER, the interval's middle taken to be normal.
    """
    return (found.upper - found.lower) / 2 * (1 + float(ndtri(POWER) / ndtri(0.5 + found.level / 2)))


def _visible_recall(rows: int, config: GateConfig) -> float:
    """Return the same for the recall of a class at its limit, of which an evaluation has no interval."""
    recall = config.min_class_recall
    spread = math.sqrt(recall * (1 - recall) / rows)
    return min(spread * float(ndtri(POWER) + ndtri(0.5 + config.confidence / 2)), recall)


def _told(found: Interval, scale: str) -> str:
    return f"{100 * found.level:g}% interval {found.lower:{scale}} to {found.upper:{scale}}"


def _accuracy_change(overall: Comparison, config: GateConfig) -> Check:
    drop, threshold = config.max_accuracy_drop, float(ndtri(0.5 - config.confidence / 2))
    least = detectable_loss(overall.rows, overall.gained / overall.rows, drop, threshold)
    power = (f"a true loss of {points(least)} {SHOWN}" if math.isfinite(least) else
             "no loss, however large, could be shown by so few rows")
    remark = (f"of {overall.rows:,} rows only the candidate has {overall.gained:,} right, only the serving version "
              f"{overall.lost:,} (exact McNemar {chance(overall.p_value)}); {power}")
    return _no_lower("accuracy_change", overall.difference, drop, config, remark, "+.2%")


def _calibration_change(found: Interval, config: GateConfig) -> Check:
    value, bound = (found.upper, "upper bound ") if config.require_evidence else (found.estimate, "")
    return Check(name="calibration_error_change", passed=value <= config.max_ece_rise, value=value,
                 rule=f"{bound}<= {config.max_ece_rise:g}",
                 detail=f"{_told(found, '+.4f')}; root mean square over the bins, less what chance adds; a true rise "
                        f"of {config.max_ece_rise + _visible(found):.2g} {SHOWN}")


def _part_checks(parts: Sequence[Part], config: GateConfig) -> list[Check]:
    worse = [part for part in parts if part.found and part.found.verdict == "worse"]
    undecided = [part for part in parts if part.found and part.found.verdict == "undecided"]
    total, limit = f"of {len(parts)} slices and classes", f"{config.max_slice_drop:g}"
    return [
        Check(name="slices_worse", passed=not worse, value=len(worse), rule="= 0",
              detail=f"{len(worse)} {total} lost more than {limit}, at a false discovery rate of "
                     f"{config.slice_fdr:.2g}{_names(worse)}"),
        Check(name="slices_undecided", passed=not undecided, value=len(undecided), rule="= 0",
              detail=f"{len(undecided)} {total} have too few rows to rule out a loss of {limit}"
                     f"{_names(undecided, with_power=True)}",
              blocking=config.require_evidence),
    ]


def _names(parts: Sequence[Part], most: int = 5, with_power: bool = False) -> str:
    """Name the slices that lost most, after a colon; "" for none."""
    ordered = sorted(parts, key=lambda part: part.comparison.difference.estimate)
    shown = ", ".join(f"{part.name} {part.comparison.difference.estimate:+.1%}{_power(part) if with_power else ''}"
                      for part in ordered[:most])
    return (f": {shown}" if shown else "") + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _power(part: Part) -> str:
    least = part.found.detectable if part.found else math.inf
    return f" ({part.comparison.rows:,} rows cannot be relied on to show {not_shown(least)})"
