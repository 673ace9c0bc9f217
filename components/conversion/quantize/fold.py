"""Fold a normalisation that follows a pooling into the convolution before it.

The exporter folds what follows a convolution directly. Here a pooling stands between, as in our convnet, and left
alone the normalisation computes in float: int8 took 0.172 ms for a row with it and 0.158 ms without, 13.5 and 12.9 ms
for 64 (AMD EPYC with VNNI, one thread, 2026-11-21). Rewrites a graph in memory; quantizes nothing.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["fold_pooled_normalisation"]


def fold_pooled_normalisation(graph: GraphProto) -> int:
    """Turn every Conv, MaxPool, BatchNormalization into Conv, MaxPool, and put a ReLU behind them before the pooling.

    Exact, but for rounding: a maximum passes through a positive scale, a shift and a ReLU. With the ReLU in front, the
    values to quantize start at zero and use all 256 levels. A normalisation with a scale of zero or less stays.

    Returns:
        How many were folded.
    """
    folded = [node.name for node in list(graph.node) if node.op_type == "BatchNormalization" and _fold(graph, node)]
    nodes = [node for node in graph.node if node.name not in folded]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in graph.node for name in node.input}
    kept = [entry for entry in graph.initializer if entry.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return len(folded)


def _fold(graph: GraphProto, normalisation: NodeProto) -> bool:
    """Fold one, and leave it behind without a reader."""
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    weights = {entry.name: entry for entry in graph.initializer}
    pool = producers.get(normalisation.input[0])
    convolution = producers.get(pool.input[0]) if pool is not None and pool.op_type == "MaxPool" else None
    if pool is None or convolution is None or convolution.op_type != "Conv" or len(pool.output) > 1:
        return False
    fixed = [*convolution.input[1:], *normalisation.input[1:]]
    if readers[pool.input[0]] > 1 or readers[pool.output[0]] > 1 or not set(fixed) <= set(weights):
        return False
    scale, shift = _scale_and_shift(normalisation, [_array(weights[name]) for name in normalisation.input[1:]])
    if scale.min() <= 0:
        return False
    filters, *bias = [_array(weights[name]) for name in convolution.input[1:]]
    values = {"weight": filters * scale.reshape(-1, *[1] * (filters.ndim - 1)),
              "bias": shift + (scale * bias[0] if bias else 0)}
    made = [numpy_helper.from_array(value.astype(np.float32), f"{convolution.name}_folded_{name}")
            for name, value in values.items()]
    graph.initializer.extend(made)
    del convolution.input[1:]
    convolution.input.extend([entry.name for entry in made])
    after = [node for node in graph.node if normalisation.output[0] in node.input]
    if len(after) == 1 and after[0].op_type == "Relu":
        _swap(pool, after[0])
    else:
        pool.output[0] = normalisation.output[0]
        normalisation.output[0] += "_folded"
    return True


def _swap(pool: NodeProto, relu: NodeProto) -> None:
    """Let the ReLU come before the pooling, each in the other's place, so that the order of nodes holds."""
    image, answer, between = pool.input[0], relu.output[0], f"{pool.input[0]}_relu"
    first = helper.make_node("Relu", [image], [between], relu.name)
    second = NodeProto.FromString(pool.SerializeToString())
    second.input[0], second.output[0] = between, answer
    pool.CopyFrom(first)
    relu.CopyFrom(second)


def _scale_and_shift(normalisation: NodeProto, fixed: list[npt.NDArray[np.float64]],
                     ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Say the normalisation of each channel as `value * scale + shift`."""
    gamma, beta, mean, variance = fixed
    epsilon = next((entry.f for entry in normalisation.attribute if entry.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def _array(weight: TensorProto) -> npt.NDArray[np.float64]:
    return numpy_helper.to_array(weight).astype(np.float64)
