"""The page of a gate's verdict, for a person: the checks, both models side by side, and where they differ.

Lays out a finished report; decides nothing.
"""

from penstock.components.contracts.reports import EvaluationReport, GateReport
from penstock.components.evaluation.gate.checks import Contest, GateConfig, finding
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
    rows = [[part.name, part.comparison.rows, part.comparison.gained, part.comparison.lost,
             f"{100 * part.comparison.difference.estimate:+.2f}", f"{100 * part.comparison.difference.lower:+.2f}",
             f"{100 * part.comparison.difference.upper:+.2f}", finding(part.comparison, config.max_slice_drop)]
            for part in ordered]
    headers = ["Slice", "Rows", "Gained", "Lost", "Change", "Lower", "Upper", "Finding"]
    note = (f"Candidate minus serving version, largest loss first, in points with {config.confidence:.0%} intervals. "
            f"Worse: all of the interval lies below {-100 * config.max_slice_drop:g}; undecided: a part of it does.")
    return Section("Slices and classes", plot + table(headers, rows, numeric={1, 2, 3, 4, 5, 6}), note)
