"""The two model folders: what training emits, and what a server loads.

TrainedModel: weights and how to build the network again. Model: ONNX with its preprocessing inside and golden rows.
Imports neither torch nor onnxruntime: `onnx.py` runs a Model, `training/worker` builds a TrainedModel.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import SealedManifest, complete_folder, file_sha256, read_checked, text_sha256

if TYPE_CHECKING:  # a predictor opens models and must not pay for pyarrow
    from penstock.components.contracts.dataset import Dataset

__all__ = [
    "GOLDEN",
    "MODEL_MANIFEST",
    "NETWORK",
    "ONNX_FILE",
    "TRAINED_MANIFEST",
    "WEIGHTS",
    "Built",
    "Model",
    "ModelManifest",
    "Origin",
    "Preprocessing",
    "Signature",
    "TrainedModel",
    "TrainedModelManifest",
    "copy_model",
    "files_sha256",
    "version_of",
]

TRAINED_MANIFEST = "trained_model.json"
MODEL_MANIFEST = "model.json"
WEIGHTS = "weights.safetensors"
NETWORK = "network.json"  # `Built`: how to build what the weights of a Model folder fill
ONNX_FILE = "model.onnx"
GOLDEN = "golden.npz"  # `inputs` (<=32, H, W, C) uint8, `logits` (<=32, classes) float32
VERSION_CHARS = 12  # of the content hash: 48 bits are plenty for one registry, and fit a label and a URL


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Frozen):
    """What stands between raw pixels and the network: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Signature(_Frozen):
    """Input and outputs as the Open Inference Protocol v2 names them; -1 is the batch.

    Input `image`: (-1, H, W, C) UINT8, raw pixels. Outputs `logits` and `probabilities`: (-1, classes) FP32.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


class Origin(_Frozen):
    """Where a model came from: enough to make it again."""

    run_id: str = ""
    dataset: str  # name
    dataset_hash: str
    config: dict[str, str | int | float | bool | list[str]]
    code_version: str


class Built(_Frozen):
    """`network.json`: with the signature, all that is needed to build the network that the weights fill."""

    network: str
    width: int = 0
    image_size: int = 0


class TrainedModelManifest(SealedManifest):
    """`trained_model.json`: the network's name and options, its preprocessing, and how its training went."""

    schema_version: Literal[1] = 1
    network: str
    signature: Signature
    preprocessing: Preprocessing
    origin: Origin
    metrics: dict[str, float]  # of the last epoch
    # One entry per epoch: its metrics, and `learning_rate`, that of its last step.
    history: tuple[dict[str, float], ...] = ()
    averaged: bool = False  # the weights, and what was validated, are the moving average of `ema_decay`
    files: dict[str, str]

    @property
    def built(self) -> Built:
        """How to build the network."""
        options = {name: int(str(self.origin.config.get(name, 0))) for name in ("width", "image_size")}
        return Built(network=self.network, **options)


class ModelManifest(SealedManifest):
    """`model.json`: name, version, signature, origin, metrics and the sha256 of every other file.

    `version` is the start of the hash over all files and the signature: the same model has the same version
    wherever it was made, and another model never has it.
    """

    schema_version: Literal[1] = 1
    name: str
    version: str
    task: Literal["image-classification"] = "image-classification"
    signature: Signature
    preprocessing: Preprocessing
    origin: Origin
    metrics: dict[str, float]
    golden_tolerance: float  # largest allowed absolute difference of a logit
    files: dict[str, str]


class TrainedModel:
    """A trained model folder opened for reading; every file has been checked.

    Raises:
        ContractError: a file is missing or has other bytes than the manifest says.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest = TrainedModelManifest.load(self.folder / TRAINED_MANIFEST)
        _check_files(self.folder, self.manifest.files, TRAINED_MANIFEST)

    @property
    def weights_sha256(self) -> str:
        return self.manifest.files[WEIGHTS]

    def require_fit(self, dataset: "Dataset") -> None:
        """Make sure that this model can answer the rows of a dataset.

        Raises:
            ContractError: it was trained for other classes or another image shape.
        """
        _require_fit(self.folder, self.manifest.signature, dataset)


class Model:
    """A model folder opened for reading; every file has been checked.

    Raises:
        ContractError: a file is missing or has other bytes than the manifest says.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest = ModelManifest.load(self.folder / MODEL_MANIFEST)
        _check_files(self.folder, self.manifest.files, MODEL_MANIFEST)
        expected = version_of(self.manifest.files, self.manifest.signature)
        if self.manifest.version != expected:
            path = self.folder / MODEL_MANIFEST
            raise ContractError(f"{path} says version {self.manifest.version}, its files make {expected}")

    @property
    def version(self) -> str:
        return self.manifest.version

    def require_fit(self, dataset: "Dataset") -> None:
        """Make sure that this model can answer the rows of a dataset.

        Raises:
            ContractError: it was made for other classes or another image shape.
        """
        _require_fit(self.folder, self.manifest.signature, dataset)


def _require_fit(folder: Path, knows: Signature, dataset: "Dataset") -> None:
    has = dataset.description
    if (knows.classes, knows.image_shape) != (has.classes, has.image.shape):
        raise ContractError(
            f"{folder} was made for {knows.image_shape} images of {list(knows.classes)}, {dataset.folder} holds "
            f"{has.image.shape} images of {list(has.classes)}; give the dataset it was trained on")


def files_sha256(folder: Path, manifest: str) -> dict[str, str]:
    """Hash every file below `folder` but the manifest itself, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != manifest)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def version_of(files: dict[str, str], signature: Signature) -> str:
    """Return the version that these files and this signature make."""
    lines = [f"{name} {sha256}" for name, sha256 in sorted(files.items())]
    return text_sha256("\n".join([*lines, signature.model_dump_json()]))[:VERSION_CHARS]


def copy_model(source: Model, target: Path) -> Model:
    """Copy a model folder, whole or not at all; an equal one at `target` stays."""
    if target.exists():
        present = Model(target)
        if present.version != source.version:
            raise ContractError(f"{target} holds version {present.version}, not {source.version}")
        return present
    with complete_folder(target) as building:
        for name in [MODEL_MANIFEST, *source.manifest.files]:
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).write_bytes((source.folder / name).read_bytes())
    return Model(target)


def _check_files(folder: Path, files: dict[str, str], manifest: str) -> None:
    for name, sha256 in files.items():
        read_checked(folder / name, sha256, manifest)
