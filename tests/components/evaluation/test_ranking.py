"""ROC and precision-recall: by value, against every pair counted one by one, and by what must hold for any scores."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.evaluation.ranking import CURVE_POINTS, Ranked, rank, rank_classes, ranking_metrics

rows = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=50).filter(
    lambda answers: len({belongs for _, belongs in answers}) == 2)


def ranked(answers: list[tuple[int, bool]]) -> Ranked:
    scores, belongs = np.array([row[0] for row in answers]) / 8, np.array([row[1] for row in answers])
    found = rank(scores, belongs)
    assert found
    return found


def area(curve: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.trapezoid(curve[1], curve[0]))


def test_by_value() -> None:
    found = rank(np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([True, False, True, True, False]))

    assert found
    assert found.auc == pytest.approx(4 / 6)
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found.roc.x.tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1]
    assert found.roc.y.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert found.precision.x.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.precision.y.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])


@given(rows)
def test_the_auc_is_the_share_of_pairs_in_order(answers: list[tuple[int, bool]]) -> None:
    inside = [score for score, belongs in answers if belongs]
    outside = [score for score, belongs in answers if not belongs]
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in product(inside, outside)]

    assert ranked(answers).auc == pytest.approx(np.mean(pairs))


@given(rows)
def test_the_areas_are_those_of_the_curves(answers: list[tuple[int, bool]]) -> None:
    found = ranked(answers)
    steps = np.diff(found.precision.x) * found.precision.y[1:]

    assert area(found.roc) == pytest.approx(found.auc)
    assert steps.sum() == pytest.approx(found.average_precision)


@given(rows)
def test_curves_go_from_corner_to_corner_and_the_reverse_mirrors_them(answers: list[tuple[int, bool]]) -> None:
    found, reverse = ranked(answers), ranked([(8 - score, belongs) for score, belongs in answers])

    assert (found.roc.x[0], found.roc.y[0], found.roc.x[-1], found.roc.y[-1]) == (0, 0, 1, 1)
    assert (np.diff(found.roc.x) >= 0).all()
    assert (np.diff(found.roc.y) >= 0).all()
    assert (found.precision.x[0], found.precision.x[-1]) == (0, 1)
    assert found.auc + reverse.auc == pytest.approx(1)


@pytest.mark.parametrize("belongs", [[True, True], [False, False]])
def test_nothing_is_ranked_without_both_kinds(belongs: list[bool]) -> None:
    assert rank(np.array([0.1, 0.9]), np.array(belongs)) is None


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    random = np.random.default_rng(0)
    belongs = random.random(20_000) < 0.3
    found = rank(random.normal(belongs, 1).astype(np.float32), belongs)

    assert found
    assert len(found.roc.x) <= CURVE_POINTS + 2
    assert area(found.roc) == pytest.approx(found.auc, abs=1e-3)
    assert found.auc == pytest.approx(0.7602, abs=0.01)  # of two normals one deviation apart: Phi(1 / sqrt 2)


def test_averages_count_classes_or_rows() -> None:
    probabilities = np.array([[0.8, 0.2, 0], [0.6, 0.4, 0], [0.7, 0.3, 0], [0.4, 0.6, 0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    found = rank_classes(probabilities, labels)

    first, second, absent = found.classes
    assert absent is None
    assert first
    assert second
    assert found.macro
    assert found.micro
    assert first.auc == second.auc == found.macro.auc == pytest.approx(0.75)
    assert found.macro.average_precision == pytest.approx((first.average_precision + second.average_precision) / 2)
    belongs = labels[:, None] == np.arange(3)
    everything = rank(probabilities.ravel(), belongs.ravel())
    assert everything
    assert found.micro.auc == everything.auc
    assert [entry.name for entry in ranking_metrics(found.classes, ("a", "b", "c"))] == ["a", "b"]


def test_a_perfect_ranking_has_all_of_the_area() -> None:
    found = rank_classes(np.eye(3), np.arange(3))

    assert found.macro
    assert found.micro
    assert found.macro.auc == found.macro.average_precision == found.micro.auc == 1
    assert area(found.macro.roc) == area(found.macro.precision) == 1


def test_one_class_cannot_be_ranked() -> None:
    found = rank_classes(np.ones((3, 1)), np.zeros(3, int))

    assert (found.classes, found.macro, found.micro) == ([None], None, None)
