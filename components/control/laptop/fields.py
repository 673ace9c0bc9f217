"""Which fields of which objects the laptop plane honours, as data; every other field is refused by name.

A path is dotted; `[]` is any item of a list, a last `*` any key below. Changes nothing and starts nothing.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from penstock.components.control.base import ControlError, Manifest, UnsupportedField
from penstock.components.control.laptop.store import SERVER_FIELDS

__all__ = ["KINDS", "honoured_fields", "refuse_unknown"]


class Kind(NamedTuple):
    """What is honoured of one kind.

    `fields`: path -> what the laptop does with it. `required`: paths without which nothing can start.
    """

    api_version: str
    fields: Mapping[str, str]
    required: tuple[str, ...] = ()


class Allowed(NamedTuple):
    """A field whose value is restricted: `fits` says whether a value will do, `text` what would do."""

    fits: Callable[[Any], bool]
    text: str


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
POD = "spec.pytorchReplicaSpecs.Worker.template"

KINDS: Mapping[str, Kind] = {
    "PyTorchJob": Kind("kubeflow.org/v1", METADATA | {
        "spec.nprocPerNode": "PET_NPROC_PER_NODE",
        "spec.elasticPolicy.rdzvBackend": "PET_RDZV_BACKEND",
        "spec.elasticPolicy.minReplicas": "PET_NNODES",
        "spec.elasticPolicy.maxReplicas": "PET_NNODES",
        "spec.elasticPolicy.maxRestarts": "PET_MAX_RESTARTS",
        "spec.runPolicy.cleanPodPolicy": "what becomes of the agents when the job has ended",
        "spec.runPolicy.backoffLimit": "how many restarts of agents make the job fail",
        "spec.runPolicy.activeDeadlineSeconds": "ends the job, without the operator's delay",
        "spec.pytorchReplicaSpecs.Worker.replicas": "that many torchrun agents",
        "spec.pytorchReplicaSpecs.Worker.restartPolicy": "whether an agent that failed is started again",
        f"{POD}.metadata.labels.*": "kept",
        f"{POD}.metadata.annotations.*": "kept",
    } | {f"{POD}.spec.containers[].{name}": text for name, text in CONTAINER.items()},
        ("spec.elasticPolicy", "spec.runPolicy", f"{POD}.spec.containers")),
    "InferenceService": Kind("serving.kserve.io/v1beta1", METADATA | {
        "spec.predictor.minReplicas": "one process per revision",
        "spec.predictor.canaryTrafficPercent": "the newest revision's share, as in KServe's Knative mode",
        "spec.predictor.model.modelFormat.name": "must be one that the runtime supports",
        "spec.predictor.model.protocolVersion": "`v2`",
        "spec.predictor.model.runtime": "the ServingRuntime that is run",
        "spec.predictor.model.storageUri": "its folder takes the place of /mnt/models",
    }, ("spec.predictor.model.modelFormat.name", "spec.predictor.model.runtime", "spec.predictor.model.storageUri")),
    "ServingRuntime": Kind("serving.kserve.io/v1alpha1", METADATA | {
        "spec.annotations.*": "kept",
        "spec.labels.*": "kept",
        "spec.supportedModelFormats[].name": "compared with the service's modelFormat",
        "spec.supportedModelFormats[].version": "kept",
        "spec.supportedModelFormats[].autoSelect": "kept; a service names its runtime",
        "spec.supportedModelFormats[].priority": "kept; a service names its runtime",
        "spec.protocolVersions[]": "must contain `v2`",
        "spec.containers[].readinessProbe.httpGet.path": "asked until it answers 200; default /v2/models/<name>/ready",
        "spec.containers[].readinessProbe.httpGet.port": "the predictor's",
    } | {f"spec.containers[].{name}": text for name, text in CONTAINER.items()},
        ("spec.containers", "spec.supportedModelFormats")),
    "Lease": Kind("coordination.k8s.io/v1", METADATA | {
        "spec.holderIdentity": "who holds it; empty: nobody",
        "spec.leaseDurationSeconds": "after so long without renewal a canary's traffic goes back to stable",
        "spec.acquireTime": "kept",
        "spec.renewTime": "the last sign of life",
        "spec.leaseTransitions": "kept",
    }),
}

WORKER = "spec.pytorchReplicaSpecs.Worker"
ONE_CONTAINER = Allowed(  # there is no image here whose own command could be run
    lambda value: isinstance(value, list) and len(value) == 1 and value[0].get("command"),
    "exactly one container, with its command")
ALLOWED: Mapping[str, dict[str, Allowed]] = {
    "PyTorchJob": {
        "spec.elasticPolicy.rdzvBackend": Allowed(lambda value: value == "c10d", "c10d"),
        "spec.runPolicy.cleanPodPolicy":
            Allowed(lambda value: value in ("Running", "All", "None"), "Running, All or None"),
        f"{WORKER}.restartPolicy": Allowed(lambda value: value in ("OnFailure", "Never"), "OnFailure or Never"),
        f"{POD}.spec.containers": ONE_CONTAINER,
        f"{POD}.spec.containers[].name": Allowed(lambda value: value == "pytorch", "pytorch"),
    },
    "InferenceService": {
        "metadata.annotations.serving.kserve.io/deploymentMode":
            Allowed(lambda value: value in ("Knative", "Serverless"), "Knative"),
        "spec.predictor.minReplicas": Allowed(lambda value: value == 1, "1"),
        "spec.predictor.canaryTrafficPercent":
            Allowed(lambda value: _is_number(value) and value in range(101), "a whole number from 0 to 100"),
        "spec.predictor.model.protocolVersion": Allowed(lambda value: value == "v2", "v2"),
        "spec.predictor.model.storageUri":
            Allowed(lambda value: str(value).startswith("file:///"), "file:///absolute/path/of/the/model/folder"),
    },
    "ServingRuntime": {
        "spec.containers": ONE_CONTAINER,
        "spec.containers[].name": Allowed(lambda value: value == "kserve-container", "kserve-container"),
        "spec.protocolVersions": Allowed(lambda value: "v2" in value, "[v2]"),
    },
    "Lease": {
        "spec.leaseDurationSeconds": Allowed(lambda value: _is_number(value) and value > 0, "seconds, for example 30"),
    },
}
EVERYWHERE = {"metadata.namespace": Allowed(lambda value: value == "default", "default")}


def honoured_fields() -> Mapping[str, Mapping[str, str]]:
    """Return, per kind, each honoured path and what the laptop does with it: the table of the documentation.

    Values that are restricted say so. What a server writes (status, uid, generation, creationTimestamp) may come back
    in a manifest and is dropped, as an API server drops it.
    """
    table = {}
    for name, kind in KINDS.items():
        rules = ALLOWED[name] | EVERYWHERE
        table[name] = {path: f"{text} ({rules[path].text})" if path in rules and path not in EVERYWHERE else text
                       for path, text in kind.fields.items()}
    return table


def refuse_unknown(manifest: Manifest) -> None:
    """Check an object before anything is written or started.

    Raises:
        UnsupportedField: names every field that is not honoured, with its value and the nearest honoured one, and
            every honoured field whose value is not.
        ControlError: a field is missing without which nothing can start.
    """
    kind = KINDS.get(str(manifest.get("kind")))
    if kind is None or manifest.get("apiVersion") != kind.api_version:
        known = ", ".join(f"{name} ({kind.api_version})" for name, kind in sorted(KINDS.items()))
        raise UnsupportedField(f"kind: {manifest.get('kind')} ({manifest.get('apiVersion')}) is not one that the "
                               f"laptop plane runs; it runs {known}")
    asked = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "status")}
    asked["metadata"] = {key: value for key, value in asked["metadata"].items()
                         if key not in SERVER_FIELDS or key == "resourceVersion"}
    complaints = [*_unknown(asked, kind.fields), *_misfits(asked, ALLOWED[manifest["kind"]] | EVERYWHERE)]
    name = f"{manifest['kind']} {asked['metadata'].get('name', '?')}"
    if complaints:
        raise UnsupportedField(f"{name}: the laptop plane does not honour " + "; ".join(complaints))
    missing = [path for path in ("metadata.name", *kind.required) if _at(asked, path) in (None, "", [], {})]
    if missing:
        raise ControlError(f"{name}: {', '.join(missing)} is missing; nothing can start without it")


def _unknown(asked: Mapping[str, Any], fields: Mapping[str, str]) -> Iterator[str]:
    for path, value in _leaves(asked):
        if not _honoured(_general(path), fields, value):
            nearest = difflib.get_close_matches(_general(path), [*fields], n=1, cutoff=0)[0]
            yield f"{path}={value!r} (the nearest that it does: {nearest})"


def _misfits(asked: Mapping[str, Any], allowed: Mapping[str, Allowed]) -> Iterator[str]:
    for path, value in _nodes(asked):
        rule = allowed.get(_general(path))
        if rule is not None and not rule.fits(value):
            yield f"{path}={value!r} (it must be: {rule.text})"


def _honoured(path: str, fields: Mapping[str, str], value: object) -> bool:
    if path in fields or any(field.endswith(".*") and path.startswith(field[:-1]) for field in fields):
        return True
    empty = value in ({}, [])  # says nothing where something below could
    return empty and any(field.startswith((f"{path}.", f"{path}[]")) for field in fields)


def _nodes(node: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value in an object with its path, inner ones too."""
    if path:
        yield path, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes(value, f"{path}[{index}]")


def _leaves(node: object) -> Iterator[tuple[str, Any]]:
    return ((path, value) for path, value in _nodes(node) if not isinstance(value, Mapping | list) or not value)


def _general(path: str) -> str:
    """Put `[]` for every index: containers[0].name -> containers[].name."""
    return re.sub(r"\[\d+\]", "[]", path)


def _at(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
