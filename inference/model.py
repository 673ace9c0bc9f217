"""The classifier as a kserve model: load, prove itself on its golden rows, answer.

Computes in a thread of its own, because kserve runs a model on the event loop. Knows no HTTP: `server` does.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import kserve

from penstock.components.contracts.model import Signature
from penstock.components.contracts.onnx import OnnxModel
from penstock.inference import protocol, v1
from penstock.inference.metrics import VersionMetrics

__all__ = ["Classifier", "Protocol", "RawRequest"]

Protocol = Literal["v1", "v2"]

log = logging.getLogger("penstock.inference")


class RawRequest(NamedTuple):
    """A body as it came, its header `Inference-Header-Content-Length` ("": none), and the protocol of its URL."""

    body: bytes
    json_size: str
    protocol: Protocol = "v2"


class Classifier(kserve.Model):  # type: ignore[misc]  # kserve ships no types
    """One Model folder under one name.

    Args:
        name: what clients call it; on Kubernetes the InferenceService's name.
        folder: a Model folder.
        threads: CPU threads of one computation; requests are computed one after another.
        max_batch: images allowed in one request.
    """

    def __init__(self, name: str, folder: Path, threads: int, max_batch: int) -> None:
        super().__init__(name)
        self.folder = folder
        self.max_batch = max_batch
        self.loaded = False
        self._threads = threads
        self._executor = ThreadPoolExecutor(1, "compute")

    def load(self) -> bool:
        """Load the folder and reproduce its golden rows; the model is ready only after that.

        Raises:
            ContractError: the folder is damaged, or this machine computes something else.
        """
        started = time.perf_counter()
        self._onnx = OnnxModel(self.folder, self._threads)
        difference = self._onnx.check_golden()
        self.metrics = VersionMetrics(self.name, self.version, self.signature.classes)
        self.loaded = self.ready = True
        log.info("event=ready model=%s version=%s golden_difference=%.3g seconds=%.3f",
                 self.name, self.version, difference, time.perf_counter() - started)
        return True

    @property
    def version(self) -> str:
        return self._onnx.model.version

    @property
    def signature(self) -> Signature:
        return self._onnx.model.manifest.signature

    async def predict(self, payload: RawRequest, headers: dict[str, str] | None = None,
                      response_headers: dict[str, str] | None = None) -> protocol.Answer:
        """Answer one request, off the event loop.

        Raises:
            Refusal: the request does not fit, or the model computed NaN.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, payload)

    def _answer(self, request: RawRequest) -> protocol.Answer:
        if request.protocol == "v1":
            logits, probabilities = self._onnx.predict(v1.decode(request.body, self.signature, self.max_batch))
            answer = v1.encode(logits, probabilities, model=self.name, version=self.version,
                               classes=self.signature.classes)
        else:
            question = protocol.decode(request.body, request.json_size, self.signature, self.max_batch)
            logits, probabilities = self._onnx.predict(question.images)
            answer = protocol.encode(question, logits, probabilities, model=self.name, version=self.version,
                                     classes=self.signature.classes)
        self.metrics.count_predictions(logits)
        return answer
