"""The command line without a run: help, wrong usage, exit codes, and what goes where."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock.pipelines.cli import penstock

SLOW = ("kfp", "torch", "pyarrow", "numpy", "rich", "pydantic", "onnxruntime")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [path]
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("command", commands(penstock), ids=" ".join)
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(penstock, [*command, "--help"])
    assert answer.exit_code == 0
    assert f"Example:\n    penstock {' '.join(command)}".rstrip() in answer.output.replace("  Example:", "Example:")


def test_help_imports_nothing_slow() -> None:
    script = (f"import sys; from penstock.pipelines.cli import penstock\n"
              f"penstock(['run', '--help'], standalone_mode=False)\n"
              f"assert not set({SLOW}) & set(sys.modules), set({SLOW}) & set(sys.modules)")
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("arguments", "text"), [
    (["run", "train"], "there is no pipeline 'train'; there is train_and_deploy"),
    (["run", "train_and_deploy", "--profile", "lapdog"], "did you mean 'laptop'?"),
    (["run", "train_and_deploy", "--set", "train.epocs=3"], "unknown field 'epocs', did you mean 'epochs'?"),
    (["run", "train_and_deploy", "--set", "train.epochs=many"], "epochs='many'"),
    (["run", "train_and_deploy", "--set", "ingest.source=fashion-minst"], "did you mean 'fashion-mnist'?"),
    (["run", "train_and_deploy", "--set", "ingest.source=./absent"], "source='./absent' is no folder here"),
    (["run", "train_and_deploy", "--resume", "20260101-000000-0000"], "there is no run '20260101-000000-0000'"),
    (["run", "train_and_deploy", "--resume", "a", "--set", "service=b"], "leave --set and --profile out"),
    (["runs", "gc"], "give either --keep N or --older-than DAYS"),
    (["compile", "nothing"], "there is no pipeline 'nothing'"),
])
def test_wrong_usage_is_2_with_its_reason_and_leaves_nothing(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    answer = CliRunner().invoke(penstock, arguments)

    assert answer.exit_code == 2
    assert text in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(penstock, ["--debug", "run", "train"])
    assert answer.exit_code == 1
    assert "there is no pipeline 'train'" in str(answer.exception)


def test_datasets_lists_every_source_with_an_example() -> None:
    answer = CliRunner().invoke(penstock, ["datasets"])
    assert answer.exit_code == 0
    for name in ("fashion-mnist", "synthetic://shapes", "FOLDER", "CSV", "PARQUET", "IDX"):
        assert f"{name}\n" in answer.output
    assert answer.output.count("--set ingest.source=") == 6


def test_runs_list_without_runs_is_empty(tmp_path: Path) -> None:
    answer = CliRunner().invoke(penstock, ["runs", "list", "--out", str(tmp_path / "runs")])
    assert (answer.exit_code, answer.output) == (0, "")
