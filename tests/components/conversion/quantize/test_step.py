"""Quantizing an exported model into a folder of its own: what is carried over, what is new, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.dataset import Dataset, images_array, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import GOLDEN, MODEL_MANIFEST, NETWORK, ONNX_FILE, WEIGHTS, Model
from penstock.components.contracts.onnx import OnnxModel
from penstock.components.conversion.quantize.step import QuantizeConfig, run

DEFAULTS = QuantizeConfig()


@pytest.fixture(scope="module")
def quantized(sides: Dataset, convnet: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return run(sides.folder, convnet.folder, tmp_path_factory.mktemp("quantize") / "int8", DEFAULTS)


def test_it_answers_nearly_what_the_float_model_answers(sides: Dataset, convnet: Model, quantized: Model) -> None:
    images = images_array(sides.read("test"), sides.description.image)
    (expected, _), (logits, probabilities) = (OnnxModel(model.folder).predict(images) for model in (convnet, quantized))

    assert 0 < np.median(np.abs(logits - expected)) < 0.05 * np.abs(expected).mean()
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(len(images)), rtol=1e-5)
    assert len(np.unique(logits[:, 0])) > 60  # no grid of 256 levels


def test_weights_network_metrics_and_origin_are_carried_over(convnet: Model, quantized: Model) -> None:
    before, after = convnet.manifest, quantized.manifest

    for name in (WEIGHTS, NETWORK):
        assert after.files[name] == before.files[name]
    for name in (ONNX_FILE, GOLDEN):
        assert after.files[name] != before.files[name]
    assert (after.name, after.metrics, after.signature) == (before.name, before.metrics, before.signature)
    assert after.version != before.version
    assert after.origin.run_id == "run-1"
    assert after.origin.config["quantize.from"] == before.version
    assert after.origin.config["quantize.method"] == "static_int8"
    assert (quantized.folder / ONNX_FILE).stat().st_size < (convnet.folder / ONNX_FILE).stat().st_size * 1.5


def test_golden_rows_are_its_own_and_may_differ_as_far_as_quantization_moved_them(convnet: Model,
                                                                                  quantized: Model) -> None:
    with np.load(convnet.folder / GOLDEN) as theirs, np.load(quantized.folder / GOLDEN) as own:
        np.testing.assert_array_equal(own["inputs"], theirs["inputs"])
        moved = np.abs(own["logits"] - theirs["logits"]).max()
    assert OnnxModel(quantized.folder).check_golden() < 1e-5
    assert quantized.manifest.golden_tolerance == pytest.approx(moved, abs=1e-4)
    assert quantized.manifest.golden_tolerance >= moved


def test_the_same_input_has_the_same_version_and_other_options_another(
        sides: Dataset, convnet: Model, quantized: Model, tmp_path: Path) -> None:
    again = run(sides.folder, convnet.folder, tmp_path / "again", DEFAULTS)
    other = run(sides.folder, convnet.folder, tmp_path / "other", QuantizeConfig(reduce_range=True))

    assert again.manifest == quantized.manifest
    assert other.version != quantized.version


def test_a_finished_model_is_returned_and_another_one_is_not_overwritten(
        sides: Dataset, convnet: Model, quantized: Model, tmp_path: Path) -> None:
    shutil.copytree(quantized.folder, tmp_path / "int8")
    before = (tmp_path / "int8" / ONNX_FILE).stat().st_mtime_ns

    assert run(sides.folder, convnet.folder, tmp_path / "int8", DEFAULTS).version == quantized.version
    assert (tmp_path / "int8" / ONNX_FILE).stat().st_mtime_ns == before
    with pytest.raises(ContractError, match=r"made with quantize.calibration_rows '1000' instead of '7'; remove it"):
        run(sides.folder, convnet.folder, tmp_path / "int8", QuantizeConfig(calibration_rows=7))
    with pytest.raises(ContractError, match=r"quantize\.from '' instead of"):
        run(sides.folder, convnet.folder, convnet.folder, DEFAULTS)


def test_off_it_passes_the_model_on(sides: Dataset, convnet: Model, tmp_path: Path) -> None:
    for _ in range(2):
        passed = run(sides.folder, convnet.folder, tmp_path / "same", QuantizeConfig(method="none"))

    assert passed.manifest == convnet.manifest


def test_a_model_of_another_cpu_says_what_to_do(quantized: Model, tmp_path: Path) -> None:
    moved = quantized.manifest.model_copy(update={"golden_tolerance": -1.0})
    shutil.copytree(quantized.folder, tmp_path / "int8")
    moved.save(tmp_path / "int8" / MODEL_MANIFEST)

    with pytest.raises(ContractError, match=r"does not compute here .*without VNNI: quantize with reduce_range=true"):
        OnnxModel(tmp_path / "int8").check_golden()


def test_bad_input_is_explained_and_nothing_is_written(sides: Dataset, convnet: Model, tmp_path: Path) -> None:
    target = tmp_path / "int8"
    untrained = write_dataset(tmp_path / "untrained", sides.description, {"test": sides.read("test")})
    with pytest.raises(StepError, match="has no rows in train: there is nothing to calibrate on"):
        run(untrained.folder, convnet.folder, target, DEFAULTS)

    renamed = sides.description.model_copy(update={"classes": ("dark", "left", "top")})
    other = write_dataset(tmp_path / "renamed", renamed, {"train": sides.read("train")})
    with pytest.raises(ContractError, match="give the dataset it was trained on"):
        run(other.folder, convnet.folder, target, DEFAULTS)

    with pytest.raises(ContractError, match=f"{MODEL_MANIFEST} is missing"):
        run(sides.folder, tmp_path / "nothing", target, DEFAULTS)
    with pytest.raises(ConfigError, match="method='int4'"):
        QuantizeConfig.parse({"method": "int4"})
    with pytest.raises(ConfigError, match="unknown field 'calibration_row', did you mean 'calibration_rows'"):
        QuantizeConfig.parse({"calibration_row": 10})
    assert not target.exists()
    assert not list(tmp_path.glob(".int8-*"))


def test_a_model_that_answers_nan_is_refused(sides: Dataset, convnet: Model, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import numpy_helper

    from penstock.components.conversion.quantize import graph

    real = graph.int8_bytes

    def broken(*options: object) -> bytes:
        model = onnx.load_from_string(real(*options))  # type: ignore[arg-type]
        for entry in model.graph.initializer:
            if entry.data_type == onnx.TensorProto.FLOAT and not entry.dims:
                entry.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), entry.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(graph, "int8_bytes", broken)
    with pytest.raises(StepError, match="answers 32 of 32 golden rows with NaN or infinity; try another calibration"):
        run(sides.folder, convnet.folder, tmp_path / "int8", DEFAULTS)
    assert list(tmp_path.iterdir()) == []
