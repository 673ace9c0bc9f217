"""The base of every configuration: frozen, typed, and helpful about a mistake.

Holds no field of its own; each step keeps its configuration beside its code.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from penstock.components.contracts.errors import ConfigError

__all__ = ["Config"]


class Config(BaseModel):
    """A set of options.

    Numbers change type on their way through KFP (1.0 arrives as 1 on a cluster, 1 as 1.0 on a laptop), so both are
    taken for either; NaN and infinity for none. No field is Optional, because KFP refuses None inside a dict: "off" is
    a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> Self:
        """Validate `options`, as they come from a pipeline parameter or the command line.

        Raises:
            ConfigError: one line per mistake, naming the field, the value, and the nearest valid name or the range.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            lines = [cls._explain(detail) for detail in error.errors()]
            raise ConfigError(f"{cls.__name__}: " + "; ".join(lines)) from error

    @classmethod
    def _explain(cls, detail: ErrorDetails) -> str:
        field = ".".join(str(part) for part in detail["loc"]) or "options"
        if detail["type"] == "extra_forbidden":
            return f"unknown field {field!r}, {_nearest(str(detail['loc'][-1]), cls._names_at(detail['loc'][:-1]))}"
        if detail["type"] == "value_error":  # raised by our own validators, whose text says it all
            return detail["msg"].removeprefix("Value error, ")
        return f"{field}={detail['input']!r}: {detail['msg']}"

    @classmethod
    def _names_at(cls, path: tuple[int | str, ...]) -> list[str]:
        """Return the field names of the model nested at `path`; a dict or tuple of models has any key."""
        found: Any = cls
        for part in path:
            if isinstance(found, type) and issubclass(found, BaseModel):
                field = found.model_fields.get(str(part))
                found = field.annotation if field else None
            else:
                found = next((kind for kind in get_args(found) if isinstance(kind, type) and kind is not str), None)
        return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(sorted(names))}"
