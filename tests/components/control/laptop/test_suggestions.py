"""What the laptop draws: the same for the same seed, within the space, and on a grid every point once."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.components.control.laptop.suggestions import Suggestions

GRIDS = json.loads((Path(__file__).parent.parent / "katib_grids.json").read_text(encoding="utf-8"))
PARAMETERS: list[dict[str, Any]] = [
    {"name": "lr", "parameterType": "double",
     "feasibleSpace": {"min": "0.0001", "max": "1", "distribution": "logUniform"}},
    {"name": "dropout", "parameterType": "double", "feasibleSpace": {"min": "0", "max": "0.5", "step": "0.1"}},
    {"name": "units", "parameterType": "int", "feasibleSpace": {"min": "16", "max": "64", "step": "16"}},
    {"name": "depth", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "9", "distribution": "logUniform"}},
    {"name": "batch", "parameterType": "discrete", "feasibleSpace": {"list": ["32", "64"]}},
    {"name": "optimizer", "parameterType": "categorical", "feasibleSpace": {"list": ["sgd", "adamw"]}},
]
Point = dict[str, str]


def spec_of(algorithm: str, parallel: int = 1, parameters: list[dict[str, Any]] = PARAMETERS, **settings: int) -> Any:
    named = [{"name": name, "value": str(value)} for name, value in settings.items()]
    return {"algorithm": {"algorithmName": algorithm, "algorithmSettings": named}, "parameters": parameters,
            "objective": {"type": "minimize"}, "parallelTrialCount": parallel}


def score(point: Point) -> float:
    return abs(float(point["lr"]) - 0.01) + float(point["dropout"]) + int(point["depth"]) / 9


def search(spec: Any, trials: int, seed: int = 0, score: Callable[[Point], float | None] = score) -> list[Point]:
    """Draw with as little known as there may be: the results of trial n come as late as they can."""
    suggestions, points, results = Suggestions(spec, seed), [], []
    while len(points) < trials:
        point = suggestions.ask(results)
        if point is None:
            results.append(score(points[len(results)]))
        else:
            points.append(point)
    return points


@pytest.mark.parametrize("algorithm", ["random", "tpe", "multivariate-tpe", "grid"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_same_seed_same_trials(algorithm: str, parallel: int) -> None:
    parameters = PARAMETERS[1:] if algorithm == "grid" else PARAMETERS
    parameters = [one for one in parameters if algorithm != "grid" or one["name"] != "depth"]

    def draw(random_state: int) -> list[Point]:
        spec = spec_of(algorithm, parallel, parameters, random_state=random_state)
        return search(spec, 24, seed=99, score=lambda point: float(point["dropout"]))

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_seed_counts_where_the_settings_name_none() -> None:
    assert search(spec_of("tpe"), 5, seed=1) == search(spec_of("tpe", random_state=1), 5, seed=2)
    assert search(spec_of("tpe"), 5, seed=1) != search(spec_of("tpe"), 5, seed=2)


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_results_that_come_early_change_nothing(parallel: int) -> None:
    """A trial is drawn with results 0..n-parallel only, so how long each takes has no say."""
    late = search(spec_of("tpe", parallel, random_state=3), 12)
    suggestions, early = Suggestions(spec_of("tpe", parallel, random_state=3), 0), []
    for _ in range(12):
        point = suggestions.ask([score(one) for one in early])  # as if every trial had ended at once
        assert point is not None
        early.append(point)
    assert early == late


def test_learning_waits_for_results_and_random_does_not() -> None:
    tpe, random = Suggestions(spec_of("tpe", 2), 0), Suggestions(spec_of("random", 2), 0)
    assert [tpe.ask([]) is None for _ in range(3)] == [False, False, True]
    assert tpe.ask([0.5]) is not None
    assert all(random.ask([]) for _ in range(10))


def test_failed_trials_teach_nothing_and_stop_nothing() -> None:
    points = search(spec_of("tpe", random_state=1), 8, score=lambda _: None)
    assert len({point["lr"] for point in points}) == 8


@pytest.mark.parametrize("algorithm", ["random", "tpe", "multivariate-tpe"])
def test_every_draw_is_within_the_space(algorithm: str) -> None:
    points = search(spec_of(algorithm, random_state=5), 40)
    assert all(0.0001 <= float(point["lr"]) <= 1 for point in points)
    assert sum(float(point["lr"]) < 0.01 for point in points) > 8  # half of a log scale, a hundredth of a plain one
    assert {round(float(point["dropout"]), 9) for point in points} <= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert {point["units"] for point in points} == {"16", "32", "48", "64"}
    assert {int(point["depth"]) for point in points} <= {*range(1, 10)}
    assert {point["batch"] for point in points} == {"32", "64"}
    assert {point["optimizer"] for point in points} == {"sgd", "adamw"}


def test_steps_that_miss_max_stop_before_it() -> None:
    parameters = [
        {"name": "a", "parameterType": "double", "feasibleSpace": {"min": "0.1", "max": "0.5", "step": "0.15"}},
        {"name": "b", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "10", "step": "4"}}]
    points = search(spec_of("multivariate-tpe", parameters=parameters), 30, score=lambda point: float(point["a"]))
    assert {round(float(point["a"]), 9) for point in points} == {0.1, 0.25, 0.4}
    assert {point["b"] for point in points} == {"1", "5", "9"}


def test_tpe_learns() -> None:
    points = search(spec_of("tpe", random_state=2), 40)
    assert statistics.mean(map(score, points[-10:])) < 0.6 * statistics.mean(map(score, points[:10]))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid["title"])
def test_grid_has_each_point_once_in_katibs_order(grid: dict[str, Any]) -> None:
    spec = spec_of("grid", 2, grid["parameters"], random_state=int(grid["random_state"]))
    suggestions = Suggestions(spec, 0)
    drawn = [suggestions.ask([]) for _ in grid["points"]]
    names = [parameter["name"] for parameter in grid["parameters"]]
    assert [[point[name] for name in names] for point in drawn if point] == grid["points"]
    assert suggestions.ask([]) is None
