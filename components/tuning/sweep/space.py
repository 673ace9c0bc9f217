"""The search space against the training it is for: every parameter is an option of it, and every value one it takes.

Pure; what Katib itself would refuse, `control.katib` says.
"""

import difflib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from penstock.components.contracts.errors import ConfigError
from penstock.components.training.worker.config import WorkerConfig
from penstock.components.tuning.sweep.config import Parameter, SweepConfig, number_text

__all__ = ["check_space", "trial_options", "tuned"]

MOST_POINTS = 4096  # some 0.1 s of checks
FIXED = {"workers": 1}  # a trial has one core: more workers would share it
Options = Mapping[str, object]


def trial_options(train: Options, config: SweepConfig) -> dict[str, str]:
    """Return the training options of every trial as texts: defaults, `train`, `trial`, before any parameter.

    Raises:
        ConfigError: an option in `trial` is none, or may not differ.
    """
    for name, value in config.trial.items():
        _require_option("trial", name, value)
    options = {**WorkerConfig().model_dump(), **_options_of(train), **config.trial, **FIXED}
    return {name: number_text(value) if isinstance(value, float) else json.dumps(value).strip('"')
            for name, value in options.items()}


def check_space(train: Options, config: SweepConfig) -> None:
    """Refuse a space in which a trial could not even start.

    Raises:
        ConfigError: naming the field, the value and a valid example.
    """
    for name, parameter in config.parameters.items():
        _require_option("parameters", name, parameter.type)
        if parameter.type == "double" and WorkerConfig.model_fields[name].annotation is not float:
            raise ConfigError(f"impossible search space: parameters.{name}.type='double', but {name} takes no "
                              f"fractions; for example {_example(name)}")
    afterwards = _options_of(train)
    during = trial_options(train, config)
    for point in _points(config.parameters):
        for options in (during, afterwards):
            try:
                WorkerConfig.parse({**options, **point})
            except ConfigError as error:
                raise _explained(str(error).removeprefix("WorkerConfig: "), point) from error


def tuned(train: Options, parameters: Mapping[str, str]) -> dict[str, object]:
    """Return `train` with a trial's parameters put in, each in the type of its option."""
    found = WorkerConfig.parse({**_options_of(train), **parameters})
    return {**train, **{name: getattr(found, name) for name in parameters}}


def _options_of(train: Options) -> dict[str, object]:
    """Return what determines the weights; the rest of `train` is about the job."""
    return {name: value for name, value in train.items() if name in WorkerConfig.model_fields}


def _points(parameters: Mapping[str, Parameter]) -> Iterator[dict[str, str]]:
    """Yield the points to try: every corner of the space (of a large one its two ends), and every value of an int."""
    ends = {name: parameter.ends() for name, parameter in parameters.items()}
    first, last = ({name: values[place] for name, values in ends.items()} for place in (0, -1))
    if math.prod(map(len, ends.values())) <= MOST_POINTS:
        for corner in itertools.product(*ends.values()):
            yield dict(zip(ends, corner, strict=True))
    else:
        yield from (first, last)
    for name, parameter in parameters.items():
        for value in itertools.islice(parameter.whole_numbers(), MOST_POINTS):
            yield first | {name: str(value)}


def _explained(mistake: str, point: Mapping[str, str]) -> ConfigError:
    named = [name for name in point if f"{name}=" in mistake]
    if not named:
        return ConfigError(f"no trial can start with the options in train and trial: {mistake}")
    values = ", ".join(f"{name}={value}" for name, value in point.items())
    return ConfigError(f"impossible search space: at {values}: {mistake}; for example {_example(named[0])}")


def _require_option(where: str, name: str, value: object) -> None:
    options = sorted(set(WorkerConfig.model_fields) - set(FIXED))
    if name in FIXED:
        raise ConfigError(f"{where}.{name}={value!r}: a trial always has {name}={FIXED[name]}; leave it out")
    if name not in options:
        close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(options)}"
        raise ConfigError(f"{where}.{name}={value!r}: training has no such option; {hint}")


def _example(name: str) -> str:
    """Return a parameter that training takes, around the option's default."""
    field = WorkerConfig.model_fields[name]
    default: Any = field.default
    if field.annotation is float:
        top = default or 0.5
        space: dict[str, object] = {"type": "double", "min": top / 10, "max": top}
    elif field.annotation is int:
        space = {"type": "discrete", "list": [default, 2 * default or 8]}
    else:
        space = {"type": "categorical", "list": [*(get_args(field.annotation) or (default,))]}
    return json.dumps({name: space})
