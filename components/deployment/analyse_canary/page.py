"""The page of a canary analysis, for a person: the rules, the requests, latency, accuracy and the course of time.

Lays out a finished report and the answers behind it; judges nothing.
"""

import numpy as np
from markupsafe import Markup

from penstock.components.contracts.reports import CanaryReport, Check
from penstock.components.deployment.analyse_canary.analysis import UNITS, SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.observed import Evidence, Observed
from penstock.components.deployment.analyse_canary.verdict import NO_BOUND
from penstock.components.evidence.combining import HARD_STOP
from penstock.components.evidence.fixed import proportion
from penstock.components.evidence.latency import LatencyTest
from penstock.components.reporting.page import Section, checks_table, render_page, table
from penstock.components.reporting.plots import bars, closing_in, intervals, lines

__all__ = ["render"]

PERCENTILES = tuple(range(5, 100, 5))
MOST_POINTS = 60  # of the time line


def render(report: CanaryReport, evidence: Evidence | None, config: AnalyseCanaryConfig) -> str:
    """Render the page.

    Args:
        evidence: None where there was nothing to analyse.
    """
    facts = {"service": report.service, "version on trial": report.canary.version,
             "stable": report.stable.version if report.stable else "none",
             "asked for the trial": f"{_shares(report, evidence)} % of the requests"}
    if evidence is None:
        return render_page("Canary", report.verdict, report.reason, [], facts)
    facts |= {"mode": config.mode, "duration": f"{report.seconds:.1f} s"}
    sides = [side for side in (evidence.stable, evidence.canary) if side]
    sections = [_rules(report, evidence, config), *_sequences(evidence, report), _requests(report, evidence, sides)]
    if any(len(side.slow) for side in sides):
        sections.append(_latency(sides))
    if any(side.labelled for side in sides):
        sections.append(_accuracy(sides, config))
    sections.append(_agreement(report, evidence, config))
    if evidence.answers:
        sections.append(_course(evidence, sides))
    return render_page("Canary", report.verdict, report.reason, sections, facts)


def _shares(report: CanaryReport, evidence: Evidence | None) -> str:
    return " → ".join(str(rung.percent) for rung in evidence.ladder.rungs) if evidence else str(report.traffic_percent)


def _rules(report: CanaryReport, evidence: Evidence, config: AnalyseCanaryConfig) -> Section:
    if evidence.analysis is None:
        note = "The first version has nothing to be compared with; it must answer."
    else:
        note = _how_to_read(evidence.analysis, config)
    return Section("Rules", checks_table([_shown(check) for check in report.checks]), note)


def _shown(check: Check) -> Check:
    return check.model_copy(update={"value": "none yet"}) if abs(check.value) >= NO_BOUND else check


def _how_to_read(analysis: SequentialAnalysis, config: AnalyseCanaryConfig) -> str:
    """Say what a bound is, what it does where nothing is known, and who may raise how much of a false alarm."""
    better = [_plain(name) for name in analysis.tests if name not in analysis.required]
    parts = ", ".join(f"{'burst of errors' if name == HARD_STOP else _plain(name)} {100 * part:.4g} %"
                      for name, part in analysis.budget.items())
    text = (f"Upper and lower bound: the ends of what the evidence leaves open. Each is wrong with a probability of "
            f"{100 * config.alpha:g} % at most, over all looks together, so looking often costs nothing. Limits are "
            f"held against the worse end: what is not known counts against the canary.")
    if better:
        text += (f" Only {' and '.join(better)}: against the better end, because {'they' if len(better) > 1 else 'it'} "
                 f"can send back but prove nothing.")
    return text + (f" The risk of sending back a canary that breaks no limit, as one that does, is shared out: {parts}."
                   if parts else "")


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _sequences(evidence: Evidence, report: CanaryReport) -> list[Section]:
    """Draw how the evidence came in, test by test."""
    if evidence.analysis is None:
        return []
    told = {check.name: check.detail for check in report.checks}
    sections = []
    for name, test in evidence.analysis.tests.items():
        course = [point for point in evidence.analysis.course[name] if point.samples]
        if len(course) < 2:
            continue
        samples = [point.samples for point in course]
        estimate, lower, upper = 100 * np.array([point[1:] for point in course]).T
        floor = test.floor if isinstance(test, LatencyTest) else 0
        allowed = f"allowed, or {1000 * floor:g} ms more" if floor else "allowed"
        plot = closing_in(samples, estimate, lower, upper, 100 * test.tolerance, f"canary {test.UNIT}",
                          f"{test.name}, {UNITS[name]}", allowed)
        sections.append(Section(f"Evidence: {test.name}", plot, told.get(name, test.decide().reason)))
    return sections


