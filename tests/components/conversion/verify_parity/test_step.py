"""Comparing a real exported network, its int8 form and torch, and shipping one of them."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import Model
from penstock.components.contracts.onnx import OnnxModel
from penstock.components.contracts.reports import PAGE, Latency, ParityReport, load_verdict
from penstock.components.conversion.export.step import ExportConfig
from penstock.components.conversion.export.step import run as export
from penstock.components.conversion.quantize.step import QuantizeConfig
from penstock.components.conversion.quantize.step import run as quantize
from penstock.components.conversion.verify_parity import step
from penstock.components.conversion.verify_parity.step import VerifyParityConfig, run

QUICK = VerifyParityConfig(rounds=3, round_seconds=0.001, max_accuracy_drop=0.05, max_changed_predictions=0.1)


@pytest.fixture(scope="module")
def int8(sides: Dataset, convnet: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return quantize(sides.folder, convnet.folder, tmp_path_factory.mktemp("quantized") / "model", QuantizeConfig())


def speed(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Measure `ratio` for int8, whatever this machine does meanwhile."""
    def measured(models: Mapping[str, OnnxModel], images: np.ndarray, batches: Sequence[int], rounds: int,
                 seconds: float) -> dict[str, tuple[Latency, ...]]:
        return {name: tuple(Latency(batch=batch, milliseconds=1 / (1 if name == "fp32" else ratio), lowest=0.1,
                                    highest=9, speedup=1 if name == "fp32" else ratio) for batch in batches)
                for name in models}

    monkeypatch.setattr(step, "measure_latency", measured)


