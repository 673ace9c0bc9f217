"""Reports: written once, whole, and read back as they were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.reports import PAGE, REPORT, Check, GateReport, ValidationReport, load_verdict

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
checks = st.builds(Check, name=names, passed=st.booleans(), value=st.floats(allow_nan=False, allow_infinity=False),
                   rule=names, detail=names, blocking=st.booleans())
numbers = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
reports = st.builds(GateReport, verdict=st.sampled_from(["pass", "fail"]), reason=names,
                    checks=st.lists(checks, max_size=3).map(tuple), serving_version=names, candidate=numbers,
                    serving=numbers)


def report(reason: str = "all well") -> GateReport:
    return GateReport(verdict="pass", reason=reason, serving_version="", candidate={"accuracy": 0.9}, serving={})


@given(reports)
def test_reads_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, written: GateReport) -> None:
    folder = tmp_path_factory.mktemp("report") / "gate"
    assert written.save(folder, "<p>page</p>") is written

    assert GateReport.load(folder) == written
    assert load_verdict(folder) == (written.verdict, written.reason)
    assert (folder / PAGE).read_text() == "<p>page</p>"


def test_further_files_lie_beside_the_page(tmp_path: Path) -> None:
    report().save(tmp_path / "gate", "", {"rows.csv": b"1,2"})

    assert sorted(path.name for path in (tmp_path / "gate").iterdir()) == [PAGE, REPORT, "rows.csv"]


def test_the_same_report_may_be_saved_again_and_another_may_not(tmp_path: Path) -> None:
    report().save(tmp_path / "gate", "first page")
    report().save(tmp_path / "gate", "second page")
    assert (tmp_path / "gate" / PAGE).read_text() == "first page"

    with pytest.raises(ContractError, match="exists already"):
        report("another").save(tmp_path / "gate", "")


def test_a_missing_report_is_told_from_one_of_another_kind(tmp_path: Path) -> None:
    for load in (GateReport.load, load_verdict):
        with pytest.raises(ContractError, match=f"holds no report: {REPORT} is missing"):
            load(tmp_path)

    report().save(tmp_path / "gate", "")
    with pytest.raises(ContractError, match="is no ValidationReport"):
        ValidationReport.load(tmp_path / "gate")


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report().save(tmp_path / "gate", "")

    assert list(tmp_path.iterdir()) == []
