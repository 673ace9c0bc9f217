"""The rules of a canary's verdict: from evidence to checks, each with the number, the rule and what it rests on.

Arithmetic only. A check is kept when its one-sided bound keeps the limit; so what is not known fails, and says so.
"""

from collections.abc import Sequence

from scipy.stats import binomtest

from penstock.components.contracts.reports import CanaryReport, Check, Interval
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.observed import Evidence, Observed, variant_report
from penstock.components.evidence.fixed import proportion, proportion_difference, quantile, quantile_ratio
from penstock.components.evidence.paired import compare

__all__ = ["BURST", "agreement", "is_burst", "judge"]

BURST = 20  # answers of the canary that the hard stop looks back on
NO_BOUND = 1e9  # stands for "unbounded" in a report, because JSON has no infinity
WANTING = "not enough evidence"


def is_burst(errors: int, answers: int) -> bool:
    """The one rule that looks before the end: half or more of the canary's last 20 answers are errors.

    It can only send back, so it adds nothing to the risk `alpha`; and at an error rate of 2 % chance alone makes such
    a burst less than once in 10^11 looks.
    """
    return answers >= BURST and errors * 2 >= answers


def agreement(evidence: Evidence, config: AnalyseCanaryConfig) -> Interval | None:
    """Return how often both versions give the same answer to the same row; None: not measured."""
    pairs = evidence.pairs
    return proportion(int(pairs.agree.sum()), len(pairs.agree), config.level) if pairs else None


def judge(service: str, evidence: Evidence, config: AnalyseCanaryConfig) -> CanaryReport:
    """Make the verdict: every blocking check must be kept, and nothing may have stopped the analysis."""
    stable = evidence.stable
    checks = [_unanswered(evidence)]
    if evidence.stopped:
        checks.insert(0, Check(name="hard_stop", passed=False, value=evidence.asked, rule="none",
                               detail=f"{evidence.stopped}, after {evidence.asked:,} requests"))
    elif stable is None:
        checks = [_first_errors(evidence, config), *checks]
    else:
        checks = [_sample(evidence, stable, config), *_comparisons(evidence, stable, config),
                  _split(evidence, stable), *checks]
    failed = [check for check in checks if check.blocking and not check.passed]
    good = "promote" if stable else "first"
    return CanaryReport(
        verdict="roll_back" if failed else good, reason=_reason(evidence, checks, failed), checks=tuple(checks),
        service=service, traffic_percent=evidence.percent, canary=variant_report(evidence.canary),
        stable=variant_report(stable) if stable else None, agreement=agreement(evidence, config),
        seconds=round(evidence.seconds, 3), unanswered=evidence.unanswered)


def _comparisons(evidence: Evidence, stable: Observed, config: AnalyseCanaryConfig) -> list[Check]:
    checks = []
    if config.max_error_rate_increase < 1:
        checks.append(_errors(evidence.canary, stable, config))
    if config.max_latency_increase:
        checks.append(_latency(evidence.canary, stable, config))
    if config.max_accuracy_drop < 1:
        accuracy = _accuracy(evidence, stable, config)
        checks += [accuracy] if accuracy else []
    if config.min_agreement:
        checks.append(_agreement(evidence, config))
    return checks


def _sample(evidence: Evidence, stable: Observed, config: AnalyseCanaryConfig) -> Check:
    least = min(evidence.canary.requests, stable.requests)
    detail = f"{evidence.canary.requests:,} answers of the canary and {stable.requests:,} of stable"
    complete, enough = evidence.asked >= config.requests, least >= config.min_requests_per_version
    if not complete:
        detail += f", {evidence.asked:,} of {config.requests:,} requests within {config.timeout:g} s"
    if not (complete and enough):
        detail = f"{WANTING}: {detail}"
    return Check(name="sample", passed=complete and enough, value=least,
                 rule=f">= {config.min_requests_per_version} of each", detail=detail)


def _errors(canary: Observed, stable: Observed, config: AnalyseCanaryConfig) -> Check:
    shares = [proportion(one.errors, one.requests, config.level) for one in (canary, stable)]
    found = proportion_difference(*shares)
    limit = config.max_error_rate_increase
    kept = found.upper <= limit
    detail = (f"{canary.errors:,} errors in {canary.requests:,} answers against {stable.errors:,} in "
              f"{stable.requests:,} of stable: {found.estimate * 100:+.2f} points, "
              f"{_standing(kept, found.estimate > limit)}")
    return Check(name="error_rate_increase", passed=kept, value=found.upper,
                 rule=f"upper bound <= {limit:g}", detail=detail)


