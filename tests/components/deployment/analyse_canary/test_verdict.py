"""The rules by value: what the evidence is, what the checks say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.reports import CanaryReport, Check
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.observed import Answer, Evidence, Observed, Pairs, Revision, pair
from penstock.components.deployment.analyse_canary.verdict import is_burst, judge

CONFIG = AnalyseCanaryConfig()
CANARY, STABLE = Revision("v2", "r2", "http://2"), Revision("v1", "r1", "http://1")


def observed(revision: Revision, requests: int, errors: int = 0, right: float = 0.9, seconds: float = 0.01) -> Observed:
    good = requests - errors
    times = np.linspace(0.5, 1.5, good) * seconds
    return Observed(revision, requests, errors, good, round(good * right), times, times)


def evidence(canary: Observed | None = None, stable: Observed | None = None, **more: Any) -> Evidence:
    ours, theirs = canary or observed(CANARY, 400), stable or observed(STABLE, 1600)
    return Evidence(**{"percent": 20, "canary": ours, "stable": theirs, "asked": 2000, "unanswered": 0, "seconds": 20.0}
                    | more)


def failed(report: CanaryReport) -> list[Check]:
    return [check for check in report.checks if check.blocking and not check.passed]


def test_nothing_worse_is_promoted_and_the_reason_counts() -> None:
    report = judge("digits", evidence(), CONFIG)

    assert report.verdict == "promote"
    assert report.reason == ("version v2 keeps every limit against v1 (error rate increase, latency p95 increase, "
                             "accuracy change): 400 answers against 1,600")
    assert [check.name for check in report.checks] == [
        "sample", "error_rate_increase", "latency_p95_increase", "accuracy_change", "traffic_split", "unanswered"]
    assert report.checks[1].value == pytest.approx(0.00672, abs=1e-5)  # 1.645^2 / (400 + 1.645^2)


def test_an_error_rate_is_judged_by_its_bound() -> None:
    worse = failed(judge("digits", evidence(observed(CANARY, 400, errors=20)), CONFIG))
    unsure = failed(judge("digits", evidence(observed(CANARY, 400, errors=2)), CONFIG))

    assert worse[0].detail == "20 errors in 400 answers against 0 in 1,600 of stable: +5.00 points, beyond the limit"
    assert unsure[0].detail.endswith("+0.50 points, not enough evidence that it is within the limit")
    assert unsure[0].value == pytest.approx(0.0147, abs=1e-3)


@pytest.mark.parametrize(
    ("canary", "stable", "kept"),
    [(0.012, 0.010, True), (0.025, 0.010, True), (0.060, 0.010, False), (0.200, 0.100, False), (0.110, 0.100, True)],
)
def test_latency_may_grow_by_a_share_or_by_what_nobody_minds(canary: float, stable: float, kept: bool) -> None:
    found = evidence(observed(CANARY, 400, seconds=canary), observed(STABLE, 1600, seconds=stable))

    report = judge("digits", found, CONFIG)
    assert (report.verdict == "promote") is kept
    assert [check.name for check in failed(report)] == ([] if kept else ["latency_p95_increase"])


def test_latency_is_judged_by_its_bound() -> None:
    few, many = observed(CANARY, 100, seconds=0.146), observed(CANARY, 20_000, seconds=0.146)
    stable = observed(STABLE, 80_000, seconds=0.100)
    config = AnalyseCanaryConfig(max_error_rate_increase=1, max_accuracy_drop=1)

    unsure = failed(judge("digits", evidence(few, stable), config))
    assert [check.name for check in unsure] == ["latency_p95_increase"]
    assert unsure[0].detail.endswith("+46%, not enough evidence that it is within the limit")
    assert failed(judge("digits", evidence(many, stable), config)) == []


def test_a_version_without_a_good_answer_has_no_latency() -> None:
    report = judge("digits", evidence(observed(CANARY, 400, errors=400)), CONFIG)

    latency = next(check for check in failed(report) if check.name == "latency_p95_increase")
    assert "one of them gave no good answer" in latency.detail
    assert CanaryReport.model_validate_json(report.model_dump_json()) == report


def test_accuracy_is_compared_on_the_same_rows_where_there_are_any() -> None:
    rows = np.arange(500)
    pairs = Pairs(rows % 10 != 0, rows % 10 != 1, np.isin(rows % 10, (0, 1), invert=True))
    report = judge("digits", evidence(observed(CANARY, 400, right=0.5), pairs=pairs), CONFIG)

    accuracy = next(check for check in report.checks if check.name == "accuracy_change")
    assert accuracy.detail.startswith("on 500 rows that both answered, 50 right only by the canary and 50 only by")
    assert (accuracy.passed, report.agreement and report.agreement.estimate) == (False, 0.8)  # 50 and 50 are too unsure
    unpaired = failed(judge("digits", evidence(observed(CANARY, 400, right=0.5)), CONFIG))
    assert unpaired[0].detail == "200 of 400 right against 1,440 of 1,600 of stable: -40.00 points, beyond the limit"


def test_without_labels_accuracy_is_not_judged() -> None:
    blind = [side._replace(labelled=0, correct=0) for side in (observed(CANARY, 400), observed(STABLE, 1600))]

    report = judge("digits", evidence(*blind), CONFIG)
    assert report.verdict == "promote"
    assert "accuracy_change" not in [check.name for check in report.checks]


def test_limits_that_are_off_make_no_check() -> None:
    off = AnalyseCanaryConfig(max_error_rate_increase=1, max_latency_increase=0, max_accuracy_drop=1)

    report = judge("digits", evidence(observed(CANARY, 400, errors=300, right=0, seconds=9)), off)
    assert (report.verdict, [check.name for check in report.checks]) == (
        "promote", ["sample", "traffic_split", "unanswered"])


def test_a_split_that_is_not_as_asked_is_shown_and_does_not_block() -> None:
    report = judge("digits", evidence(observed(CANARY, 1000), observed(STABLE, 1000)), CONFIG)

    split = next(check for check in report.checks if check.name == "traffic_split")
    assert (split.passed, split.blocking, split.value, report.verdict) == (False, False, 0.5, "promote")


def test_an_agreement_that_was_not_measured_is_not_there() -> None:
    report = judge("digits", evidence(), AnalyseCanaryConfig(min_agreement=0.5))

    assert report.reason.startswith("agreement: not enough evidence: no row was answered by both")


def test_what_stopped_the_analysis_is_the_reason() -> None:
    report = judge("digits", evidence(observed(CANARY, 0), asked=7, stopped="the canary failed: killed"), CONFIG)

    assert (report.verdict, report.reason) == ("roll_back", "stopped early: the canary failed: killed")
    assert [check.name for check in report.checks] == ["hard_stop", "unanswered"]


def test_half_of_twenty_is_a_burst() -> None:
    assert is_burst(10, 20)
    assert not is_burst(9, 20)
    assert not is_burst(19, 19)


@given(st.integers(0, 400), st.integers(0, 1600), st.integers(0, 400))
def test_more_errors_never_help_a_canary(errors: int, base: int, more: int) -> None:
    def bound(count: int) -> float:
        found = evidence(observed(CANARY, 400, errors=count), observed(STABLE, 1600, errors=base))
        return judge("digits", found, CONFIG).checks[1].value

    low, high = sorted((errors, min(errors + more, 400)))
    assert bound(low) <= bound(high) + 1e-12


def test_rows_are_paired_only_where_both_answered() -> None:
    labels = np.array([0, 1, 2, 0])
    ours = [Answer(row, 0, 0, 200, predicted=guess) for row, guess in ((0, 0), (1, 1), (2, 0))]
    theirs = [Answer(2, 0, 0, 200, predicted=2), Answer(0, 0, 0, 200, predicted=0), Answer(1, 0, 0, 500)]

    pairs = pair(ours, theirs, labels)
    assert pairs is not None
    assert [column.tolist() for column in pairs] == [[True, False], [True, True], [True, False]]
    assert pair(ours, [], labels) is None


def test_an_answer_belongs_to_the_revision_that_the_gateway_names() -> None:
    assert Answer(0, 0, 0, 200, "r2", "v1").is_from(CANARY)
    assert Answer(0, 0, 0, 200, "", "v2").is_from(CANARY)
    assert not Answer(0, 0, 0, 0).is_from(CANARY)
    assert not Answer(0, 0, 0, 200, "r1", "v2").is_from(CANARY)
