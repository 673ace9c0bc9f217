"""The gate's rules by value: what is off makes no check, what fails says by how much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.reports import ClassMetrics, EvaluationReport
from penstock.components.evaluation.gate.checks import (
    Contest,
    GateConfig,
    Part,
    absolute_checks,
    change_checks,
    figures,
    finding,
)
from penstock.components.evaluation.predictions import Predictions
from penstock.components.evidence.fixed import proportion
from penstock.components.evidence.paired import Comparison, compare

OFF = {"max_accuracy_drop": 1, "max_slice_drop": 1}
SERVING = {"accuracy": 0.9, "macro_f1": 0.9, "ece": 0.02, "log_loss": 0.3, "min_class_recall": 0.8}


def against(gained: int, lost: int, rows: int) -> Comparison:
    candidate = np.array([True] * gained + [False] * lost + [True] * (rows - gained - lost))
    serving = np.array([False] * gained + [True] * lost + [True] * (rows - gained - lost))
    return compare(candidate, serving)


def contest(overall: Comparison, *parts: Part) -> Contest:
    return Contest("0123456789ab", SERVING, overall, parts)


def measured(right: int, rows: int) -> EvaluationReport:
    return EvaluationReport(
        verdict="measured", reason="", dataset_hash="d", model="m", split="test", rows=rows,
        accuracy=proportion(right, rows, 0.95), macro_f1=0.8, log_loss=0.5, ece=0.04, confusion=((1,),),
        per_class=(ClassMetrics(name="bag", support=50, precision=0.9, recall=0.7, f1=0.8),
                   ClassMetrics(name="boot", support=0, precision=0, recall=0, f1=0)))


def test_limits_that_are_off_make_no_check() -> None:
    config = GateConfig.parse(OFF)

    assert absolute_checks(measured(80, 100), config) == []
    assert change_checks(SERVING, contest(against(0, 90, 100)), config) == []
    assert not config.compares
    assert GateConfig().compares


@pytest.mark.parametrize(("options", "passed", "detail"), [
    ({"min_accuracy": 0.8}, True, "71.12% to 86.66%"),
    ({"min_accuracy": 0.81}, False, "71.12% to 86.66%"),
    ({"min_accuracy": 0.8, "require_evidence": True}, False, "71.12% to 86.66%"),
    ({"min_class_recall": 0.7}, True, "weakest class is bag, 50 rows"),
    ({"min_class_recall": 0.71}, False, "weakest class is bag, 50 rows"),
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

    [check] = change_checks(SERVING, slightly_worse, GateConfig(max_slice_drop=1))
    assert (check.passed, check.rule) == (True, ">= -0.005")
    assert check.value == pytest.approx(-0.002)
    assert "only the candidate has 100 right, only the serving version 120 (exact McNemar p = 0.2)" in check.detail

    [strict] = change_checks(SERVING, slightly_worse, GateConfig(max_slice_drop=1, max_accuracy_drop=0.004,
                                                                 require_evidence=True))
    assert (strict.passed, strict.rule) == (False, "lower bound >= -0.004")


def test_f1_and_calibration_are_compared_when_asked() -> None:
    config = GateConfig.parse(OFF | {"max_macro_f1_drop": 0.01, "max_ece_rise": 0.01})
    worse = SERVING | {"macro_f1": 0.88, "ece": 0.035}

    assert {check.name: check.passed for check in change_checks(SERVING, contest(against(0, 0, 10)), config)} == {
        "macro_f1_change": True, "calibration_error_change": True}
    assert {check.name: round(check.value, 3) for check in change_checks(worse, contest(against(0, 0, 10)), config)
            if not check.passed} == {"macro_f1_change": -0.02, "calibration_error_change": 0.015}


def test_a_slice_blocks_when_the_loss_is_proven_and_is_listed_when_undecided() -> None:
    parts = [Part("source = web", against(0, 60, 200)), Part("source = shop", against(1, 3, 30)),
             Part("class = bag", against(5, 5, 5_000))]
    worse, undecided = change_checks(SERVING, contest(against(0, 0, 10), *parts), GateConfig(max_accuracy_drop=1))

    assert (worse.passed, worse.blocking, worse.value) == (False, True, 1)
    assert worse.detail == ("1 of 3 slices and classes lost more than 0.05, by all of the interval: "
                            "source = web -30.0%")
    assert (undecided.passed, undecided.blocking, undecided.value) == (False, False, 1)
    assert undecided.detail.endswith("too few rows to rule out a loss of 0.05: source = shop -6.7%")

    _, blocking = change_checks(SERVING, contest(against(0, 0, 10), *parts),
                                GateConfig(max_accuracy_drop=1, require_evidence=True))
    assert blocking.blocking


def test_many_slices_are_counted_not_all_named() -> None:
    parts = [Part(f"source = {index}", against(0, 60 + index, 200)) for index in range(9)]
    worse, _ = change_checks(SERVING, contest(against(0, 0, 10), *parts), GateConfig(max_accuracy_drop=1))

    assert worse.detail.endswith(": source = 8 -34.0%, source = 7 -33.5%, source = 6 -33.0%, source = 5 -32.5%, "
                                 "source = 4 -32.0% and 4 more")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(80, 500), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_looser_limit_never_turns_a_finding_for_the_worse(gained: int, lost: int, rows: int, one: float,
                                                            other: float) -> None:
    order = ["worse", "undecided", "no worse"]
    strict, loose = (finding(against(gained, lost, rows), limit) for limit in sorted((one, other)))

    assert order.index(strict) <= order.index(loose)


def test_both_sides_are_summed_up_alike() -> None:
    answers = Predictions(["a", "b", "c", "d"], *(np.array(values) for values in (
        [0, 0, 1, 1], [0, 1, 1, 1], [0.9, 0.6, 0.8, 0.8], [0.9, 0.4, 0.8, 0.8])))

    found = figures(answers, ("bag", "boot", "hat"), 1)
    assert found["accuracy"] == 0.75
    assert found["min_class_recall"] == 0.5  # of the classes that have rows
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert found["ece"] == pytest.approx(0.775 - 0.75)
