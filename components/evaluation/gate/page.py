"""The page of a gate's verdict, for a person: the checks, both models side by side, and where they differ.

Lays out a finished report; decides nothing.
"""

import math

from penstock.components.contracts.reports import EvaluationReport, GateReport
from penstock.components.evaluation.gate.checks import Contest, GateConfig, Part, chance
from penstock.components.evidence.fixed import proportion
from penstock.components.evidence.slices import POWER, points
from penstock.components.reporting.page import Section, checks_table, render_page, table
from penstock.components.reporting.plots import bars, intervals

__all__ = ["render"]

SHARES = {"accuracy": "accuracy", "macro_f1": "macro F1", "min_class_recall": "weakest class's recall"}
LOSSES = {"log_loss": "log loss", "ece": "calibration error"}


def render(report: GateReport, evaluation: EvaluationReport, versus: Contest | None, service: str,
           config: GateConfig) -> str:
    """Render the page; `versus` is None where there was nothing to compare with."""
    sections = [Section("Checks", checks_table(report.checks), "" if report.checks else "No limit is set.")]
    sections.append(_figures(report))
    if versus and versus.parts:
        sections.append(_parts(versus, config))
    facts = {"service": service, "serving version": report.serving_version or "none yet",
             "split": f"{evaluation.split}, {evaluation.rows:,} rows", "weights": evaluation.model[:12],
             "dataset hash": evaluation.dataset_hash[:12]}
    return render_page("Gate", report.verdict, report.reason, sections, facts)


def _figures(report: GateReport) -> Section:
    names = SHARES | LOSSES
    if not report.serving:
        rows: list[list[object]] = [[title, f"{report.candidate[key]:.4f}"] for key, title in names.items()]
        return Section("Candidate", table(["Metric", "Candidate"], rows, numeric={1}))
    sides = {"candidate": report.candidate, f"serving ({report.serving_version})": report.serving}
    plot = bars([*SHARES.values()], {side: [values[key] for key in SHARES] for side, values in sides.items()}, "share")
    rows = [[title, f"{report.candidate[key]:.4f}", f"{report.serving[key]:.4f}",
             f"{report.candidate[key] - report.serving[key]:+.4f}"] for key, title in names.items()]
    body = plot + table(["Metric", "Candidate", "Serving", "Change"], rows, numeric={1, 2, 3})
    return Section("Candidate and serving version", body, "Both answered the same rows. Log loss and calibration error "
                                                          "are better when smaller.")


def _parts(versus: Contest, config: GateConfig) -> Section:
    ordered = sorted(versus.parts, key=lambda part: part.comparison.difference.estimate)
    changes = [part.comparison.difference for part in ordered]
    plot = intervals([part.name for part in ordered], [100 * change.estimate for change in changes],
                     [100 * change.lower for change in changes], [100 * change.upper for change in changes],
                     "change of accuracy, points")
    headers = ["Slice", "Rows", "Candidate", "Serving", "Change", "Lower", "Upper", "Finding", "p, adjusted",
               "Could show"]
    body = plot + table(headers, [_row(part) for part in ordered], numeric={1, 2, 3, 4, 5, 6, 8, 9})
    return Section("Slices and classes", body, _legend(config))


def _row(part: Part) -> list[object]:
    found, change, level = part.found, part.comparison.difference, part.comparison.difference.level
    shares = [proportion(right, part.comparison.rows, level)
              for right in (part.comparison.both + part.comparison.gained, part.comparison.both + part.comparison.lost)]
    cells: list[object] = [part.name, part.comparison.rows]
    cells += [f"{share.estimate:.1%} ({100 * share.lower:.1f} to {100 * share.upper:.1f})" for share in shares]
    cells += [f"{100 * value:+.2f}" for value in (change.estimate, change.lower, change.upper)]
    if found is None:
        return [*cells, "limit is off", "", ""]
    could = points(found.detectable) if math.isfinite(found.detectable) else "no loss"
    return [*cells, found.verdict, chance(found.adjusted).removeprefix("p ").removeprefix("= "), could]


def _legend(config: GateConfig) -> str:
    level, limit = f"{100 * config.confidence:g}%", f"{100 * config.max_slice_drop:g} points"
    plain = (f"Candidate minus serving version on the same rows, largest loss first, in points; all intervals are "
             f"{level} (of an accuracy Wilson's, of a change Tango's).")
    if config.max_slice_drop == 1:
        return plain
    return (f"{plain} Worse: the slice lost more than {limit}. Of many slices some look bad by chance, so p is "
            f"adjusted for their number (Benjamini and Hochberg): of the slices called worse a share of "
            f"{config.slice_fdr:.2g} at most is called so by chance, on average; this is a false discovery rate. No "
            f"worse: all of the interval lies above -{limit}. Undecided: the rows cannot tell. Could show: the "
            f"smallest true loss that so many rows would have called worse with {POWER:.0%} chance; they would often "
            f"have missed a smaller one.")
