"""The deployment steps one after another on the real laptop plane: Envoy, real predictors, real faults."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport
from penstock.components.control.base import ControlPlane
from penstock.components.control.inference_service import service_ref, traffic
from penstock.components.control.laptop import status
from penstock.components.control.laptop.plane import LaptopPlane
from penstock.components.control.laptop.processes import free_port
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.step import run as analyse_canary
from penstock.components.deployment.promote.step import PromoteConfig
from penstock.components.deployment.promote.step import run as promote
from penstock.components.deployment.registry import Lineage, Registry
from penstock.components.deployment.restore.step import run as restore
from penstock.components.deployment.roll_out.step import RollOutConfig
from penstock.components.deployment.roll_out.step import run as roll_out
from penstock.manifests import load

# penstock.inference with one thing wrong: the first argument says what.
FAULTY = '''
import sys, time
from penstock.inference import model
fault, answer = sys.argv.pop(1), model.Classifier._answer
def faulty(self, request):
    if fault == "fails":
        raise RuntimeError("out of memory")
    time.sleep(0.3)
    return answer(self, request)
model.Classifier._answer = faulty
from penstock.inference.__main__ import main
sys.exit(main())
'''
ANALYSE = AnalyseCanaryConfig(requests=400, rate=120, min_requests_per_version=40, max_error_rate_increase=0.05,
                              paired_rows=40, max_accuracy_drop=0.1, timeout=40,
                              max_latency_increase=0)  # a busy machine is not a slow canary


@dataclass
class Bench:
    """One plane with a registry and a dataset, and the steps with what they always get."""

    plane: ControlPlane
    registry: Registry
    models: dict[str, Model]
    dataset: Dataset
    folder: Path

    def candidate(self) -> str:
        """Return a good version that is not the stable one."""
        stable = self.registry.stages("sides").serving
        return next(self.models[name].version for name in ("good", "alike") if self.models[name].version != stable)

    def roll_out(self, version: str, run_id: str, runtime: str = "penstock-onnx") -> str:
        config = RollOutConfig(canary_percent=50, runtime=runtime, ready_timeout=60)
        return roll_out("sides", version, self.registry.folder, run_id, config, self.plane)

    def analyse(self, version: str, run_id: str, **changes: object) -> CanaryReport:
        config = AnalyseCanaryConfig.parse(ANALYSE.model_dump() | changes)
        return analyse_canary(self.dataset.folder, self.folder / run_id, "sides", version, run_id, config, self.plane)

    def promote(self, version: str, run_id: str) -> str:
        config = PromoteConfig()
        return promote(self.folder / run_id, "sides", version, self.registry.folder, run_id, config, self.plane)

    def trial(self, version: str, run_id: str, runtime: str = "penstock-onnx", **changes: object) -> CanaryReport:
        self.roll_out(version, run_id, runtime)
        report = self.analyse(version, run_id, **changes)
        self.promote(version, run_id)
        return report

    def faulty_runtime(self, fault: str) -> str:
        script = self.folder / "faulty.py"
        script.write_text(FAULTY)
        runtime = load("serving/servingruntime.yaml")
        runtime["metadata"]["name"] = fault
        runtime["spec"]["containers"][0]["command"] = ["python", str(script), fault]
        self.plane.apply(runtime)
        return fault

    def shares(self) -> list[tuple[str, int]]:
        isvc = self.plane.get(service_ref("sides"))
        assert isvc is not None
        return [(entry.revision, entry.percent) for entry in traffic(isvc)]

    def pid(self, revision: str) -> int:
        revisions = [one for service in status.status().services for one in service.revisions]
        return next(one.pid for one in revisions if one.name == revision)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Model], sides: Dataset) -> Iterator[Bench]:
    """A plane where `good` serves, promoted by run-0; each test leaves one version with all traffic."""
    folder = tmp_path_factory.mktemp("laptop")
    registry = Registry(folder / "registry")
    for model in models.values():
        registry.register("sides", model, Lineage(run_id="run-0", dataset="sides", dataset_hash="d1", metrics={},
                                                  registered_at=datetime.now(UTC), made_by="test"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PENSTOCK_HOME", str(folder))
        environment.setenv("PENSTOCK_GATEWAY_PORT", str(free_port()))
        bench = Bench(LaptopPlane(), registry, models, sides, folder)
        try:
            assert bench.trial(models["good"].version, "run-0").verdict == "first"
            yield bench
        finally:
            status.stop()


def test_a_canary_as_good_as_stable_is_promoted(bench: Bench) -> None:
    before, candidate = bench.registry.stages("sides").serving, bench.candidate()
    old = bench.shares()

    report = bench.trial(candidate, "run-good")
    assert report.verdict == "promote", report.reason
    assert (report.canary.errors, report.unanswered) == (0, 0)
    assert report.stable is not None
    assert report.canary.requests + report.stable.requests <= ANALYSE.requests
    assert min(report.canary.requests, report.stable.requests) >= ANALYSE.min_requests_per_version
    assert report.agreement is not None
    assert report.agreement.estimate == 1
    assert [percent for _, percent in bench.shares()] == [100]
    assert bench.shares() != old
    assert (bench.registry.stages("sides").serving, bench.registry.stages("sides").previous) == (candidate, before)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("sleeps", "latency at p95: "),
     ("fails", "(burst of )?errors: ")],
)
def test_a_faulty_predictor_is_rolled_back_and_stable_is_as_before(bench: Bench, fault: str, reason: str) -> None:
    before = bench.shares()

    report = bench.trial(bench.candidate(), f"run-{fault}", bench.faulty_runtime(fault), max_latency_increase=0.5,
                         latency_floor_ms=100, requests=600)
    assert (report.verdict, bench.shares()) == ("roll_back", before)
    assert re.match(reason, report.reason)
    assert report.stable is not None
    assert report.stable.errors == 0
    assert bench.registry.stages("sides").history[-1].stage == "rolled_back"


def test_a_killed_canary_is_rolled_back_and_an_unjudged_one_restored(bench: Bench) -> None:
    before, candidate = bench.shares(), bench.candidate()
    assert bench.roll_out(candidate, "run-killed") == "canary"
    canary = next(name for name, _ in bench.shares() if name not in dict(before))
    killer = threading.Timer(0.5, os.kill, (bench.pid(canary), signal.SIGKILL))
    killer.start()
    report = bench.analyse(candidate, "run-killed", requests=2000)
    killer.join()

    assert report.verdict == "roll_back"
    assert report.reason.startswith(("stopped early: ", "burst of errors: ", "errors: "))
    assert report.stable is not None
    assert report.stable.errors == 0
    bench.promote(candidate, "run-killed")
    assert bench.shares() == before

    bench.roll_out(candidate, "run-left")
    assert restore("sides", bench.registry.folder, "run-left")
    assert bench.shares() == before
    assert CanaryLease(bench.plane, "sides", "run-left").holder == ""


def test_a_gateway_that_dies_costs_requests_and_no_verdict(bench: Bench) -> None:
    candidate = bench.candidate()
    bench.roll_out(candidate, "run-gateway")
    killer = threading.Timer(0.5, os.kill, (status.status().gateway_pid, signal.SIGKILL))
    killer.start()
    report = bench.analyse(candidate, "run-gateway", requests=300)
    killer.join()
    bench.promote(candidate, "run-gateway")

    assert 0 < report.unanswered <= 2 * ANALYSE.rate  # two seconds of traffic
    assert report.verdict == "promote", report.reason
    assert status.status().gateway_restarts >= 1
