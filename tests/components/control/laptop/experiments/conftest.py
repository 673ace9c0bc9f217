"""A laptop plane, an Experiment for it, and trials that are small Python programs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.components.control.base import Manifest, ObjectRef, outcome
from penstock.components.control.laptop.plane import LaptopPlane
from penstock.manifests import load

PATIENCE = timedelta(seconds=60)
REF = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep")
# x counts; `while` names a file that must go before the trial may end, `print` what it says instead of a number.
TRIAL = """
import pathlib, sys, time
asked = dict(word.split("=") for word in sys.argv[1:])
print(f"trial {asked['name']} begins", flush=True)
while "while" in asked and pathlib.Path(asked["while"]).exists():
    time.sleep(0.02)
if "fail" in asked and float(asked["x"]) > float(asked["fail"]):
    sys.exit(f"x={asked['x']} is too much")
text = asked.get("print") or f"{float(asked['x']):.6e}"
print(f"score={text} other=1")
"""
OWNER = """
import json, sys, time
from pathlib import Path
from penstock.components.control.laptop.plane import LaptopPlane
plane = LaptopPlane(Path(sys.argv[1]))
plane.apply(json.loads(Path(sys.argv[2]).read_text()))
print("applied", flush=True)
time.sleep(600)
"""


class Bench:
    """A plane and an Experiment for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plane = LaptopPlane(folder / "laptop")
        self.script = folder / "trial.py"
        self.script.write_text(TRIAL)
        self.hold = folder / "hold"  # with `while={hold}` trials run until it is gone

    def experiment(self, *words: str, algorithm: str = "random", job: Manifest | None = None, **spec: Any) -> Manifest:
        """Search x from 0 to 1 for the greatest score; `words` are further arguments of each trial's program."""
        template = job or load("jobs/pytorchjob.yaml")
        for field in ("name", "namespace"):
            template["metadata"].pop(field, None)
        if job is None:
            worker = template["spec"]["pytorchReplicaSpecs"]["Worker"]
            worker["restartPolicy"] = "Never"
            worker["template"]["spec"]["containers"][0] |= self.command(*words)
        return {
            "apiVersion": REF.api_version, "kind": REF.kind, "metadata": {"name": REF.name, "labels": {"team": "a"}},
            "spec": {
                "objective": {"type": "maximize", "objectiveMetricName": "score", "additionalMetricNames": ["other"]},
                "algorithm": {"algorithmName": algorithm,
                              "algorithmSettings": [{"name": "random_state", "value": "7"}]},
                "parallelTrialCount": 2, "maxTrialCount": 4,
                "parameters": [{"name": "x", "parameterType": "double", "feasibleSpace": {"min": "0", "max": "1"}}],
                "trialTemplate": {
                    "primaryContainerName": "pytorch", "trialSpec": template,
                    "trialParameters": [{"name": "x", "reference": "x"},
                                        {"name": "name", "reference": "${trialSpec.Name}"}]},
            } | spec}

    def command(self, *words: str) -> dict[str, list[str]]:
        return {"command": ["python", str(self.script)],
                "args": ["x=${trialParameters.x}", "name=${trialParameters.name}", *words]}

    def finish(self) -> Manifest:
        """Wait for the end of the Experiment."""
        *_, last = self.plane.watch(REF, PATIENCE)
        assert outcome(last), last["status"]
        return last

    def run(self, manifest: Manifest) -> dict[str, Any]:
        """Apply, wait for the end, return the status."""
        self.plane.apply(manifest)
        return dict(self.finish()["status"])

    def trial(self, name: str) -> Manifest:
        found = self.plane.get(ObjectRef(REF.api_version, "Trial", name))
        assert found is not None
        return found

    def trials(self) -> list[Manifest]:
        """Return the Trials in their order."""
        folder = self.folder / "laptop" / "objects" / "trial"
        found = [self.trial(path.stem.removeprefix("default.")) for path in folder.glob("*.json")]
        return sorted(found, key=lambda trial: int(trial["metadata"]["annotations"]["penstock.dev/trial-number"]))

    def points(self) -> list[tuple[str, str]]:
        """Return name and x of each trial."""
        return [(trial["metadata"]["name"], trial["spec"]["parameterAssignments"][0]["value"])
                for trial in self.trials()]

    def jobs(self, kind: str = "pytorchjob") -> list[str]:
        """Return the names of the trials' jobs that are there."""
        return [path.stem for path in (self.folder / "laptop" / "objects" / kind).glob("*.json")]

    def running(self) -> int:
        return int((self.plane.get(REF) or {}).get("status", {}).get("trialsRunning", 0))

    def began(self) -> int:
        """Count the trials whose program runs or has run."""
        lines = self.folder / "laptop" / "logs" / "sweep.trials.log"
        return lines.read_text().count(" begins\n") if lines.exists() else 0

    def left(self) -> list[int]:
        """Return the pids of trials' programs that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if str(self.script) in words:
                found.append(process.pid)
        return found

    def eventually(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while not holds():
            assert time.monotonic() < deadline, self.plane.get(REF)
            time.sleep(0.02)

    @contextmanager
    def owned_by_another(self, manifest: Manifest) -> Iterator[int]:
        """Apply in a process of its own, as a step does; yield its pid, and kill it after the block."""
        path = self.folder / "experiment.json"
        path.write_text(json.dumps(manifest))
        owner = subprocess.Popen([sys.executable, "-c", OWNER, str(self.folder / "laptop"), str(path)],
                                 stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "applied\n"
            yield owner.pid
        finally:
            owner.stdout.close()
            owner.kill()
            owner.wait()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("penstock.components.control.laptop.agents.END_SECONDS", 0.5)
    bench = Bench(tmp_path)
    yield bench
    bench.plane.delete(REF)
    assert bench.jobs() == []
    assert bench.left() == []
