"""The model contracts: what is written is read, what is broken is found, and the version follows the content."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.dataset import Dataset, Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import (
    GOLDEN,
    MODEL_MANIFEST,
    ONNX_FILE,
    TRAINED_MANIFEST,
    WEIGHTS,
    Model,
    ModelManifest,
    Origin,
    Preprocessing,
    Signature,
    TrainedModel,
    TrainedModelManifest,
    copy_model,
    files_sha256,
    version_of,
)

SIGNATURE = Signature(height=2, width=2, channels=1, classes=("bag", "boot"))
ORIGIN = Origin(run_id="run-1", dataset="toy", dataset_hash="0" * 32, config={"epochs": 3}, code_version="1")
NORMALISED = Preprocessing(mean=(0.25,), std=(0.5,))
CONTENT = {ONNX_FILE: b"graph", WEIGHTS: b"weights", GOLDEN: b"rows", "extra/notes.txt": b"notes"}

contents = st.dictionaries(st.sampled_from(sorted(CONTENT)), st.binary(max_size=40), min_size=1)
places = st.floats(0, 1, exclude_max=True)


def write_model(folder: Path, content: dict[str, bytes], signature: Signature = SIGNATURE, name: str = "toy") -> Model:
    with complete_folder(folder) as building:
        for file, data in content.items():
            (building / file).parent.mkdir(exist_ok=True)
            (building / file).write_bytes(data)
        files = files_sha256(building, MODEL_MANIFEST)
        ModelManifest(name=name, version=version_of(files, signature), signature=signature, preprocessing=NORMALISED,
                      origin=ORIGIN, metrics={"loss": 0.5}, golden_tolerance=1e-3, files=files,
                      ).save(building / MODEL_MANIFEST)
    return Model(folder)


def write_trained(folder: Path) -> TrainedModel:
    with complete_folder(folder) as building:
        (building / WEIGHTS).write_bytes(b"weights")
        TrainedModelManifest(network="linear", signature=SIGNATURE, preprocessing=NORMALISED, origin=ORIGIN,
                             metrics={"loss": 0.5}, files=files_sha256(building, TRAINED_MANIFEST),
                             ).save(building / TRAINED_MANIFEST)
    return TrainedModel(folder)


def flip(path: Path, place: float, bit: int) -> None:
    """Flip one bit of a file, `place` of the way through it."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)


def assert_found(kind: type[Model | TrainedModel], intact: Model | TrainedModel, manifest: str, damaged: str) -> None:
    """Assert that opening the folder names the damaged file; white space in the manifest may change without harm."""
    if damaged == manifest:
        with suppress(ContractError):
            assert kind(intact.folder).manifest == intact.manifest
            return
    with pytest.raises(ContractError, match=damaged):
        kind(intact.folder)


@given(contents)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]) -> None:
    written = write_model(tmp_path_factory.mktemp("models") / "model", content)
    found = Model(written.folder)

    assert found.manifest == written.manifest
    assert set(found.manifest.files) == set(content)
    assert (found.version, found.manifest.origin, found.manifest.preprocessing) == (written.version, ORIGIN, NORMALISED)


def test_a_trained_model_is_read_back(tmp_path: Path) -> None:
    written = write_trained(tmp_path / "trained")

    assert TrainedModel(tmp_path / "trained").manifest == written.manifest
    assert written.weights_sha256 == files_sha256(tmp_path / "trained", TRAINED_MANIFEST)[WEIGHTS]


@given(file=st.sampled_from([*CONTENT, MODEL_MANIFEST]), place=places, bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_model_is_found_and_its_file_named(
        tmp_path_factory: pytest.TempPathFactory, file: str, place: float, bit: int) -> None:
    intact = write_model(tmp_path_factory.mktemp("models") / "model", CONTENT)
    flip(intact.folder / file, place, bit)

    assert_found(Model, intact, MODEL_MANIFEST, file)


@given(file=st.sampled_from([WEIGHTS, TRAINED_MANIFEST]), place=places, bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_trained_model_is_found_and_its_file_named(
        tmp_path_factory: pytest.TempPathFactory, file: str, place: float, bit: int) -> None:
    intact = write_trained(tmp_path_factory.mktemp("models") / "trained")
    flip(intact.folder / file, place, bit)

    assert_found(TrainedModel, intact, TRAINED_MANIFEST, file)


@pytest.mark.parametrize("file", [*CONTENT, MODEL_MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    model = write_model(tmp_path / "model", CONTENT)
    (model.folder / file).unlink()

    with pytest.raises(ContractError, match=f"{file}.* missing"):
        Model(model.folder)


@given(contents, contents)
def test_the_version_follows_the_files_alone(tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes],
                                             other: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("models")
    first, second = write_model(folder / "first", one), write_model(folder / "second", other, name="renamed")

    assert (first.version == second.version) == (one == other)
    assert len(first.version) == 12


@pytest.mark.parametrize("change", [{"classes": ("boot", "bag")}, {"height": 3}, {"channels": 3}])
def test_the_version_follows_the_signature_too(tmp_path: Path, change: dict[str, object]) -> None:
    other = SIGNATURE.model_copy(update=change)

    assert write_model(tmp_path / "a", CONTENT).version != write_model(tmp_path / "b", CONTENT, other).version


def test_a_version_that_the_files_do_not_make_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", CONTENT)
    model.manifest.model_copy(update={"version": "0123456789ab"}).save(model.folder / MODEL_MANIFEST)

    with pytest.raises(ContractError, match=f"says version 0123456789ab, its files make {model.version}"):
        Model(model.folder)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path / "model", CONTENT)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_whole_and_an_equal_one_stays(tmp_path: Path) -> None:
    model, other = write_model(tmp_path / "model", CONTENT), write_model(tmp_path / "other", {ONNX_FILE: b"other"})
    copied = copy_model(model, tmp_path / "registry" / "model")

    assert copied.manifest == model.manifest
    assert copy_model(model, copied.folder).manifest == model.manifest
    with pytest.raises(ContractError, match=f"holds version {model.version}, not {other.version}"):
        copy_model(other, copied.folder)


def test_a_trained_model_refuses_rows_it_cannot_answer(tmp_path: Path) -> None:
    def dataset(classes: tuple[str, ...], size: int) -> Dataset:
        import numpy as np

        rows = rows_table(["a"], np.zeros((1, size, size, 1), np.uint8), np.zeros(1, int))
        image = ImageFormat(height=size, width=size, channels=1)
        return write_dataset(tmp_path / f"{classes[0]}-{size}",
                             Description(name="toy", source="test", classes=classes, image=image), {"test": rows})

    trained = write_trained(tmp_path / "trained")
    trained.require_fit(dataset(("bag", "boot"), 2))
    with pytest.raises(ContractError, match=r"made for \(2, 2, 1\) images .* holds \(3, 3, 1\)"):
        trained.require_fit(dataset(("bag", "boot"), 3))
    with pytest.raises(ContractError, match=r"images of \['boot', 'bag'\]; give the dataset it was trained on"):
        trained.require_fit(dataset(("boot", "bag"), 2))
