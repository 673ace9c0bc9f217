"""Plots of a search: each trial where its values say, failures shown, and nothing drawn that was not given."""

import math
import re
from xml.etree import ElementTree

import pytest

from penstock.components.reporting.trials import Axis, history, parallel_coordinates

SVG = "{http://www.w3.org/2000/svg}"
RATES, NETWORKS = [0.001, 0.01, 0.1], ["linear", "convnet", "linear"]


def texts(plot: str) -> list[str]:
    wide = ElementTree.fromstring(plot)[0]
    return [element.text or "" for element in wide.iter(f"{SVG}text")]


def lines(plot: str) -> list[list[tuple[float, float]]]:
    """Return the points of each trial's line in the wide plot, the best trial's last."""
    wide = ElementTree.fromstring(plot)[0]
    drawn = [path for path in wide.iter(f"{SVG}path") if "fill: none" in path.get("style", "")
             and "var(--series" in path.get("style", "") and path.get("clip-path")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d", ""))]
            for path in drawn]


def test_each_trial_goes_through_its_values() -> None:
    plot = parallel_coordinates([Axis("rate", RATES, log=True), Axis("network", NETWORKS),
                                 Axis("accuracy", [0.5, 0.7, 0.9])], best=2)
    first, second, best = lines(plot)

    assert [len(line) for line in (first, second, best)] == [3, 3, 3]
    assert first[0][1] > second[0][1] > best[0][1]  # SVG counts downwards
    assert first[0][1] - second[0][1] == pytest.approx(second[0][1] - best[0][1], abs=0.01)  # equal factors
    assert first[1][1] == best[1][1] != second[1][1]
    assert {"rate", "network", "accuracy", "0.001", "0.01", "0.1", "linear", "convnet", "best"} <= set(texts(plot))


def test_whole_numbers_are_named_by_whole_numbers() -> None:
    plot = parallel_coordinates([Axis("width", [16, 64, 33]), Axis("rows", [1000, 2000, 3000]),
                                 Axis("layers", [1, 2, 2]), Axis("loss", [0.5, 1.0, 2.0])])

    named = texts(plot)
    assert {"16", "28", "40", "52", "64", "1,000", "3,000"} <= set(named)
    assert (named.count("1"), named.count("2")) == (1, 2)  # of layers; the loss ends at 2
    assert {"0.5", "0.875", "1.25", "1.62", "2"} <= set(named)


def test_a_failed_trial_ends_before_what_it_never_reached() -> None:
    plot = parallel_coordinates([Axis("rate", RATES), Axis("loss", [1.0, math.nan, 0.5])])

    assert sorted(len(line) for line in lines(plot)) == [1, 2, 2]
    assert "best" not in texts(plot)


@pytest.mark.parametrize("values", [[0.1, 0.1], [math.nan, math.nan], [math.inf, 1.0], ["one", "one"]])
def test_an_axis_without_width_is_drawn(values: list[float] | list[str]) -> None:
    plot = parallel_coordinates([Axis("rate", values), Axis("loss", [1.0, 2.0])], best=0)

    assert "nan" not in plot
    assert "rate" in texts(plot)


def test_the_best_so_far_never_falls_and_failures_are_marked() -> None:
    values = [math.nan, 0.8, 0.7, 0.9]
    up, down = (lines(history(values, "accuracy", kind)) for kind in ("maximize", "minimize"))

    assert [height for _, height in up[0]] == sorted((height for _, height in up[0]), reverse=True)
    assert [height for _, height in down[0]] == sorted(height for _, height in down[0])
    assert {"failed", "trial", "best so far"} <= set(texts(history(values, "accuracy", "maximize")))


def test_a_goal_is_drawn_only_where_there_is_one() -> None:
    assert "goal" in texts(history([0.8, 0.9], "accuracy", "maximize", 0.95))
    assert not {"goal", "failed"} & set(texts(history([0.8, 0.9], "accuracy", "maximize")))


def test_the_same_trials_give_the_same_bytes() -> None:
    axes = [Axis("rate", RATES), Axis("loss", [1.0, 2.0, 3.0])]

    assert parallel_coordinates(axes, 0) == parallel_coordinates(axes, 0)
    assert history([1.0, 2.0], "loss", "minimize") == history([1.0, 2.0], "loss", "minimize")


def test_numbers_that_are_categories_stand_by_size() -> None:
    plot = parallel_coordinates([Axis("width", ["128", "32", "64"]), Axis("loss", [0.1, 0.2, 0.3])])

    assert [text for text in texts(plot) if text in ("128", "32", "64")] == ["32", "64", "128"]
