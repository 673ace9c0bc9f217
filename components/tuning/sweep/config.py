"""What a sweep searches, what it calls good, and how many trials it may spend.

Checks what can be seen without the training's own options; `space` checks against those.
"""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from penstock.components.contracts.config import Config
from penstock.components.training.worker.config import MOST_SEED

__all__ = ["METRICS", "Parameter", "SweepConfig", "number_text"]

METRICS = ("validation_accuracy", "validation_loss", "train_loss")  # one line per epoch from every worker
EXAMPLE = '{"learning_rate": {"type": "double", "min": 0.1, "max": 1, "distribution": "logUniform"}}'


class Parameter(Config):
    """One dimension of the search space, in Katib's terms."""

    type: Literal["double", "int", "categorical", "discrete"] = Field(
        description="double and int have min and max; categorical and discrete (numbers only) have a list.")
    min: float = Field(default=0.0, allow_inf_nan=False, description="Of double and int: the smallest value.")
    max: float = Field(default=0.0, allow_inf_nan=False, description="Of double and int: the largest value.")
    step: float = Field(default=0.0, ge=0, allow_inf_nan=False, description=(
        "Of double and int: distance of neighbours; grid needs one for double. 0: any value (double), 1 (int)."))
    list: tuple[float | str, ...] = Field(default=(), description="Of categorical and discrete: every value.")
    distribution: Literal["uniform", "logUniform"] = Field(
        default="uniform", description="Of double and int. logUniform: equal factors are equally likely.")

    @property
    def in_range(self) -> bool:
        """Whether it has a range, not a list."""
        return self.type in ("double", "int")

    def ends(self) -> tuple[str, ...]:
        """Return the values that bound it, as texts: min and max, or the whole list."""
        return tuple(number_text(value) for value in ((self.min, self.max) if self.in_range else self.list))

    def whole_numbers(self) -> range:
        """Return every value of an int; none of the other types."""
        return range(int(self.min), int(self.max) + 1, int(self.step) or 1) if self.type == "int" else range(0)

    def mistakes(self, name: str) -> Iterator[str]:
        """Yield what is impossible about it: field, value, and a valid example."""
        if not self.in_range:
            yield from self._mistakes_of_list(name)
            return
        if self.list:
            yield f"{name}.list={[*self.list]}: {self.type} has min and max, no list; for a list use type discrete"
        if self.min >= self.max:
            larger = 2 * self.min if self.min > 0 else self.min + 1
            yield f"{name}.min={self.min:g} is not below {name}.max={self.max:g}; try max={number_text(larger)}"
        if self.step > self.max - self.min > 0:
            yield (f"{name}.step={self.step:g} leaps over the whole range of {self.max - self.min:g}; "
                   f"try step={number_text((self.max - self.min) / (1 if self.type == 'int' else 4))}")
        if self.distribution == "logUniform" and self.min <= 0:
            above = self.max / 100 if self.max > 0 else 1
            yield f"{name}.min={self.min:g}: logUniform needs min > 0; try min={above:g}"
        if self.type == "int":
            for field in ("min", "max", "step"):
                value: float = getattr(self, field)
                if not value.is_integer():
                    yield f"{name}.{field}={value:g}: int takes whole numbers; try {round(value)}, or type double"

    def _mistakes_of_list(self, name: str) -> Iterator[str]:
        ranged = {"min": self.min, "max": self.max, "step": self.step}
        for field, value in ranged.items():
            if value:
                yield f"{name}.{field}={value:g}: {self.type} has a list, no {field}; for a range use type double"
        if self.distribution != "uniform":
            yield f"{name}.distribution={self.distribution!r}: {self.type} has none; leave it out"
        if not self.list:
            example = '["sgd", "adamw"]' if self.type == "categorical" else "[128, 256]"
            yield f"{name}.list=[]: {self.type} needs its values; for example {example}"
        texts = self.ends()
        if repeated := sorted({text for text in texts if texts.count(text) > 1}):
            yield f"{name}.list has {repeated[0]!r} {texts.count(repeated[0])} times; name it once"
        for entry in self.list if self.type == "discrete" else ():
            if isinstance(entry, str):
                yield f"{name}.list has {entry!r}: discrete takes numbers; use type categorical for texts"


class SweepConfig(Config):
    """Which values to try, and what counts as better."""

    parameters: dict[str, Parameter] = Field(default={}, description=(
        f"Search space by training option, for example {EXAMPLE}."))
    objective: Literal["validation_accuracy", "validation_loss", "train_loss"] = Field(
        default="validation_accuracy", description="Metric of the last epoch that trials are compared by.")
    direction: Literal["maximize", "minimize"] = Field(
        default="maximize", description="maximize an accuracy, minimize a loss.")
    goal: float = Field(default=0.0, ge=0, allow_inf_nan=False, description=(
        "Value of the objective at which the search is over. 0: none, all trials run."))
    max_trials: int = Field(default=0, ge=0, le=10_000, description=(
        "Trials in all. 0: no sweep, training takes the options as they are."))
    parallel_trials: int = Field(default=1, ge=1, le=256, description=(
        "Trials at a time, one thread each; one per core is best. More than max_trials: max_trials."))
    max_failed_trials: int = Field(default=3, ge=0, le=10_000, description=(
        "More failed trials than this end the sweep as failed. More than max_trials: max_trials."))
    algorithm: Literal["random", "grid", "tpe"] = Field(
        default="tpe", description="Katib's name. tpe: learns from earlier trials; grid: every combination.")
    settings: dict[str, float | str] = Field(default={}, description=(
        'Of the algorithm, by Katib\'s names, for example {"n_EI_candidates": 24}.'))
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description=(
        "Of the search (Katib's random_state); the trainings have their own."))
    trial: dict[str, float | str] = Field(default={}, description=(
        'Training options that differ in trials, for example {"epochs": 1}.'))
    kind: Literal["PyTorchJob", "TrainJob"] = Field(
        default="PyTorchJob", description="Object of a trial: of training operator 1, or of Trainer 2.")
    timeout_minutes: float = Field(
        default=120, gt=0, le=100_000, description="Of all trials together, on this step's own clock.")
    work: str = Field(default="", description=(
        "Folder for what trials write, seen by all of them. \"\": beside the report output."))

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.max_trials and not self.parameters:
            raise ValueError(f"parameters={{}}: max_trials={self.max_trials} has nothing to search; for example "
                             f"{EXAMPLE}")
        mistakes = [text for name, parameter in self.parameters.items() for text in parameter.mistakes(name)]
        if mistakes:
            raise ValueError("impossible search space: " + "; ".join(mistakes))
        for name in set(self.trial) & set(self.parameters):
            raise ValueError(f"trial.{name}={self.trial[name]!r}: {name} is searched; leave it out of trial")
        if "random_state" in self.settings:
            raise ValueError(f"settings.random_state={self.settings['random_state']!r}: set seed instead, it is that")
        if (self.direction == "minimize") != self.objective.endswith("_loss"):
            other = "minimize" if self.direction == "maximize" else "maximize"
            raise ValueError(f"direction={self.direction!r} of {self.objective} would choose the worst trial; use "
                             f"{other}")
        if self.objective == "validation_accuracy" and self.goal > 1:
            raise ValueError(f"goal={self.goal:g}: an accuracy is a share, at most 1; try {self.goal / 100:g}")
        return self


def number_text(value: float | str) -> str:
    """Write a value as Katib takes it, as text; a whole number without its point, since 16.0 is no int."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= MOST_SEED:
        return str(int(value))
    return str(value)
