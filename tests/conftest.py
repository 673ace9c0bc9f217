"""What many tests start from: a home of their own, a small dataset, small models that serve, the same examples.

The hypothesis examples are the same every time.
"""

import base64
import io
import os
import tarfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from hypothesis import settings

from penstock.components import images
from penstock.components.contracts.dataset import Dataset, Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import (
    GOLDEN,
    MODEL_MANIFEST,
    ONNX_FILE,
    Model,
    ModelManifest,
    Origin,
    Preprocessing,
    Signature,
    files_sha256,
    version_of,
)
from penstock.components.control.base import Manifest, ObjectRef, outcome
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.data.ingest.step import IngestConfig, run

CLASSES = ("dark", "left", "right")
SIZE = 8

# No deadline: the machine may be busy. Derandomized: a test that was green stays green until the code changes.
settings.register_profile("penstock", deadline=None, derandomize=True)
settings.load_profile("penstock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a cluster where none is named.

    And begin with the files that take longest, so that no worker is left alone with one in the end.
    """
    if not os.environ.get("KUBECONFIG"):
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason="needs a cluster: KUBECONFIG"))
    longest = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in longest)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give penstock an empty home that goes with the test."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("PENSTOCK_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a dataset folder once: 200 training and 40 test pictures of 16x16 in 4 classes, with slice columns."""
    folder = tmp_path_factory.mktemp("shapes") / "dataset"
    run(folder, IngestConfig(source="synthetic://shapes?rows=200&size=16&classes=4"))
    return folder


def pictures(count: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures that are dark, or bright on one side; returns (N, 8, 8, 1) uint8 and (N,) labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    bright = np.zeros((count, SIZE, SIZE, 1))
    bright[labels == 1, :, : SIZE // 2] = 60
    bright[labels == 2, :, SIZE // 2 :] = 60
    return np.clip(90 + bright + random.normal(0, noise, bright.shape), 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 rows a split and the slice columns `light` (two values) and `scan` (one value a row)."""
    splits = {}
    for seed, name in enumerate(("train", "validation", "test")):
        images, labels = pictures(120, seed, noise=90)
        ids = [f"{name}-{i:03d}" for i in range(len(labels))]
        table = rows_table(ids, images, labels)
        splits[name] = table.append_column("light", [["lamp" if i % 4 else "sun" for i in range(120)]]).append_column(
            "scan", [ids])
    image = ImageFormat(height=SIZE, width=SIZE, channels=1)
    description = Description(name="sides", source="test", classes=CLASSES, image=image)
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", description, splits)


def write_model(folder: Path, weights: np.ndarray, size: int = SIZE) -> Model:
    """Write a Model folder that multiplies the mean brightness of the left and the right half, and 1, by (3, 3)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    signature = Signature(height=size, width=size, channels=1, classes=CLASSES)
    left = np.zeros((size, size), np.float32)
    left[:, : size // 2] = 2 / size**2
    halves = np.stack([left.ravel(), left[:, ::-1].ravel()], axis=1) / 255
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "halves"], ["sides"]),
            helper.make_node("Gemm", ["sides", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "sides",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *signature.image_shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(halves.astype(np.float32), "halves"),
         numpy_helper.from_array(weights[:2].astype(np.float32), "weights"),
         numpy_helper.from_array(weights[2].astype(np.float32), "bias")],
    )
    inputs = np.random.default_rng(0).integers(0, 256, (8, *signature.image_shape), np.uint8)
    logits = (inputs.reshape(8, -1) @ halves) @ weights[:2] + weights[2]
    with complete_folder(folder) as building:
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
                  building / ONNX_FILE)
        np.savez(building / GOLDEN, inputs=inputs, logits=logits.astype(np.float32))
        files = files_sha256(building, MODEL_MANIFEST)
        ModelManifest(
            name="sides", version=version_of(files, signature), signature=signature,
            preprocessing=Preprocessing(mean=(0.0,), std=(1.0,)),
            origin=Origin(dataset="sides", dataset_hash="d1", config={}, code_version="test"),
            metrics={}, golden_tolerance=1e-4, files=files,
        ).save(building / MODEL_MANIFEST)
    return Model(folder)


GOOD = np.array([[0, 30, 0], [0, 0, 30], [14, 0, 0]], float)  # left bright: left; right bright: right; else dark
WRONG = GOOD[:, [1, 2, 0]]  # never right
ALIKE = GOOD * 1.5  # other weights, same answers


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Three models: good, alike (always the same answer as good) and wrong."""
    folder = tmp_path_factory.mktemp("models")
    return {name: write_model(folder / name, weights)
            for name, weights in (("good", GOOD), ("alike", ALIKE), ("wrong", WRONG))}


class ModelStore:
    """Model folders in a claim on the cluster of KUBECONFIG, put there by a Job; `pvc://` names them."""

    unpack = "import base64, io, sys, tarfile; " \
             "tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.argv[1]))).extractall('/models')"

    def __init__(self) -> None:
        self.plane = KubernetesPlane()
        self.claim: Manifest = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": f"models-{uuid.uuid4().hex[:8]}"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Mi"}}}}
        self.plane.apply(self.claim)

    def put(self, *folders: Path) -> None:
        """Copy folders; each then is at `uri` of its name."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for folder in folders:
                tar.add(folder, folder.name)
        name = self.claim["metadata"]["name"]
        container = {"name": "copy", "image": images.LIGHT, "command": ["python", "-c", self.unpack],
                     "args": [base64.b64encode(archive.getvalue()).decode()], "securityContext": {"runAsUser": 0},
                     "volumeMounts": [{"name": "models", "mountPath": "/models"}]}
        pod = {"restartPolicy": "Never", "containers": [container],
               "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": name}}]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"copy-{uuid.uuid4().hex[:8]}"},
               "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
        self.plane.apply(job)
        *_, found = self.plane.watch(ObjectRef.of(job), timedelta(minutes=3))
        assert outcome(found) == "succeeded", self.plane.failure(ObjectRef.of(job))
        self.plane.delete(ObjectRef.of(job))

    def uri(self, folder: str) -> str:
        return f"pvc://{self.claim['metadata']['name']}/{folder}"

    def clean(self) -> None:
        self.plane.delete(ObjectRef.of(self.claim))


@pytest.fixture(scope="session")
def model_store(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelStore]:
    """The three models in a claim, as good, alike and wrong; and `broken`, whose file is not what model.json says."""
    store = ModelStore()
    broken = tmp_path_factory.mktemp("models") / "broken"
    copytree(models["good"].folder, broken)
    (broken / ONNX_FILE).write_bytes(b"no model")
    store.put(*(model.folder for model in models.values()), broken)
    yield store
    store.clean()
