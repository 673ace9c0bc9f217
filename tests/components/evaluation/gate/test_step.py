"""The gate end to end: really exported versions serving, candidates better and worse, and what cannot be compared."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.model import ONNX_FILE, Model, copy_model
from penstock.components.contracts.reports import PAGE, GateReport, load_verdict
from penstock.components.control.base import ControlPlane, LogLine, Manifest, ObjectRef
from penstock.components.control.inference_service import NOTHING, Placement, inference_service
from penstock.components.conversion.export.step import ExportConfig
from penstock.components.conversion.export.step import run as export
from penstock.components.deployment.registry import Lineage, Registry
from penstock.components.evaluation.evaluate.step import EvaluateConfig
from penstock.components.evaluation.evaluate.step import run as evaluate
from penstock.components.evaluation.gate import step
from penstock.components.evaluation.gate.step import GateConfig

SERVICE = "sides"
NO_SLICES = GateConfig(max_slice_drop=1)


def run(dataset: Path, evaluation: Path, target: Path, service: str, config: GateConfig, plane: ControlPlane,
        registry: Path = Path("nowhere")) -> GateReport:
    return step.run(dataset, evaluation, target, service, registry, config, plane)


class Plane(NamedTuple):
    """A control plane that holds one InferenceService, or none; nothing may be changed on it."""

    stable: Placement | None = None  # with another version on trial beside it

    def get(self, ref: ObjectRef) -> Manifest | None:
        assert (ref.kind, ref.name, ref.namespace) == ("InferenceService", SERVICE, "default")
        return self.stable and inference_service(SERVICE, "v9", "file:///v9", runtime="r", stable=self.stable,
                                                 canary_percent=20)

    def apply(self, manifest: Manifest) -> Manifest:
        raise AssertionError("the gate changes nothing")

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        raise AssertionError("the gate waits for nothing")

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        raise AssertionError("the gate reads no log")

    def delete(self, ref: ObjectRef) -> None:
        raise AssertionError("the gate deletes nothing")


def serving(model: Model) -> Plane:
    return Plane(placed(model))


def placed(model: Model) -> Placement:
    return Placement(model.version, model.folder.as_uri(), "r")


@pytest.fixture(scope="module")
def measured(sides: Dataset, good: Path, poor: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The evaluations of both models."""
    folder = tmp_path_factory.mktemp("evaluations")
    evaluate(sides.folder, good, folder / "good", EvaluateConfig())
    evaluate(sides.folder, poor, folder / "poor", EvaluateConfig())
    return {"good": folder / "good", "poor": folder / "poor"}


@pytest.fixture(scope="module")
def models(sides: Dataset, good: Path, poor: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Both models as they would serve; the folder's name needs quoting in a URI."""
    folder = tmp_path_factory.mktemp("the registry")
    return {name: export(sides.folder, trained, folder / name, SERVICE, "run-1", ExportConfig())
            for name, trained in {"good": good, "poor": poor}.items()}


def test_a_better_candidate_passes(sides: Dataset, measured: dict[str, Path], models: dict[str, Model],
                                   tmp_path: Path) -> None:
    report = run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, GateConfig(), serving(models["poor"]))

    assert report.verdict == "pass"
    assert report.serving_version == models["poor"].version
    assert report.candidate["accuracy"] > report.serving["accuracy"] + 0.2
    assert f"points against serving version {models['poor'].version}" in report.reason
    names = [check.name for check in report.checks]
    assert names == ["comparable", "accuracy_change", "slices_worse", "slices_undecided"]
    assert GateReport.load(tmp_path / "gate") == report
    assert load_verdict(tmp_path / "gate") == ("pass", report.reason)


