"""Send held-out rows as requests, at a bounded rate, and keep what comes back.

Knows the Open Inference Protocol and the clock; neither the control plane nor a verdict.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from penstock.components.deployment.analyse_canary.observed import Answer

__all__ = ["replay"]

REQUEST_TIMEOUT = 20.0  # seconds; the gateway's own is minutes, so of a request that hangs nobody says whose it was
TICK = 0.1  # seconds between two looks at `stop` while nothing is sent

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes a line for each request


def replay(images: npt.NDArray[np.uint8], rows: Sequence[int], url: str, rate: float, concurrency: int,
           stop: Callable[[Sequence[Answer]], bool]) -> list[Answer]:
    """Ask about one row per request.

    Args:
        images: (N, H, W, C) uint8.
        rows: which of them, in this order.
        url: of the `infer` endpoint.
        rate: requests per second at most; answers that are slower than that lower it.
        concurrency: requests under way at once.
        stop: called often, from the calling thread, with the answers to all requests before the first that is still
            under way: who counted only what has come back would see the fast ones first. True: send no more.

    Returns:
        An answer for each request that was sent, in the order in which they were sent.
    """
    answers: list[Answer] = []
    under_way: deque[Future[Answer]] = deque()
    places = threading.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with (httpx.Client(timeout=REQUEST_TIMEOUT, limits=limits, trust_env=False) as client,
          ThreadPoolExecutor(concurrency) as pool):
        start = time.monotonic()

        def ask(row: int) -> Answer:
            try:
                return _ask(client, url, images[row], row, start)
            finally:
                places.release()

        def stopped() -> bool:
            while under_way and under_way[0].done():
                answers.append(under_way.popleft().result())  # raises what went wrong here, not there
            return stop(answers)

        for index, row in enumerate(rows):
            if not _wait(start + index / rate, places, stopped):
                break
            under_way.append(pool.submit(ask, row))
        answers += [request.result() for request in under_way]
    return answers


def _wait(due: float, places: threading.Semaphore, stopped: Callable[[], bool]) -> bool:
    """Wait until a request is due and there is a place for it; false where that is no longer wanted."""
    while not stopped():
        pause = due - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, TICK))
        elif places.acquire(timeout=TICK):
            return True
    return False


def _ask(client: httpx.Client, url: str, image: npt.NDArray[np.uint8], row: int, start: float) -> Answer:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *image.shape], "data": image.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    sent = time.monotonic()
    try:
        response = client.post(url, content=body, headers={"content-type": "application/json"})
    except httpx.TransportError as error:
        return Answer(row, sent - start, time.monotonic() - sent, 0, arrived=isinstance(error, httpx.ReadTimeout))
    seconds = time.monotonic() - sent
    version, predicted = _read(response) if response.status_code == 200 else ("", -1)
    return Answer(row, sent - start, seconds, response.status_code, response.headers.get("x-penstock-revision", ""),
                  version or response.headers.get("x-model-version", ""), predicted)


def _read(response: httpx.Response) -> tuple[str, int]:
    """Return the model version and the predicted class; "" and -1 for what the answer does not hold."""
    try:
        answer: dict[str, Any] = response.json()
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        scores = np.asarray(outputs["probabilities"] if "probabilities" in outputs else outputs["logits"], float)
    except (ValueError, KeyError, TypeError):  # no JSON, or not that of the protocol
        return "", -1
    predicted = int(scores.argmax()) if scores.size and np.isfinite(scores).all() else -1
    return str(answer.get("model_version", "")), predicted
