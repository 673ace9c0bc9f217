"""What a training is made from, and the work folder that belongs to one."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.training.worker.config import WorkerConfig, WorkFolder, local_path, parse_settings


def test_numbers_come_back_from_kfp_as_floats() -> None:
    assert WorkerConfig.parse({"epochs": 3.0, "learning_rate": 1, "seed": 7.0}) == WorkerConfig(
        epochs=3, learning_rate=1.0, seed=7)


@pytest.mark.parametrize(("options", "text"), [
    ({"learningrate": 0.1}, "unknown field 'learningrate', did you mean 'learning_rate'?"),
    ({"network": "resnet18"}, "network='resnet18': there is none of this name; there are convnet, linear, mlp, and "
                              "torchvision's classifiers, for example torchvision:resnet18"),
    ({"network": "convet"}, "did you mean 'convnet'?"),
    ({"network": "torchvision:ResNet 18"}, "network='torchvision:ResNet 18': there is none of this name"),
    ({"network": "torchvision:vgg11", "width": 8}, "width=8: the torchvision:vgg11 network has no width; use 0"),
    ({"network": "mlp", "image_size": 32}, "image_size=32: the mlp network takes images as they are; use 0, or ingest"),
    ({"ema_decay": 1}, "ema_decay=1: Input should be less than 1"),
    ({"epochs": 0}, "epochs=0: Input should be greater than or equal to 1"),
    ({"batch_size": 100, "workers": 3}, "batch_size=100 cannot be shared by workers=3; try 102"),
    ({"batch_size": 4, "workers": 4}, "batch_size=4 leaves a worker less than 2 rows; try 8"),
    ({"network": "linear", "width": 8}, "the linear network has no width; use 0, or network mlp"),
])
def test_mistakes_are_named_with_a_way_out(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WorkerConfig.parse(options)
    assert text in str(caught.value)


def test_a_fingerprint_names_options_data_and_code() -> None:
    config = WorkerConfig()
    others = [config.fingerprint("a", "2"), config.fingerprint("b", "1"), WorkerConfig(seed=1).fingerprint("a", "1")]

    assert config.fingerprint("a", "1") == WorkerConfig().fingerprint("a", "1")
    assert config.fingerprint("a", "1") not in others


def test_a_work_folder_belongs_to_one_training(tmp_path: Path) -> None:
    work, config = WorkFolder(tmp_path / "work"), WorkerConfig(epochs=3)
    work.claim(config, "abc")
    work.claim(config, "abc")

    assert work.config() == config
    with pytest.raises(ContractError, match=r"other options \(epochs 3 -> 4\); start a new run"):
        work.claim(WorkerConfig(epochs=4), "abc")
    with pytest.raises(ContractError, match="a training on dataset abc, not on def"):
        work.claim(config, "def")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"options": {'])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(ConfigError, match=r"config\.json says of no training what it is"):
        WorkFolder(tmp_path).config()


def test_settings_are_json_or_text() -> None:
    config = parse_settings(["learning_rate=0.05", "epochs=3", "network=torchvision:resnet18", "weights=",
                             "tensorboard=false", "batch_size=64.0"])

    assert config == WorkerConfig(learning_rate=0.05, epochs=3, network="torchvision:resnet18", tensorboard=False,
                                  batch_size=64)


@pytest.mark.parametrize(("settings", "text"), [
    (["epochs"], r"--set epochs: give key=value, for example learning_rate=0\.1"),
    (["=3"], "--set =3: give key=value"),
    (["epoch=3"], "unknown field 'epoch', did you mean 'epochs'"),
    (["learning_rate=fast"], "learning_rate='fast': Input should be a valid number"),
    (["learning_rate=NaN"], "learning_rate=nan: Input should be a finite number"),
])
def test_wrong_settings_are_named(settings: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_settings(settings)


def test_a_hopeless_training_stays_so(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)

    assert work.hopeless() == ""
    work.mark_hopeless("it diverged")
    assert WorkFolder(tmp_path).hopeless() == "it diverged"


def test_local_paths() -> None:
    assert local_path("/data/set") == local_path("file:///data/set") == Path("/data/set")
    with pytest.raises(ConfigError, match="opens folders, not s3://"):
        local_path("s3://bucket/set")
