"""The search space against the training's options: what no trial could start with is refused before any does."""

from typing import Any

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.training.worker.config import WorkerConfig
from penstock.components.tuning.sweep.config import SweepConfig
from penstock.components.tuning.sweep.space import check_space, trial_options, tuned

RATE = {"type": "double", "min": 0.1, "max": 1}


def config(trial: dict[str, object] | None = None, **parameters: Any) -> SweepConfig:
    return SweepConfig.parse({"max_trials": 4, "parameters": parameters or {"learning_rate": RATE},
                              "trial": trial or {}})


def test_a_trial_has_every_option_as_text() -> None:
    train = {"epochs": 5.0, "flip": 0, "work": "/w", "threads": 2, "workers": 2}
    options = trial_options(train, config({"epochs": 1.0}))

    assert set(options) == set(WorkerConfig.model_fields)
    assert [options[name] for name in ("epochs", "flip", "workers", "learning_rate")] == ["1", "0", "1", "0.6"]
    assert WorkerConfig.parse(options) == WorkerConfig(epochs=1, flip=0)


@pytest.mark.parametrize("parameters", [
    {"learning_rate": RATE},
    {"width": {"type": "discrete", "list": [16, 32]}, "network": {"type": "categorical", "list": ["mlp", "convnet"]}},
    {"batch_size": {"type": "int", "min": 128, "max": 512, "step": 64}},
    {"momentum": {"type": "discrete", "list": [0, 0.9]}},
])
def test_a_space_that_training_takes(parameters: dict[str, dict[str, object]]) -> None:
    check_space({"workers": 2.0, "epochs": 3, "timeout_minutes": 5}, config(**parameters))


@pytest.mark.parametrize(("train", "parameters", "text"), [
    ({}, {"lerning_rate": RATE},
     "parameters.lerning_rate='double': training has no such option; did you mean 'learning_rate'?"),
    ({}, {"workers": {"type": "int", "min": 1, "max": 4}}, "parameters.workers='int': a trial always has workers=1"),
    ({}, {"batch_size": {"type": "double", "min": 128, "max": 512}},
     "parameters.batch_size.type='double', but batch_size takes no fractions; for example "
     '{"batch_size": {"type": "discrete", "list": [256, 512]}}'),
    ({}, {"learning_rate": RATE | {"min": -1}},
     "impossible search space: at learning_rate=-1: learning_rate='-1': Input should be greater than 0; for example "
     '{"learning_rate": {"type": "double", "min": 0.06, "max": 0.6}}'),
    ({}, {"momentum": RATE}, "at momentum=1: momentum='1': Input should be less than 1"),
    ({}, {"optimizer": {"type": "categorical", "list": ["sgd", "adam"]}},
     "at optimizer=adam: optimizer='adam': Input should be 'sgd' or 'adamw'; for example "
     '{"optimizer": {"type": "categorical", "list": ["sgd", "adamw"]}}'),
    ({}, {"width": {"type": "discrete", "list": [0, 32]},
          "network": {"type": "categorical", "list": ["convnet", "linear"]}},
     "at width=32, network=linear: width=32: the linear network has no width"),
    ({"workers": 2}, {"batch_size": {"type": "int", "min": 64, "max": 128}},
     "at batch_size=65: batch_size=65 cannot be shared by workers=2; try 66"),
    ({"learning_rate": 0}, {"momentum": {"type": "discrete", "list": [0.5]}},
     "no trial can start with the options in train and trial: learning_rate='0': Input should be greater than 0"),
])
def test_a_space_that_it_does_not_take(
        train: dict[str, object], parameters: dict[str, dict[str, object]], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_space(train, config(**parameters))
    assert text in str(caught.value)


@pytest.mark.parametrize(("trial", "text"), [
    ({"epoch": 1}, r"trial\.epoch=1\.0: training has no such option; did you mean 'epochs'\?"),
    ({"workers": 2}, r"trial\.workers=2\.0: a trial always has workers=1"),
])
def test_options_of_trials_alone(trial: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check_space({}, config(trial))


def test_of_a_large_space_both_ends_are_tried() -> None:
    names = ("learning_rate", "weight_decay", "label_smoothing", "warmup")
    parameters: dict[str, dict[str, Any]] = {
        name: {"type": "discrete", "list": [0.01 * (1 + index) for index in range(9)]} for name in names}

    check_space({}, config(**parameters))
    parameters["weight_decay"]["list"][-1] = 2
    with pytest.raises(ConfigError, match="weight_decay='2'"):
        check_space({}, config(**parameters))


def test_the_best_parameters_get_the_types_of_their_options() -> None:
    train = {"epochs": 5.0, "network": "mlp", "work": "/w"}
    found = tuned(train, {"learning_rate": "1e-05", "batch_size": "64", "optimizer": "adamw"})

    assert found == train | {"learning_rate": 1e-05, "batch_size": 64, "optimizer": "adamw"}
    assert isinstance(found["batch_size"], int)