def _latency(canary: Observed, stable: Observed, config: AnalyseCanaryConfig) -> Check:
    # Two bounds enter the comparison, so each gets half of alpha: two-sided level 1 - alpha.
    ours, theirs = (quantile(one.fast, one.slow, config.latency_quantile, 1 - config.alpha) for one in (canary, stable))
    name = f"latency_p{config.latency_quantile * 100:g}_increase"
    rule = f"upper bound <= {config.max_latency_increase:g}"
    floor = config.latency_floor_ms / 1000
    if floor:
        rule += f" or <= {config.latency_floor_ms:g} ms"
    if not (len(canary.slow) and len(stable.slow)):
        return Check(name=name, passed=False, value=NO_BOUND, rule=rule,
                     detail=f"{WANTING}: one of them gave no good answer")
    ratio = quantile_ratio(ours, theirs)
    kept = ratio.upper - 1 <= config.max_latency_increase or ours.upper - theirs.lower <= floor
    worse = ratio.estimate - 1 > config.max_latency_increase and ours.estimate - theirs.estimate > floor
    detail = (f"{ours.estimate * 1000:.1f} ms against {theirs.estimate * 1000:.1f} ms of stable: "
              f"{ratio.estimate - 1:+.0%}, {_standing(kept, worse)}")
    return Check(name=name, passed=kept, value=min(ratio.upper - 1, NO_BOUND), rule=rule, detail=detail)


def _accuracy(evidence: Evidence, stable: Observed, config: AnalyseCanaryConfig) -> Check | None:
    """Compare on the same rows where both were asked them, which takes far fewer rows; else between the requests."""
    canary, limit = evidence.canary, config.max_accuracy_drop
    if evidence.pairs:
        paired = compare(evidence.pairs.canary_correct, evidence.pairs.stable_correct, config.level)
        found = paired.difference
        basis = (f"on {paired.rows:,} rows that both answered, {paired.gained:,} right only by the canary and "
                 f"{paired.lost:,} only by stable")
    elif canary.labelled and stable.labelled:
        shares = [proportion(one.correct, one.labelled, config.level) for one in (canary, stable)]
        found = proportion_difference(*shares)
        basis = (f"{canary.correct:,} of {canary.labelled:,} right against {stable.correct:,} of "
                 f"{stable.labelled:,} of stable")
    else:
        return None
    kept = found.lower >= -limit
    return Check(name="accuracy_change", passed=kept, value=found.lower, rule=f"lower bound >= -{limit:g}",
                 detail=f"{basis}: {found.estimate * 100:+.2f} points, {_standing(kept, found.estimate < -limit)}")


def _agreement(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    found = agreement(evidence, config)
    rule = f"lower bound >= {config.min_agreement:g}"
    if found is None:
        return Check(name="agreement", passed=False, value=0, rule=rule,
                     detail=f"{WANTING}: no row was answered by both")
    kept = found.lower >= config.min_agreement
    standing = _standing(kept, found.estimate < config.min_agreement)
    return Check(name="agreement", passed=kept, value=found.lower, rule=rule,
                 detail=f"{found.estimate:.1%} same answers, {standing}")


def _split(evidence: Evidence, stable: Observed) -> Check:
    answered = evidence.canary.requests + stable.requests
    share = evidence.percent / 100
    chance = binomtest(evidence.canary.requests, answered, share).pvalue if answered else 1.0
    return Check(name="traffic_split", passed=chance >= 1e-4, value=evidence.canary.requests / max(answered, 1),
                 rule=f"about {share:g}", blocking=False,
                 detail=f"{evidence.canary.requests:,} of {answered:,} answers, p = {chance:.2g}")


def _first_errors(evidence: Evidence, config: AnalyseCanaryConfig) -> Check:
    canary = evidence.canary
    share = canary.errors / canary.requests if canary.requests else 1.0
    return Check(name="error_rate", passed=share <= config.max_error_rate_increase, value=share,
                 rule=f"<= {config.max_error_rate_increase:g}",
                 detail=f"{canary.errors:,} errors in {canary.requests:,} answers; no stable version to compare with")


def _unanswered(evidence: Evidence) -> Check:
    return Check(name="unanswered", passed=not evidence.unanswered, value=evidence.unanswered, rule="none",
                 blocking=False, detail="requests that no version answered: the gateway was away")


def _standing(kept: bool, worse: bool) -> str:
    if kept:
        return "within the limit"
    return "beyond the limit" if worse else f"{WANTING} that it is within the limit"


def _reason(evidence: Evidence, checks: Sequence[Check], failed: Sequence[Check]) -> str:
    canary, stable = evidence.canary, evidence.stable
    if evidence.stopped:
        return f"stopped early: {evidence.stopped}"
    if failed:  # what is wrong before what is only not known
        told = sorted(failed, key=lambda check: WANTING in check.detail)
        return "; ".join(f"{_spoken(check)}: {check.detail} (rule: {check.rule})" for check in told)
    if stable is None:
        return (f"version {canary.revision.version} is the first; {canary.requests:,} requests answered, "
                f"{canary.errors:,} errors")
    limits = ", ".join(_spoken(check) for check in checks if check.blocking and check.name != "sample")
    return (f"version {canary.revision.version} keeps every limit against {stable.revision.version} ({limits}): "
            f"{canary.requests:,} answers against {stable.requests:,}")


def _spoken(check: Check) -> str:
    return check.name.replace("_", " ")
