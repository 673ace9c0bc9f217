"""The search space of a Katib Experiment: what its parameters may be, and the points that a grid over them has.

Pure functions over `spec.parameters`, whose values are all strings. The rules are those of Katib 0.19's webhook and of
the suggestion services that draw from the space later, where a mistake would only show as an Experiment that hangs.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["grid_size", "parameter_complaints", "search_points"]

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
NUMERIC, LISTED = ("double", "int"), ("categorical", "discrete")
LOG = ("logUniform", "logNormal")
# What the service behind each name draws from, as `manifests/.../katib-config.yaml` pairs them. Others are dropped in
# silence (optuna), taken for uniform (goptuna, hyperband, pbt) or, for a double, for logUniform (skopt).
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "random": ("uniform", "logUniform", "normal", "logNormal"),
    "tpe": ("uniform", "logUniform", "normal", "logNormal"),
    "grid": ("uniform", "logUniform"),
    "multivariate-tpe": ("uniform", "logUniform"),
}
HYPEROPT = ("random", "tpe")


def search_points(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return every point of the grid over `spec.parameters`, as Katib 0.19 expands it, the last parameter fastest.

    An int goes from min to max by its step (1 where there is none), a double by numpy's arange, both ends included;
    source: pkg/suggestion/v1beta1/internal/search_space.py, convert_to_combinations.

    Raises:
        ValueError: the parameters break a rule, see `parameter_complaints`; a double without a step, for example.
    """
    axes = [_axis(parameter) for parameter in parameters]
    names = [parameter["name"] for parameter in parameters]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]


def grid_size(parameters: Sequence[Mapping[str, Any]]) -> int:
    """Return how many points `search_points` has, without making them."""
    return math.prod(len(_axis(parameter)) for parameter in parameters)


def parameter_complaints(parameters: Sequence[Mapping[str, Any]], algorithm: str) -> Iterator[str]:
    """Yield what is wrong with `spec.parameters`, whose types have been checked; nothing where all is well."""
    names = [parameter.get("name", "") for parameter in parameters]
    for index, parameter in enumerate(parameters):
        path = f"spec.parameters[{index}]"
        name, kind = names[index], parameter.get("parameterType", "")
        space = parameter.get("feasibleSpace") or {}
        if not name or names.index(name) != index:
            yield f"{path}.name={name!r}: each parameter needs a name of its own, for example learning_rate"
        if not space:
            yield f"{path}.feasibleSpace={space!r}: {name} has nothing to choose from, for example {_example(kind)}"
        elif kind in NUMERIC:
            yield from _numeric(f"{path}.feasibleSpace", kind, space, algorithm)
        elif kind in LISTED:
            yield from _listed(f"{path}.feasibleSpace", kind, space)
        else:
            yield f"{path}.parameterType={kind!r}: it must be {', '.join(NUMERIC + LISTED)}, for example double"


def _axis(parameter: Mapping[str, Any]) -> list[str]:
    kind, space = parameter["parameterType"], parameter["feasibleSpace"]
    if kind == "int":
        return [str(value) for value in range(int(space["min"]), int(space["max"]) + 1, int(space.get("step") or 1))]
    if kind == "double":
        if not space.get("step"):
            raise ValueError(f"parameter {parameter['name']}: a grid needs feasibleSpace.step, for example '0.1'")
        low, high, step = (float(space[name]) for name in ("min", "max", "step"))
        values = np.arange(low, high + step, step)
        # Only the last, so 0.1..0.3 by 0.1 ends in 0.30000000000000004: Katib's points, not tidier ones.
        return [repr(float(value)) for value in (values[:-1] if values[-1] > high else values)]
    return [str(value) for value in space["list"]]


def _numeric(path: str, kind: str, space: Mapping[str, Any], algorithm: str) -> Iterator[str]:
    pattern, form = (INTEGER, "a whole number") if kind == "int" else (NUMBER, "a number")
    if "list" in space:
        yield f"{path}.list={space['list']!r}: an {kind} has min and max, for example {_example(kind)}"
    numbers = {}
    for name in ("min", "max", "step"):
        text = space.get(name, "")
        if pattern.fullmatch(text) and math.isfinite(float(text)):
            numbers[name] = float(text)
        elif text or name != "step":
            yield f"{path}.{name}={text!r}: it must be {form} in quotes, for example {_example(kind)}"
    if len(numbers) < 2 + bool(space.get("step")):
        return
    if numbers["min"] > numbers["max"] or (numbers["min"] == numbers["max"] and algorithm != "grid"):
        yield f"{path}.min={space['min']!r}: it must lie below max={space['max']!r}, for example {_example(kind)}"
    if numbers.get("step", 1.0) <= 0:
        yield f"{path}.step={space['step']!r}: it must be greater than 0, for example '1'"
    else:
        yield from _distribution(path, kind, space, algorithm, numbers)


def _distribution(path: str, kind: str, space: Mapping[str, Any], algorithm: str,
                  numbers: Mapping[str, float]) -> Iterator[str]:
    asked = space.get("distribution") or "uniform"
    drawn = DISTRIBUTIONS.get(algorithm, ("uniform",))
    if algorithm == "bayesianoptimization" and kind == "double":
        drawn = ("logUniform",)
    if asked not in DISTRIBUTIONS["random"]:
        yield f"{path}.distribution={asked!r}: it must be {', '.join(DISTRIBUTIONS['random'])}, for example uniform"
    elif asked not in drawn:
        yield (f"{path}.distribution={asked!r}: Katib 0.19's {algorithm} draws this {kind} from {' or '.join(drawn)} "
               f"only, for example {drawn[0]}")
    elif asked in LOG and numbers["min"] <= 0:
        yield f"{path}.min={space['min']!r}: a {asked} needs a min greater than 0, for example '0.0001'"
    if "step" not in numbers:
        if algorithm == "grid" and kind == "double":
            yield f"{path}.step='': a grid needs a step for each double, for example '0.1'"
    elif asked != "uniform" and algorithm != "grid":
        yield f"{path}.step={space['step']!r}: leave it out with {asked}, the engines disagree about the two together"
    elif algorithm in HYPEROPT:
        for name in ("min", "max"):
            steps = numbers[name] / numbers["step"]
            if not math.isclose(steps, round(steps), abs_tol=1e-9):
                yield (f"{path}.{name}={space[name]!r}: {algorithm} draws multiples of step={space['step']!r}, so it "
                       "would leave the range; make it a multiple, for example min '0', max '10', step '5'")


def _listed(path: str, kind: str, space: Mapping[str, Any]) -> Iterator[str]:
    for name in ("min", "max", "step"):
        if space.get(name):
            yield f"{path}.{name}={space[name]!r}: a {kind} has a list, for example {_example(kind)}"
    values = space.get("list", [])
    if not values or len(set(values)) != len(values):
        yield f"{path}.list={values!r}: it must hold different values, at least one, for example {_example(kind)}"


def _example(kind: str) -> str:
    examples = {"int": "{min: '1', max: '8'}", "double": "{min: '0.001', max: '0.1'}"}
    return examples.get(kind, "{list: ['sgd', 'adamw']}")
