"""`index.html` of a run: the steps with their reports and logs, the verdicts, the key figures and the traffic.

Lays out what the summary says; computes nothing.
"""

from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from penstock.components.contracts.folder import write_atomically
from penstock.components.reporting.page import Section, render_page, table
from penstock.pipelines.failure import failure_reason
from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder
from penstock.pipelines.step_outputs import StepOutputs
from penstock.pipelines.summary import Summary
from penstock.pipelines.table import duration

__all__ = ["write_index"]

SUCCESS = "Every step succeeded and the new version holds the traffic."
MARKS = {"succeeded": '<span class="good-mark">✓</span>', "cached": '<span class="good-mark">✓</span>',
         "failed": '<span class="bad-mark">✗</span>', "interrupted": '<span class="bad-mark">!</span>'}


def write_index(folder: RunFolder, summary: Summary, progress: Progress) -> Path:
    """Write the page and return its path."""
    record, outputs = folder.load(), StepOutputs(folder, progress)
    page = render_page(
        title=f"{record.pipeline.replace('_', ' ')}: {record.scalars['service']}",
        verdict=summary.status,
        reason=_reason(folder, summary, progress),
        sections=[*_endpoint(summary), _verdicts(folder, outputs), _steps(folder, summary, outputs), _times(summary),
                  _started_with(folder)],
        facts=_facts(folder, summary))
    write_atomically(folder.index, page)
    return folder.index


def _reason(folder: RunFolder, summary: Summary, progress: Progress) -> str:
    if summary.status == "succeeded":
        return SUCCESS
    if failed := progress.failed:
        return f"{failed}: {failure_reason(folder.log(failed))}"
    cut = ", ".join(progress.names("interrupted")) or "between two steps"
    return f"The run was cut off ({cut}); penstock run {summary.pipeline} --resume {folder.run_id} goes on."


def _facts(folder: RunFolder, summary: Summary) -> dict[str, str]:
    started = datetime.fromisoformat(folder.load().started)
    facts = {"run": folder.run_id, "started": f"{started:%Y-%m-%d %H:%M} UTC",
             "time": duration(sum(step.seconds for step in summary.steps))}
    if summary.dataset:
        facts |= {"dataset": summary.dataset.name, "rows": f"{summary.dataset.rows:,}"}
    if summary.model:
        facts |= {"version": summary.model.version, "test accuracy": f"{summary.model.test_accuracy:.2%}"}
    return facts


def _endpoint(summary: Summary) -> list[Section]:
    if summary.endpoint is None:
        return []
    shares = [(_code(part.version), f"{part.percent} %") for part in summary.endpoint.traffic]
    note = f"{summary.endpoint.url}, as it was when the run ended."
    return [Section("Endpoint", table(["version", "share of the requests"], shares, {1}), note)]


def _verdicts(folder: RunFolder, outputs: StepOutputs) -> Section:
    from penstock.components.contracts.reports import load_verdict

    rows = []
    for step in ("validate", "sweep", "evaluate", "gate", "verify_parity", "analyse_canary"):
        if report := outputs.artifact(step, "report"):
            verdict, reason = load_verdict(report)
            rows.append((_link(folder, report / "index.html", step), verdict, reason))
    return Section("Verdicts", table(["report", "verdict", "reason"], rows))


def _steps(folder: RunFolder, summary: Summary, outputs: StepOutputs) -> Section:
    rows = []
    for step in summary.steps:
        page = _page(folder, outputs, step.name)
        rows.append((Markup(MARKS.get(step.status, "")), step.name, step.status,
                     duration(step.seconds) if step.seconds else "",
                     _link(folder, page, "report") if page else "",
                     _link(folder, folder.log(step.name), "log") if folder.log(step.name).is_file() else ""))
    kfp = _link(folder, folder.logs / "kfp.log", "kfp itself")
    body = table(["", "step", "status", "time", "report", "log"], rows, {3})
    return Section("Steps", body + Markup('<p class="note">Log of {}.</p>').format(kfp))


def _page(folder: RunFolder, outputs: StepOutputs, step: str) -> Path | None:
    """Return the page of a step's report, or, where it has only an HTML output, a copy that a browser knows by name."""
    if report := outputs.artifact(step, "report"):
        return report / "index.html"
    if (page := outputs.artifact(step, "page")) is None:
        return None
    named = folder.pages / f"{step}.html"
    write_atomically(named, page.read_bytes())
    return named


def _times(summary: Summary) -> Section:
    from penstock.components.reporting.plots import bars

    ran = [step for step in summary.steps if step.seconds]
    if not ran:
        return Section("Where the time went", Markup("<p>No step ran to its end.</p>"))
    return Section("Where the time went", bars([step.name for step in ran], {"time": [step.seconds for step in ran]},
                                               "seconds"))


def _started_with(folder: RunFolder) -> Section:
    record = folder.load()
    rows = [(name, _code(str(value))) for name, value in record.scalars.items()]
    rows += [(name, _code(", ".join(f"{key}={value}" for key, value in options.items())))
             for name, options in record.stages.items() if options]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return Section("Started with", table(["", "options"], rows), f"Profile {record.profile}; {versions}.")


def _code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(text)


def _link(folder: RunFolder, target: Path, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(target.relative_to(folder.path).as_posix(), text)
