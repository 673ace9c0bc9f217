"""A killed analysis: what it had seen is kept beside the report or in the run's folder, and gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport
from penstock.components.control.lease import CanaryLease, LeaseLost
from penstock.components.deployment.analyse_canary import gather
from penstock.components.deployment.analyse_canary.journal import ANSWERS, STATE
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run

CONFIG = AnalyseCanaryConfig(requests=4000, rate=2000, min_requests_per_version=50, max_error_rate_increase=0.05,
                             max_accuracy_drop=0.1, paired_rows=0, timeout=30,
                             latency_floor_ms=2000)  # a busy machine is not a slow canary


@pytest.fixture
def analyse(
    trial: Any, sides: Dataset, report: Path, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setattr(gather, "LOOK", 0.02)

    def analyse(target: Path = report, work: str = "") -> CanaryReport:
        config = CONFIG.model_copy(update={"work": work})
        return run(sides.folder, target, "sides", models["alike"].version, "run-2", config, trial)

    return analyse


@pytest.fixture
def killed(gateway: Any, analyse: Any) -> Any:
    """Kill an analysis in its midst; returns the requests that the gateway had got by then."""
    def killed(**where: Any) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CanaryLease, "check", lambda self: gateway.asked > 120 and _raise(LeaseLost("killed")))
            with pytest.raises(LeaseLost):
                analyse(**where)
        return int(gateway.asked)

    return killed


def _raise(error: Exception) -> None:
    raise error


def seen(journal: Path) -> int:
    return int(json.loads((journal / STATE).read_text())["answers"])


def answered(report: CanaryReport) -> int:
    assert report.stable is not None
    return report.canary.requests + report.stable.requests


def test_a_step_that_is_retried_goes_on_where_it_was(gateway: Any, analyse: Any, killed: Any, report: Path) -> None:
    asked = killed()
    journal = report.with_name("report.journal")
    before = seen(journal)
    with (journal / ANSWERS).open("a") as file:
        file.write("[0, 1.0, 0.")  # as a step leaves it that is killed while it writes

    found = analyse()
    assert 0 < before <= asked
    assert (found.verdict, answered(found)) == ("promote", before + gateway.asked - asked), found.reason
    assert not journal.exists()


def test_a_run_that_is_resumed_goes_on_in_another_folder_with_predictors_at_other_addresses(
    trial: Any, gateway: Any, analyse: Any, killed: Any, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    asked = killed(work=str(work))
    (journal,) = work.iterdir()
    before = seen(journal)
    trial.urls = {revision: f"{url}/" for revision, url in trial.urls.items()}
    trial.settled("sides")

    found = analyse(target=tmp_path / "again", work=str(work))
    assert answered(found) == before + gateway.asked - asked
    assert found.seconds > 0
    assert not journal.exists()


@pytest.mark.parametrize(("old", "new"), [
    (b"{", b""), (b'"blamed"', b'"other"'), (b'{"trial": "', b'{"trial": "0'), (b'"answers": ', b'"answers": 9')])
def test_what_is_damaged_or_of_another_trial_is_not_gone_on_with(
    gateway: Any, analyse: Any, killed: Any, report: Path, old: bytes, new: bytes
) -> None:
    asked = killed()
    journal = report.with_name("report.journal") / STATE
    journal.write_bytes(journal.read_bytes().replace(old, new, 1))

    found = analyse()
    assert (found.verdict, answered(found)) == ("promote", gateway.asked - asked)
