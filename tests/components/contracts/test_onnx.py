"""Running a Model folder: by value on a graph written by hand, and refused where golden rows are not reproduced."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penstock.components.contracts.errors import ContractError
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
from penstock.components.contracts.onnx import BATCH, OnnxModel

SIGNATURE = Signature(height=2, width=2, channels=1, classes=("top", "bottom"))
MATRIX = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32) / 255  # sums the upper and the lower row of pixels


def expected(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) @ MATRIX


def write_model(folder: Path, golden_error: float = 0.0, tolerance: float = 1e-4) -> Model:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
         helper.make_node("Flatten", ["pixels"], ["flat"]),
         helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
         helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)],
        "rows",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 2, 2, 1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(MATRIX, "matrix")])
    inputs = np.arange(32, dtype=np.uint8).reshape(8, 2, 2, 1)
    with complete_folder(folder) as building:
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
                  building / ONNX_FILE)
        np.savez(building / GOLDEN, inputs=inputs, logits=expected(inputs) + np.float32(golden_error))
        files = files_sha256(building, MODEL_MANIFEST)
        ModelManifest(name="rows", version=version_of(files, SIGNATURE), signature=SIGNATURE,
                      preprocessing=Preprocessing(mean=(0.0,), std=(1.0,)), metrics={}, golden_tolerance=tolerance,
                      origin=Origin(dataset="toy", dataset_hash="0", config={}, code_version="1"), files=files,
                      ).save(building / MODEL_MANIFEST)
    return Model(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel(write_model(tmp_path_factory.mktemp("models") / "model").folder)


@given(st.sampled_from([1, 2, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH]), st.integers(0, 2**32 - 1))
def test_predicts_by_value_whatever_the_number_of_rows(model: OnnxModel, rows: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (rows, 2, 2, 1), np.uint8)
    logits, probabilities = model.predict(images)

    np.testing.assert_allclose(logits, expected(images), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(rows), rtol=1e-5)
    assert (logits.dtype, probabilities.dtype) == (np.float32, np.float32)


def test_no_rows_give_no_answers(model: OnnxModel) -> None:
    logits, probabilities = model.predict(np.empty((0, 2, 2, 1), np.uint8))

    assert logits.shape == probabilities.shape == (0, 2)


def test_golden_rows_are_reproduced(model: OnnxModel) -> None:
    assert model.check_golden() < 1e-6


@pytest.mark.parametrize("wrong", [0.01, -0.01, float("nan")])
def test_golden_rows_that_are_not_reproduced_are_refused(tmp_path: Path, wrong: float) -> None:
    shifted = OnnxModel(write_model(tmp_path / "model", golden_error=wrong).folder)

    with pytest.raises(ContractError, match=f"{GOLDEN}: logits differ by .*, allowed 0.0001; version"):
        shifted.check_golden()


def test_the_tolerance_is_the_manifests(tmp_path: Path) -> None:
    generous = OnnxModel(write_model(tmp_path / "model", golden_error=0.01, tolerance=0.02).folder)

    assert generous.check_golden() == pytest.approx(0.01, abs=1e-4)


def test_a_damaged_graph_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    damaged = write_model(tmp_path / "model")
    (damaged.folder / ONNX_FILE).write_bytes(b"no graph")

    with pytest.raises(ContractError, match=ONNX_FILE):
        OnnxModel(damaged.folder)
