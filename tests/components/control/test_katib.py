"""Rules for Experiments: as strict as Katib 0.19's own webhook, and its own grid; `katib_*.json` hold what it answered.

The verdicts are those of pkg/webhook/v1beta1/experiment/validator, compiled and run at v0.19.0 after its defaulter; the
points those of its suggestion-optuna service, run on Optuna 5 (2026-11-21).
"""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.katib import search_points, validate_experiment
from penstock.components.control.katib_space import grid_size
from penstock.components.control.katib_template import render_trial

FOLDER = Path(__file__).parent
VERDICTS = json.loads((FOLDER / "katib_verdicts.json").read_text(encoding="utf-8"))
GRIDS = json.loads((FOLDER / "katib_grids.json").read_text(encoding="utf-8"))
BASE: dict[str, Any] = VERDICTS["base"]


def put(manifest: Any, path: str, value: Any) -> None:
    """Set what is at a dotted path; None removes it."""
    *parents, last = path.split(".")
    for part in parents:
        manifest = manifest[int(part)] if isinstance(manifest, list) else manifest[part]
    if value is None:
        del manifest[last]
    else:
        manifest[int(last) if isinstance(manifest, list) else last] = value


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    manifest = copy.deepcopy(BASE)
    for path, value in changes.items():
        put(manifest, path, value)
    return manifest


@pytest.mark.parametrize("case", VERDICTS["cases"], ids=lambda case: case["title"])
def test_verdict_is_that_of_katib_or_stricter_for_a_reason(case: dict[str, Any]) -> None:
    """`katib`: what the webhook said, empty where it accepts; `why`: what then goes wrong, so that ours refuses."""
    manifest = changed(case["changes"])
    if case["katib"] or case["why"]:
        with pytest.raises(ConfigError):
            validate_experiment(manifest)
    else:
        validate_experiment(manifest)


def test_verdicts_cover_both_sides() -> None:
    accepted = [case for case in VERDICTS["cases"] if not case["katib"]]
    assert len(VERDICTS["cases"]) - len(accepted) > 70
    assert sum(not case["why"] for case in accepted) > 35


@pytest.mark.parametrize(("changes", "text"), [
    ({"metadata.name": "Sweep"}, "metadata.name='Sweep': lower-case letters, digits and dashes"),
    ({"spec.maxTrials": 6}, "spec.maxTrials=6: there is no such field; the nearest is maxTrialCount"),
    ({"spec.maxTrialCount": 1},
     "spec.parallelTrialCount=2: it must be at most maxTrialCount=1, for example 1; "
     "spec.maxFailedTrialCount=3: it must be at most maxTrialCount=1, for example 1"),
    ({"spec.parameters.0.feasibleSpace.min": 0.1}, "spec.parameters[0].feasibleSpace.min=0.1: it must be a text in"),
    ({"spec.parameters.0.feasibleSpace.min": "0"}, "feasibleSpace.min='0': a logUniform needs a min greater than 0"),
    ({"spec.parameters.1.feasibleSpace.max": "70"}, "max='70': random draws multiples of step='16'"),
    ({"spec.algorithm.algorithmName": "grid"}, "spec.parameters[0].feasibleSpace.step='': a grid needs a step"),
    ({"spec.algorithm.algorithmSettings.0.name": "seed"},
     "algorithmSettings[0].name='seed': random has no such setting, for example random_state"),
    ({"spec.objective.objectiveMetricName": "val/acc"}, "objectiveMetricName='val/acc': a metric's name has letters"),
    ({"spec.trialTemplate.trialSpec.spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.args.3":
      "--work=/d/${trialSpec.Name}/${trialParameters.trial}"}, "Katib leaves ${trialSpec.Name} as it is; give it a"),
    ({"spec.trialTemplate.trialSpec.spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.args.0":
      "--lr ${trialParameters.lr}"}, "Katib hands '--lr ${trialParameters.lr}' to sh -c"),
    ({"spec.trialTemplate.primaryContainerName": "main"}, "the primary container 'main' is not among ['pytorch']"),
])
def test_error_names_field_value_and_remedy(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate_experiment(changed(changes))
    assert str(error.value).startswith("Experiment ")
    assert text in str(error.value)


def paths(node: Any, prefix: str = "") -> list[str]:
    """List the path of every value in a manifest."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    return [found for key, value in items
            for found in (f"{prefix}{key}", *paths(value, f"{prefix}{key}."))]


JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2))


@given(path=st.sampled_from(paths(BASE)), junk=JUNK)
def test_anything_anywhere_is_accepted_or_a_config_error(path: str, junk: object) -> None:
    manifest = copy.deepcopy(BASE)
    node: Any = manifest
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = junk
    with contextlib.suppress(ConfigError):
        assert validate_experiment(manifest) is None


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid["title"])
def test_grid_is_katibs_expansion(grid: dict[str, Any]) -> None:
    points = search_points(grid["parameters"])
    names = [parameter["name"] for parameter in grid["parameters"]]
    assert sorted([point[name] for name in names] for point in points) == sorted(grid["points"])
    assert grid_size(grid["parameters"]) == len(points) == len({tuple(point.items()) for point in points})


def test_grid_goes_with_the_last_parameter_fastest() -> None:
    parameters = [{"name": "b", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "2"}},
                  {"name": "a", "parameterType": "categorical", "feasibleSpace": {"list": ["x", "y"]}}]
    assert search_points(parameters) == [
        {"b": "1", "a": "x"}, {"b": "1", "a": "y"}, {"b": "2", "a": "x"}, {"b": "2", "a": "y"}]


def test_trial_gets_parameters_and_texts_about_itself() -> None:
    manifest = changed({"spec.trialTemplate.trialParameters.2.reference": "${trialSpec.Labels[team]}"})
    job = render_trial(manifest["spec"], "sweep-abc", "default", {"lr": "0.01", "units": "32"})
    assert job["metadata"] == {"labels": {"team": "a"}, "name": "sweep-abc", "namespace": "default"}
    container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--lr=0.01", "--units=32", "--optimizer=a", "--work=/data/sweep-abc"]
    assert "name" not in manifest["spec"]["trialTemplate"]["trialSpec"]["metadata"]
