"""A service on both planes: first deploy, canary, promotion, roll back, a canary that does not start.

Real predictors serve tiny models, moved by the functions that the deployment steps call. What a plane says is compared
with what the service answers.
"""

import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from penstock.components.contracts.errors import StepError
from penstock.components.contracts.model import ONNX_FILE, Model
from penstock.components.control.base import Manifest
from penstock.components.control.inference_service import (
    Placement,
    canary_version,
    newest_revision,
    percent_of,
    service_ref,
    stable_version,
    traffic,
    url,
)
from penstock.components.control.laptop import status
from penstock.components.control.laptop.processes import free_port
from penstock.components.control.lease import CanaryLease, lease_ref
from penstock.components.deployment.traffic import finish_trial, return_to_stable, start_trial
from penstock.manifests import load

# Where requests enter the cluster; "": by the service's name inside it. The laptop's gateway is what a URL says.
INGRESS = os.environ.get("PENSTOCK_TEST_INGRESS", "")
TIMEOUT = 240.0  # seconds for one move; a cluster starts pods
SHORT = 60.0  # for one that will not come about
IMAGE = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [128] * 64}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Shop:
    """A service, the models that it may serve, and a client.

    Args:
        uris: of the models by name.
    """

    def __init__(self, bed: Any, models: dict[str, Model], uris: dict[str, str]) -> None:
        self.bed, self.plane = bed, bed.plane
        self.name = bed.job("Job", "")["metadata"]["name"]
        runtime = self.plane.apply(load("serving/servingruntime.yaml"))  # stays: KServe takes one of its kind only
        versions = {name: models[name].version for name in ("good", "alike")} | {"broken": "broken"}
        self.models = {name: Placement(version, uris[name], runtime["metadata"]["name"])
                       for name, version in versions.items()}
        for ref in (lease_ref(self.name), service_ref(self.name)):
            bed.delete_in_the_end(ref)

    def start(self, model: str, percent: int = 50) -> Manifest:
        """Put a model on trial."""
        with self.lease() as lease:
            return start_trial(self.plane, self.name, self.models[model], percent, lease, TIMEOUT)

    def promote(self, model: str, percent: int = 50) -> Manifest:
        """End the trial of a model well."""
        with self.lease() as lease:
            return finish_trial(self.plane, self.name, self.models[model].version, percent, lease, TIMEOUT)

    def lease(self) -> CanaryLease:
        return CanaryLease(self.plane, self.name, "conformance")

    def get(self) -> Manifest:
        found: Manifest = self.bed.get(self.reference())
        return found

    def reference(self) -> Manifest:
        """Return what names the service; whatever its age."""
        ref = service_ref(self.name)
        return {"apiVersion": ref.api_version, "kind": ref.kind,
                "metadata": {"name": self.name, "creationTimestamp": ""}}

    def ask(self) -> str:
        """Send one request; return the version that answered, or what went wrong."""
        isvc = self.get()
        address = url(isvc)
        inside = address if self.bed.name == "laptop" else isvc["status"]["address"]["url"]
        host = {"Host": urllib.parse.urlsplit(address).netloc} if INGRESS else {}
        request = urllib.request.Request(
            f"{INGRESS or inside}/v2/models/{self.name}/infer", json.dumps({"inputs": [IMAGE]}).encode(),
            {"Content-Type": "application/json"} | host)
        try:
            with DIRECT.open(request, timeout=30) as response:
                return str(json.load(response)["model_version"])
        except urllib.error.HTTPError as error:
            with error:
                return f"HTTP {error.code} for {address}: {error.read().decode(errors='replace')[:200]}"
        except OSError as error:
            return f"no answer: {error}"

    def answers(self, count: int = 60) -> set[str]:
        """Return who answered of so many requests; a canary with half of them is not missed once in 10^18."""
        return {self.ask() for _ in range(count)}

    @contextmanager
    def customers(self) -> Iterator[Counter[str]]:
        """Ask all the time meanwhile; yield who answered how often."""
        seen: Counter[str] = Counter()
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                seen[self.ask()] += 1

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="session")
def deleted_services() -> Iterator[list[tuple[Any, Manifest]]]:
    """Wait in the end for the last pods of the services in it: they hold the claim with the models."""
    deleted: list[tuple[Any, Manifest]] = []
    yield deleted
    for bed, service in deleted:
        bed.eventually(lambda bed=bed, service=service: not bed.running(service))


