"""The gate's rules by value: what is off makes no check, what fails says by how much."""

import re

import numpy as np
import pytest

from penstock.components.contracts.reports import ClassMetrics, EvaluationReport, Interval
from penstock.components.evaluation.gate.checks import (
    Contest,
    GateConfig,
    absolute_checks,
    chance,
    change_checks,
    figures,
    judge_parts,
)
from penstock.components.evaluation.predictions import Predictions
from penstock.components.evidence.fixed import proportion
from penstock.components.evidence.paired import Comparison, compare
from penstock.components.evidence.slices import not_shown, points

OFF = {"max_accuracy_drop": 1, "max_slice_drop": 1}
SERVING = {"accuracy": 0.9, "macro_f1": 0.9, "ece": 0.02, "log_loss": 0.3, "min_class_recall": 0.8}


def against(gained: int, lost: int, rows: int) -> Comparison:
    candidate = np.array([True] * gained + [False] * lost + [True] * (rows - gained - lost))
    serving = np.array([False] * gained + [True] * lost + [True] * (rows - gained - lost))
    return compare(candidate, serving)


def contest(overall: Comparison, slices: dict[str, Comparison] | None = None,
            config: GateConfig | None = None) -> Contest:
    return Contest("0123456789ab", SERVING, overall, judge_parts(slices or {}, config or GateConfig()))


def measured(right: int, rows: int) -> EvaluationReport:
    return EvaluationReport(
        verdict="measured", reason="", dataset_hash="d", model="m", split="test", rows=rows,
        accuracy=proportion(right, rows, 0.95), macro_f1=0.8, log_loss=0.5, ece=0.04, confusion=((1,),),
        per_class=(ClassMetrics(name="bag", support=50, precision=0.9, recall=0.7, f1=0.8),
                   ClassMetrics(name="boot", support=0, precision=0, recall=0, f1=0)))


def test_limits_that_are_off_make_no_check() -> None:
    config = GateConfig.parse(OFF)

    assert absolute_checks(measured(80, 100), config) == []
    assert change_checks(contest(against(0, 90, 100)), config) == []
    assert not config.compares
    assert GateConfig().compares


@pytest.mark.parametrize(("options", "passed", "detail"), [
    ({"min_accuracy": 0.8}, True, "71.12% to 86.66%"),
    ({"min_accuracy": 0.81}, False, "71.12% to 86.66%"),
    ({"min_accuracy": 0.8, "require_evidence": True}, False, "71.12% to 86.66%"),
    ({"min_accuracy": 0.8}, True, "; a true accuracy of 68.89% would be shown to break the limit with 80% chance"),
    ({"min_class_recall": 0.7}, True, "bag; its 50 rows cannot be relied on to show less than 18 points"),
    ({"min_class_recall": 0.71}, False, "weakest class is bag; its 50 rows cannot be relied on"),
    ({"max_ece": 0.04}, True, "15 bins"),
    ({"max_ece": 0.03}, False, "15 bins"),
])
def test_absolute_limits(options: dict[str, object], passed: bool, detail: str) -> None:
    [check] = absolute_checks(measured(80, 100), GateConfig.parse(options))

    assert check.passed is passed
    assert check.blocking
    assert detail in check.detail


def test_the_allowed_drop_is_held_against_the_estimate_or_with_evidence_against_the_lower_bound() -> None:
    slightly_worse = contest(against(gained=100, lost=120, rows=10_000))  # -0.2 points, -0.49 to +0.09

    [check] = change_checks(slightly_worse, GateConfig(max_slice_drop=1))
    assert (check.passed, check.rule) == (True, ">= -0.005")
    assert check.value == pytest.approx(-0.002)
    assert check.detail == (
        "95% interval -0.49% to +0.09%; of 10,000 rows only the candidate has 100 right, only the serving version 120 "
        "(exact McNemar p = 0.2); a true loss of 0.98 points would be shown to break the limit with 80% chance")

    [strict] = change_checks(slightly_worse, GateConfig(max_slice_drop=1, max_accuracy_drop=0.004,
                                                        require_evidence=True))
    assert (strict.passed, strict.rule) == (False, "lower bound >= -0.004")
    assert strict.value == pytest.approx(-0.00495, abs=1e-5)


def test_a_test_set_too_small_for_any_loss_says_so() -> None:
    [check] = change_checks(contest(against(0, 0, 3)), GateConfig(max_slice_drop=1, max_accuracy_drop=0.5))

    assert check.detail.endswith("; no loss, however large, could be shown by so few rows")


def test_f1_and_calibration_are_held_by_estimate_or_with_evidence_by_the_worse_end() -> None:
    options = OFF | {"max_macro_f1_drop": 0.01, "max_ece_rise": 0.01}
    found = contest(against(0, 0, 10))._replace(macro_f1=Interval(estimate=-0.005, lower=-0.02, upper=0.01),
                                                calibration=Interval(estimate=0.008, lower=-0.01, upper=0.03))

    f1, calibration = change_checks(found, GateConfig.parse(options))
    assert (f1.name, f1.passed, f1.value, f1.rule) == ("macro_f1_change", True, -0.005, ">= -0.01")
    assert f1.detail == ("95% interval -0.0200 to +0.0100; serving 0.9000; a true loss of 0.031 would be shown to "
                         "break the limit with 80% chance")
    assert (calibration.name, calibration.passed, calibration.rule) == ("calibration_error_change", True, "<= 0.01")
    assert calibration.detail.startswith("95% interval -0.0100 to +0.0300; root mean square over the bins")
    assert calibration.detail.endswith("a true rise of 0.039 would be shown to break the limit with 80% chance")

    strict = change_checks(found, GateConfig.parse(options | {"require_evidence": True}))
    assert [(check.passed, check.value, check.rule) for check in strict] == [
        (False, -0.02, "lower bound >= -0.01"), (False, 0.03, "upper bound <= 0.01")]


