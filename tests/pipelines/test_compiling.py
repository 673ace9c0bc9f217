"""The compiled pipeline: equal to the golden file, usable from a form, and runnable as it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.components import images
from penstock.pipelines import compiling, stages
from penstock.pipelines.profiles import profile_arguments
from penstock.pipelines.run_folder import RunFolder

GOLDEN = Path(compiling.__file__).parent / "compiled" / "train_and_deploy.yaml"
RUN = """
import json, sys, warnings
from kfp import components, local
warnings.filterwarnings("ignore", message=r".*display_name.*", category=UserWarning)
folder, golden, arguments = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
components.load_component_from_file(golden)(**json.loads(arguments))
"""


@pytest.fixture(scope="module")
def specification() -> dict[str, Any]:
    found: dict[str, Any] = next(yaml.safe_load_all(GOLDEN.read_text(encoding="utf-8")))
    return found


def test_the_golden_file_is_what_the_code_compiles_to(tmp_path: Path) -> None:
    fresh = compiling.compile_pipeline("train-and-deploy", tmp_path / "new")
    assert fresh.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8"), "run `penstock compile`"


def test_every_parameter_has_a_description_and_every_stage_a_default(specification: dict[str, Any]) -> None:
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert {*parameters} == {"run_id", "registry", "service", *stages.stage_configs()}
    assert [name for name, parameter in parameters.items() if not parameter.get("description")] == []
    for name in stages.stage_configs():
        assert parameters[name]["defaultValue"] == {}


def test_the_steps_own_defaults_are_valid() -> None:
    stages.check(stages.Arguments({"service": "shapes"}, {}))


def test_images_are_ours_and_steps_carry_their_functions_names(specification: dict[str, Any]) -> None:
    executors = specification["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} <= {*images.ALL.values()}
    tasks = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    shown = {name: task["taskInfo"]["name"] for name, task in tasks.items()}
    assert shown["roll-out"] == "roll_out"
    assert shown["require-3"] == "require"


def test_what_looks_at_live_things_is_never_cached(specification: dict[str, Any]) -> None:
    tasks = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"ingest", "validate", "split", "sweep", "train", "evaluate", "export", "quantize",
                      "verify-parity"}
    assert "enableCache" not in specification["root"]["dag"]["tasks"]["restore"]["cachingOptions"]


@pytest.mark.slow
def test_the_compiled_file_runs_under_kfp_local(laptop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", laptop.environment["PENSTOCK_HOME"])
    folder = RunFolder(laptop.folder / "compiled")
    scalars, options = profile_arguments("test", folder)
    arguments = {"run_id": folder.run_id, **scalars, **options}

    done = subprocess.run([sys.executable, "-c", RUN, str(folder.steps), str(GOLDEN), json.dumps(arguments)],
                          cwd=laptop.folder, env=laptop.environment, stdout=subprocess.PIPE, text=True)

    assert done.returncode == 0, done.stdout[-3000:]
    assert "100" in laptop("laptop", "status").stdout
