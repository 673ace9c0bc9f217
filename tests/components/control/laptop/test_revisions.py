"""Templates: how a container's command becomes one of this machine."""

import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.components.control.base import Manifest
from penstock.components.control.laptop.revisions import Failure, Template, canary_percent, template_of

SERVICE: Manifest = {"metadata": {"name": "digits"}, "spec": {"predictor": {"model": {
    "modelFormat": {"name": "onnx"}, "runtime": "script", "storageUri": "file:///srv/8080/model"}}}}


def runtime(**container: Any) -> Manifest:
    return {"spec": {"supportedModelFormats": [{"name": "onnx"}], "containers": [
        {"command": ["python", "-m", "penstock.inference"], "args": []} | container]}}


def template(**container: Any) -> Template:
    made = template_of(SERVICE, runtime(**container))
    assert isinstance(made, Template)
    return made


def test_name_folder_and_port_take_the_place_of_the_containers() -> None:
    made = template(args=["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080", "18080",
                          "/mnt/models-2"],
                    env=[{"name": "FILE", "value": "/mnt/models/model.onnx"}])

    filled = [made.filled(word, 20_001) for word in made.command]
    assert filled == [sys.executable, "-m", "penstock.inference", "--model_name=digits", "--model_dir=/srv/8080/model",
                      "--http_port=20001", "18080", "/mnt/models-2"]
    assert made.filled(made.env["FILE"], 20_001) == "/srv/8080/model/model.onnx"
    assert made.ready_path == "/v2/models/digits/ready"


def test_a_folder_with_a_space_is_found() -> None:
    uri = Path("/srv/my models").as_uri()

    assert template(args=["/mnt/models"]).model_copy(update={"uri": uri}).filled("/mnt/models", 1) == "/srv/my models"


@pytest.mark.parametrize(("command", "program"), [
    (["python3", "x.py"], sys.executable), (["/bin/sh"], "/bin/sh"), (["no-such-script"], "no-such-script")])
def test_python_is_this_one_and_other_programs_are_themselves(command: list[str], program: str) -> None:
    assert template(command=command).command[0] == program


def test_the_readiness_probe_is_the_runtimes() -> None:
    probe = {"httpGet": {"path": "/{{.Name}}/health", "port": 8080}}

    assert template(readinessProbe=probe).ready_path == "/digits/health"


def test_another_model_or_another_command_is_another_template() -> None:
    other = SERVICE | {"spec": {"predictor": {"model": SERVICE["spec"]["predictor"]["model"] | {"storageUri": "file:///b"}}}}
    made = [template(), template(args=["-v"]), template_of(other, runtime())]

    assert len({entry.fingerprint() for entry in made if isinstance(entry, Template)}) == 3
    assert template().fingerprint() == template().fingerprint()


def test_a_missing_or_unfit_runtime_is_a_failure_with_kserves_reason() -> None:
    other = {"spec": {"supportedModelFormats": [{"name": "a"}]}}
    missing, unfit = template_of(SERVICE, None), template_of(SERVICE, other)

    assert isinstance(missing, Failure)
    assert missing.reason == "RuntimeNotRecognized"
    assert isinstance(unfit, Failure)
    assert (unfit.reason, unfit.message) == ("NoSupportingRuntime", "ServingRuntime script serves a, not onnx")


def test_an_absent_percent_is_everything() -> None:
    assert canary_percent(SERVICE) == 100
    assert canary_percent({"spec": {"predictor": {"canaryTrafficPercent": 20.0}}}) == 20