def test_a_faster_int8_ships_with_its_figures(sides: Dataset, convnet: Model, int8: Model, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    speed(monkeypatch, 2.0)
    report = run(sides.folder, convnet.folder, int8.folder, tmp_path / "parity", tmp_path / "shipped", QUICK)

    assert (report.verdict, report.shipped) == ("pass", "int8")
    assert Model(tmp_path / "shipped").manifest == int8.manifest
    assert ParityReport.load(tmp_path / "parity") == report
    assert load_verdict(tmp_path / "parity") == ("pass", report.reason)
    fp32, quantized = report.candidates
    assert (fp32.version, quantized.version) == (report.exported, report.quantized) == (convnet.version, int8.version)
    assert 0 < fp32.max_difference < 1e-4
    assert fp32.max_difference < quantized.mean_difference < quantized.max_difference
    assert (fp32.changed_predictions, fp32.accuracy_change, fp32.gained, fp32.lost) == (0, 0, 0, 0)
    assert (report.split, report.rows) == ("validation", 120)
    assert quantized.accuracy == pytest.approx(report.reference_accuracy + quantized.accuracy_change)


def test_a_slower_int8_is_why_fp32_ships_and_the_page_says_so_first(
        sides: Dataset, convnet: Model, int8: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed(monkeypatch, 0.57)
    report = run(sides.folder, convnet.folder, int8.folder, tmp_path / "parity", tmp_path / "shipped", QUICK)

    assert (report.verdict, report.shipped) == ("pass", "fp32")
    assert Model(tmp_path / "shipped").version == convnet.version
    page = (tmp_path / "parity" / PAGE).read_text()
    first = "fp32 ships, because int8 keeps the limits but is not faster: 0.57 times as fast as fp32 at batch 1"
    assert page.index(first) < page.index("<h2>Candidates</h2>") < page.index("<h2>Latency</h2>")
    assert page.count("<h2>Differences of") == 2


def test_real_times_are_measured_where_nothing_is_put_in_their_place(sides: Dataset, convnet: Model, int8: Model,
                                                                     tmp_path: Path) -> None:
    report = run(sides.folder, convnet.folder, int8.folder, tmp_path / "parity", tmp_path / "shipped", QUICK)

    for entry in report.candidates:
        assert [timed.batch for timed in entry.latency_ms] == [1, 64]
        assert all(0 < timed.lowest <= timed.milliseconds <= timed.highest for timed in entry.latency_ms)
    assert report.candidates[0].speedup == 1
    assert report.shipped == ("int8" if report.candidates[1].speedup >= 1.1 else "fp32")


def test_changed_predictions_are_shown_as_pictures(sides: Dataset, convnet: Model, int8: Model, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    real = step._torch_logits

    def turned(model: Model, images: np.ndarray, batch_size: int) -> np.ndarray:
        logits = real(model, images, batch_size)
        logits[:5] = np.roll(logits[:5], 1, axis=1)
        return logits

    monkeypatch.setattr(step, "_torch_logits", turned)
    config = QUICK.model_copy(update={"pictures": 3})
    report = run(sides.folder, convnet.folder, int8.folder, tmp_path / "parity", tmp_path / "shipped", config)

    assert report.verdict == "fail"
    assert report.reason.startswith("Nothing ships: fp32 breaks a limit: fp32 max difference is ")
    assert not (tmp_path / "shipped").exists()
    page = (tmp_path / "parity" / PAGE).read_text()
    assert "Predictions that int8 changed" in page
    assert "5 of 120 predictions changed; the 3 of which torch was surest come first" in page
    assert page.count("<img") == 6


def test_a_finished_comparison_is_returned_and_completed_but_never_made_again(
        sides: Dataset, convnet: Model, int8: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, shipped = tmp_path / "parity", tmp_path / "shipped"
    speed(monkeypatch, 2.0)
    report = run(sides.folder, convnet.folder, int8.folder, target, shipped, QUICK)
    speed(monkeypatch, 0.5)  # a second look would pick the other

    assert run(sides.folder, convnet.folder, int8.folder, target, shipped, QUICK) == report
    shutil.rmtree(shipped)  # the first try was killed after the report
    assert run(sides.folder, convnet.folder, int8.folder, target, shipped, QUICK) == report
    assert Model(shipped).version == int8.version

    with pytest.raises(ContractError, match="under other rules or on other rows"):
        run(sides.folder, convnet.folder, int8.folder, target, shipped, VerifyParityConfig(ship="fp32"))


def test_where_nothing_was_quantized_there_is_one_candidate(sides: Dataset, convnet: Model, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"split": "test", "rows": 7})
    report = run(sides.folder, convnet.folder, convnet.folder, tmp_path / "parity", tmp_path / "shipped", config)

    assert [entry.name for entry in report.candidates] == ["fp32"]
    assert (report.shipped, report.split, report.rows) == ("fp32", "test", 7)
    with pytest.raises(ConfigError, match=r"ship='int8': nothing was quantized; set quantize.method=static_int8"):
        run(sides.folder, convnet.folder, convnet.folder, tmp_path / "other", tmp_path / "copy",
            VerifyParityConfig(ship="int8"))


def test_bad_input_is_explained_and_nothing_is_written(sides: Dataset, convnet: Model, int8: Model, good: Path,
                                                       tmp_path: Path) -> None:
    target, shipped = tmp_path / "parity", tmp_path / "shipped"
    other = export(sides.folder, good, tmp_path / "linear", "sides", "run-1", ExportConfig())
    with pytest.raises(ContractError, match="its torch weights are others; run quantize on this export"):
        run(sides.folder, other.folder, int8.folder, target, shipped, QUICK)
    with pytest.raises(StepError, match="split='holdout' has no rows"):
        run(sides.folder, convnet.folder, int8.folder, target, shipped, VerifyParityConfig(split="holdout"))
    renamed = sides.description.model_copy(update={"classes": ("dark", "left", "top")})
    dataset = write_dataset(tmp_path / "renamed", renamed, {"test": sides.read("test")})
    with pytest.raises(ContractError, match="give the dataset it was trained on"):
        run(dataset.folder, convnet.folder, int8.folder, target, shipped, QUICK)
    assert not target.exists()
    assert not shipped.exists()
