"""The rules of a canary's verdict: from evidence to checks, each with the number, the rule and what it rests on.

Arithmetic only. A limit is kept when that is shown; so what is not known fails, and says so.
"""

from collections.abc import Sequence

from scipy.special import ndtri
from scipy.stats import binomtest

from penstock.components.contracts.reports import CanaryReport, Check, Interval
from penstock.components.deployment.analyse_canary.analysis import UNITS, SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.observed import Evidence, variant_report
from penstock.components.evidence.decision import Decision
from penstock.components.evidence.fixed import proportion
from penstock.components.evidence.paired import Comparison, compare
from penstock.components.evidence.slices import detectable_loss, not_shown

__all__ = ["agreement", "judge"]

NO_BOUND = 1e9  # stands for "unbounded" in a report, because JSON has no infinity
WANTING = "not enough evidence"


def agreement(evidence: Evidence, config: AnalyseCanaryConfig) -> Interval | None:
    """Return how often both versions give the same answer to the same row; None: not measured."""
    pairs = evidence.pairs
    return proportion(int(pairs.agree.sum()), len(pairs.agree), config.level) if pairs else None


def judge(service: str, evidence: Evidence, config: AnalyseCanaryConfig) -> CanaryReport:
    """Make the verdict: every blocking check must be kept, and nothing may have stopped the analysis."""
    stable, analysis = evidence.stable, evidence.analysis
    checks = [_unanswered(evidence)]
    if evidence.stopped:
        checks.insert(0, Check(name="hard_stop", passed=False, value=evidence.asked, rule="none",
                               detail=f"{evidence.stopped}, after {evidence.asked:,} requests"))
    elif stable is None or analysis is None:
        checks = [_first_errors(evidence, config), _sample(evidence, config), *_unattributed(evidence, config), *checks]
    else:
        checks = [_burst(analysis), *_tests(analysis), *_paired(evidence, config), _sample(evidence, config),
                  *_ladder(evidence, config), *_unattributed(evidence, config), _split(evidence), *checks]
    failed = [check for check in checks if check.blocking and not check.passed]
    good = "promote" if stable else "first"
    return CanaryReport(
        verdict="roll_back" if failed else good, reason=_reason(evidence, checks, failed), checks=tuple(checks),
        service=service, traffic_percent=evidence.ladder.percent, canary=variant_report(evidence.canary),
        stable=variant_report(stable) if stable else None, agreement=agreement(evidence, config),
        seconds=round(evidence.seconds, 3), unanswered=evidence.unanswered)


def _tests(analysis: SequentialAnalysis) -> list[Check]:
    return [_test(analysis, name, decision) for name, decision in analysis.decisions.items()]


def _test(analysis: SequentialAnalysis, name: str, decision: Decision) -> Check:
    """Hold one test against its limit: shown to be kept, or, where that is not asked, not shown to be broken."""
    blamed, required, detail = name in analysis.blamed, name in analysis.required, decision.reason
    value, side = (decision.upper, "upper") if required else (decision.lower, "lower")
    passed = not blamed and (decision.verdict == "within" or not required)
    if blamed and decision.verdict != "worse":
        detail = _turned(analysis, name, decision)
    elif decision.verdict == "worse" and not blamed:
        detail = f"{detail}; alone it may be chance, where {len(analysis.tests)} limits are watched"
    wanting = "" if passed or blamed else f"{WANTING}: "
    return Check(name=name, passed=passed, value=min(max(value, -NO_BOUND), NO_BOUND),
                 rule=f"{side} bound <= {analysis.allowed(name)}", detail=wanting + detail)


def _turned(analysis: SequentialAnalysis, name: str, decision: Decision) -> str:
    """Say of a test whose verdict had fallen, and stays, that what came since is against it."""
    test = analysis.tests[name]
    return (f"{test.name}: within the limit of {100 * test.tolerance:+g} in the beginning, but it has turned worse: "
            f"{100 * decision.estimate:+.3g} {UNITS[name]} in all {decision.samples:,} {test.UNIT} of the canary")


