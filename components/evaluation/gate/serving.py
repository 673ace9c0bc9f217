"""The version that serves now: where the control plane says it lies, and what it answers to the candidate's rows.

Asks the control plane and runs the ONNX model; judges nothing.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.components.contracts.dataset import Description
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import EvaluationReport
from penstock.components.control.base import ControlPlane
from penstock.components.control.inference_service import NOTHING, Placement, service_ref, stable
from penstock.components.deployment.registry import Registry
from penstock.components.evaluation.gate.checks import Contest, GateConfig, figures, judge_parts
from penstock.components.evaluation.predictions import Predictions
from penstock.components.evaluation.slices import slices_of
from penstock.components.evidence.bootstrap import calibration_difference, macro_f1_difference
from penstock.components.evidence.paired import compare

__all__ = ["contest", "misfit", "open_serving", "serving_now"]


def serving_now(plane: ControlPlane, service: str) -> Placement:
    """Ask which version holds the traffic of a service; `NOTHING` where none has been promoted yet."""
    found = plane.get(service_ref(service))
    return stable(found) if found else NOTHING


def open_serving(serving: Placement, service: str, registry: Registry) -> Model:
    """Open the model that serves: where it is said to lie, or as registered where only predictors see that place.

    Raises:
        ContractError: it is not there, is damaged, or is another version than is said to serve.
    """
    uri = serving.uri if serving.uri.startswith("file:") else registry.model_uri(service, serving.version)
    model = Model(Path(unquote(urlsplit(uri).path)))
    if model.version != serving.version:
        raise ContractError(f"version {serving.version} is said to serve, {uri} holds {model.version}")
    return model


def misfit(model: Model, description: Description) -> str:
    """Say why the serving model cannot answer rows of this dataset; "" where it can."""
    knows = model.manifest.signature
    if knows.image_shape != description.image.shape:
        return f"version {model.version} takes {knows.image_shape} images, this dataset has {description.image.shape}"
    if knows.classes != description.classes:
        gone, new = sorted({*knows.classes} - {*description.classes}), sorted({*description.classes} - {*knows.classes})
        change = f"without {gone}, with {new}" if gone or new else "in another order"
        return f"version {model.version} knows other classes; this dataset has them {change}"
    return ""


def contest(model: Model, rows: pa.Table, images: npt.NDArray[np.uint8], candidate: Predictions,
            evaluation: EvaluationReport, config: GateConfig) -> Contest:
    """Let the serving model answer the rows that the candidate answered, and pair the answers.

    Args:
        images: (N, H, W, C) uint8, the pixels of `rows`.
        candidate: the candidate's N answers, in the order of `rows`.
    """
    from penstock.components.contracts.onnx import OnnxModel

    serving = Predictions.of(rows, OnnxModel(model.folder).predict(images)[1])
    ours, theirs = candidate.correct, serving.correct
    names = model.manifest.signature.classes
    groups = {f"class = {name}": np.flatnonzero(candidate.labels == index) for index, name in enumerate(names)}
    listed = {(part.column, part.value) for part in evaluation.slices}
    for column in sorted({column for column, _ in listed}):
        groups |= {f"{column} = {part.value}": part.rows for part in slices_of(rows, column)
                   if (column, part.value) in listed}
    slices = {name: compare(ours[index], theirs[index], config.confidence)
              for name, index in groups.items() if len(index) >= config.min_slice_rows}
    macro_f1 = macro_f1_difference(candidate.labels, candidate.predicted, serving.predicted, len(names),
                                   config.confidence) if config.max_macro_f1_drop < 1 else None
    calibration = calibration_difference((candidate.confidence, ours), (serving.confidence, theirs),
                                         evaluation.ece_bins, config.confidence) if config.max_ece_rise < 1 else None
    return Contest(model.version, figures(serving, names, evaluation.ece_bins),
                   compare(ours, theirs, config.confidence), judge_parts(slices, config), macro_f1, calibration)
