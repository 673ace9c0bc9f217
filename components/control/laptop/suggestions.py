"""Draws the parameters of an Experiment's trials, with Optuna in the place of Katib's suggestion services.

The same seed gives the same trials, however long each takes: trial n is drawn knowing the results of trials 0 to
n - parallelTrialCount and no others. Starts no trial and reads no object but the spec, which `katib` has checked.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from penstock.components.control.katib import search_points

__all__ = ["Suggestions"]

LEARNING = ("tpe", "multivariate-tpe")
DEFAULT_PARALLEL = 3
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Suggestions:
    """The trials of one Experiment, one after the other.

    Args:
        spec: of the Experiment.
        seed: used where the algorithm's settings name no `random_state`.
    """

    def __init__(self, spec: Mapping[str, Any], seed: int) -> None:
        algorithm, parameters = spec["algorithm"], spec["parameters"]
        settings = {entry["name"]: int(entry["value"]) for entry in algorithm.get("algorithmSettings", [])}
        self._parallel = int(spec.get("parallelTrialCount", DEFAULT_PARALLEL))
        self._learns = algorithm["algorithmName"] in LEARNING
        self._space = {parameter["name"]: _distribution(parameter) for parameter in parameters}
        self._asked, self._told = 0, 0
        self._points: list[dict[str, str]] | None = None
        if algorithm["algorithmName"] == "grid":
            self._points = _shuffled(parameters, settings.get("random_state", 0))
            return
        sampler = _sampler(algorithm["algorithmName"], settings, settings.get("random_state", seed), self._parallel)
        self._study = optuna.create_study(sampler=sampler, direction=spec["objective"]["type"])

    def ask(self, results: Sequence[float | None]) -> dict[str, str] | None:
        """Draw the parameters of the next trial, as texts by name.

        Args:
            results: objective of trials 0, 1, ... as far as all of them have ended; None where one has no value.

        Returns:
            None where the result of an earlier trial must come first, or every point of a grid has been drawn.
        """
        if self._points is not None:
            self._asked += 1
            return self._points[self._asked - 1] if self._asked <= len(self._points) else None
        known = self._asked - self._parallel + 1 if self._learns else 0
        if len(results) < known:
            return None
        for number in range(self._told, known):
            value = results[number]
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self._study.tell(number, value, state)
        self._told = max(self._told, known)
        trial = self._study.ask(fixed_distributions=self._space)
        self._asked += 1
        return {name: str(trial.params[name]) for name in self._space}


def _sampler(name: str, settings: Mapping[str, int], seed: int, parallel: int) -> optuna.samplers.BaseSampler:
    """Katib's tpe (hyperopt) draws its first batch at random, its multivariate-tpe (Optuna) what the setting says."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True, n_startup_trials=parallel,
                                          n_ei_candidates=settings.get("n_EI_candidates", 24))
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True,
                                      n_startup_trials=settings.get("n_startup_trials", 10),
                                      n_ei_candidates=settings.get("n_ei_candidates", 24))


def _shuffled(parameters: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, str]]:
    """Return the grid in the order of Optuna's GridSampler: by name, the last fastest, then shuffled."""
    points = search_points(sorted(parameters, key=lambda parameter: str(parameter["name"])))
    order = [*range(len(points))]
    np.random.RandomState(seed).shuffle(order)
    return [points[index] for index in order]


def _distribution(parameter: Mapping[str, Any]) -> BaseDistribution:
    kind, space = parameter["parameterType"], parameter["feasibleSpace"]
    if kind not in ("int", "double"):
        return CategoricalDistribution(space["list"])
    low, high = Decimal(space["min"]), Decimal(space["max"])
    log = space.get("distribution") == "logUniform"
    step = None if log or not space.get("step") else Decimal(space["step"])
    if step is not None:
        high = low + (high - low) // step * step  # the last that the steps reach
    if kind == "int":
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None else float(step))