def _burst(analysis: SequentialAnalysis) -> Check:
    found = analysis.hard_stop.decide()
    return Check(name="burst_of_errors", passed=found.verdict != "worse", value=found.estimate, rule="no burst",
                 detail=found.reason)


def _paired(evidence: Evidence, config: AnalyseCanaryConfig) -> list[Check]:
    analysis = evidence.analysis
    if analysis is None or not config.paired_rows or analysis.is_worse():
        return []  # it goes back for another reason, so the rows were not asked
    checks = []
    if config.max_accuracy_drop < 1:
        checks.append(_accuracy(evidence, config))
    if config.min_agreement:
        checks.append(_agreement(evidence, config))
    return checks


def _no_pairs(evidence: Evidence) -> str:
    return "no row was answered by both versions" + (", because the time was up" if evidence.late else "")


def _accuracy(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    pairs, limit = evidence.pairs, config.max_accuracy_drop
    rule = f"lower bound >= -{limit:g}"
    if pairs is None:
        return Check(name="accuracy_change", passed=False, value=-1, rule=rule,
                     detail=f"{WANTING}: accuracy: {_no_pairs(evidence)}")
    paired = compare(pairs.canary_correct, pairs.stable_correct, config.level)
    found = paired.difference
    kept = found.lower >= -limit
    detail = (f"accuracy: on {paired.rows:,} rows that both answered, {paired.gained:,} right only by the canary and "
              f"{paired.lost:,} only by stable: {found.estimate * 100:+.2f} points, at worst {found.lower * 100:+.2f}; "
              f"-{limit * 100:g} are allowed; {_power(paired, config)}")
    wanting = "" if kept or found.upper < -limit else f"{WANTING}: "
    return Check(name="accuracy_change", passed=kept, value=found.lower, rule=rule, detail=wanting + detail)


def _power(paired: Comparison, config: AnalyseCanaryConfig) -> str:
    threshold = float(ndtri(config.alpha))
    least = detectable_loss(paired.rows, paired.gained / paired.rows, config.max_accuracy_drop, threshold)
    return f"so many rows cannot be relied on to show {not_shown(least)}"


def _agreement(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    found, rule = agreement(evidence, config), f"lower bound >= {config.min_agreement:g}"
    if found is None:
        return Check(name="agreement", passed=False, value=0, rule=rule,
                     detail=f"{WANTING}: agreement: {_no_pairs(evidence)}")
    wanting = "" if not found.lower < config.min_agreement <= found.upper else f"{WANTING}: "
    return Check(name="agreement", passed=found.lower >= config.min_agreement, value=found.lower, rule=rule,
                 detail=f"{wanting}agreement: {found.estimate:.1%} of the answers are the same, at least "
                        f"{found.lower:.1%}; {config.min_agreement:.1%} are asked for")


def _sample(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    canary, stable, rule = evidence.canary.requests, evidence.stable, f">= {config.min_requests_per_version}"
    least, both = (min(canary, stable.requests), f"of the canary and {stable.requests:,} of stable") if stable else (
        canary, "of the first version")
    enough = least >= config.min_requests_per_version
    detail = (f"{canary:,} answers {both}, {evidence.asked:,} of at most {config.most_requests:,} requests in "
              f"{evidence.seconds:.1f} of at most {config.timeout:g} s")
    return Check(name="sample", passed=enough, value=least, rule=f"{rule} of each" if stable else rule,
                 detail=detail if enough else f"{WANTING}: {detail}")


def _ladder(evidence: Evidence, config: AnalyseCanaryConfig) -> list[Check]:
    """Hold a canary that climbs against the last rung: it is promoted from there, or not at all."""
    if not config.ladder:
        return []
    ladder = evidence.ladder
    last, missing = ladder.percents[-1], ladder.missing(evidence.seen)
    held = ladder.is_top and missing <= 0
    detail = f"ladder: {', '.join(str(rung.percent) for rung in ladder.rungs)} % of the requests in turn"
    if not held:
        wait = f"about {missing:,} more requests at {ladder.percent} %" if missing > 0 else f"{ladder.percent} % held"
        detail += f"; still to come: {wait}" + ("" if ladder.is_top else f", then {last} %")
    return [Check(name="ladder", passed=held, value=ladder.percent, rule=f"reaches {last}",
                  detail=detail if held else f"{WANTING}: {detail}")]


def _split(evidence: Evidence) -> Check:
    """Hold the shares that both got against those asked for, rung by rung; of several the worst, and allowed for."""
    parts = evidence.ladder.answered(evidence.seen)
    chances = [binomtest(canary, stable + canary, rung.percent / 100).pvalue if stable + canary else 1.0
               for rung, stable, canary in parts]
    chance = min(1.0, min(chances) * len(chances))
    shares, seen = ", ".join(f"{rung.percent / 100:g}" for rung, _, _ in parts), evidence.seen
    answers = ", ".join(f"{canary:,} of {stable + canary:,}" for _, stable, canary in parts)
    return Check(name="traffic_split", passed=chance >= 1e-4, value=seen.canary / max(seen.stable + seen.canary, 1),
                 rule=f"about {shares}", blocking=False, detail=f"{answers} answers, p = {chance:.2g}")


def _first_errors(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    canary = evidence.canary
    share = canary.errors / canary.requests if canary.requests else 1.0
    return Check(name="error_rate", passed=share <= config.max_error_rate_increase, value=share,
                 rule=f"<= {config.max_error_rate_increase:g}",
                 detail=f"{canary.errors:,} errors in {canary.requests:,} answers; no stable version to compare with")


def _unattributed(evidence: Evidence, config: AnalyseCanaryConfig) -> list[Check]:
    """Hold what arrived and nobody owned up to against the canary: it may all have been the canary's."""
    lost, limit, canary = evidence.unattributed, config.max_error_rate_increase, evidence.canary
    if limit == 1 or not lost:
        return []
    analysis = evidence.analysis
    rise = analysis.worst_rise() if analysis else (canary.errors + lost) / (canary.requests + lost)
    detail = (f"{lost:,} of {evidence.asked:,} requests arrived and got no answer in time, or one that does not say "
              f"which version gave it; were they all the canary's, its error rate would be {100 * rise:.2g} points "
              f"higher; {100 * limit:g} are allowed")
    return [Check(name="unattributed", passed=rise <= limit, value=rise, rule=f"<= {limit:g}",
                  detail=detail if rise <= limit else f"{WANTING}: {detail}")]


def _unanswered(evidence: Evidence) -> Check:
    lost, detail = evidence.unanswered, "no request was lost"
    if lost:
        detail = (f"requests that no version is known to have answered; {lost - evidence.unattributed:,} of them did "
                  f"not get through, as where the gateway is away")
    return Check(name="unanswered", passed=not lost, value=lost, rule="none", blocking=False, detail=detail)


def _reason(evidence: Evidence, checks: Sequence[Check], failed: Sequence[Check]) -> str:
    canary, stable = evidence.canary, evidence.stable
    if evidence.stopped:
        return f"stopped early: {evidence.stopped}"
    if wrong := [check.detail for check in failed if WANTING not in check.detail]:
        return "; ".join(wrong)  # before what is only not known
    analysis = evidence.analysis
    if failed:
        tests = [check for check in failed if analysis and check.name in analysis.required]
        seen = [check for check in checks if check.name == "sample" and (tests or not check.passed)]
        unknown = [*seen, *(check for check in failed if check not in seen)]
        return f"{WANTING}: {'; '.join(check.detail.removeprefix(f'{WANTING}: ') for check in unknown)}"
    if stable is None:
        return (f"version {canary.revision.version} is the first; {canary.requests:,} requests answered, "
                f"{canary.errors:,} errors")
    shown = [*(analysis.required if analysis else ()), "accuracy_change", "agreement"]
    limits = ", ".join(check.name.replace("_", " ") for check in checks if check.name in shown)
    kept = f"keeps every limit against {stable.revision.version} ({limits})" if limits else (
        f"had no burst of errors beside {stable.revision.version}, and no other limit was to be shown")
    return f"version {canary.revision.version} {kept}: {canary.requests:,} answers against {stable.requests:,}"
