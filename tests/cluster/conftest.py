"""What tests on a real cluster need: a plane, requests through the ingress, and names that meet nobody else's."""

import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from penstock.components.control.base import Manifest
from penstock.components.control.inference_service import Placement, service_ref, url
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.lease import CanaryLease, lease_ref
from penstock.components.deployment.traffic import finish_trial, start_trial
from penstock.manifests import load

INGRESS = os.environ.get("PENSTOCK_TEST_INGRESS", "")  # "": by the service's name inside the cluster
RUNTIME = "penstock-onnx"
PATIENCE = 300.0  # seconds for a move of the traffic; pods start slowly on a busy node
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every one of thousands of requests


@pytest.fixture(scope="session")
def plane() -> KubernetesPlane:
    """The plane of KUBECONFIG."""
    return KubernetesPlane()


@pytest.fixture
def name() -> str:
    """A name for one object."""
    return f"test-{uuid.uuid4().hex[:8]}"


class Traffic:
    """Sends requests to a service one after the other, in the background, and counts what comes back.

    Attributes:
        versions: how many answers came from each model version.
        failures: what went wrong, a line each.
    """

    def __init__(self, service: str, isvc: Manifest) -> None:
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self._url = f"{INGRESS or isvc['status']['address']['url']}/v2/models/{service}/infer"
        self._headers = {"Host": urlsplit(url(isvc)).netloc} if INGRESS else {}
        self._last, self._in_a_row = "", 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def forget(self) -> None:
        """Begin to count anew."""
        self.versions.clear()

    def wait(self, count: int) -> None:
        """Wait until so many answers have come since `forget`."""
        deadline = time.monotonic() + PATIENCE
        while self.versions.total() < count:
            assert time.monotonic() < deadline, (self.versions, self.failures[:3])
            time.sleep(0.05)

    def wait_for(self, version: str, count: int = 50) -> None:
        """Wait until so many answers in a row came from one version; gateways take new routes a moment late."""
        deadline = time.monotonic() + PATIENCE
        while self._last != version or self._in_a_row < count:
            assert time.monotonic() < deadline, (self.versions, self.failures[:3])
            time.sleep(0.05)

    def _run(self) -> None:
        image = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [128] * 64}
        with httpx.Client(headers=self._headers, timeout=30) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post(self._url, json={"inputs": [image]})
                    answer.raise_for_status()
                    version = answer.json()["model_version"]
                    self._in_a_row = self._in_a_row + 1 if version == self._last else 1
                    self._last = version
                    self.versions[version] += 1
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")


@pytest.fixture
def traffic(plane: KubernetesPlane) -> Callable[[str], Traffic]:
    """Make the requests to a service, once its status says where it is."""
    def to(service: str) -> Traffic:
        deadline = time.monotonic() + PATIENCE
        while not (isvc := plane.get(service_ref(service)) or {}).get("status", {}).get("address"):
            assert time.monotonic() < deadline, isvc
            time.sleep(0.2)
        return Traffic(service, isvc)

    return to


@pytest.fixture(scope="module")
def service(plane: KubernetesPlane, model_store, models) -> Iterator[str]:
    """A service whose stable version is the model `good`, put there by the steps' own functions."""
    service = f"canary-{uuid.uuid4().hex[:8]}"
    plane.apply(load("serving/servingruntime.yaml"))
    good = Placement(models["good"].version, model_store.uri("good"), RUNTIME)
    with CanaryLease(plane, service, "run-0", 60) as lease:
        start_trial(plane, service, good, 100, lease, PATIENCE)
        finish_trial(plane, service, good.version, 100, lease, PATIENCE)
        lease.release()
    yield service
    plane.delete(service_ref(service))
    plane.delete(lease_ref(service))
