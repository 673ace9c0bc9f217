"""Folding a normalisation through a pooling: the same answers with fewer nodes, or nothing done."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penstock.components.contracts.model import ONNX_FILE, Model
from penstock.components.conversion.quantize.fold import fold_pooled_normalisation

CHANNELS = 3


def pooled(scale: list[float], bias: bool = True, relu: bool = True, seed: int = 0,
           also_read: str = "") -> onnx.ModelProto:
    """Make Conv, MaxPool, BatchNormalization and perhaps a ReLU; `also_read` has a second reader."""
    random = np.random.default_rng(seed)
    weights = {"filters": random.normal(size=(CHANNELS, 2, 3, 3)), "gamma": np.array(scale),
               "beta": random.normal(size=CHANNELS), "mean": random.normal(size=CHANNELS),
               "variance": random.uniform(0.5, 2, CHANNELS), **({"bias": random.normal(size=CHANNELS)} if bias else {})}
    nodes = [
        helper.make_node("Conv", ["x", "filters", *(["bias"] if bias else [])], ["maps"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["maps"], ["small"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["small", "gamma", "beta", "mean", "variance"], ["even"], "norm",
                         epsilon=1e-3),
        helper.make_node("Relu" if relu else "Sigmoid", ["even"], ["active"], "active"),
        helper.make_node("GlobalMaxPool", ["active"], ["y"], "top"),
    ]
    outputs = {"y": ["n", CHANNELS, 1, 1], "active": ["n", CHANNELS, 4, 4]}
    if also_read:
        nodes.append(helper.make_node("GlobalMaxPool", [also_read], ["also"], "also"))
        outputs["also"] = ["n", CHANNELS, 1, 1]
    graph = helper.make_graph(
        nodes, "pooled", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model: onnx.ModelProto) -> list[np.ndarray]:
    images = np.random.default_rng(1).normal(size=(4, 2, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": images}))


@given(st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_folded_graph_answers_the_same(bias: bool, relu: bool, seed: int) -> None:
    model = pooled([0.5, 1.0, 2.5], bias, relu, seed)
    before = answers(model)

    assert fold_pooled_normalisation(model.graph) == 1

    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    middle = ["Relu", "MaxPool"] if relu else ["MaxPool", "Sigmoid"]
    assert kinds == ["Conv", *middle, "GlobalMaxPool"]
    assert {entry.name for entry in model.graph.initializer} == {"conv_folded_weight", "conv_folded_bias"}
    for expected, found in zip(before, answers(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "also_read"), [
    ([1.0, -0.1, 1.0], ""),  # a maximum does not pass through a negative scale
    ([1.0, 0.0, 1.0], ""),
    ([1.0, 1.0, 1.0], "maps"),  # somebody else wants the convolution as it is
    ([1.0, 1.0, 1.0], "small"),
])
def test_what_would_change_the_answers_is_left_alone(scale: list[float], also_read: str) -> None:
    model = pooled(scale, also_read=also_read)
    before = model.SerializeToString()

    assert fold_pooled_normalisation(model.graph) == 0
    assert model.SerializeToString() == before


def test_every_pooling_of_a_network_is_folded(convnet: Model) -> None:
    model = onnx.load(convnet.folder / ONNX_FILE)

    assert fold_pooled_normalisation(model.graph) == 3
    assert "BatchNormalization" not in [node.op_type for node in model.graph.node]
    assert fold_pooled_normalisation(model.graph) == 0
