"""Make the int8 candidate of an exported model: a Model folder of its own, with its own version and golden rows.

What is quantized and how is in `graph`. Decides nothing: whether it ships is `verify_parity`'s to say.
"""

import io
import logging
import math
import time
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import (
    GOLDEN,
    MODEL_MANIFEST,
    NETWORK,
    ONNX_FILE,
    WEIGHTS,
    Model,
    copy_model,
    files_sha256,
    version_of,
)
from penstock.components.conversion.rows import spread

__all__ = ["QuantizeConfig", "run"]

Images = npt.NDArray[np.uint8]
TOLERANCE_DIGITS = 4
log = logging.getLogger(__name__)


class QuantizeConfig(Config):
    """How to quantize; the defaults suit a server whose CPU has VNNI (Intel since 2019, AMD since Zen 4)."""

    method: Literal["static_int8", "none"] = Field(
        default="static_int8", description="static_int8: 8-bit activations and weights; none: passed on as it is.")
    calibration: Literal["minmax", "percentile", "entropy"] = Field(default="minmax", description=(
        "Where the ranges of activations come from: all values seen, all but the ends, or the least loss of "
        "information."))
    calibration_rows: int = Field(default=1000, ge=1, description="Rows of the train split, spread evenly over it.")
    percentile: float = Field(default=99.999, gt=50, le=100, description=(
        "Values that calibration=percentile keeps, in percent. 100: all."))
    reduce_range: bool = Field(default=False, description=(
        "true: weights in 7 bits, for servers whose CPU has no VNNI and would overflow; costs accuracy."))


def run(dataset: Path | str, exported: Path | str, target: Path | str, config: QuantizeConfig) -> Model:
    """Quantize the Model folder `exported` into the new Model folder `target`; the same found there is returned.

    Golden rows are those of `exported`, answered by the int8 model on this machine. Another CPU rounds elsewhere (on
    10,000 rows the same graph differed by up to 0.014 between fused and unfused kernels, where quantization itself had
    moved logits by 0.097), so a server may stray from them as far as quantization moved them from the float answers,
    and no further: that is the model whose parity is judged.

    Raises:
        ContractError: a folder is damaged, dataset and model do not belong together, or `target` holds another model.
        StepError: there are no rows to calibrate on, nothing can be quantized, or the result answers NaN.
    """
    source, model, target = Dataset(dataset), Model(exported), Path(target)
    if config.method == "none":
        return copy_model(model, target)
    made_from = _made_from(source, model, config)
    if target.exists():
        return _present(target, made_from)
    model.require_fit(source)
    started = time.perf_counter()
    from penstock.components.conversion.quantize.graph import int8_bytes

    graph = int8_bytes((model.folder / ONNX_FILE).read_bytes(), _calibration_rows(source, config.calibration_rows),
                       _pixels(model), config.calibration, config.percentile, config.reduce_range)
    with complete_folder(target) as building:
        (building / ONNX_FILE).write_bytes(graph)
        for name in (WEIGHTS, NETWORK):
            (building / name).write_bytes((model.folder / name).read_bytes())
        tolerance = _write_golden(building / GOLDEN, graph, model)
        files = files_sha256(building, MODEL_MANIFEST)
        origin = model.manifest.origin
        model.manifest.model_copy(update={
            "version": version_of(files, model.manifest.signature), "files": files, "golden_tolerance": tolerance,
            "origin": origin.model_copy(update={"config": origin.config | made_from}),
        }).save(building / MODEL_MANIFEST)
    log.info("version=%s from=%s bytes=%d of=%d tolerance=%g seconds=%.1f", Model(target).version, model.version,
             len(graph), (model.folder / ONNX_FILE).stat().st_size, tolerance, time.perf_counter() - started)
    return Model(target)


def _made_from(dataset: Dataset, model: Model, config: QuantizeConfig) -> dict[str, str]:
    """Say how to make it again; also how a retried step knows its own finished output."""
    options = {f"quantize.{name}": str(value) for name, value in config.model_dump().items()}
    return options | {"quantize.from": model.version, "quantize.dataset_hash": dataset.manifest.content_hash}


def _present(target: Path, made_from: dict[str, str]) -> Model:
    model = Model(target)
    found = {name: str(model.manifest.origin.config.get(name, "")) for name in made_from}
    changed = [f"{name} {found[name]!r} instead of {value!r}" for name, value in made_from.items()
               if found[name] != value]
    if changed:
        raise ContractError(f"{target} holds version {model.version}, made with {', '.join(changed)}; remove it or "
                            f"quantize to a new folder")
    return model


def _calibration_rows(dataset: Dataset, count: int) -> Images:
    splits = dataset.manifest.splits
    if "train" not in splits or not splits["train"].rows:
        raise StepError(f"{dataset.folder} has no rows in train: there is nothing to calibrate on; give the dataset "
                        "that the model was trained on, or set method=none")
    images = images_array(dataset.read("train"), dataset.description.image)
    return images[spread(len(images), count)]


def _pixels(model: Model) -> tuple[float, float]:
    """Return what the darkest and the brightest pixel of any channel become."""
    known = model.manifest.preprocessing
    channels = list(zip(known.mean, known.std, strict=True))
    return (min((0 - mean) / std for mean, std in channels), max((1 - mean) / std for mean, std in channels))


def _write_golden(path: Path, graph: bytes, exported: Model) -> float:
    """Write the golden rows as the int8 graph answers them, and return the tolerance for a server's answers."""
    import onnxruntime as ort

    with np.load(exported.folder / GOLDEN) as golden:
        inputs, expected = golden["inputs"], golden["logits"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": inputs})[0]
    moved = float(np.abs(logits - expected).max())
    if not math.isfinite(moved):
        raise StepError(f"the int8 model answers {int((~np.isfinite(logits)).any(axis=1).sum())} of {len(inputs)} "
                        "golden rows with NaN or infinity; try another calibration, or set method=none")
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, logits=logits)
    path.write_bytes(buffer.getvalue())
    rounded: float = math.ceil(moved * 10**TOLERANCE_DIGITS) / 10**TOLERANCE_DIGITS
    return max(exported.manifest.golden_tolerance, rounded)
