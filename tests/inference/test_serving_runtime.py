"""The ServingRuntime starts what this package is, and the laptop honours every field of it."""

import subprocess
import sys

from penstock.components.control.laptop.fields import refuse_unknown
from penstock.manifests import load


def test_the_laptop_honours_it_and_its_probe_asks_for_the_model() -> None:
    runtime = load("serving/servingruntime.yaml")
    [container] = runtime["spec"]["containers"]

    refuse_unknown(runtime)
    assert runtime["spec"]["protocolVersions"] == ["v1", "v2"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/models/{{.Name}}/ready", "port": 8080}


def test_its_command_line_is_one_that_the_predictor_takes() -> None:
    [container] = load("serving/servingruntime.yaml")["spec"]["containers"]
    command = [sys.executable if word == "python" else word for word in container["command"]]
    understood = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120).stdout

    assert [argument.partition("=")[0] for argument in container["args"]] == [
        "--model_name", "--model_dir", "--http_port"]
    assert all(argument.partition("=")[0] in understood for argument in container["args"])
