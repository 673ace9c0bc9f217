"""What a training is made from, and the work folder that belongs to one."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.training.worker.config import WorkerConfig, WorkFolder, local_path


def test_numbers_come_back_from_kfp_as_floats() -> None:
    assert WorkerConfig.parse({"epochs": 3.0, "learning_rate": 1, "seed": 7.0}) == WorkerConfig(
        epochs=3, learning_rate=1.0, seed=7)


@pytest.mark.parametrize(("options", "text"), [
    ({"learningrate": 0.1}, "unknown field 'learningrate', did you mean 'learning_rate'?"),
    ({"network": "resnet"}, "network='resnet': Input should be 'linear', 'mlp' or 'convnet'"),
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


def test_local_paths() -> None:
    assert local_path("/data/set") == local_path("file:///data/set") == Path("/data/set")
    with pytest.raises(ConfigError, match="opens folders, not s3://"):
        local_path("s3://bucket/set")