def test_a_worse_candidate_fails_and_the_reason_has_the_figures(sides: Dataset, measured: dict[str, Path],
                                                                models: dict[str, Model], tmp_path: Path) -> None:
    report = run(sides.folder, measured["poor"], tmp_path / "gate", SERVICE, GateConfig(), serving(models["good"]))

    assert report.verdict == "fail"
    change = report.candidate["accuracy"] - report.serving["accuracy"]
    assert f"{change * 100:+.2f} points against serving version {models['good'].version}" in report.reason
    assert f"accuracy change is {change:.4g}, must be >= -0.005; " in report.reason
    assert "of 5 slices and classes lost more than 0.05, at a false discovery rate of 0.05: class = " in report.reason
    page = (tmp_path / "gate" / PAGE).read_text()
    assert "Candidate and serving version" in page
    assert "class = left" in page
    assert "Could show" in page
    assert "this is a false discovery rate" in page


def test_f1_and_calibration_are_compared_row_by_row_and_slices_are_shown_without_a_limit(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], tmp_path: Path) -> None:
    config = GateConfig(max_accuracy_drop=1, max_slice_drop=1, max_macro_f1_drop=0.01, max_ece_rise=0.01)
    report = run(sides.folder, measured["poor"], tmp_path / "gate", SERVICE, config, serving(models["good"]))

    f1, calibration = [check for check in report.checks if check.name != "comparable"]
    assert not f1.passed
    assert f1.value == pytest.approx(report.candidate["macro_f1"] - report.serving["macro_f1"])
    assert calibration.name == "calibration_error_change"
    assert "limit is off" in (tmp_path / "gate" / PAGE).read_text()


def test_the_serving_model_against_itself_is_no_different(sides: Dataset, measured: dict[str, Path],
                                                          models: dict[str, Model], tmp_path: Path) -> None:
    report = run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, GateConfig(), serving(models["good"]))

    assert report.verdict == "pass"
    assert report.candidate["accuracy"] == report.serving["accuracy"]
    assert report.candidate == pytest.approx(report.serving, abs=1e-6)


@pytest.mark.parametrize("plane", [Plane(), Plane(NOTHING)])
def test_where_nothing_serves_only_the_absolute_limits_count(sides: Dataset, measured: dict[str, Path], plane: Plane,
                                                             tmp_path: Path) -> None:
    passed = run(sides.folder, measured["poor"], tmp_path / "pass", SERVICE, GateConfig(min_accuracy=0.1), plane)
    failed = run(sides.folder, measured["poor"], tmp_path / "fail", SERVICE, GateConfig(min_accuracy=0.9), plane)

    assert (passed.verdict, passed.serving_version, passed.serving) == ("pass", "", {})
    assert "nothing serves yet to compare with" in passed.reason
    assert failed.verdict == "fail"
    assert failed.reason.endswith("nothing serves yet to compare with; accuracy is 0.425, must be >= 0.9")


def test_switched_off_it_passes_and_says_what_would_have_failed(sides: Dataset, measured: dict[str, Path],
                                                                models: dict[str, Model], tmp_path: Path) -> None:
    off = GateConfig(enabled=False)
    worse = run(sides.folder, measured["poor"], tmp_path / "worse", SERVICE, off, serving(models["good"]))
    fine = run(sides.folder, measured["good"], tmp_path / "fine", SERVICE, off, serving(models["poor"]))

    assert (worse.verdict, fine.verdict) == ("pass", "pass")
    assert worse.reason.startswith("the gate was switched off by configuration (enabled=false), or it had said: ")
    assert "accuracy change is -0." in worse.reason
    assert fine.reason.endswith("no limit is broken")
    assert not any(check.blocking for check in worse.checks)


def test_small_slices_are_left_out_and_undecided_ones_block_only_on_demand(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], tmp_path: Path) -> None:
    def undecided(name: str, **options: object) -> GateReport:
        config = GateConfig.parse({"max_accuracy_drop": 1, "max_slice_drop": 0.01, **options})
        return run(sides.folder, measured["good"], tmp_path / name, SERVICE, config, serving(models["good"]))

    listed, blocked = undecided("listed"), undecided("blocked", require_evidence=True)
    assert (listed.verdict, blocked.verdict) == ("pass", "fail")
    few = "slices and classes have too few rows to rule out a loss of 0.01"
    assert f"5 of 5 {few}" in blocked.reason  # 3 classes of 40 rows, and light = lamp, sun
    assert f"1 of 1 {few}" in undecided("large", require_evidence=True, min_slice_rows=90).reason


