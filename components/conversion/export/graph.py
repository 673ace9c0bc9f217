"""From a torch network to the bytes of an ONNX file: same network, same bytes, nothing of this machine inside.

Converts only; `step` decides whether the result may ship.
"""

import torch
from onnx import ModelProto, checker
from torch import nn

__all__ = ["Served", "onnx_bytes"]


class Served(nn.Module):
    """A network as it is served: raw pixels in, logits and probabilities out.

    Args:
        network: (N, H, W, C) uint8 to (N, classes) logits, its preprocessing inside.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(image)
        return logits, torch.softmax(logits, dim=1)


def onnx_bytes(network: nn.Module, image_shape: tuple[int, int, int], opset: int) -> bytes:
    """Export a network with a free batch size.

    The exporter leaves stack traces and file paths in the graph; they are taken out, so that the bytes depend on the
    network alone.

    Args:
        network: (N, H, W, C) uint8 to (N, classes) logits.

    Raises:
        onnx.checker.ValidationError: the exporter made an invalid graph.
    """
    # Two rows: torch.export takes a dimension of 1 for a constant.
    example = torch.zeros((2, *image_shape), dtype=torch.uint8)
    program = torch.onnx.export(
        Served(network).eval(), (example,), dynamo=True, verbose=False, opset_version=opset, external_data=False,
        input_names=["image"], output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert program is not None  # None only without dynamo
    model = ModelProto.FromString(program.model_proto.SerializeToString())
    _clean(model)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _clean(model: ModelProto) -> None:
    """Take out what says where and how the graph was made."""
    graph = model.graph
    graph.name = "penstock"
    for part in [graph, *model.functions]:
        for entry in [part, *part.node, *part.value_info]:
            entry.ClearField("doc_string")
            entry.ClearField("metadata_props")
    for entry in [model, *graph.input, *graph.output, *graph.initializer]:
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