def _requests(report: CanaryReport, evidence: Evidence, sides: list[Observed]) -> Section:
    answered = sum(side.requests for side in sides)
    plot = bars([_name(side, sides) for side in sides],
                {"good answers": [side.requests - side.errors for side in sides],
                 "errors": [side.errors for side in sides]}, "answers")
    rows = [[_name(side, sides), side.revision.version, side.revision.name, side.requests,
             f"{side.requests / max(answered, 1):.1%}", side.errors] for side in sides]
    body = plot + table(["", "Version", "Revision", "Answers", "Share", "Errors"], rows, numeric={3, 4, 5})
    if len(evidence.ladder.rungs) > 1:
        rungs = [[f"{rung.percent} %", f"{rung.needed:,}", f"{stable + canary:,}", f"{canary:,}"]
                 for rung, stable, canary in evidence.ladder.answered(evidence.seen)]
        body += table(["Share asked for", "Held for at least", "Answers", "Of the canary"], rows=rungs,
                      numeric={0, 1, 2, 3})
    lost = (f"{report.unanswered:,} requests got no answer, or one that does not say which version gave it"
            if report.unanswered else "No request was lost")
    return Section("Requests", body, f"{lost}.")


def _latency(sides: list[Observed]) -> Section:
    timed = [side for side in sides if len(side.slow)]
    curves = {_name(side, sides): _milliseconds(side, PERCENTILES) for side in timed}
    named = (50, 90, 95, 99)
    rows = [[_name(side, sides), *(f"{value:.1f}" for value in _milliseconds(side, named))] for side in timed]
    body = lines(PERCENTILES, curves, "percentile", "milliseconds") + table(
        ["", *(f"p{percent}, ms" for percent in named)], rows, numeric={1, 2, 3, 4})
    return Section("Latency", body, "How long a good answer took: the share of requests on the x axis took at most so "
                                    "long.")


def _milliseconds(side: Observed, percentiles: tuple[int, ...]) -> list[float]:
    values = np.where(np.isfinite(side.slow), side.slow, side.fast)
    return [float(value) * 1000 for value in np.percentile(values, percentiles, method="inverted_cdf")]


def _accuracy(sides: list[Observed], config: AnalyseCanaryConfig) -> Section:
    labelled = [side for side in sides if side.labelled]
    found = [proportion(side.correct, side.labelled, config.level) for side in labelled]
    names = [_name(side, sides) for side in labelled]
    body: Markup = intervals(names, [one.estimate for one in found], [one.lower for one in found],
                             [one.upper for one in found], "accuracy")
    rows = [[name, side.labelled, side.correct, f"{one.estimate:.2%}", f"{one.lower:.2%}", f"{one.upper:.2%}"]
            for name, side, one in zip(names, labelled, found, strict=True)]
    body += table(["", "Rows", "Right", "Accuracy", "Lower", "Upper"], rows, numeric={1, 2, 3, 4, 5})
    return Section("Accuracy", body, f"Of the requests that each version answered; {100 * config.level:g}% intervals.")


def _agreement(report: CanaryReport, evidence: Evidence, config: AnalyseCanaryConfig) -> Section:
    found, pairs = report.agreement, evidence.pairs
    if found is None or pairs is None:
        return Section("Agreement", Markup(""), f"Not measured: {_why_not(evidence, config)}.")
    ours, theirs = pairs.canary_correct, pairs.stable_correct
    rows = [["both right", int((ours & theirs).sum())], ["only the canary right", int((ours & ~theirs).sum())],
            ["only stable right", int((theirs & ~ours).sum())], ["both wrong", int((~ours & ~theirs).sum())]]
    return Section("Agreement", table(["Of the same rows", "Rows"], rows, numeric={1}),
                   f"Both were asked {len(ours):,} rows directly; {found.estimate:.1%} of the answers are the same "
                   f"({found.lower:.1%} to {found.upper:.1%}).")


def _why_not(evidence: Evidence, config: AnalyseCanaryConfig) -> str:
    """Say why no row was asked of both versions."""
    if evidence.analysis is None:
        return "there is no other version"
    if not config.paired_rows:
        return "it is switched off (paired_rows=0)"
    if evidence.stopped or evidence.analysis.is_worse():
        return "the canary goes back, whatever both versions answer to the same rows"
    return "no row was answered by both versions"


def _course(evidence: Evidence, sides: list[Observed]) -> Section:
    """Draw answers and errors over time, in equal steps."""
    end = max(answer.sent for answer in evidence.answers)
    steps = min(max(int(end), 1), MOST_POINTS)
    edges = np.linspace(0, max(end, 1e-3), steps + 1)

    def per_second(times: list[float]) -> list[float]:
        return [float(count) for count in np.histogram(times, edges)[0] / np.diff(edges)]

    series = {_name(side, sides): per_second([answer.sent for answer in evidence.answers
                                              if answer.is_from(side.revision)]) for side in sides}
    series["errors"] = per_second([answer.sent for answer in evidence.answers if answer.failed])
    middles = [float(middle) for middle in (edges[:-1] + edges[1:]) / 2]
    return Section("Course", lines(middles, series, "seconds", "requests per second"),
                   "Requests by the second they were sent; an error is an answer without a prediction, or none at all.")


def _name(side: Observed, sides: list[Observed]) -> str:
    return "canary" if side is sides[-1] and len(sides) > 1 else "stable" if len(sides) > 1 else "first version"
