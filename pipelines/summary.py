"""`summary.json`: what a run made and what serves now, in one small file for people and scripts.

Reads what the steps left and what the control plane says; decides nothing.
"""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from penstock.components.contracts.folder import write_atomically
from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder, RunStatus
from penstock.pipelines.step_outputs import StepOutputs

if TYPE_CHECKING:
    from penstock.components.contracts.model import Model
    from penstock.components.control.base import Manifest

__all__ = [
    "CanaryPart",
    "ConversionPart",
    "DatasetPart",
    "EndpointPart",
    "ModelPart",
    "StepPart",
    "Summary",
    "SweepPart",
    "TrafficPart",
    "shipped_model",
    "summarise",
    "traffic_by_version",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetPart(_Frozen):
    name: str
    rows: int
    content_hash: str


class SweepPart(_Frozen):
    """`best`: the parameters of the best trial, as the sweep wrote them; {} where none was searched."""

    trials: int
    best: dict[str, str]


class ModelPart(_Frozen):
    """`test_accuracy` is the share of right answers on the split that `evaluate` measured."""

    name: str
    version: str
    test_accuracy: float


class ConversionPart(_Frozen):
    """What ships ("fp32" or "int8"), compared with the trained network; shares, and times as fast as fp32."""

    shipped: str
    accuracy_change: float
    changed_predictions: float
    speedup: float


class CanaryPart(_Frozen):
    verdict: str
    reason: str


class TrafficPart(_Frozen):
    version: str
    percent: int


class EndpointPart(_Frozen):
    url: str
    traffic: tuple[TrafficPart, ...]


class StepPart(_Frozen):
    name: str
    status: str
    seconds: float


class Summary(_Frozen):
    """A run in one file; a part that the run did not reach is null."""

    pipeline: str
    status: RunStatus
    dataset: DatasetPart | None
    sweep: SweepPart | None
    model: ModelPart | None
    conversion: ConversionPart | None
    canary: CanaryPart | None
    endpoint: EndpointPart | None
    steps: tuple[StepPart, ...]


def summarise(folder: RunFolder, status: RunStatus, progress: Progress) -> Summary:
    """Write and return the summary of a run that has ended."""
    record, outputs = folder.load(), StepOutputs(folder, progress)
    summary = Summary(
        pipeline=record.pipeline,
        status=status,
        dataset=_dataset(outputs),
        sweep=_sweep(outputs),
        model=_model(outputs),
        conversion=_conversion(outputs),
        canary=_canary(outputs),
        endpoint=_endpoint(record.scalars["service"]),
        steps=tuple(StepPart(name=step.name, status=step.status, seconds=step.seconds) for step in progress),
    )
    write_atomically(folder.summary, summary.model_dump_json(indent=2) + "\n")
    return summary


def shipped_model(outputs: StepOutputs) -> "Model | None":
    """Open the model that the run would serve, if it came so far."""
    from penstock.components.contracts.model import Model

    path = outputs.artifact("verify_parity", "shipped")
    return Model(path) if path and path.is_dir() else None


def _dataset(outputs: StepOutputs) -> DatasetPart | None:
    from penstock.components.contracts.dataset import Dataset

    path = outputs.artifact("split", "dataset") or outputs.artifact("ingest", "dataset")
    if path is None:
        return None
    dataset = Dataset(path)
    return DatasetPart(name=dataset.description.name, rows=dataset.rows, content_hash=dataset.manifest.content_hash)


def _sweep(outputs: StepOutputs) -> SweepPart | None:
    from penstock.components.contracts.reports import SweepReport

    path = outputs.artifact("sweep", "report")
    if path is None:
        return None
    report = SweepReport.load(path)
    return SweepPart(trials=len(report.trials), best=report.changed)


def _model(outputs: StepOutputs) -> ModelPart | None:
    from penstock.components.contracts.reports import EvaluationReport

    model, report = shipped_model(outputs), outputs.artifact("evaluate", "report")
    if model is None or report is None:
        return None
    accuracy = EvaluationReport.load(report).accuracy.estimate
    return ModelPart(name=model.manifest.name, version=model.version, test_accuracy=accuracy)


def _conversion(outputs: StepOutputs) -> ConversionPart | None:
    from penstock.components.contracts.reports import ParityReport

    path = outputs.artifact("verify_parity", "report")
    if path is None:
        return None
    report = ParityReport.load(path)
    found = next((entry for entry in report.candidates if entry.name == report.shipped), None)
    if found is None:
        return None
    return ConversionPart(shipped=found.name, accuracy_change=found.accuracy_change,
                          changed_predictions=found.changed_predictions, speedup=found.speedup)


def _canary(outputs: StepOutputs) -> CanaryPart | None:
    from penstock.components.contracts.reports import CanaryReport

    path = outputs.artifact("analyse_canary", "report")
    if path is None:
        return None
    report = CanaryReport.load(path)
    return CanaryPart(verdict=report.verdict, reason=report.reason)


def _endpoint(service: str) -> EndpointPart | None:
    from penstock.components.control.connect import connect
    from penstock.components.control.inference_service import service_ref, url

    live = connect().get(service_ref(service))
    return EndpointPart(url=url(live), traffic=traffic_by_version(live)) if live else None


def traffic_by_version(isvc: "Manifest") -> tuple[TrafficPart, ...]:
    """Return who gets how many percent of the requests to an InferenceService, the largest share first."""
    from penstock.components.control.inference_service import canary_version, newest_revision, stable_version, traffic

    shares: dict[str, int] = {}
    for entry in traffic(isvc):
        on_trial = canary_version(isvc) and entry.revision == newest_revision(isvc)
        version = canary_version(isvc) if on_trial else stable_version(isvc)
        shares[version] = shares.get(version, 0) + entry.percent
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    return tuple(TrafficPart(version=version, percent=percent) for version, percent in ordered if percent)
