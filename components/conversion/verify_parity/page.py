"""The page of a parity verdict, for a person: what ships and why, the candidates, their speed and what they changed.

Lays out a finished report; decides nothing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.reports import CandidateReport, ParityReport
from penstock.components.conversion.verify_parity.verdict import Figures
from penstock.components.reporting.page import Section, checks_table, render_page, table
from penstock.components.reporting.plots import bars, histogram, image_grid

__all__ = ["render"]

BINS = 60


def render(report: ParityReport, found: Sequence[Figures], images: npt.NDArray[np.uint8],
           labels: npt.NDArray[np.integer], reference: npt.NDArray[np.float32], classes: Sequence[str],
           pictures: int) -> str:
    """Render the page.

    Args:
        found: the candidates' figures, in the order of the report.
        images: (N, H, W, C) uint8, what all answered.
        labels: (N,) true classes.
        reference: (N, classes) float32, torch's logits.
        pictures: changed predictions to show; 0: none.
    """
    sections = [_candidates(report), _latency(report)]
    sections += [_changed(figures, images, labels, reference, classes, pictures) for figures in reversed(found)
                 if pictures and figures.changed.any()]
    sections.append(Section("Checks", checks_table(report.checks), "A broken limit keeps a candidate from shipping, "
                                                                   "and stops the run where none is left."))
    sections += [_differences(figures) for figures in reversed(found) if not figures.unanswered]
    facts = {"ships": report.shipped or "nothing", "rows": f"{report.rows:,} of {report.split}",
             "accuracy of torch": f"{report.reference_accuracy:.2%}", "CPU": f"{report.cpu}, one thread",
             "dataset hash": report.dataset_hash[:12]}
    return render_page("Parity", report.verdict, report.reason, sections, facts)


def _candidates(report: ParityReport) -> Section:
    columns = [_column(entry, report.shipped) for entry in report.candidates]
    names = [entry.name for entry in report.candidates]
    rows = [[title, *(column[title] for column in columns)] for title in columns[0]]
    note = ("Held against the torch network: gained are rows that only the candidate has right, lost those that only "
            "torch has; differences are of logits.")
    return Section("Candidates", table(["Candidate", *names], rows, numeric=set(range(1, len(names) + 1))), note)


def _column(entry: CandidateReport, shipped: str) -> dict[str, str]:
    return {
        "verdict": "ships" if entry.name == shipped else "within limits" if entry.eligible else "breaks a limit",
        "version": entry.version,
        "size": f"{entry.size / 1000:,.0f} kB",
        "speed-up, the least": f"{entry.speedup:.2f}",
        "accuracy": f"{entry.accuracy:.2%}",
        "change, points": f"{100 * entry.accuracy_change:+.2f}",
        "rows gained / lost": f"{entry.gained} / {entry.lost}",
        "predictions changed": f"{entry.changed_predictions:.2%}",
        "largest difference": f"{entry.max_difference:.2g}",
        "mean difference": f"{entry.mean_difference:.2g}",
    }


def _latency(report: ParityReport) -> Section:
    rows = [[entry.name, timed.batch, f"{timed.milliseconds:.3f}", f"{timed.lowest:.3f} to {timed.highest:.3f}",
             1000 * timed.batch // timed.milliseconds, f"{timed.speedup:.2f}"]
            for timed_at in zip(*(entry.latency_ms for entry in report.candidates), strict=True)
            for entry, timed in zip(report.candidates, timed_at, strict=True)]
    plot = bars([f"batch {timed.batch}" for timed in report.candidates[0].latency_ms],
                {entry.name: _images_per_second(entry) for entry in report.candidates}, "images per second")
    headers = ["Candidate", "Batch", "Median ms", "Fastest to slowest round, ms", "Images/s", "Speed-up"]
    note = (f"On {report.cpu}, one thread, the candidates in turn; the median of all rounds. Another CPU gives another "
            "answer: without VNNI int8 may well be the slower one.")
    return Section("Latency", plot + table(headers, rows, numeric={1, 2, 3, 4, 5}), note)


def _images_per_second(entry: CandidateReport) -> list[float]:
    return [1000 * timed.batch / timed.milliseconds for timed in entry.latency_ms]


def _differences(figures: Figures) -> Section:
    furthest = figures.differences.max(axis=1)
    body = histogram(furthest, BINS, f"largest difference of a logit of {figures.name}")
    note = (f"Of each row the logit that is furthest from torch's. Half of the rows stay within "
            f"{np.median(furthest):.2g}, 99 % within {np.quantile(furthest, 0.99):.2g}.")
    return Section(f"Differences of {figures.name}", body, note)


def _changed(figures: Figures, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer],
             reference: npt.NDArray[np.float32], classes: Sequence[str], pictures: int) -> Section:
    """Show where a candidate names another class, first where torch was surest."""
    changed = np.flatnonzero(figures.changed)
    best = np.sort(reference[changed], axis=1)
    surest = changed[np.argsort(best[:, -2] - best[:, -1], kind="stable")][:pictures]
    captions = [f"torch {classes[reference[row].argmax()]}, {figures.name} {classes[figures.predicted[row]]}, "
                f"is {classes[labels[row]]}" for row in surest]
    shown = f"the {len(surest)} of which" if len(surest) < len(changed) else "those of which"
    note = f"{len(changed):,} of {len(figures.changed):,} predictions changed; {shown} torch was surest come first."
    return Section(f"Predictions that {figures.name} changed", image_grid(images[surest], captions), note)
