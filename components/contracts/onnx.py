"""Run a Model folder with onnxruntime: the one place that knows how, for the server, the gate and the export check.

Takes raw uint8 pixels; there is nothing to normalise. Imports onnxruntime, so only those who predict import this.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.model import GOLDEN, ONNX_FILE, Model

__all__ = ["OnnxModel"]

BATCH = 256  # rows a call: past this ORT gains nothing on a small net and only takes memory


class OnnxModel:
    """A Model folder loaded into one onnxruntime session.

    Args:
        folder: a Model folder.
        threads: intra-op threads of the session; 1 per replica served best (facts measured on 2 cores).

    Raises:
        ContractError: the folder is damaged.
    """

    def __init__(self, folder: Path | str, threads: int = 1) -> None:
        self.model = Model(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(self.model.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"])

    def predict(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Classify raw pixels.

        Args:
            images: (N, H, W, C) uint8.

        Returns:
            Logits and probabilities, each (N, classes) float32.
        """
        parts = [self._session.run(["logits", "probabilities"], {"image": images[start : start + BATCH]})
                 for start in range(0, len(images), BATCH)]
        classes = len(self.model.manifest.signature.classes)
        if not parts:
            return np.empty((0, classes), np.float32), np.empty((0, classes), np.float32)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def golden_difference(self) -> float:
        """Answer the golden rows; returns the largest absolute difference of a logit from what is expected."""
        with np.load(self.model.folder / GOLDEN) as golden:
            inputs, expected = golden["inputs"], golden["logits"]
        return float(np.abs(self.predict(inputs)[0] - expected).max())

    def check_golden(self) -> float:
        """Reproduce the golden rows.

        Returns:
            The largest absolute difference of a logit.

        Raises:
            ContractError: it is above the manifest's tolerance: this machine computes another model.
        """
        difference, tolerance = self.golden_difference(), self.model.manifest.golden_tolerance
        if not difference <= tolerance:
            remedy = ""
            if self.model.manifest.origin.config.get("quantize.reduce_range") == "False":
                remedy = "; int8 overflows on a CPU without VNNI: quantize with reduce_range=true, or ship fp32"
            raise ContractError(
                f"{self.model.folder / GOLDEN}: logits differ by {difference:.3g}, allowed {tolerance:.3g}; "
                f"version {self.model.version} does not compute here what it computed when it was exported{remedy}")
        return difference
