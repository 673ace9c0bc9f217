"""The int8 graph: what is quantized and what is not, the same bytes every time, and no input that is clipped."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.model import ONNX_FILE, Model
from penstock.components.conversion.quantize.graph import Calibration, int8_bytes, kept_in_float

PIXELS = (-0.4 / 0.3, 0.6 / 0.3)
Quantized = dict[str, onnx.NodeProto]


@pytest.fixture(scope="module")
def rows(sides: Dataset) -> np.ndarray:
    return images_array(sides.read("train"), sides.description.image)


def quantize(model: Model, rows: np.ndarray, calibration: Calibration = "minmax", **options: bool) -> onnx.ModelProto:
    return onnx.load_from_string(int8_bytes((model.folder / ONNX_FILE).read_bytes(), rows, PIXELS, calibration,
                                            **options))


def in_int8(model: onnx.ModelProto) -> list[str]:
    """Name the kinds of the nodes whose first input comes out of eight bits."""
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [node.op_type for node in model.graph.node if node.input and node.input[0] in dequantized]


def weights_of(model: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(entry) for entry in model.graph.initializer
            if entry.data_type == TensorProto.INT8 and len(entry.dims) > 1]


def test_all_convolutions_but_the_first_compute_in_int8(convnet: Model, rows: np.ndarray) -> None:
    quantized = quantize(convnet, rows)
    kinds = [node.op_type for node in quantized.graph.node]

    assert "BatchNormalization" not in kinds
    assert (kinds.count("Conv"), in_int8(quantized).count("Conv")) == (7, 6)
    assert in_int8(quantized).count("Gemm") == 1
    assert in_int8(quantized).count("Add") == 3
    assert len(weights_of(quantized)) == 7
    assert not quantized.metadata_props


def test_the_logits_and_what_follows_the_last_layer_stay_in_float(convnet: Model, rows: np.ndarray) -> None:
    graph = quantize(convnet, rows).graph
    producers = {name: node for node in graph.node for name in node.output}

    assert producers["logits"].op_type == "Mul"  # the factor of our head
    assert producers[producers["logits"].input[0]].op_type == "Gemm"
    assert producers["probabilities"].input[0] == "logits"
    kept = kept_in_float(onnx.load(convnet.folder / ONNX_FILE).graph)
    assert [node.op_type for node in onnx.load(convnet.folder / ONNX_FILE).graph.node if node.name in kept] == [
        "Conv", "Mul"]


@pytest.mark.parametrize(("network", "layers"), [("linear", 1), ("mlp", 3)])
def test_networks_without_convolutions_are_quantized_too(
        export_network: Callable[[str], Model], rows: np.ndarray, network: str, layers: int) -> None:
    quantized = quantize(export_network(network), rows)

    assert in_int8(quantized).count("Gemm") == layers
    assert len(weights_of(quantized)) == layers


def test_dim_rows_do_not_make_bright_pixels_clip(export_network: Callable[[str], Model], rows: np.ndarray) -> None:
    graph = quantize(export_network("linear"), rows // 4).graph
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    values = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    scale, zero = values[first.input[1]], values[first.input[2]]

    low, high = (float(scale) * (level - int(zero)) for level in (0, 255))
    assert (low, high) == pytest.approx(PIXELS, abs=float(scale))


def test_reduced_weights_have_seven_bits(convnet: Model, rows: np.ndarray) -> None:
    full, reduced = (weights_of(quantize(convnet, rows, reduce_range=reduce)) for reduce in (False, True))

    assert max(np.abs(weight).max() for weight in full) == 127
    assert max(np.abs(weight.astype(int)).max() for weight in reduced) <= 64
    assert all(np.abs(weight.reshape(len(weight), -1)).max() > 100 for weight in full[:-1])


@pytest.mark.parametrize("calibration", ["percentile", "entropy"])
def test_other_calibrations_take_narrower_ranges_and_print_nothing(
        convnet: Model, rows: np.ndarray, calibration: Calibration, capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture) -> None:
    def scales(model: onnx.ModelProto) -> dict[str, float]:
        return {entry.name: float(numpy_helper.to_array(entry)) for entry in model.graph.initializer
                if entry.name.endswith("_scale") and not entry.dims}

    widest, found = scales(quantize(convnet, rows)), scales(quantize(convnet, rows, calibration))

    assert widest.keys() == found.keys()
    assert all(found[name] <= widest[name] * 1.01 for name in widest)
    assert found != widest
    assert capsys.readouterr().out == ""
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_the_bytes_are_the_same_in_another_process(convnet: Model, rows: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    script = ("import hashlib, sys, numpy; from penstock.components.conversion.quantize.graph import int8_bytes; "
              "model, rows = open(sys.argv[1], 'rb').read(), numpy.load(sys.argv[2]); "
              f"print(hashlib.sha256(int8_bytes(model, rows, {PIXELS}, 'minmax')).hexdigest())")
    command = [sys.executable, "-c", script, str(convnet.folder / ONNX_FILE), str(tmp_path / "rows.npy")]
    found = {subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True,
                            text=True).stdout for seed in ("1", "2")}

    assert len(found) == 1


def test_a_graph_with_nothing_to_quantize_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
         helper.make_node("ReduceMean", ["pixels", "axes"], ["logits"], "mean", keepdims=0),
         helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1)],
        "means", [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 2, 2, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(np.array([1, 2]), "axes")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    with pytest.raises(StepError, match=r"nothing in the graph can be quantized: of its 3 nodes .*set method=none"):
        int8_bytes(model.SerializeToString(), np.zeros((4, 2, 2, 3), np.uint8), PIXELS, "minmax")
