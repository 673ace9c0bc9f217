"""The algorithms of Katib 0.19 and their settings, as its suggestion services check them.

Pure functions over an Experiment's spec. Sources: pkg/suggestion/v1beta1/{hyperopt,optuna,skopt,hyperband,pbt}/
service.py, pkg/suggestion/v1beta1/goptuna/service.go and pkg/earlystopping/v1beta1/medianstop/service.py.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.components.control.katib_space import INTEGER, NUMBER, grid_size

__all__ = ["ALGORITHMS", "algorithm_complaints", "early_stopping_complaints"]


class Setting(NamedTuple):
    """One setting of an algorithm: which texts will do, in words, and one of them."""

    fits: Callable[[str], object]
    text: str
    example: str
    required: bool = False


def _whole(least: int, example: str, *, below: float = math.inf, required: bool = False) -> Setting:
    upper = f" and below {below:.0f}" if below < math.inf else ""
    return Setting(lambda text: INTEGER.fullmatch(text) and least <= int(text) < below,
                   f"a whole number, at least {least}{upper}", example, required)


def _number(fits: Callable[[float], bool], text: str, example: str, *, required: bool = False) -> Setting:
    return Setting(lambda value: NUMBER.fullmatch(value) and fits(float(value)), text, example, required)


def _one_of(*values: str) -> Setting:
    return Setting(lambda text: text in values, " or ".join(values), values[0])


SEED = {"random_state": _whole(0, "1", below=2**32)}  # numpy takes no more than 32 bits
ALGORITHMS: Mapping[str, Mapping[str, Setting]] = {
    "random": SEED,
    "tpe": SEED | {
        "gamma": _number(lambda value: 0 < value < 1, "greater than 0 and less than 1", "0.25"),
        "prior_weight": _number(lambda value: 0 < value < math.inf, "greater than 0", "1.0"),
        "n_EI_candidates": _whole(1, "24"),
    },
    "grid": SEED,
    "multivariate-tpe": SEED | {"n_startup_trials": _whole(0, "10"), "n_ei_candidates": _whole(1, "24")},
    "bayesianoptimization": SEED | {
        "base_estimator": _one_of("GP", "RF", "ET", "GBRT"),
        "n_initial_points": _whole(0, "10"),
        "acq_func": _one_of("gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"),
        "acq_optimizer": _one_of("auto", "sampling", "lbfgs"),
    },
    "cmaes": SEED | {
        "sigma": _number(lambda value: 0 < value < math.inf, "greater than 0", "0.2"),
        "restart_strategy": _one_of("none", "ipop", "bipop"),
    },
    "sobol": {},
    "hyperband": {
        "r_l": _number(lambda value: 1 <= value < math.inf, "at least 1", "9", required=True),
        "resource_name": Setting(bool, "the name of a parameter", "epochs", required=True),
        "eta": _whole(2, "3"),
    },
    "pbt": {
        "suggestion_trial_dir": Setting(bool, "a folder in the trial's container", "/opt/katib/data", required=True),
        "n_population": _whole(5, "20", required=True),
        "truncation_threshold": _number(lambda value: 0 <= value <= 1, "from 0 to 1", "0.4", required=True),
    },
}
STOPPING: Mapping[str, Mapping[str, Setting]] = {
    "medianstop": {"min_trials_required": _whole(1, "3"), "start_step": _whole(1, "4")}}


def algorithm_complaints(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `spec.algorithm`, given the parameters and counts beside it, whose types are checked."""
    algorithm = spec.get("algorithm", {})
    name = algorithm.get("algorithmName", "")
    complaints = [*_settings("spec.algorithm", algorithm, ALGORITHMS)]
    yield from complaints
    parameters = spec.get("parameters", [])
    if complaints:
        return
    if name == "grid":
        yield from _grid(parameters, spec.get("maxTrialCount", 0))
    elif name == "cmaes" and sum(parameter.get("parameterType") in ("double", "int") for parameter in parameters) < 2:
        yield "spec.parameters: cmaes needs two that are double or int, for example learning_rate and momentum"
    elif name == "hyperband":
        yield from _hyperband(algorithm, parameters, spec.get("parallelTrialCount", 3))


def early_stopping_complaints(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `spec.earlyStopping`, whose types have been checked."""
    if "earlyStopping" in spec:
        yield from _settings("spec.earlyStopping", spec["earlyStopping"], STOPPING)


def _settings(path: str, asked: Mapping[str, Any], known: Mapping[str, Mapping[str, Setting]]) -> Iterator[str]:
    name = asked.get("algorithmName", "")
    if name not in known:
        yield f"{path}.algorithmName={name!r}: it must be {', '.join(known)}, for example {next(iter(known))}"
        return
    given: dict[str, str] = {}
    for index, entry in enumerate(asked.get("algorithmSettings", [])):
        key, value = entry.get("name", ""), entry.get("value", "")
        setting = known[name].get(key)
        if setting is None:
            near = _near(key, known[name])
            yield f"{path}.algorithmSettings[{index}].name={key!r}: {name} has no such setting, {near}"
        elif key in given:
            yield f"{path}.algorithmSettings[{index}].name={key!r}: it is set twice; keep one"
        elif not setting.fits(value):
            yield (f"{path}.algorithmSettings[{index}].value={value!r}: {key} must be {setting.text}, "
                   f"for example {setting.example!r}")
        given[key] = value
    for key, setting in known[name].items():
        if setting.required and key not in given:
            yield f"{path}.algorithmSettings: {name} needs {key}, for example {setting.example!r}"


def _near(key: str, known: Mapping[str, Setting]) -> str:
    if not known:
        return "it has none"
    close = difflib.get_close_matches(key, [*known], n=1, cutoff=0)[0]
    return f"for example {close}"


def _grid(parameters: Sequence[Mapping[str, Any]], most: int) -> Iterator[str]:
    try:
        size = grid_size(parameters)
    except (ValueError, KeyError, ZeroDivisionError):
        return  # the complaints about the parameters say it
    if most > size:
        yield f"spec.maxTrialCount={most}: the grid has {size} points, so it must be at most that, for example {size}"


def _hyperband(algorithm: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]], parallel: int) -> Iterator[str]:
    given = {entry["name"]: entry["value"] for entry in algorithm["algorithmSettings"]}
    names = [parameter.get("name") for parameter in parameters]
    if given["resource_name"] not in names:
        yield f"spec.algorithm: resource_name={given['resource_name']!r} is no parameter, for example {names[:1]}"
    eta = int(given.get("eta", "3"))
    least = eta ** int(math.log(float(given["r_l"])) / math.log(eta))
    if parallel < least:
        yield f"spec.parallelTrialCount={parallel}: hyperband with this r_l and eta starts {least} at once, so {least}"
