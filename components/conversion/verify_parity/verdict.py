"""What ships: from the candidates' figures to checks, a pick, and the reasons for it.

Arithmetic and words only: runs no model and reads no file.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.reports import CandidateReport, Check, Latency
from penstock.components.evidence.paired import compare

__all__ = ["Figures", "Name", "Pick", "VerifyParityConfig", "measure_figures", "pick"]

Name = Literal["fp32", "int8"]
Logits = npt.NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)  # stands for a difference from NaN or infinity, which JSON has no word for


class VerifyParityConfig(Config):
    """What a converted model may lose, and what must be gained for int8 to ship."""

    ship: Literal["auto", "fp32", "int8"] = Field(default="auto", description=(
        "auto: int8 where it keeps the limits and is faster here, else fp32; or the one that must ship."))
    split: str = Field(default="", description='Rows that all answer; "": validation, or test, or train.')
    rows: int = Field(default=5000, ge=0, description="How many of them, spread evenly. 0: all.")
    max_accuracy_drop: float = Field(default=0.005, ge=0, le=1, description="Accuracy lost against torch; 1: off.")
    max_changed_predictions: float = Field(default=0.01, ge=0, le=1, description=(
        "Share of the rows that get another class than from torch; 1: off."))
    max_fp32_difference: float = Field(default=1e-3, ge=0, description="Of a logit of fp32 from torch's; 0: off.")
    max_int8_difference: float = Field(default=0.0, ge=0, description=(
        "Of a logit of int8 from torch's; its size depends on the network. 0: off."))
    min_speedup: float = Field(default=1.1, ge=1, le=100, description=(
        "How many times as fast as fp32 int8 must be, at every batch size, to ship by ship=auto."))
    batches: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(1, 64), min_length=1, description="Batch sizes to measure latency at.")
    rounds: int = Field(default=5, ge=3, le=1000, description="Of latency, the candidates in turn.")
    round_seconds: float = Field(default=0.2, gt=0, le=60, description="For each candidate and batch size, per round.")
    batch_size: int = Field(default=256, ge=1, description="Rows per torch forward pass; memory and speed only.")
    pictures: int = Field(default=20, ge=0, le=500, description="Changed predictions shown as pictures; 0: none.")


class Figures(NamedTuple):
    """What one candidate answers and how fast."""

    name: Name
    version: str
    size: int  # bytes of the ONNX file
    unanswered: int  # rows with NaN or infinity
    differences: npt.NDArray[np.float64]  # (N, classes), absolute, from torch's logits
    predicted: npt.NDArray[np.intp]  # (N,)
    changed: npt.NDArray[np.bool_]  # (N,) another class than torch's
    gained: int
    lost: int
    accuracy: float
    golden: float  # difference of the golden rows, and what they may differ
    tolerance: float
    latency: tuple[Latency, ...]

    @property
    def speedup(self) -> float:
        return min(entry.speedup for entry in self.latency)


class Pick(NamedTuple):
    """The verdict: what ships ("": nothing) and why, rule by rule."""

    shipped: Name | Literal[""]
    reason: str
    checks: tuple[Check, ...]
    candidates: tuple[CandidateReport, ...]


def measure_figures(name: Name, version: str, size: int, logits: Logits, reference: Logits,
                    labels: npt.NDArray[np.integer], golden: tuple[float, float],
                    latency: tuple[Latency, ...]) -> Figures:
    """Hold a candidate's answers against torch's.

    Args:
        logits: (N, classes) float32 of the candidate.
        reference: (N, classes) float32 of torch.
        labels: (N,) true classes.
        golden: largest difference of the golden rows, and its tolerance.
    """
    finite = np.isfinite(logits)
    differences = np.where(finite, np.abs(np.where(finite, logits, 0).astype(np.float64) - reference), LARGEST)
    predicted, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    right = predicted == labels
    paired = compare(right, expected == labels)
    return Figures(name, version, size, int((~finite).any(axis=1).sum()), differences, predicted,
                   predicted != expected, paired.gained, paired.lost, float(right.mean()),
                   golden[0] if np.isfinite(golden[0]) else LARGEST, golden[1], latency)


def pick(found: Sequence[Figures], config: VerifyParityConfig, cpu: str) -> Pick:
    """Decide what ships: fp32 alone, or fp32 and int8 in this order."""
    judged = {figures.name: _limits(figures, config) for figures in found}
    broken = {name: _explain(checks) for name, checks in judged.items()}
    fast = {figures.name: figures.name == "fp32" or figures.speedup >= config.min_speedup for figures in found}
    wanted: list[Name] = ["int8", "fp32"] if config.ship == "auto" else [config.ship]
    eligible = [name for name in wanted if name in judged and not broken[name]
                and (fast[name] or config.ship != "auto")]
    shipped: Name | Literal[""] = eligible[0] if eligible else ""
    reasons = {figures.name: _reason(figures, broken[figures.name], config, cpu) for figures in found}
    checks = [check.model_copy(update={"blocking": check.passed or (not shipped and name in wanted)})
              for name, entries in judged.items() for check in entries]
    checks += [_speed(figures, config) for figures in found if figures.name == "int8"]
    return Pick(shipped, _headline(shipped, reasons, config), tuple(checks),
                tuple(_report(figures, not broken[figures.name], reasons[figures.name]) for figures in found))


def _limits(figures: Figures, config: VerifyParityConfig) -> list[Check]:
    """Apply every limit that is on; NaN and golden rows always count."""
    furthest = {"fp32": config.max_fp32_difference, "int8": config.max_int8_difference}[figures.name]
    drop = (figures.lost - figures.gained) / len(figures.predicted)
    limits: Mapping[str, tuple[float, float, bool]] = {
        "rows answered with NaN": (figures.unanswered, 0, True),
        "golden rows": (figures.golden, figures.tolerance, True),
        "max difference": (float(figures.differences.max()), furthest, furthest > 0),
        "changed predictions": (float(figures.changed.mean()), config.max_changed_predictions,
                                config.max_changed_predictions < 1),
        "accuracy drop": (drop, config.max_accuracy_drop, config.max_accuracy_drop < 1),
    }
    return [Check(name=f"{figures.name} {name}", passed=value <= limit, value=value, rule=f"<= {limit:.4g}")
            for name, (value, limit, on) in limits.items() if on]


def _explain(checks: Sequence[Check]) -> str:
    return "; ".join(f"{check.name} is {check.value:.4g}, must be {check.rule}" for check in checks if not check.passed)


def _speed(int8: Figures, config: VerifyParityConfig) -> Check:
    least = min(int8.latency, key=lambda entry: entry.speedup)
    rule = "decides by ship=auto" if config.ship == "auto" else f"not asked for by ship={config.ship}"
    return Check(name="int8 speedup", passed=least.speedup >= config.min_speedup, value=least.speedup, blocking=False,
                 rule=f">= {config.min_speedup:g}", detail=f"the least, at batch {least.batch}; {rule}")


def _reason(figures: Figures, broken: str, config: VerifyParityConfig, cpu: str) -> str:
    """Say what speaks for a candidate, or against it: a text that goes on from its name."""
    if broken:
        return f"breaks a limit: {broken}"
    rows, points = len(figures.predicted), 100 * (figures.gained - figures.lost) / len(figures.predicted)
    parity = (f"of {rows:,} rows {figures.changed.mean():.2%} get another class than from torch, accuracy changes by "
              f"{points:+.2f} points, logits by up to {figures.differences.max():.2g}")
    if figures.name == "fp32":
        return f"computes what torch computes: {parity}"
    first, *others = [f"{entry.speedup:.2f} times{{}} at batch {entry.batch}" for entry in figures.latency]
    times = " and ".join([first.format(" as fast as fp32"), *(text.format("") for text in others)])
    speed = f"{times}, measured on this CPU ({cpu})"
    if config.ship == "auto" and figures.speedup < config.min_speedup:
        return f"keeps the limits but is not faster: {speed}, where {config.min_speedup:g} times is asked for"
    return f"is {speed}; {parity}"


def _headline(shipped: str, reasons: Mapping[Name, str], config: VerifyParityConfig) -> str:
    said = [f"{name} {reason}" for name, reason in reasons.items()]
    if not shipped:
        wanted = said if config.ship == "auto" else [f"{config.ship} {reasons[config.ship]}"]
        return f"Nothing ships: {'; '.join(wanted)}."
    if shipped == "int8":
        return f"int8 ships: it {reasons['int8']}."
    if config.ship == "fp32":
        return f"fp32 ships, as asked for by ship=fp32: it {reasons['fp32']}."
    if "int8" not in reasons:
        return f"fp32 ships, because nothing was quantized: it {reasons['fp32']}."
    return f"fp32 ships, because int8 {reasons['int8']}. fp32 {reasons['fp32']}."


def _report(figures: Figures, eligible: bool, reason: str) -> CandidateReport:
    return CandidateReport(
        name=figures.name, version=figures.version, size=figures.size,
        max_difference=float(figures.differences.max()), mean_difference=float(figures.differences.mean()),
        changed_predictions=float(figures.changed.mean()), accuracy=figures.accuracy,
        accuracy_change=(figures.gained - figures.lost) / len(figures.predicted), gained=figures.gained,
        lost=figures.lost, latency_ms=figures.latency, speedup=figures.speedup, eligible=eligible, reason=reason)
