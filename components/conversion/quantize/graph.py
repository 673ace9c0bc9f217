"""From the bytes of a float ONNX file to those of an int8 one: which nodes compute in 8 bits, and with what ranges.

Static, with uint8 activations, int8 weights per output channel, and quantize-dequantize pairs that onnxruntime fuses.
What stays in float, measured on our convnet (2 epochs of Fashion-MNIST, 10,000 test rows, onnxruntime 1.31, one thread
of an AMD EPYC with VNNI, 2026-11-21; difference: the largest of a logit from the float model's):

- **The preprocessing and a first convolution over few values** (9 of grey pixels, 27 of coloured ones). There is
  nothing to gain from 8 bits, and onnxruntime loses its float layout: all in int8 0.142 ms a row and 0.28 % changed
  predictions, the first in float 0.122 ms and 0.16 %; with 3 channels 0.193 and 0.159 ms.
- **The logits and what follows the last layer.** Quantized to 256 levels they differ by 0.59 instead of 0.12, and a
  linear network changes 0.91 % of its predictions instead of 0.18 %. The last layer itself multiplies in 8 bits.
- **Normalisations that could not be folded and everything else that onnxruntime has no fast 8-bit kernel for.**

Converts only; `step` packs the result and `verify_parity` judges it.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, checker, load
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

from penstock.components.contracts.errors import StepError
from penstock.components.conversion.quantize.fold import fold_pooled_normalisation

__all__ = ["Calibration", "int8_bytes", "kept_in_float"]

Images = npt.NDArray[np.uint8]
Calibration = Literal["minmax", "percentile", "entropy"]
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile,
           "entropy": CalibrationMethod.Entropy}
WEIGHTED = ("Conv", "Gemm", "MatMul")
# Mul and Concat: EfficientNet-B0 0.78 -> 0.61 ms a row, DenseNet-121 5.7 -> 1.9 ms (same machine).
QUANTIZED = [*WEIGHTED, "Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Mul", "Relu"]
FEW_VALUES = 32  # products per output of a convolution, below which 8 bits lost
CALIBRATION_BATCH = 100  # rows whose intermediate values are held at a time
log = logging.getLogger(__name__)


def int8_bytes(model: bytes, rows: Images, pixels: tuple[float, float], calibration: Calibration,
               percentile: float = 99.999, reduce_range: bool = False) -> bytes:
    """Quantize a float graph that takes raw pixels; the same input gives the same bytes.

    Args:
        model: ONNX with input `image` (N, H, W, C) uint8 and outputs `logits` and `probabilities`.
        rows: (N, H, W, C) uint8, representative; the ranges of all values inside are taken from them.
        pixels: what black and white become by the preprocessing. A layer that reads pixels gets this range, whether
            the rows use all of it or not, so that no input is ever clipped.
        calibration: minmax takes the whole range seen, percentile leaves out the ends, entropy what costs least
            information.
        percentile: share of the values kept by `percentile`, in percent.
        reduce_range: weights in 7 bits, so that no CPU without VNNI overflows.

    Raises:
        StepError: nothing in the graph can be quantized.
    """
    source = ModelProto.FromString(model)
    folded = fold_pooled_normalisation(source.graph)
    checker.check_model(source, full_check=True)
    # Our own preparation is done; without this mark onnxruntime warns on the root logger.
    source.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    kept = kept_in_float(source.graph)
    options: dict[str, Any] = {
        "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"], "MatMulConstBOnly": True, "CalibStridedMinMax": 1,
        "CalibPercentile": percentile, "TensorQuantOverrides": _pixel_range(source.graph, kept, pixels)}
    said = io.StringIO()  # the calibrators print
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        target = Path(folder) / "int8.onnx"
        quantize_static(source, target, _Rows(rows), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        per_channel=True, reduce_range=reduce_range, calibrate_method=METHODS[calibration],
                        op_types_to_quantize=QUANTIZED, nodes_to_exclude=kept, extra_options=options)
        quantized = load(target)
    log.debug("calibration=%s %s", calibration, said.getvalue())
    weights = sum(node.op_type == "DequantizeLinear" for node in quantized.graph.node)
    if not weights:
        raise StepError(f"nothing in the graph can be quantized: of its {len(source.graph.node)} nodes "
                        f"{sorted({node.op_type for node in source.graph.node})} those of {QUANTIZED} stay in float; "
                        "set method=none")
    quantized.ClearField("metadata_props")
    checker.check_model(quantized, full_check=True)
    log.info("folded=%d in_float=%s rows=%d calibration=%s", folded, ",".join(kept), len(rows), calibration)
    return bytes(quantized.SerializeToString(deterministic=True))


def kept_in_float(graph: GraphProto) -> list[str]:
    """Name the nodes that are not quantized although their kind is: see the head of this module."""
    weights = {entry.name: list(entry.dims) for entry in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    kept = [node.name for node in graph.node if node.op_type == "Conv" and _few_values(node, weights)]
    waiting = ["logits", "probabilities"]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type not in WEIGHTED and node.name not in kept:
            kept.append(node.name)
            waiting.extend(node.input)
    return [node.name for node in graph.node if node.name in kept and node.op_type in QUANTIZED]


def _few_values(convolution: NodeProto, weights: dict[str, list[int]]) -> bool:
    """Depthwise convolutions have few values too, but an 8-bit kernel of their own."""
    groups = next((entry.i for entry in convolution.attribute if entry.name == "group"), 1)
    shape = weights.get(convolution.input[1])
    return groups == 1 and shape is not None and int(np.prod(shape[1:])) < FEW_VALUES


def _pixel_range(graph: GraphProto, kept: Sequence[str],
                 pixels: tuple[float, float]) -> dict[str, list[dict[str, Any]]]:
    """Fix the range of the value that the first layer reads, where that layer is quantized."""
    value = "image"
    while True:
        readers = [node for node in graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type in QUANTIZED:
            break
        value = readers[0].output[0]
    if not readers or any(node.op_type not in WEIGHTED or node.name in kept for node in readers):
        return {}
    low, high = (np.array(value, np.float32) for value in pixels)
    return {value: [{"rmin": low, "rmax": high}]}


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands out rows batch by batch; onnxruntime takes the ranges of one batch before it asks for the next."""

    def __init__(self, rows: Images) -> None:
        self._batches = [np.ascontiguousarray(rows[start : start + CALIBRATION_BATCH])
                         for start in range(0, len(rows), CALIBRATION_BATCH)]
        self._next, self._end = 0, len(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, Images] | None:
        if self._next >= self._end:
            return None
        self._next += 1
        return {"image": self._batches[self._next - 1]}
