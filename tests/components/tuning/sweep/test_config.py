"""The sweep's options: forgiving about how numbers travelled, and every impossible space explained with a way out."""

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.tuning.sweep.config import Parameter, SweepConfig, number_text

RATE = {"type": "double", "min": 0.1, "max": 1}


def parse(**options: object) -> SweepConfig:
    return SweepConfig.parse({"max_trials": 4, "parameters": {"learning_rate": RATE}} | options)


def test_no_options_are_no_sweep() -> None:
    assert SweepConfig.parse({}).max_trials == 0


def test_numbers_may_arrive_as_floats_and_texts() -> None:
    found = parse(max_trials=8.0, seed="3", parameters={
        "batch_size": {"type": "int", "min": 128.0, "max": "512", "step": 64.0},
        "width": {"type": "discrete", "list": [16.0, 32]},
        "optimizer": {"type": "categorical", "list": ["sgd", "adamw"]}})

    assert (found.max_trials, found.seed) == (8, 3)
    assert {name: parameter.ends() for name, parameter in found.parameters.items()} == {
        "batch_size": ("128", "512"), "width": ("16", "32"), "optimizer": ("sgd", "adamw")}
    assert [*found.parameters["batch_size"].whole_numbers()] == [128, 192, 256, 320, 384, 448, 512]
    assert [*found.parameters["width"].whole_numbers()] == []


@pytest.mark.parametrize(("value", "text"), [
    (16.0, "16"), (0.1, "0.1"), (1e-05, "1e-05"), (64, "64"), ("sgd", "sgd"), ("64.0", "64.0"), (-2.0, "-2")])
def test_numbers_as_katib_takes_them(value: float | str, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(("parameter", "texts"), [
    (RATE | {"min": 2}, ["p.min=2 is not below p.max=1; try max=4"]),
    (RATE | {"min": 1}, ["p.min=1 is not below p.max=1; try max=2"]),
    (RATE | {"min": 0, "distribution": "logUniform"}, ["p.min=0: logUniform needs min > 0; try min=0.01"]),
    (RATE | {"step": 3}, ["p.step=3 leaps over the whole range of 0.9; try step=0.225"]),
    (RATE | {"list": [1, 2]}, ["p.list=[1.0, 2.0]: double has min and max, no list; for a list use type discrete"]),
    ({"type": "int", "min": 0.5, "max": 8}, ["p.min=0.5: int takes whole numbers; try 0, or type double"]),
    ({"type": "discrete", "list": [1], "min": 1}, [
        "p.min=1: discrete has a list, no min; for a range use type double"]),
    ({"type": "discrete", "list": [1, "two"]}, ["p.list has 'two': discrete takes numbers"]),
    ({"type": "discrete"}, ["p.list=[]: discrete needs its values; for example [128, 256]"]),
    ({"type": "categorical", "list": ["a", "b", "a"]}, ["p.list has 'a' 2 times; name it once"]),
    ({"type": "categorical", "list": ["a"], "distribution": "logUniform", "step": 1}, [
        "p.step=1: categorical has a list, no step; for a range use type double",
        "p.distribution='logUniform': categorical has none; leave it out"]),
])
def test_impossible_parameters(parameter: dict[str, object], texts: list[str]) -> None:
    found = [*Parameter.parse(parameter).mistakes("p")]

    assert len(found) == len(texts)
    assert all(text in mistake for mistake, text in zip(found, texts, strict=True))
    with pytest.raises(ConfigError, match="impossible search space: p"):
        parse(parameters={"p": parameter})


def test_every_impossible_parameter_is_listed() -> None:
    with pytest.raises(ConfigError, match=r"space: a\.min=2 .*; b\.list=\[\]: categorical needs its values"):
        parse(parameters={"a": RATE | {"min": 2}, "b": {"type": "categorical"}})


@pytest.mark.parametrize(("options", "text"), [
    ({"max_trails": 4}, "unknown field 'max_trails', did you mean 'max_trials'?"),
    ({"parameters": {"learning_rate": RATE | {"maxx": 1}}},
     "unknown field 'parameters.learning_rate.maxx', did you mean 'max'?"),
    ({"parameters": {"learning_rate": {"min": 1}}}, "parameters.learning_rate.type"),
    ({"parameters": {"learning_rate": RATE | {"max": "inf"}}}, "parameters.learning_rate.max='inf'"),
    ({"parameters": {}}, 'parameters={}: max_trials=4 has nothing to search; for example {"learning_rate": {"type"'),
    ({"trial": {"learning_rate": 1}}, "trial.learning_rate=1.0: learning_rate is searched; leave it out of trial"),
    ({"settings": {"random_state": 1}}, "settings.random_state=1.0: set seed instead"),
    ({"objective": "validation_loss"}, "direction='maximize' of validation_loss would choose the worst trial; use "
                                       "minimize"),
    ({"direction": "minimize"}, "direction='minimize' of validation_accuracy would choose the worst trial; use "
                                "maximize"),
    ({"goal": 93}, "goal=93: an accuracy is a share, at most 1; try 0.93"),
    ({"algorithm": "bayes"}, "algorithm='bayes': Input should be 'random', 'grid' or 'tpe'"),
    ({"max_trials": 0.5}, "max_trials=0.5"),
])
def test_mistakes(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**options)
    assert text in str(caught.value)
