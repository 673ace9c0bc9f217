"""The whole way on synthetic pictures: a first version, a second one as its canary, and what a run leaves."""

import json
import re
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from penstock.pipelines.run_folder import RunFolder, all_runs
from penstock.pipelines.summary import Summary

pytestmark = pytest.mark.slow

STEPS = ("ingest", "validate", "require", "split", "sweep", "train", "evaluate", "gate", "require_2", "export",
         "quantize", "verify_parity", "require_3", "register", "roll_out", "analyse_canary", "promote", "require_4",
         "restore")


SWEEP = {"max_trials": 2, "parallel_trials": 2, "trial": {"epochs": 1},
         "parameters": {"learning_rate": {"type": "double", "min": 0.02, "max": 0.1, "distribution": "logUniform"}}}


class Run(NamedTuple):
    folder: RunFolder
    output: str

    @property
    def summary(self) -> Summary:
        return Summary.model_validate_json(self.folder.summary.read_bytes())


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs)["href"] or "")


def newest(folder: Path) -> RunFolder:
    return list(all_runs(folder / "runs"))[-1][0]


@pytest.fixture(scope="module")
def first(laptop: Any) -> Run:
    done = laptop("run", "train_and_deploy", "--profile", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(newest(laptop.folder), done.stdout)


@pytest.fixture(scope="module")
def second(laptop: Any, first: Run) -> Run:
    done = laptop("run", "train_and_deploy", "--profile", "test", "--set", "train.network=mlp",
                  "--set", "train.epochs=4", "--set", f"sweep={json.dumps(SWEEP)}",
                  "--set", "gate.max_accuracy_drop=1", "--set", "gate.max_slice_drop=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(newest(laptop.folder), done.stdout)


def test_a_first_version_takes_all_the_traffic(first: Run) -> None:
    summary = first.summary
    assert summary.status == "succeeded"
    assert summary.dataset is not None
    assert summary.model is not None
    assert summary.endpoint is not None
    assert summary.canary is not None
    assert summary.dataset.rows == 720  # 600 and a test split of 120
    assert len(summary.dataset.content_hash) == 32
    assert summary.model.test_accuracy > 0.3  # of six classes, one guess in six is right
    assert summary.canary.verdict == "first"
    assert [(part.version, part.percent) for part in summary.endpoint.traffic] == [(summary.model.version, 100)]
    assert [(step.name, step.status) for step in summary.steps] == [(name, "succeeded") for name in STEPS]


def test_a_second_version_is_a_canary_before_it_is_promoted(first: Run, second: Run) -> None:
    before, after = first.summary, second.summary
    assert after.canary is not None
    assert after.model is not None
    assert before.model is not None
    assert after.endpoint is not None
    assert after.canary.verdict == "promote"
    assert after.model.version != before.model.version
    assert [(part.version, part.percent) for part in after.endpoint.traffic] == [(after.model.version, 100)]


def test_what_the_sweep_found_is_what_was_trained(first: Run, second: Run) -> None:
    assert first.summary.sweep is not None
    assert second.summary.sweep is not None
    assert (first.summary.sweep.trials, first.summary.sweep.best) == (0, {})
    assert (second.summary.sweep.trials, [*second.summary.sweep.best]) == (2, ["learning_rate"])
    found = float(second.summary.sweep.best["learning_rate"])
    assert 0.02 <= found <= 0.1

    [manifest] = second.folder.steps.glob("*/train/model/trained_model.json")
    config = json.loads(manifest.read_text(encoding="utf-8"))["origin"]["config"]
    assert (config["learning_rate"], config["epochs"]) == (pytest.approx(found), 4)


def test_what_ships_was_compared_with_what_was_trained(first: Run, second: Run) -> None:
    for run in (first, second):
        assert run.summary.conversion is not None
        assert run.summary.conversion.shipped in ("fp32", "int8")
        assert abs(run.summary.conversion.accuracy_change) <= 0.05
        assert 0 <= run.summary.conversion.changed_predictions <= 0.05
        assert run.summary.conversion.speedup > 0


def test_the_summary_has_the_agreed_keys(first: Run) -> None:
    summary = json.loads(first.folder.summary.read_text(encoding="utf-8"))
    assert {name: sorted(part) for name, part in summary.items() if isinstance(part, dict)} == {
        "dataset": ["content_hash", "name", "rows"], "model": ["name", "test_accuracy", "version"],
        "sweep": ["best", "trials"], "conversion": ["accuracy_change", "changed_predictions", "shipped", "speedup"],
        "canary": ["reason", "verdict"], "endpoint": ["traffic", "url"]}
    assert sorted(summary["steps"][0]) == ["name", "seconds", "status"]
    assert sorted(summary["endpoint"]["traffic"][0]) == ["percent", "version"]


def test_every_step_is_one_line_and_the_end_says_where_to_go(second: Run) -> None:
    lines = second.output.splitlines()
    assert [line.split()[1] for line in lines[1 : 1 + len(STEPS)]] == list(STEPS)
    assert [line.split()[0] for line in lines[1 + len(STEPS) :]] == [
        "sweep", "model", "ships", "canary", "endpoint", "traffic", "try", "page"]


def test_the_printed_curl_line_answers(laptop: Any, second: Run) -> None:
    line = next(line for line in second.output.splitlines() if line.startswith("try"))
    command = shlex.split(line.removeprefix("try"))
    answer = subprocess.run(command, cwd=laptop.folder, stdout=subprocess.PIPE, check=True)
    assert second.summary.model is not None
    assert json.loads(answer.stdout)["model_version"] == second.summary.model.version


def test_every_link_of_the_page_leads_somewhere(second: Run) -> None:
    links = Links()
    links.feed(second.folder.index.read_text(encoding="utf-8"))
    assert len(links.found) >= len(STEPS)
    assert "pages/train.html" in links.found
    assert [link for link in links.found if not (second.folder.path / link).is_file()] == []


def test_predict_names_the_class_of_a_picture_of_any_size(laptop: Any, second: Run) -> None:
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(laptop.folder / "grey.png")
    assert second.summary.model is not None

    done = laptop("predict", "shapes", "grey.png")
    unknown = laptop("predict", "nothing", "grey.png")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("grey.png: ")
    assert f"version {second.summary.model.version}" in done.stdout
    assert unknown.returncode == 1
    assert "there is no service 'nothing'" in unknown.stderr


def test_a_folder_of_pictures_becomes_a_csv_file(laptop: Any, second: Run) -> None:
    pictures = laptop.folder / "pictures"
    (pictures / "more").mkdir(parents=True)
    for index, name in enumerate(("a.png", "more/b.png")):
        Image.fromarray(np.full((20, 20), 40 * index, np.uint8)).save(pictures / name)

    good = laptop("predict", "shapes", "--batch", "pictures", "--out", "answers.csv")
    (pictures / "c.png").write_bytes(b"no picture")
    partly = laptop("predict", "shapes", "--batch", "pictures")
    neither = laptop("predict", "shapes")

    assert second.summary.model is not None
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("answers.csv: 2 pictures in ")
    assert f"versions  {second.summary.model.version} 2" in good.stdout
    lines = (laptop.folder / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["path", "a.png", "more/b.png"]
    assert partly.returncode == 1
    assert partly.stdout.startswith("predictions.csv: 2 pictures in ")
    assert "1 of 3 files were left out" in partly.stderr
    assert "c.png" in partly.stderr
    assert neither.returncode == 2
    assert "give either IMAGE... or --batch FOLDER" in neither.stderr


def test_laptop_status_names_service_version_and_share(laptop: Any, second: Run) -> None:
    done = laptop("laptop", "status")
    assert second.summary.model is not None
    assert done.returncode == 0, done.stderr
    assert "shapes" in done.stdout
    assert second.summary.model.version in done.stdout
    assert "100" in done.stdout


def test_a_lost_gate_ends_the_run_with_its_reason_and_leaves_the_endpoint(laptop: Any, second: Run) -> None:
    done = laptop("run", "train_and_deploy", "--profile", "test", "--set", "gate.min_accuracy=1")
    summary = Run(newest(laptop.folder), done.stdout).summary

    assert done.returncode == 1
    assert "require_2: " in done.stderr
    assert "accuracy" in done.stderr
    assert "Traceback" not in done.stderr
    assert summary.status == "failed"
    assert summary.endpoint == second.summary.endpoint
    assert {step.name: step.status for step in summary.steps}["roll_out"] == "skipped"


def test_a_worse_version_that_passed_no_gate_is_rolled_back_by_its_canary(laptop: Any, second: Run) -> None:
    done = laptop("run", "train_and_deploy", "--profile", "test", "--set", "gate.enabled=false",
                  "--set", "train.epochs=1", "--set", "train.learning_rate=1e-9")
    summary = Run(newest(laptop.folder), done.stdout).summary

    assert done.returncode == 1
    assert "require_4: verdict roll_back: " in done.stderr
    assert re.search("wrong answers: |accuracy: ", done.stderr)
    assert summary.canary is not None
    assert summary.canary.verdict == "roll_back"
    assert summary.endpoint == second.summary.endpoint


def test_the_registry_is_listed_and_a_version_shown(laptop: Any, first: Run, second: Run) -> None:
    assert first.summary.model is not None
    assert second.summary.model is not None
    old, new = first.summary.model.version, second.summary.model.version

    listed = {line.split()[1]: line for line in laptop("models", "list", "shapes").stdout.splitlines()}
    shown = laptop("models", "show", "shapes").stdout
    unknown = laptop("models", "show", "shapes", "nothing")

    assert " previous " in listed[old]
    assert " serving " in listed[new]
    assert shown.startswith(f"shapes {new}, serving\n")
    assert f"run {second.folder.run_id}: version {new} keeps every limit" in shown
    assert unknown.returncode == 1
    assert f"has no version 'nothing' of shapes; it has {old}, {new}" in unknown.stderr


def test_a_rollback_is_a_roll_out_of_an_older_version(laptop: Any, first: Run, second: Run) -> None:
    assert first.summary.model is not None
    assert second.summary.model is not None
    old, new = first.summary.model.version, second.summary.model.version

    back = laptop("models", "rollback", "shapes", old)
    again = laptop("models", "rollback", "shapes", old)
    status = laptop("laptop", "status").stdout
    history = laptop("models", "show", "shapes", old).stdout
    forth = laptop("models", "rollback", "shapes", new)

    assert (back.returncode, back.stdout) == (0, f"shapes: version {old} has all traffic, {new} before\n"), back.stderr
    assert again.returncode == 2
    assert f"shapes is served by version {old} already" in again.stderr
    assert f"version {old}  100 %" in status
    assert f"rolled back from {new} by hand" in history
    assert (forth.returncode, forth.stdout) == (0, f"shapes: version {new} has all traffic, {old} before\n")


def test_runs_are_listed_and_one_whose_model_serves_is_kept(laptop: Any, first: Run, second: Run) -> None:
    listed = laptop("runs", "list").stdout
    assert first.folder.run_id in listed
    assert second.folder.run_id in listed

    removed = laptop("runs", "gc", "--keep", "0").stdout

    assert f"removed {first.folder.run_id}" in removed
    assert second.folder.run_id not in removed
    assert second.folder.record_file.is_file()
    assert not first.folder.path.exists()


def test_stop_leaves_no_process_and_no_port(laptop: Any, second: Run) -> None:
    assert laptop.processes()
    done = laptop("laptop", "stop")
    assert done.returncode == 0, done.stderr
    assert laptop.processes() == []


def test_stopping_what_does_not_serve_is_an_error_unless_it_may_be_missing(laptop: Any, second: Run) -> None:
    laptop("laptop", "stop")

    refused = laptop("laptop", "stop", "shapes")
    allowed = laptop("laptop", "stop", "shapes", "--missing-ok")

    assert (refused.returncode, allowed.returncode) == (1, 0)
    assert "no service is named shapes" in refused.stderr
