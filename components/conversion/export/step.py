"""Turn a trained model into the folder that a server loads, and prove that it computes the same.

Writes the Model contract: ONNX with its preprocessing inside, the torch weights, golden rows. Deploys nothing.
"""

import io
from pathlib import Path

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
    ModelManifest,
    TrainedModel,
    files_sha256,
    version_of,
)
from penstock.components.conversion.rows import choose_split, spread

__all__ = ["ExportConfig", "check_parity", "run"]

Images = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class ExportConfig(Config):
    """How to convert, and how close the result must come."""

    opset: int = Field(default=20, ge=18, le=23, description="ONNX operator set; a server needs an onnxruntime that "
                                                             "knows it (1.17 for 20).")
    tolerance: float = Field(default=1e-3, gt=0, le=1, description="Largest absolute difference of a logit from "
                                                                   "torch's, here and at every server's start.")
    golden_rows: int = Field(default=32, ge=1, le=32, description="Rows shipped with the answers a server must give.")
    parity_rows: int = Field(default=2000, ge=0, description="Rows on which torch and ONNX are compared; 0: all.")
    batch_size: int = Field(default=256, ge=1, description="Rows per torch forward pass; memory and speed only.")


def run(dataset: Path | str, trained: Path | str, target: Path | str, service: str, run_id: str,
        config: ExportConfig) -> Model:
    """Export the TrainedModel `trained` into the new Model folder `target`; the same export found there is returned.

    Args:
        dataset: gives the rows to compare on, from its validation split (else test, else train).
        service: becomes the model's name.
        run_id: the pipeline run to note as origin; it is no part of the version.

    Raises:
        ContractError: a folder is damaged, or dataset and model do not belong together.
        StepError: ONNX does not compute what torch computes; the text has the figures, nothing is written.
    """
    source, model, target = Dataset(dataset), TrainedModel(trained), Path(target)
    if target.exists():
        return _present(target, model, service, config)
    model.require_fit(source)
    split = choose_split(source)  # parity needs real pixels, not unseen ones
    images = images_array(source.read(split), source.description.image)
    import torch

    from penstock.components.conversion.export.graph import onnx_bytes
    from penstock.components.training.worker.models import WithPreprocessing, load_trained

    network, manifest = load_trained(model.folder)
    pixels_in = WithPreprocessing(network, manifest.preprocessing).eval()

    def torch_logits(some: Images) -> Logits:
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(some), config.batch_size)
            return torch.cat([pixels_in(part) for part in parts]).numpy()

    golden = images[spread(len(images), config.golden_rows)]
    with complete_folder(target) as building:
        (building / ONNX_FILE).write_bytes(onnx_bytes(pixels_in, manifest.signature.image_shape, config.opset))
        (building / WEIGHTS).write_bytes((model.folder / WEIGHTS).read_bytes())
        (building / NETWORK).write_text(manifest.built.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (building / GOLDEN).write_bytes(_npz(inputs=golden, logits=torch_logits(golden)))
        _seal(building, model, service, run_id, config)
        compared = images[spread(len(images), config.parity_rows or len(images))]
        check_parity(building, compared, torch_logits(compared), split, config.tolerance)
    return Model(target)


def check_parity(folder: Path, images: Images, expected: Logits, split: str, tolerance: float) -> float:
    """Hold the ONNX file of a Model folder against torch's logits.

    Args:
        images: (N, H, W, C) uint8.
        expected: (N, classes) float32, what torch says.
        split: where the rows come from, for the error text.
        tolerance: largest absolute difference of a logit. Rows whose two best logits lie closer than this are ties; on
            all others both must name the same class.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        StepError: they differ.
    """
    from penstock.components.contracts.onnx import OnnxModel

    model = OnnxModel(folder)
    logits, _ = model.predict(images)
    differences = np.abs(logits - expected).max(axis=1)
    best = np.sort(expected, axis=1)[:, -2:]
    tied = best[:, -1] - best[:, 0] < tolerance
    changed = int(((logits.argmax(axis=1) != expected.argmax(axis=1)) & ~tied).sum())
    largest = float(differences.max())
    beyond = int((~(differences <= tolerance)).sum())  # a NaN is beyond any tolerance
    if changed or beyond:
        raise StepError(
            f"the ONNX model does not compute what the torch model computes: on {len(images):,} rows of {split} logits "
            f"differ by up to {largest:.3g} (tolerance {tolerance:g}; {beyond:,} rows beyond it) and {changed:,} "
            f"predictions changed; nothing was exported. Try another opset; raise tolerance if no prediction changed")
    model.check_golden()
    return largest


def _present(target: Path, trained: TrainedModel, service: str, config: ExportConfig) -> Model:
    model = Model(target)
    found = (model.manifest.name, model.manifest.files.get(WEIGHTS), model.manifest.golden_tolerance)
    if found != (service, trained.weights_sha256, config.tolerance):
        raise ContractError(f"{target} holds another export: version {model.version} of {model.manifest.name}, made "
                            f"from weights {str(found[1])[:12]}; remove it or export to a new folder")
    return model


def _npz(**arrays: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no mapping of arrays
    return buffer.getvalue()


def _seal(folder: Path, trained: TrainedModel, service: str, run_id: str, config: ExportConfig) -> ModelManifest:
    files = files_sha256(folder, MODEL_MANIFEST)
    manifest = trained.manifest
    return ModelManifest(
        name=service,
        version=version_of(files, manifest.signature),
        signature=manifest.signature,
        preprocessing=manifest.preprocessing,
        origin=manifest.origin.model_copy(update={"run_id": run_id}),
        metrics=manifest.metrics,
        golden_tolerance=config.tolerance,
        files=files,
    ).save(folder / MODEL_MANIFEST)
