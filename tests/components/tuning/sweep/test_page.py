"""The page of a sweep: every trial is on it, the best first, and it loads nothing."""

import re

from penstock.components.contracts.reports import SweepReport, SweepTrial
from penstock.components.tuning.sweep.config import SweepConfig
from penstock.components.tuning.sweep.page import render

CONFIG = SweepConfig.parse({"max_trials": 4, "goal": 0.95, "trial": {"epochs": 1}, "parameters": {
    "learning_rate": {"type": "double", "min": 0.01, "max": 1, "distribution": "logUniform"},
    "optimizer": {"type": "categorical", "list": ["sgd", "adamw"]}}})


def trial(name: str, rate: str, accuracy: float, reason: str = "") -> SweepTrial:
    return SweepTrial(name=f"sweep-r-1-{name}", status="Failed" if reason else "Succeeded", seconds=12, reason=reason,
                      parameters={"learning_rate": rate, "optimizer": "sgd"},
                      metrics={} if reason else {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy})


def report(*trials: SweepTrial, best: str = "bbbbbbbb") -> SweepReport:
    return SweepReport(verdict="succeeded", reason="validation_accuracy 0.9: the best", inputs="0", trials=trials,
                       objective="validation_accuracy", goal_type="maximize", goal=0.95, algorithm="tpe",
                       best=f"sweep-r-1-{best}", best_value=0.9, changed={"learning_rate": "0.1", "optimizer": "sgd"})


def test_every_trial_best_first_and_failures_with_their_reason() -> None:
    page = render(report(trial("aaaaaaaa", "0.02345678", 0.5), trial("bbbbbbbb", "0.1", 0.9),
                         trial("cccccccc", "1", 0, "loss is <nan>")), CONFIG)

    rows = page[page.index("<h2>Trials</h2>"):]
    assert re.findall(r"<td>([abc]{8})</td>", rows) == ["bbbbbbbb", "aaaaaaaa", "cccccccc"]
    assert "Failed: loss is &lt;nan&gt;" in rows
    assert '<td class="number">0.02346</td>' in rows
    assert rows.index("good-mark") < rows.index("bbbbbbbb") < rows.index("bad-mark") < rows.index("cccccccc")
    assert "1 without a figure is left out." in page
    assert "Parallel coordinates of 2 trials: learning_rate, optimizer, validation accuracy" in page
    assert "History: validation accuracy of 3 trials" in page
    assert not re.search(r"https?://(?!www\.w3\.org)|<script|<link", page)


def test_one_trial_is_enough() -> None:
    assert "Parallel coordinates of 1 trials" in render(report(trial("bbbbbbbb", "0.1", 0.9)), CONFIG)


def test_no_sweep_says_so() -> None:
    off = SweepReport(verdict="off", reason="max_trials is 0", objective="validation_accuracy", goal_type="maximize",
                      algorithm="tpe")
    page = render(off, SweepConfig())

    assert "max_trials is 0" in page
    assert "<section>" not in page


def test_the_same_report_makes_the_same_page() -> None:
    made = report(trial("aaaaaaaa", "0.02", 0.5), trial("bbbbbbbb", "0.1", 0.9))

    assert render(made, CONFIG) == render(made, CONFIG)
