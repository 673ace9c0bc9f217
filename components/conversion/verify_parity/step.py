"""Hold every converted form of a model against the torch network, and pick the one that ships.

Measures differences, accuracy and latency; the rules are in `verdict`. Converts nothing and deploys nothing.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import text_sha256
from penstock.components.contracts.model import ONNX_FILE, WEIGHTS, Model, copy_model
from penstock.components.contracts.onnx import OnnxModel
from penstock.components.contracts.reports import REPORT, ParityReport
from penstock.components.conversion.rows import choose_split, spread
from penstock.components.conversion.verify_parity.latency import cpu_name, measure_latency
from penstock.components.conversion.verify_parity.verdict import Name, VerifyParityConfig, measure_figures, pick

__all__ = ["VerifyParityConfig", "run"]

Images = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


def run(dataset: Path | str, exported: Path | str, quantized: Path | str, target: Path | str, shipped: Path | str,
        config: VerifyParityConfig) -> ParityReport:
    """Compare the Model folders `exported` and `quantized` with torch, write the report folder `target` and copy the
    pick to `shipped`.

    The report is written first and decides: a step that was killed after it copies what it says, instead of measuring
    again and perhaps picking another.

    Raises:
        ConfigError: int8 is asked for, but nothing was quantized.
        ContractError: a folder is damaged, they do not belong together, or an output folder holds something else.
        StepError: the split has no rows.
    """
    source, models = Dataset(dataset), _candidates(Model(exported), Model(quantized), config)
    for model in models.values():
        model.require_fit(source)
    inputs = _inputs(source, models, config)
    if (Path(target) / REPORT).is_file():
        report = ParityReport.load(target)
        if report.inputs != inputs:
            raise ContractError(f"{target} compares {report.exported} with {report.quantized} under other rules or "
                                f"on other rows (inputs {report.inputs}, now {inputs}); remove it or use a new folder")
    else:
        report = _compare(source, models, inputs, Path(target), config)
    if report.shipped:
        copy_model(models[report.shipped], Path(shipped))
    return report


def _candidates(exported: Model, quantized: Model, config: VerifyParityConfig) -> dict[Name, Model]:
    if exported.manifest.files[WEIGHTS] != quantized.manifest.files[WEIGHTS]:
        raise ContractError(f"{quantized.folder} was not made from {exported.folder}: its torch weights are others; "
                            "run quantize on this export")
    if quantized.version != exported.version:
        return {"fp32": exported, "int8": quantized}
    if config.ship == "int8":
        raise ConfigError("ship='int8': nothing was quantized; set quantize.method=static_int8, or ship=auto")
    return {"fp32": exported}


def _inputs(dataset: Dataset, models: dict[Name, Model], config: VerifyParityConfig) -> str:
    """Name what a report is made from: 16 hex digits."""
    versions = [model.version for model in models.values()]
    options = json.dumps(config.model_dump(), sort_keys=True)
    return text_sha256(f"{dataset.manifest.content_hash} {versions} {options}")[:16]


def _compare(source: Dataset, models: dict[Name, Model], inputs: str, target: Path,
             config: VerifyParityConfig) -> ParityReport:
    from penstock.components.conversion.verify_parity.page import render

    split = choose_split(source, config.split)
    rows = source.read(split)
    rows = rows.take(spread(len(rows), config.rows or len(rows)))
    images, labels = images_array(rows, source.description.image), rows["label"].to_numpy()
    reference = _torch_logits(models["fp32"], images, config.batch_size)
    sessions: dict[str, OnnxModel] = {name: OnnxModel(model.folder) for name, model in models.items()}
    latency, cpu = measure_latency(sessions, images, config.batches, config.rounds, config.round_seconds), cpu_name()
    found = [
        measure_figures(name, model.version, (model.folder / ONNX_FILE).stat().st_size,
                        sessions[name].predict(images)[0], reference, labels,
                        (sessions[name].golden_difference(), model.manifest.golden_tolerance), latency[name])
        for name, model in models.items()]
    picked = pick(found, config, cpu)
    report = ParityReport(
        verdict="pass" if picked.shipped else "fail", reason=picked.reason, checks=picked.checks, inputs=inputs,
        exported=models["fp32"].version, quantized=[*models.values()][-1].version,
        dataset_hash=source.manifest.content_hash, split=split, rows=len(labels),
        reference_accuracy=float((reference.argmax(axis=1) == labels).mean()), cpu=cpu, shipped=picked.shipped,
        candidates=picked.candidates)
    page = render(report, found, images, labels, reference, source.description.classes, config.pictures)
    return report.save(target, page)


def _torch_logits(model: Model, images: Images, batch_size: int) -> Logits:
    """Answer (N, H, W, C) uint8 images with the torch network of a Model folder; returns (N, classes) float32."""
    import torch

    from penstock.components.training.worker.models import WithPreprocessing, load_exported

    network, manifest = load_exported(model.folder)
    pixels_in = WithPreprocessing(network, manifest.preprocessing).eval()
    with torch.inference_mode():
        parts = [pixels_in(torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])))
                 for start in range(0, len(images), batch_size)]
        return torch.cat(parts).numpy()
