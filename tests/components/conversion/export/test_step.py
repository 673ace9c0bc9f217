"""Exporting a small trained model: it computes the same, it is the same each time, and what differs is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from penstock.components.contracts.dataset import Dataset, images_array, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import (
    GOLDEN,
    MODEL_MANIFEST,
    NETWORK,
    ONNX_FILE,
    TRAINED_MANIFEST,
    WEIGHTS,
    Model,
    TrainedModel,
    files_sha256,
    version_of,
)
from penstock.components.contracts.onnx import OnnxModel
from penstock.components.conversion.export.step import ExportConfig, check_parity, run
from penstock.components.training.worker.models import WithPreprocessing, load_exported, load_trained

DEFAULTS = ExportConfig()


@pytest.fixture(scope="module")
def exported(sides: Dataset, good: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return run(sides.folder, good, tmp_path_factory.mktemp("export") / "model", "sides", "run-1", DEFAULTS)


def torch_logits(trained: Path, images: np.ndarray) -> np.ndarray:
    network, manifest = load_trained(trained)
    with torch.inference_mode():
        return WithPreprocessing(network, manifest.preprocessing)(torch.from_numpy(images)).numpy()


def test_onnx_computes_what_torch_computes_at_any_batch_size(sides: Dataset, good: Path, exported: Model) -> None:
    images = images_array(sides.read("test"), sides.description.image).copy()
    expected = torch_logits(good, images)

    for rows in (1, 3, 120):
        logits, probabilities = OnnxModel(exported.folder).predict(images[:rows])
        np.testing.assert_allclose(logits, expected[:rows], atol=1e-4)
        np.testing.assert_allclose(probabilities, torch.softmax(torch.tensor(expected[:rows]), 1), atol=1e-5)


def test_the_manifest_says_what_it_is_and_where_it_came_from(sides: Dataset, good: Path, exported: Model) -> None:
    manifest = exported.manifest

    assert (manifest.name, manifest.origin.run_id, manifest.golden_tolerance) == ("sides", "run-1", 1e-3)
    assert manifest.origin.dataset_hash == sides.manifest.content_hash
    assert manifest.signature == TrainedModel(good).manifest.signature
    assert manifest.metrics == {"loss": 1.0}
    assert sorted(manifest.files) == sorted([GOLDEN, NETWORK, ONNX_FILE, WEIGHTS])


def test_the_graph_takes_raw_pixels_and_tells_nothing_of_this_machine(exported: Model) -> None:
    graph = onnx.load(exported.folder / ONNX_FILE).graph
    image, logits, probabilities = (entry.type.tensor_type for entry in [*graph.input, *graph.output])

    assert [entry.name for entry in [*graph.input, *graph.output]] == ["image", "logits", "probabilities"]
    assert (image.elem_type, logits.elem_type, probabilities.elem_type) == (
        onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT)
    assert image.shape.dim[0].dim_param
    assert [size.dim_value for size in image.shape.dim[1:]] == [8, 8, 1]
    content = (exported.folder / ONNX_FILE).read_bytes()
    assert b".py" not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_golden_rows_are_torchs_answers_and_are_reproduced(good: Path, exported: Model) -> None:
    with np.load(exported.folder / GOLDEN) as golden:
        assert golden["inputs"].shape == (32, 8, 8, 1)
        np.testing.assert_array_equal(golden["logits"], torch_logits(good, golden["inputs"]))
    assert OnnxModel(exported.folder).check_golden() <= 1e-4


def test_the_same_model_has_the_same_version_and_another_has_another(
        sides: Dataset, good: Path, poor: Path, exported: Model, tmp_path: Path) -> None:
    later = run(sides.folder, good, tmp_path / "later", "sides", "run-2", DEFAULTS)
    other = run(sides.folder, poor, tmp_path / "other", "sides", "run-1", DEFAULTS)

    assert later.manifest.files == exported.manifest.files
    assert later.version == exported.version != other.version


def test_the_network_can_be_built_again_from_the_model_folder(exported: Model) -> None:
    network, manifest = load_exported(exported.folder)

    assert not network.training
    with np.load(exported.folder / GOLDEN) as golden, torch.inference_mode():
        logits = WithPreprocessing(network, manifest.preprocessing)(torch.from_numpy(golden["inputs"]))
        np.testing.assert_array_equal(logits.numpy(), golden["logits"])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"width": 3}', b'{"network": "mlp", "depth": 3}'])
def test_a_damaged_network_description_is_named(exported: Model, content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    (folder / NETWORK).write_bytes(content)
    files = files_sha256(folder, MODEL_MANIFEST)
    version = version_of(files, exported.manifest.signature)
    exported.manifest.model_copy(update={"files": files, "version": version}).save(folder / MODEL_MANIFEST)

    with pytest.raises(ContractError, match=r"network\.json does not say how the network is built \(.*\); export"):
        load_exported(folder)


def test_a_finished_export_is_returned_and_another_one_is_not_overwritten(
        sides: Dataset, good: Path, poor: Path, exported: Model, tmp_path: Path) -> None:
    shutil.copytree(exported.folder, tmp_path / "model")
    before = (tmp_path / "model" / ONNX_FILE).stat().st_mtime_ns

    assert run(sides.folder, good, tmp_path / "model", "sides", "run-1", DEFAULTS).version == exported.version
    assert (tmp_path / "model" / ONNX_FILE).stat().st_mtime_ns == before
    with pytest.raises(ContractError, match=f"holds another export: version {exported.version} of sides"):
        run(sides.folder, poor, tmp_path / "model", "sides", "run-1", DEFAULTS)


def test_a_graph_that_computes_something_else_is_refused_and_nothing_is_written(
        sides: Dataset, poor: Path, exported: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (exported.folder / ONNX_FILE).read_bytes()
    monkeypatch.setattr("penstock.components.conversion.export.graph.onnx_bytes", lambda *_: wrong)

    figures = r"50 rows of validation logits differ by up to [\d.]+ \(tolerance 0.001; 50 rows beyond it\) and \d+ pred"
    with pytest.raises(StepError, match=figures):
        run(sides.folder, poor, tmp_path / "model", "sides", "run-1", ExportConfig(parity_rows=50))
    assert list(tmp_path.iterdir()) == []


def test_a_changed_prediction_is_refused_unless_it_was_a_tie(sides: Dataset, exported: Model) -> None:
    images = images_array(sides.read("test"), sides.description.image)[:3]
    logits, _ = OnnxModel(exported.folder).predict(images)
    tie, other = logits.copy(), logits.copy()
    order = np.argsort(logits[0])
    tie[0, order[-2]] = logits[0, order[-1]] + 0.1  # within the tolerance below, so that either class may win
    other[0, order[-2]] = logits[0, order[-1]] + 1.0

    gap = float(logits[0, order[-1]] - logits[0, order[-2]])
    assert check_parity(exported.folder, images, tie, "test", gap + 0.2) == pytest.approx(gap + 0.1, abs=1e-5)
    with pytest.raises(StepError, match="1 predictions changed"):
        check_parity(exported.folder, images, other, "test", 0.5)


def test_a_model_that_answers_nan_is_refused(sides: Dataset, exported: Model) -> None:
    images = images_array(sides.read("test"), sides.description.image)[:3]

    with pytest.raises(StepError, match="3 rows beyond it"):
        check_parity(exported.folder, images, np.full((3, 3), np.nan, np.float32), "test", 1)


def test_without_a_validation_split_the_test_rows_are_compared(sides: Dataset, good: Path, tmp_path: Path) -> None:
    small = write_dataset(tmp_path / "data", sides.description, {"test": sides.read("test").slice(0, 5)})
    model = run(small.folder, good, tmp_path / "model", "sides", "run-1", DEFAULTS)

    with np.load(model.folder / GOLDEN) as golden:
        assert len(golden["inputs"]) == 5


def test_bad_input_is_explained(sides: Dataset, good: Path, train_sides: Callable[..., Path], tmp_path: Path) -> None:
    empty = write_dataset(tmp_path / "data", sides.description, {"test": sides.read("test").slice(0, 0)})
    other = train_sides(steps=0, classes=("dark", "left", "top"))

    with pytest.raises(StepError, match="nothing to measure on"):
        run(empty.folder, good, tmp_path / "model", "sides", "run-1", DEFAULTS)
    with pytest.raises(ContractError, match="give the dataset it was trained on"):
        run(sides.folder, other, tmp_path / "model", "sides", "run-1", DEFAULTS)
    with pytest.raises(ContractError, match=f"{TRAINED_MANIFEST} is missing"):
        run(sides.folder, tmp_path / "nothing", tmp_path / "model", "sides", "run-1", DEFAULTS)
    with pytest.raises(ConfigError, match="tolerance=0"):
        ExportConfig.parse({"tolerance": 0})
    assert not (tmp_path / "model").exists()
