"""The Kubernetes objects that penstock creates, as YAML templates: the only place they are written down.

`load` reads one; the step that owns it fills in names, numbers and images. Talks to no control plane.
"""

from importlib import resources
from typing import Any

import yaml

__all__ = ["load"]


def load(name: str) -> dict[str, Any]:
    """Read a template, for example `load("serving/inferenceservice.yaml")`.

    Returns:
        A new object at each call, so a caller may fill it in place.

    Raises:
        FileNotFoundError: there is no such template; a programming error, the names are not the user's.
        ValueError: the file does not hold exactly one object.
    """
    objects = list(yaml.safe_load_all((resources.files(__name__) / name).read_text(encoding="utf-8")))
    if len(objects) != 1 or not isinstance(objects[0], dict):
        raise ValueError(f"manifests/{name} holds {len(objects)} documents; a template is one object")
    return dict(objects[0])