def test_a_truth_that_far_beyond_the_limit_is_shown_as_often_as_is_said() -> None:
    """10,000 test sets of 400 rows, whose accuracy is what the check says it would show with 80 % chance."""
    config = GateConfig(min_accuracy=0.8, **OFF)
    [check] = absolute_checks(measured(320, 400), config)
    truth = float(re.search(r"accuracy of ([\d.]+)%", check.detail)[1]) / 100
    right = np.random.default_rng(0).binomial(400, truth, 10_000)
    shown = {many: proportion(many, 400, 0.95).upper < 0.8 for many in set(right.tolist())}
    assert np.mean([shown[many] for many in right.tolist()]) == pytest.approx(0.8, abs=0.04)


def test_a_slice_blocks_when_the_loss_is_shown_and_is_listed_when_undecided() -> None:
    slices = {"source = web": against(0, 60, 200), "source = shop": against(1, 3, 30),
              "class = bag": against(5, 5, 5_000)}
    config = GateConfig(max_accuracy_drop=1)
    worse, undecided = change_checks(contest(against(0, 0, 10), slices), config)

    assert (worse.passed, worse.blocking, worse.value) == (False, True, 1)
    assert worse.detail == ("1 of 3 slices and classes lost more than 0.05, at a false discovery rate of 0.05: "
                            "source = web -30.0%")
    assert (undecided.passed, undecided.blocking, undecided.value) == (False, False, 1)
    assert undecided.detail == ("1 of 3 slices and classes have too few rows to rule out a loss of 0.05: "
                                "source = shop -6.7% (30 rows cannot be relied on to show a loss of less than 36 "
                                "points)")

    _, blocking = change_checks(contest(against(0, 0, 10), slices),
                                GateConfig(max_accuracy_drop=1, require_evidence=True))
    assert blocking.blocking


def test_what_one_slice_shows_is_not_enough_where_there_are_many() -> None:
    config = GateConfig(max_accuracy_drop=1)
    unlucky = {"source = web": against(3, 20, 100)}  # 17 points lost
    fine = {f"source = {index}": against(2, 2, 200) for index in range(60)}

    alone, _ = change_checks(contest(against(0, 0, 10), unlucky), config)
    among_many, undecided = change_checks(contest(against(0, 0, 10), unlucky | fine), config)
    assert not alone.passed
    assert among_many.passed
    assert "source = web -17.0% (100 rows cannot be relied on to show a loss of less than" in undecided.detail


def test_slices_of_which_no_limit_is_asked_are_compared_but_not_judged() -> None:
    config = GateConfig(max_slice_drop=1)
    [part] = judge_parts({"source = web": against(0, 60, 200)}, config)

    assert part.found is None
    assert part.comparison.lost == 60


def test_a_slice_that_could_show_nothing_says_so() -> None:
    few = {"source = web": against(0, 1, 2)}
    _, undecided = change_checks(contest(against(0, 0, 10), few), GateConfig(max_accuracy_drop=1, max_slice_drop=0.3))

    assert undecided.detail.endswith("source = web -50.0% (2 rows cannot be relied on to show any loss)")


def test_many_slices_are_counted_not_all_named() -> None:
    slices = {f"source = {index}": against(0, 60 + index, 200) for index in range(9)}
    worse, _ = change_checks(contest(against(0, 0, 10), slices), GateConfig(max_accuracy_drop=1))

    assert worse.detail.endswith(": source = 8 -34.0%, source = 7 -33.5%, source = 6 -33.0%, source = 5 -32.5%, "
                                 "source = 4 -32.0% and 4 more")


def test_numbers_are_said_as_coarsely_as_they_are_known() -> None:
    assert [points(loss) for loss in (0.0092, 0.1521, 1.0)] == ["0.92 points", "15 points", "100 points"]
    assert [not_shown(least) for least in (0.1521, float("inf"))] == ["a loss of less than 15 points", "any loss"]
    assert [chance(p_value) for p_value in (0.2, 0.00123, 1e-9)] == ["p = 0.2", "p = 0.0012", "p < 0.0001"]


def test_both_sides_are_summed_up_alike() -> None:
    answers = Predictions(["a", "b", "c", "d"], *(np.array(values) for values in (
        [0, 0, 1, 1], [0, 1, 1, 1], [0.9, 0.6, 0.8, 0.8], [0.9, 0.4, 0.8, 0.8])))

    found = figures(answers, ("bag", "boot", "hat"), 1)
    assert found["accuracy"] == 0.75
    assert found["min_class_recall"] == 0.5  # of the classes that have rows
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert found["ece"] == pytest.approx(0.775 - 0.75)
