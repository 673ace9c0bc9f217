"""One model per verdict, and the folder a verdict travels in.

A report folder holds `report.json` for the next step and `index.html` for a person. Renders nothing itself:
each step draws its page with `components.reporting`. A verdict always carries its reason, the numbers and the rule.
"""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import complete_folder

__all__ = [
    "PAGE",
    "REPORT",
    "CanaryReport",
    "CandidateReport",
    "Check",
    "ClassMetrics",
    "EvaluationReport",
    "GateReport",
    "Interval",
    "Latency",
    "ParityReport",
    "RankingMetrics",
    "Report",
    "SliceMetrics",
    "SweepReport",
    "SweepTrial",
    "ValidationReport",
    "VariantReport",
    "load_verdict",
]

REPORT = "report.json"
PAGE = "index.html"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Frozen):
    """One rule applied to one number."""

    name: str
    passed: bool
    value: float
    rule: str  # e.g. ">= 0.83"
    detail: str = ""
    blocking: bool = True


class Interval(_Frozen):
    """An estimate with its two-sided confidence interval; `level` is for example 0.95."""

    estimate: float
    lower: float
    upper: float
    level: float = 0.95


class Report(_Frozen):
    """What all reports share."""

    step: ClassVar[str]
    schema_version: Literal[1] = 1
    verdict: str
    reason: str
    checks: tuple[Check, ...] = ()

    def save(self, folder: Path | str, page: str, files: dict[str, bytes] | None = None) -> Self:
        """Write the report folder, whole or not at all; a report of the same content that is there already stays.

        Args:
            page: the self-contained HTML page.
            files: further files beside it, by name.
        """
        folder = Path(folder)
        if (folder / REPORT).is_file() and type(self).load(folder) == self:
            return self
        with complete_folder(folder) as building:
            (building / REPORT).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (building / PAGE).write_text(page, encoding="utf-8")
            for name, content in (files or {}).items():
                (building / name).write_bytes(content)
        return self

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a report.

        Raises:
            ContractError: there is none, or it is no report of this kind.
        """
        path = Path(folder) / REPORT
        if not path.is_file():
            raise ContractError(f"{folder} holds no report: {REPORT} is missing (was its producer interrupted?)")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ContractError(f"{path} is no {cls.__name__}: {error.errors()[0]['msg']}") from error


class ValidationReport(Report):
    """Data quality: verdict `pass` or `fail`."""

    step: ClassVar[str] = "validate"
    dataset: str
    content_hash: str
    rows: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    duplicates: dict[str, int]
    conflicting_labels: int
    leaked: dict[str, int]
    unreadable: dict[str, int]


class ClassMetrics(_Frozen):
    name: str
    support: int
    precision: float
    recall: float
    f1: float


class RankingMetrics(_Frozen):
    """How well the probability of a class ranks its rows before all others; 1 is perfect, an AUC of 0.5 is chance."""

    name: str
    auc: float  # area under the ROC curve
    average_precision: float


class SliceMetrics(_Frozen):
    """Accuracy of the rows where `column` is `value`."""

    column: str
    value: str
    rows: int
    accuracy: Interval


class EvaluationReport(Report):
    """Quality on one split: verdict is always `measured`; the gate judges."""

    step: ClassVar[str] = "evaluate"
    dataset_hash: str
    model: str  # weights sha256 of the trained model
    split: str
    rows: int
    accuracy: Interval
    macro_f1: float
    log_loss: float
    ece: float
    ece_bins: int = 15  # equal ranges of confidence behind `ece`, so that the gate measures the other model alike
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted]
    macro_auc: float = 0.0  # means over `ranking`; 0 where no class can be ranked
    macro_average_precision: float = 0.0
    ranking: tuple[RankingMetrics, ...] = ()  # one class against the rest; without those that have no row, or every one
    slices: tuple[SliceMetrics, ...] = ()


class GateReport(Report):
    """May the candidate be deployed: verdict `pass` or `fail`."""

    step: ClassVar[str] = "gate"
    serving_version: str  # "" where nothing serves yet
    candidate: dict[str, float]
    serving: dict[str, float]


class Latency(_Frozen):
    """How long one call of `batch` rows takes: the median round in milliseconds, and the fastest and slowest round."""

    batch: int
    milliseconds: float
    lowest: float
    highest: float
    speedup: float  # over the fp32 candidate, the median of rounds run in turn


class CandidateReport(_Frozen):
    """One form of a model held against the torch network; all differences are from torch's answers to the same rows."""

    name: Literal["fp32", "int8"]
    version: str
    size: int  # bytes of the ONNX file
    max_difference: float  # of a logit
    mean_difference: float
    changed_predictions: float  # a share of the rows
    accuracy: float
    accuracy_change: float
    gained: int  # rows right only with the candidate
    lost: int  # rows right only with torch
    latency_ms: tuple[Latency, ...]
    speedup: float  # the least over all batch sizes
    eligible: bool  # within every limit
    reason: str  # why it ships, or why it does not


class ParityReport(Report):
    """Which form of the model ships: verdict `pass`, or `fail` where none may."""

    step: ClassVar[str] = "verify_parity"
    inputs: str  # names what was compared and under which rules
    exported: str  # version
    quantized: str  # version; equal to `exported` where nothing was quantized
    dataset_hash: str
    split: str
    rows: int
    reference_accuracy: float  # of the torch network
    cpu: str  # on which the latencies were measured
    shipped: Literal["fp32", "int8", ""]  # "": none
    candidates: tuple[CandidateReport, ...]


class VariantReport(_Frozen):
    """What one version did during the canary; latencies in seconds."""

    version: str
    revision: str
    requests: int
    errors: int
    labelled: int
    correct: int
    latency: dict[str, float]  # {"p50": …, "p90": …, "p99": …}


class CanaryReport(Report):
    """Is the canary no worse than stable: verdict `first`, `promote` or `roll_back`."""

    step: ClassVar[str] = "analyse_canary"
    service: str
    traffic_percent: int
    stable: VariantReport | None = None
    canary: VariantReport
    agreement: Interval | None = None  # None: not measured, no request was seen by both
    seconds: float = 0.0
    unanswered: int = 0  # requests that no version is known to have answered


class SweepTrial(_Frozen):
    """One trial of a sweep, finished or ended."""

    name: str
    status: str  # Katib's condition: Succeeded, Failed, MetricsUnavailable, Killed, EarlyStopped
    parameters: dict[str, str]
    metrics: dict[str, float]  # of the last epoch; what is not finite is not here
    seconds: float
    reason: str  # why it is no candidate for the best; "" for one that is


class SweepReport(Report):
    """What a sweep tried and found: verdict `succeeded`, or `off` where none was wanted."""

    step: ClassVar[str] = "sweep"
    inputs: str = ""  # names what it came out of: space, training options, dataset; "" where off
    objective: str
    goal_type: Literal["maximize", "minimize"]
    goal: float = 0.0  # 0: none
    algorithm: str
    trials: tuple[SweepTrial, ...] = ()  # in the order in which they started
    best: str = ""  # name of a trial; "" where off
    best_value: float = 0.0
    changed: dict[str, str] = {}  # parameters of the best trial, as they were put into the training


class _Verdict(BaseModel):
    verdict: str
    reason: str


def load_verdict(folder: Path | str) -> tuple[str, str]:
    """Read verdict and reason of a report of any kind."""
    path = Path(folder) / REPORT
    if not path.is_file():
        raise ContractError(f"{folder} holds no report: {REPORT} is missing")
    found = _Verdict.model_validate_json(path.read_bytes())
    return found.verdict, found.reason
