"""The rules by value: what the evidence is, what the checks say."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.reports import CanaryReport, Check
from penstock.components.deployment.analyse_canary.analysis import MOST_POINTS, Batch, SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.ladder import Ladder
from penstock.components.deployment.analyse_canary.observed import Answer, Evidence, Observed, Pairs, Revision, pair
from penstock.components.deployment.analyse_canary.page import render
from penstock.components.deployment.analyse_canary.verdict import judge

CONFIG = AnalyseCanaryConfig(paired_rows=0, max_accuracy_drop=0.1)
CANARY, STABLE = Revision("v2", "r2", "http://2"), Revision("v1", "r1", "http://1")
LOOKS = 20
CLASSES = ("bag", "boot", "coat")


def observed(revision: Revision, requests: int, errors: int = 0, right: float = 0.9, seconds: float = 0.01) -> Observed:
    good = requests - errors
    times = np.linspace(0.5, 1.5, good) * seconds
    return Observed(revision, requests, errors, good, round(good * right), times, times)


def batches(side: Observed, classes: int) -> list[Batch]:
    """Spread what was observed evenly over the looks."""
    def share(total: int, look: int) -> int:
        return total * (look + 1) // LOOKS - total * look // LOOKS

    found = []
    for look in range(LOOKS):
        requests, errors = share(side.requests, look), share(side.errors, look)
        good = requests - errors
        found.append(Batch(requests, errors, side.slow[look::LOOKS], {}, good if side.labelled else 0,
                           share(side.labelled - side.correct, look) if side.labelled else 0,
                           np.bincount(np.arange(good) % classes, minlength=classes) if classes else np.empty(0, int)))
    return found


def evidence(canary: Observed | None = None, stable: Observed | None = None, config: AnalyseCanaryConfig = CONFIG,
             **more: Any) -> Evidence:
    ours, theirs = canary or observed(CANARY, 800), stable or observed(STABLE, 3200)
    analysis = SequentialAnalysis(config, labelled=bool(ours.labelled), classes=CLASSES)
    for of_stable, of_canary in zip(batches(theirs, len(CLASSES)), batches(ours, len(CLASSES)), strict=True):
        analysis.update(of_stable, of_canary)
    return Evidence(**{"ladder": Ladder(config, 20), "canary": ours, "stable": theirs, "asked": 4000, "unanswered": 0,
                       "seconds": 20.0, "analysis": analysis} | more)


def failed(report: CanaryReport) -> list[Check]:
    return [check for check in report.checks if check.blocking and not check.passed]


def named(report: CanaryReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def test_nothing_worse_is_promoted_and_the_reason_counts() -> None:
    report = judge("digits", evidence(), CONFIG)

    assert report.verdict == "promote"
    assert report.reason == ("version v2 keeps every limit against v1 (error rate increase, latency increase, wrong "
                             "answers increase): 800 answers against 3,200")
    assert [check.name for check in report.checks] == [
        "burst_of_errors", "error_rate_increase", "latency_increase", "wrong_answers_increase", "class_shift",
        "sample", "traffic_split", "unanswered"]
    assert named(report, "error_rate_increase").value <= 0.01
    assert named(report, "wrong_answers_increase").rule == "upper bound <= 0.1"
    assert named(report, "class_shift").rule == "lower bound <= 0.25"


def test_an_error_rate_is_judged_by_its_bound() -> None:
    worse = failed(judge("digits", evidence(observed(CANARY, 800, errors=40)), CONFIG))
    unsure = failed(judge("digits", evidence(observed(CANARY, 800, errors=6)), CONFIG))

    assert worse[0].detail.startswith("errors: 40 in 800 requests of the canary, 0 in 3,200 of stable: +5.00 points")
    assert unsure[0].detail.startswith("not enough evidence: errors: 6 in 800 requests of the canary")
    assert unsure[0].value > 0.01


@pytest.mark.parametrize(
    ("canary", "stable", "kept"),
    [(0.012, 0.010, True), (0.025, 0.010, True), (0.060, 0.010, False), (0.200, 0.100, False), (0.110, 0.100, True)],
)
def test_latency_may_grow_by_a_share_or_by_what_nobody_minds(canary: float, stable: float, kept: bool) -> None:
    found = evidence(observed(CANARY, 800, seconds=canary), observed(STABLE, 3200, seconds=stable))

    report = judge("digits", found, CONFIG)
    assert (report.verdict == "promote") is kept
    assert [check.name for check in failed(report)] == ([] if kept else ["latency_increase"])


def test_a_version_without_a_good_answer_has_no_latency() -> None:
    report = judge("digits", evidence(observed(CANARY, 400, errors=400)), CONFIG)

    assert "latency_increase" in [check.name for check in failed(report)]
    assert CanaryReport.model_validate_json(report.model_dump_json()) == report


def test_a_burst_of_errors_decides_alone() -> None:
    report = judge("digits", evidence(observed(CANARY, 400, errors=400)), CONFIG)

    assert not named(report, "burst_of_errors").passed
    assert report.reason.startswith(named(report, "burst_of_errors").detail)


def test_accuracy_is_compared_on_the_same_rows_where_they_are_asked() -> None:
    config = AnalyseCanaryConfig(paired_rows=500)
    rows = np.arange(500)
    pairs = Pairs(rows % 10 != 0, rows % 10 != 1, np.isin(rows % 10, (0, 1), invert=True))
    found = evidence(config=config, pairs=pairs)
    report = judge("digits", found, config)

    accuracy = named(report, "accuracy_change")
    assert accuracy.detail.startswith("not enough evidence: accuracy: on 500 rows that both answered, 50 right only by "
                                      "the canary and 50 only by stable: +0.00 points, at worst -")
    assert (accuracy.passed, report.agreement and report.agreement.estimate) == (False, 0.8)  # 50 and 50 are too unsure
    assert found.analysis is not None
    assert "wrong_answers_increase" not in found.analysis.required
    missing = named(judge("digits", evidence(config=config), config), "accuracy_change")
    assert missing.detail == "not enough evidence: accuracy: no row was answered by both versions"


def test_wrong_answers_send_back_even_where_rows_are_paired() -> None:
    config = AnalyseCanaryConfig(paired_rows=500)

    report = judge("digits", evidence(observed(CANARY, 800, right=0.5), config=config), config)
    assert report.reason.startswith("wrong answers: 400 in 800 requests of the canary, 320 in 3,200 of stable: +40")
    assert "accuracy_change" not in [check.name for check in report.checks]


def test_without_labels_accuracy_is_not_judged() -> None:
    blind = [side._replace(labelled=0, correct=0) for side in (observed(CANARY, 800), observed(STABLE, 3200))]

    report = judge("digits", evidence(*blind), CONFIG)
    assert report.verdict == "promote"
    assert "wrong_answers_increase" not in [check.name for check in report.checks]


def test_limits_that_are_off_make_no_check() -> None:
    off = AnalyseCanaryConfig(max_error_rate_increase=1, max_latency_increase=0, max_accuracy_drop=1, max_class_shift=1,
                              paired_rows=0)

    report = judge("digits", evidence(observed(CANARY, 800, errors=80, right=0, seconds=9), config=off), off)
    assert "had no burst of errors beside v1, and no other limit was to be shown" in report.reason
    assert (report.verdict, [check.name for check in report.checks]) == (
        "promote", ["burst_of_errors", "sample", "traffic_split", "unanswered"])


def test_one_that_turns_bad_after_its_tests_were_within_goes_back_with_the_reason() -> None:
    config = AnalyseCanaryConfig(max_latency_increase=0, max_accuracy_drop=1, max_class_shift=1, paired_rows=0)
    analysis = SequentialAnalysis(config, labelled=False)
    for _ in range(50):
        analysis.update(Batch(80, 0), Batch(20, 0))
    assert analysis.decisions["error_rate_increase"].verdict == "within"
    while not analysis.is_worse():
        analysis.update(Batch(80, 0), Batch(20, 6))
    for _ in range(50):
        analysis.update(Batch(80, 0), Batch(20, 0))
    restored = SequentialAnalysis(config, labelled=False)
    restored.restore(json.loads(json.dumps(analysis.to_state())))

    report = judge("digits", evidence(analysis=restored), config)
    assert report.verdict == "roll_back"
    assert report.reason.startswith("errors: within the limit of +1 in the beginning, but it has turned worse: +")


def test_what_one_of_several_tests_says_alone_is_no_false_alarm() -> None:
    config = AnalyseCanaryConfig(max_latency_increase=0, paired_rows=500, max_accuracy_drop=0.1)
    analysis = SequentialAnalysis(config, labelled=True, classes=CLASSES)
    mix = np.array([10, 5, 5])
    while analysis.decisions["wrong_answers_increase"].verdict == "undecided":
        analysis.update(Batch(80, 0, labelled=80, wrong=8, classes=4 * mix),
                        Batch(20, 0, labelled=20, wrong=6, classes=mix))
    assert (analysis.decisions["wrong_answers_increase"].verdict, analysis.is_worse()) == ("worse", False)

    found = named(judge("digits", evidence(analysis=analysis), config), "wrong_answers_increase")
    assert found.passed
    assert found.detail.endswith("; alone it may be chance, where 3 limits are watched")


def test_what_nobody_owned_up_to_keeps_the_analysis_going_until_it_weighs_little() -> None:
    config = AnalyseCanaryConfig(max_latency_increase=0, max_accuracy_drop=1, max_class_shift=1, paired_rows=0)
    analysis = SequentialAnalysis(config, labelled=False)
    analysis.update(Batch(400, 0), Batch(100, 0), nameless=5)
    while analysis.decisions["error_rate_increase"].verdict != "within":
        analysis.update(Batch(80, 0), Batch(20, 0))
    restored = SequentialAnalysis(config, labelled=False)
    restored.restore(json.loads(json.dumps(analysis.to_state())))
    assert (restored.is_over(), restored.worst_rise()) == (False, analysis.worst_rise())
    assert analysis.worst_rise() == pytest.approx(5 / (analysis.decisions["error_rate_increase"].samples + 5), rel=0.02)

    while not analysis.is_over():
        analysis.update(Batch(80, 0), Batch(20, 0))
    assert 480 < analysis.decisions["error_rate_increase"].samples < 520
    assert analysis.worst_rise() <= 0.01


def test_a_course_is_thinned_out_and_keeps_its_ends() -> None:
    config = AnalyseCanaryConfig(max_latency_increase=0, max_accuracy_drop=1, max_class_shift=1, paired_rows=0)
    analysis = SequentialAnalysis(config, labelled=False)
    for _ in range(1000):
        analysis.update(Batch(4, 0), Batch(1, 0))

    samples = [point.samples for point in analysis.course["error_rate_increase"]]
    assert (len(samples) <= MOST_POINTS, samples[0], samples[-1]) == (True, 1, 1000)
    assert samples == sorted(samples)


def test_a_state_of_other_tests_is_refused() -> None:
    state = SequentialAnalysis(CONFIG, labelled=False).to_state()
    with pytest.raises(ContractError, match="begin it anew"):
        SequentialAnalysis(CONFIG, labelled=True).restore(state)


def test_the_page_says_what_is_not_bounded_yet_and_what_a_floor_allows() -> None:
    found = evidence(observed(CANARY, 100), observed(STABLE, 400))
    page = render(judge("digits", found, CONFIG), found, CONFIG)

    assert "none yet" in page
    assert "1,000,000,000" not in page
    assert "burst of errors 0.5 %" in page
    assert "class coat moved most" in named(judge("digits", found, CONFIG), "class_shift").detail
    assert page.count("allowed, or 25 ms more") == page.count("latency, % above stable over")


def test_a_split_that_is_not_as_asked_is_shown_and_does_not_block() -> None:
    report = judge("digits", evidence(observed(CANARY, 1000), observed(STABLE, 1000)), CONFIG)

    split = named(report, "traffic_split")
    assert (split.passed, split.blocking, split.value, report.verdict) == (False, False, 0.5, "promote")


def test_an_agreement_that_was_not_measured_is_not_there() -> None:
    config = AnalyseCanaryConfig(min_agreement=0.5, max_accuracy_drop=1)

    report = judge("digits", evidence(config=config), config)
    assert report.reason == "not enough evidence: agreement: no row was answered by both versions"
    late = judge("digits", evidence(config=config, late=True), config)
    assert late.reason.endswith("answered by both versions, because the time was up")


def test_what_stopped_the_analysis_is_the_reason() -> None:
    report = judge("digits", evidence(observed(CANARY, 0), asked=7, stopped="the canary failed: killed"), CONFIG)

    assert (report.verdict, report.reason) == ("roll_back", "stopped early: the canary failed: killed")
    assert [check.name for check in report.checks] == ["hard_stop", "unanswered"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200), st.integers(0, 400), st.integers(0, 200))
def test_more_errors_never_help_a_canary(errors: int, base: int, more: int) -> None:
    only = AnalyseCanaryConfig(max_latency_increase=0, max_accuracy_drop=1, max_class_shift=1, paired_rows=0)

    def verdict(count: int) -> str:
        found = evidence(observed(CANARY, 400, errors=count), observed(STABLE, 1600, errors=base), only)
        return judge("digits", found, only).verdict

    assert (verdict(errors), verdict(min(errors + more, 400))) != ("roll_back", "promote")


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
