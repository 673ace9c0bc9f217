"""The page of a sweep, for a person: what was found, how values and objective hang together, and every trial.

Lays out a finished report; decides nothing.
"""

import math

from markupsafe import Markup

from penstock.components.contracts.reports import SweepReport, SweepTrial
from penstock.components.reporting.page import Section, render_page, table
from penstock.components.reporting.trials import Axis, history, parallel_coordinates
from penstock.components.tuning.sweep.config import Parameter, SweepConfig, number_text
from penstock.components.tuning.sweep.trials import brief

__all__ = ["render"]


def render(report: SweepReport, config: SweepConfig) -> str:
    """Render the page.

    Args:
        config: what `report` came out of, for the scales of the axes.
    """
    objective = report.objective.replace("_", " ")
    facts = {"objective": f"{report.goal_type} {objective}", "algorithm": report.algorithm}
    if not report.trials:
        return render_page("Sweep", report.verdict, report.reason, [], facts)
    facts |= {"trials": f"{len(report.trials)} of {config.max_trials}, {config.parallel_trials} at a time",
              "goal": f"{report.goal:g}" if report.goal else "none", "seed": str(config.seed)}
    facts |= {f"trial {name}": number_text(value) for name, value in config.trial.items()}
    sections = [_best(report, config), _together(report, config), _history(report), _trials(report, config)]
    return render_page("Sweep", report.verdict, report.reason, sections, facts)


def _best(report: SweepReport, config: SweepConfig) -> Section:
    best = next(trial for trial in report.trials if trial.name == report.best)
    rows = [[name, brief(value), _searched(config.parameters[name])] for name, value in report.changed.items()]
    rows += [[name.replace("_", " "), f"{best.metrics[name]:.4f}", "its last epoch"]
             for name in _metrics(report) if name in best.metrics]
    return Section("Best trial", table(["Name", "Value", "Out of"], rows, numeric={1}),
                   f"{best.name}. Its parameters go into the training, over the options given there.")


def _searched(parameter: Parameter) -> str:
    if not parameter.in_range:
        return ", ".join(parameter.ends())
    step = f" in steps of {parameter.step:g}" if parameter.step else ""
    return f"{parameter.min:g} to {parameter.max:g}{step}{', log' if parameter.distribution == 'logUniform' else ''}"


def _together(report: SweepReport, config: SweepConfig) -> Section:
    shown = [trial for trial in report.trials if not trial.reason]
    axes = [_axis(name, [trial.parameters.get(name, "") for trial in shown], config) for name in config.parameters]
    reached = [trial.metrics[report.objective] for trial in shown]
    axes.append(Axis(report.objective.replace("_", " "), reached))
    best = [trial.name for trial in shown].index(report.best)
    note = "One line per trial, through its value of each parameter to what it reached. "
    left_out = len(report.trials) - len(shown)
    note += f"{left_out} without a figure {'is' if left_out == 1 else 'are'} left out." if left_out else ""
    return Section("Parameters and objective", parallel_coordinates(axes, best), note)


def _axis(name: str, values: list[str], config: SweepConfig) -> Axis:
    parameter = config.parameters[name]
    if not parameter.in_range:
        return Axis(name, values)
    return Axis(name, [float(value) for value in values], parameter.distribution == "logUniform")


def _history(report: SweepReport) -> Section:
    values = [math.nan if trial.reason else trial.metrics[report.objective] for trial in report.trials]
    plot = history(values, report.objective.replace("_", " "), report.goal_type, report.goal or None)
    return Section("History", plot, "In the order in which the trials started.")


def _trials(report: SweepReport, config: SweepConfig) -> Section:
    parameters, metrics = [*config.parameters], _metrics(report)
    failed = any(trial.reason for trial in report.trials)
    headers = ["", "trial", metrics[0], *parameters, *metrics[1:], "seconds", *(["remark"] if failed else [])]
    texts = {headers.index(name) for name in parameters if config.parameters[name].type == "categorical"}
    rows = [_row(trial, report, parameters, metrics)[: len(headers)]
            for trial in sorted(report.trials, key=lambda trial: _rank(trial, report))]
    body = table([name.replace("_", " ") for name in headers], rows,
                 numeric={*range(2, len(headers) - failed)} - texts)
    return Section("Trials", body, "Best first. The same as trials.csv beside this page.")


def _metrics(report: SweepReport) -> list[str]:
    """Return the names of the metrics, the objective first."""
    found = dict.fromkeys(name for trial in report.trials for name in trial.metrics)
    return [report.objective, *(name for name in found if name != report.objective)]


def _row(trial: SweepTrial, report: SweepReport, parameters: list[str], metrics: list[str]) -> list[object]:
    mark = (Markup('<span class="good-mark" title="best">✓</span>') if trial.name == report.best
            else Markup('<span class="bad-mark" title="no candidate">✗</span>') if trial.reason else "")
    values = [brief(trial.parameters.get(name, "")) for name in parameters]
    objective, *found = [f"{trial.metrics[name]:.4f}" if name in trial.metrics else "–" for name in metrics]
    remark = f"{trial.status}: {trial.reason}" if trial.reason else ""
    return [mark, trial.name.rsplit("-", 1)[-1], objective, *values, *found, f"{trial.seconds:.0f}", remark]


def _rank(trial: SweepTrial, report: SweepReport) -> float:
    if trial.reason:
        return math.inf
    return trial.metrics[report.objective] * (-1 if report.goal_type == "maximize" else 1)
