"""The page of an evaluation, for a person: headline, classes, confusion, ranking, calibration, slices, worst errors.

Lays out a finished report; the only numbers made here are the points of the reliability diagram.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import TrainedModelManifest
from penstock.components.contracts.reports import EvaluationReport, SliceMetrics
from penstock.components.evaluation.metrics import calibration
from penstock.components.evaluation.predictions import Predictions
from penstock.components.evaluation.ranking import Ranked, Ranking
from penstock.components.evaluation.slices import ROW_COLUMNS
from penstock.components.reporting.page import Section, render_page, table
from penstock.components.reporting.plots import bars, curves, heatmap, image_grid, intervals, reliability

__all__ = ["render"]

DRAWN_CLASSES = 3  # of the curves: with the two averages, as many as there are colours


def render(report: EvaluationReport, answers: Predictions, ranking: Ranking, images: npt.NDArray[np.uint8],
           model: TrainedModelManifest, dataset: Dataset, worst_errors: int) -> str:
    """Render the page.

    Args:
        answers: N answers, in the order of `images`.
        ranking: of the same answers, in the order of the report's classes.
        images: (N, H, W, C) uint8.
        worst_errors: pictures to show; 0 shows none.
    """
    names = [entry.name for entry in report.per_class]
    sections = [_headline(report), _classes(report), _confusion(report, names)]
    if ranking.macro and ranking.micro:
        sections.append(_ranking(ranking, ranking.macro, ranking.micro, report))
    sections.append(_calibration(report, answers))
    if report.slices:
        sections.append(_slices(report.slices, dataset.manifest.columns))
    errors = _worst(answers, worst_errors)
    if len(errors):
        sections.append(_errors(answers, images, names, errors))
    facts = {"dataset": dataset.description.name, "split": f"{report.split}, {report.rows:,} rows",
             "network": model.network, "weights": report.model[:12], "dataset hash": report.dataset_hash[:12]}
    return render_page("Evaluation", report.verdict, report.reason, sections, facts)


def _headline(report: EvaluationReport) -> Section:
    weakest = min((entry for entry in report.per_class if entry.support), key=lambda entry: entry.recall)
    accuracy = report.accuracy
    rows = [
        ["accuracy", f"{accuracy.estimate:.2%}", f"{accuracy.lower:.2%} to {accuracy.upper:.2%} "
                                                 f"with {100 * accuracy.level:g}% confidence"],
        ["macro F1", f"{report.macro_f1:.4f}", "mean of the classes' F1, each class counts the same"],
        ["weakest class", f"{weakest.recall:.2%}", f"recall of {weakest.name}"],
        ["macro AUC", f"{report.macro_auc:.4f}", "chance that a row of a class outranks another; 0.5 is guessing"],
        ["log loss", f"{report.log_loss:.4f}", "nats; 0 is certain and right every time"],
        ["calibration error", f"{report.ece:.4f}", "mean gap between stated confidence and accuracy; 0 is honest"],
    ]
    return Section("Headline", table(["Metric", "Value", "Meaning"], rows, numeric={1}))


def _classes(report: EvaluationReport) -> Section:
    entries = report.per_class
    plot = bars([entry.name for entry in entries],
                {"precision": [entry.precision for entry in entries], "recall": [entry.recall for entry in entries]},
                "share")
    rows = [[entry.name, entry.support, f"{entry.precision:.2%}", f"{entry.recall:.2%}", f"{entry.f1:.4f}"]
            for entry in entries]
    body = plot + table(["Class", "Rows", "Precision", "Recall", "F1"], rows, numeric={1, 2, 3, 4})
    return Section("Classes", body, "Precision: of the rows given this name, how many deserved it. Recall: of the rows "
                                    "that deserve it, how many got it.")


def _confusion(report: EvaluationReport, names: Sequence[str]) -> Section:
    counts = np.array(report.confusion)
    off_diagonal = counts - np.diag(np.diagonal(counts))
    note = "Right answers lie on the diagonal."
    if off_diagonal.any():
        true, answered = divmod(int(off_diagonal.argmax()), len(names))
        note += (f" The most frequent error: {names[true]} taken for {names[answered]}, "
                 f"{counts[true, answered]:,} of {counts[true].sum():,} rows.")
    return Section("Confusion", heatmap(counts, names, "predicted", "true"), note)


def _ranking(ranking: Ranking, macro: Ranked, micro: Ranked, report: EvaluationReport) -> Section:
    known = {entry.name: found for entry, found in zip(report.per_class, ranking.classes, strict=True) if found}
    weakest = sorted(known, key=lambda name: known[name].auc)[:DRAWN_CLASSES]
    drawn = {"macro average": macro, "micro average": micro} | {name: known[name] for name in weakest}
    share = sum(entry.support for entry in report.per_class if entry.name in known) / report.rows / len(known)
    rows = [[name, f"{entry.auc:.4f}", f"{entry.average_precision:.4f}"]
            for name, entry in ({"macro average": macro, "micro average": micro} | known).items()]
    body = (Markup("<h3>ROC</h3>\n")
            + curves({name: entry.roc for name, entry in drawn.items()}, "false positive rate", "true positive rate",
                     chance=([0, 1], [0, 1]))
            + Markup("<h3>Precision and recall</h3>\n")
            + curves({name: entry.precision for name, entry in drawn.items()}, "recall", "precision",
                     chance=([0, 1], [share, share]))
            + table(["Class", "AUC", "Average precision"], rows, numeric={1, 2}))
    note = ("Each class against the rest, by its probability alone. AUC: the chance that a row of the class scores "
            "above another one. The macro average counts each class the same, the micro average each row.")
    if len(known) > DRAWN_CLASSES:
        note += f" Drawn are the averages and the {DRAWN_CLASSES} classes with the smallest AUC."
    return Section("Ranking", body, note)


def _calibration(report: EvaluationReport, answers: Predictions) -> Section:
    points = calibration(answers.confidence, answers.correct, report.ece_bins)
    leaning = float(answers.confidence.mean()) - report.accuracy.estimate
    word = "more" if leaning > 0 else "less"
    note = (f"On average the model is {abs(leaning) * 100:.1f} points {word} confident than it is right. Points below "
            f"the diagonal are overconfident, points above it too modest.")
    return Section("Calibration", reliability(points.confidence, points.accuracy, points.counts), note)


def _slices(slices: Sequence[SliceMetrics], columns: Sequence[str]) -> Section:
    ordered = sorted(slices, key=lambda part: part.accuracy.estimate)
    found = [part.accuracy for part in ordered]
    plot = intervals([f"{part.column} = {part.value}" for part in ordered], [entry.estimate for entry in found],
                     [entry.lower for entry in found], [entry.upper for entry in found], "accuracy")
    rows = [[part.column, part.value, part.rows, f"{part.accuracy.estimate:.2%}", f"{part.accuracy.lower:.2%}",
             f"{part.accuracy.upper:.2%}"] for part in ordered]
    body = plot + table(["Column", "Value", "Rows", "Accuracy", "Lower", "Upper"], rows, numeric={2, 3, 4, 5})
    note = "Weakest first. Where two intervals overlap widely, the rows cannot tell the slices apart."
    left_out = sorted(set(columns) - ROW_COLUMNS - {part.column for part in slices})
    if left_out:
        note += f" Left out, for too many values or too few rows: {', '.join(left_out)}."
    return Section("Slices", body, note)


def _worst(answers: Predictions, count: int) -> npt.NDArray[np.intp]:
    """Return the errors of which the model was surest, as indices."""
    wrong = np.flatnonzero(~answers.correct)
    return wrong[np.argsort(-answers.confidence[wrong], kind="stable")][:count]


def _errors(answers: Predictions, images: npt.NDArray[np.uint8], names: Sequence[str],
            errors: npt.NDArray[np.intp]) -> Section:
    captions = [f"said {names[answers.predicted[i]]}, {answers.confidence[i]:.1%}\n"
                f"is {names[answers.labels[i]]}, {answers.label_probability[i]:.1%}" for i in errors]
    body: Markup = image_grid(images[errors], captions, columns=6)
    return Section("Worst errors", body, "The errors of which the model was surest: what it said, what the label says, "
                                         "and the probability it gave to each. Look for wrong labels here first.")
