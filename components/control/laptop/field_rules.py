"""What a table of honoured fields is made of, and the rows that several kinds share.

Data only; `fields` puts the tables together and refuses what they do not have.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["CONTAINER", "METADATA", "ONE_CONTAINER", "Allowed", "Kind", "is_count", "is_number"]


class Allowed(NamedTuple):
    """A field whose value is restricted: `fits` says whether a value will do, `text` what would do."""

    fits: Callable[[Any], bool]
    text: str


class Kind(NamedTuple):
    """What is honoured of one kind.

    `fields`: path -> what the laptop does with it. `required`: paths without which nothing can start. `allowed`: paths
    whose value is restricted.
    """

    api_version: str
    fields: Mapping[str, str]
    required: tuple[str, ...] = ()
    allowed: Mapping[str, Allowed] = {}


METADATA = {
    "metadata.name": "identifies the object",
    "metadata.namespace": "`default`",
    "metadata.labels.*": "kept",
    "metadata.annotations.*": "kept",
    "metadata.resourceVersion": "compare-and-swap; `0`: the object must not exist yet",
}
CONTAINER = {
    "name": "checked",
    "image": "the installed packages are run in its place",
    "command[]": "run; `python` and scripts are those of this installation",
    "args[]": "run",
    "env[].name": "set",
    "env[].value": "set",
}
ONE_CONTAINER = Allowed(  # there is no image here whose own command could be run
    lambda value: isinstance(value, list) and len(value) == 1 and value[0].get("command"),
    "exactly one container, with its command")


def is_number(value: object) -> bool:
    """Say whether it is an int or float; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Say whether it is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
