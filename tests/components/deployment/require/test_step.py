"""Requiring: a good verdict passes, any other stops with its reason."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.reports import GateReport
from penstock.components.deployment.require.step import run


def judged(folder: Path, verdict: str) -> Path:
    report = GateReport(verdict=verdict, reason="accuracy is 0.71", serving_version="", candidate={}, serving={})
    report.save(folder, "<html></html>")
    return folder


@pytest.mark.parametrize("verdict", ["pass", "first", "promote"])
def test_a_good_verdict_passes(tmp_path: Path, verdict: str) -> None:
    run(judged(tmp_path / verdict, verdict))


@pytest.mark.parametrize("verdict", ["fail", "roll_back", "measured"])
def test_any_other_stops_the_run_with_its_reason(tmp_path: Path, verdict: str) -> None:
    with pytest.raises(StepError, match=rf"verdict {verdict}: accuracy is 0\.71"):
        run(judged(tmp_path / verdict, verdict))


def test_no_report_is_no_good_verdict(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no report"):
        run(tmp_path)