def test_other_classes_are_explained_and_fail_unless_nothing_is_compared(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], tmp_path: Path) -> None:
    renamed = sides.description.model_copy(update={"classes": ("dark", "left", "top")})
    other = write_dataset(tmp_path / "renamed", renamed, {"test": sides.read("test")})
    copied = tmp_path / "measured"
    copied.mkdir()
    for file in measured["good"].iterdir():
        old, new = sides.manifest.content_hash.encode(), other.manifest.content_hash.encode()
        (copied / file.name).write_bytes(file.read_bytes().replace(old, new))

    report = run(other.folder, copied, tmp_path / "gate", SERVICE, GateConfig(), serving(models["good"]))
    assert report.verdict == "fail"
    assert "knows other classes; this dataset has them without ['right'], with ['top']" in report.reason

    config = GateConfig(max_accuracy_drop=1, max_slice_drop=1)
    alone = run(other.folder, copied, tmp_path / "alone", SERVICE, config, serving(models["good"]))
    assert alone.verdict == "pass"
    assert f"not compared with serving version {models['good'].version}" in alone.reason


def test_an_evaluation_of_another_dataset_is_refused(sides: Dataset, measured: dict[str, Path], tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", sides.description, {"test": sides.read("train")})

    with pytest.raises(ContractError, match="give the gate the dataset that was evaluated"):
        run(other.folder, measured["good"], tmp_path / "gate", SERVICE, GateConfig(), Plane())


@pytest.mark.parametrize(("wrong", "match"), [
    ({"version": "0123456789ab"}, "version 0123456789ab is said to serve, .* holds"),
    ({"uri": "s3://bucket/model"}, "has no version"),
    ({"uri": "file:///nowhere/model"}, "model.json is missing"),
])
def test_a_serving_version_that_is_not_where_it_is_said_to_be(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], wrong: dict[str, str], match: str,
        tmp_path: Path) -> None:
    said = Plane(placed(models["good"])._replace(**wrong))

    with pytest.raises(ContractError, match=match):
        run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, NO_SLICES, said)
    assert not (tmp_path / "gate").exists()


def test_a_lost_serving_version_does_not_hold_up_a_gate_that_is_off(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], tmp_path: Path) -> None:
    said = Plane(placed(models["good"])._replace(uri="file:///nowhere/model"))

    report = run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, GateConfig(enabled=False), said)
    comparable = next(check for check in report.checks if check.name == "comparable")
    assert (report.verdict, comparable.passed, comparable.blocking) == ("pass", False, False)
    assert "model.json is missing" in report.reason


def test_a_serving_version_on_storage_of_its_own_is_read_from_the_registry(
        sides: Dataset, measured: dict[str, Path], models: dict[str, Model], tmp_path: Path) -> None:
    lineage = Lineage(run_id="run-1", dataset="sides", dataset_hash="d1", metrics={}, registered_at=datetime.now(UTC),
                      made_by="test")
    Registry(tmp_path / "registry").register(SERVICE, models["good"], lineage)
    said = Plane(placed(models["good"])._replace(uri="pvc://models/sides/model"))

    report = run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, NO_SLICES, said, tmp_path / "registry")
    assert (report.verdict, report.serving_version) == ("pass", models["good"].version)


def test_a_damaged_serving_model_is_named(sides: Dataset, measured: dict[str, Path], models: dict[str, Model],
                                          tmp_path: Path) -> None:
    damaged = copy_model(models["good"], tmp_path / "registry")
    (damaged.folder / ONNX_FILE).write_bytes(b"")

    with pytest.raises(ContractError, match=ONNX_FILE):
        run(sides.folder, measured["good"], tmp_path / "gate", SERVICE, NO_SLICES, serving(damaged))


def test_a_mistyped_limit_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown field 'min_acuracy', did you mean 'min_accuracy'"):
        GateConfig.parse({"min_acuracy": 0.8})
