"""Configuration: forgiving about how a number travelled, strict about everything else, helpful about a mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ConfigError, PenstockError


class Schedule(Config):
    warmup: int = Field(default=1, ge=0, description="Epochs.")
    peak: float = Field(default=0.1, gt=0, description="Learning rate.")


class Training(Config):
    epochs: int = Field(default=3, ge=1, description="Passes.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="0: off.")
    schedule: Schedule = Field(default=Schedule(), description="How the rate changes.")


@given(st.integers(1, 2**53 - 1))
def test_a_whole_number_may_arrive_as_float_or_text(epochs: int) -> None:
    assert Training.parse({"epochs": float(epochs)}).epochs == epochs
    assert Training.parse({"epochs": str(epochs)}).epochs == epochs


def test_a_float_may_arrive_as_whole_number() -> None:
    peak = Training.parse({"schedule": {"peak": 1, "warmup": 2.0}}).schedule.peak

    assert peak == 1.0
    assert isinstance(peak, float)


@given(st.floats(1, 1e6).filter(lambda value: not value.is_integer()))
def test_a_broken_number_is_no_whole_one(epochs: float) -> None:
    with pytest.raises(ConfigError, match="epochs="):
        Training.parse({"epochs": epochs})


@pytest.mark.parametrize(("options", "message"), [
    ({"epoch": 3}, r"Training: unknown field 'epoch', did you mean 'epochs'\?"),
    ({"lable_smoothing": 0.1}, r"unknown field 'lable_smoothing', did you mean 'label_smoothing'\?"),
    ({"schedule": {"warm_up": 3}}, r"unknown field 'schedule.warm_up', did you mean 'warmup'\?"),
    ({"xyz": 3}, "unknown field 'xyz', the fields are epochs, label_smoothing, schedule"),
    ({"epochs": 0}, "epochs=0: Input should be greater than or equal to 1"),
    ({"epochs": "many"}, "epochs='many': Input should be a valid integer"),
    ({"epochs": None}, "epochs=None"),
    ({"schedule": 5}, "schedule=5"),
])
def test_a_mistake_is_named_with_its_value_and_the_way_out(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Training.parse(options)


def test_every_mistake_is_listed() -> None:
    with pytest.raises(ConfigError, match=r"epochs=0.*; label_smoothing=1"):
        Training.parse({"epochs": 0, "label_smoothing": 1})


def test_a_config_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Training().epochs = 4  # type: ignore[misc]


def test_the_error_is_one_that_a_user_can_act_on() -> None:
    assert issubclass(ConfigError, PenstockError)
    assert issubclass(ConfigError, ValueError)