@pytest.fixture
def shop(bed: Any, models: dict[str, Model], tmp_path: Path, request: pytest.FixtureRequest,
         monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Give a service that is not there yet."""
    if bed.name == "kubernetes":
        store, deleted = (request.getfixturevalue(name) for name in ("model_store", "deleted_services"))
        shop = Shop(bed, models, {name: store.uri(name) for name in ("good", "alike", "broken")})
        yield shop
        deleted.append((bed, shop.reference()))
        return
    monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", str(free_port()))
    broken = copytree(models["good"].folder, tmp_path / "broken")
    (broken / ONNX_FILE).write_bytes(b"no model")
    folders = {name: model.folder for name, model in models.items()} | {"broken": broken}
    yield Shop(bed, models, {name: f"file://{folder}" for name, folder in folders.items()})
    bed.clean()
    status.stop()


@pytest.fixture
def opened(shop: Shop) -> Shop:
    """A shop whose first model is stable."""
    shop.start("good")
    shop.promote("good")
    return shop


def shares(isvc: Manifest) -> list[int]:
    return sorted(entry.percent for entry in traffic(isvc))


def test_first_deploy(shop: Shop) -> None:
    """All traffic from the start, whatever the percent says, and yet on trial until it is promoted."""
    one = shop.models["good"]

    tried = shop.start("good", percent=20)

    assert (stable_version(tried), canary_version(tried)) == ("", one.version)
    assert percent_of(tried, newest_revision(tried)) == 100
    assert shop.answers() == {one.version}

    kept = shop.promote("good", percent=100)
    assert (stable_version(kept), canary_version(kept)) == (one.version, "")
    assert newest_revision(kept) == newest_revision(tried)
    assert shop.answers() == {one.version}


def test_canary_and_promotion(opened: Shop) -> None:
    one, two = opened.models["good"].version, opened.models["alike"].version
    before = newest_revision(opened.get())

    with opened.customers() as seen:
        tried = opened.start("alike")
        assert shares(tried) == [50, 50]
        assert (stable_version(tried), canary_version(tried)) == (one, two)
        assert newest_revision(tried) != before
        assert opened.answers() == {one, two}
        kept = opened.promote("alike")

    assert (stable_version(kept), canary_version(kept)) == (two, "")
    assert shares(kept) == [100]
    assert newest_revision(kept) == newest_revision(tried)
    opened.bed.eventually(lambda: opened.answers() == {two}, opened.answers)
    assert set(seen) == {one, two}


def test_roll_back(opened: Shop) -> None:
    one, two = opened.models["good"].version, opened.models["alike"].version
    with opened.customers() as seen:
        opened.start("alike")
        assert opened.answers() == {one, two}
        return_to_stable(opened.plane, opened.name, TIMEOUT)

    assert (stable_version(opened.get()), canary_version(opened.get())) == (one, "")
    opened.bed.eventually(lambda: opened.answers() == {one}, opened.answers)
    assert set(seen) == {one, two}


def test_a_canary_that_does_not_start(opened: Shop) -> None:
    """Nobody notices but the step: the stable version answers all the time, and holds everything in the end."""
    one = opened.models["good"].version
    with opened.customers() as seen:
        with opened.lease() as lease, pytest.raises(StepError, match=r"does not start|did not move within"):
            start_trial(opened.plane, opened.name, opened.models["broken"], 50, lease, SHORT)
        assert opened.answers() == {one}
        return_to_stable(opened.plane, opened.name, TIMEOUT)

    assert (stable_version(opened.get()), canary_version(opened.get())) == (one, "")
    assert opened.answers() == {one}
    assert set(seen) == {one}


def test_a_service_that_never_was_stable_goes_again(shop: Shop) -> None:
    with shop.lease() as lease, pytest.raises(StepError, match=r"does not start|did not move within"):
        start_trial(shop.plane, shop.name, shop.models["broken"], 50, lease, SHORT)

    return_to_stable(shop.plane, shop.name, TIMEOUT)

    assert shop.plane.get(service_ref(shop.name)) is None
