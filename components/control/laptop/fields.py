"""Which fields of which objects the laptop plane honours, as data; every other field is refused by name.

A path is dotted; `[]` is any item of a list, a last `*` any key below. Changes nothing and starts nothing.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.components.control.base import ControlError, Manifest, UnsupportedField
from penstock.components.control.laptop.experiment_fields import EXPERIMENT
from penstock.components.control.laptop.field_rules import (
    CONTAINER,
    METADATA,
    ONE_CONTAINER,
    Allowed,
    Kind,
    is_number,
)
from penstock.components.control.laptop.job_fields import BATCH_JOB, PYTORCH_JOB, TRAIN_JOB
from penstock.components.control.laptop.store import SERVER_FIELDS

__all__ = ["KINDS", "honoured_fields", "refuse_unknown"]

INFERENCE_SERVICE = Kind(
    "serving.kserve.io/v1beta1",
    METADATA | {
        "spec.predictor.minReplicas": "one process per revision",
        "spec.predictor.canaryTrafficPercent": "the newest revision's share, as in KServe's Knative mode",
        "spec.predictor.model.modelFormat.name": "must be one that the runtime supports",
        "spec.predictor.model.protocolVersion": "`v2`",
        "spec.predictor.model.runtime": "the ServingRuntime that is run",
        "spec.predictor.model.storageUri": "its folder takes the place of /mnt/models",
    },
    ("spec.predictor.model.modelFormat.name", "spec.predictor.model.runtime", "spec.predictor.model.storageUri"),
    {
        "metadata.annotations.serving.kserve.io/deploymentMode":
            Allowed(lambda value: value in ("Knative", "Serverless"), "Knative"),
        "spec.predictor.minReplicas": Allowed(lambda value: value == 1, "1"),
        "spec.predictor.canaryTrafficPercent":
            Allowed(lambda value: is_number(value) and value in range(101), "a whole number from 0 to 100"),
        "spec.predictor.model.protocolVersion": Allowed(lambda value: value == "v2", "v2"),
        "spec.predictor.model.storageUri":
            Allowed(lambda value: str(value).startswith("file:///"), "file:///absolute/path/of/the/model/folder"),
    },
)
SERVING_RUNTIME = Kind(
    "serving.kserve.io/v1alpha1",
    METADATA | {
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
    ("spec.containers", "spec.supportedModelFormats"),
    {
        "spec.containers": ONE_CONTAINER,
        "spec.containers[].name": Allowed(lambda value: value == "kserve-container", "kserve-container"),
        "spec.protocolVersions": Allowed(lambda value: "v2" in value, "[v2]"),
    },
)
LEASE = Kind(
    "coordination.k8s.io/v1",
    METADATA | {
        "spec.holderIdentity": "who holds it; empty: nobody",
        "spec.leaseDurationSeconds": "after so long without renewal a canary's traffic goes back to stable",
        "spec.acquireTime": "kept",
        "spec.renewTime": "the last sign of life",
        "spec.leaseTransitions": "kept",
    },
    allowed={
        "spec.leaseDurationSeconds": Allowed(lambda value: is_number(value) and value > 0, "seconds, for example 30"),
    },
)
KINDS: Mapping[str, Kind] = {
    "PyTorchJob": PYTORCH_JOB,
    "TrainJob": TRAIN_JOB,
    "Job": BATCH_JOB,
    "Experiment": EXPERIMENT,
    "InferenceService": INFERENCE_SERVICE,
    "ServingRuntime": SERVING_RUNTIME,
    "Lease": LEASE,
}
EVERYWHERE = {"metadata.namespace": Allowed(lambda value: value == "default", "default")}


def honoured_fields() -> Mapping[str, Mapping[str, str]]:
    """Return, per kind, each honoured path and what the laptop does with it: the table of the documentation.

    Values that are restricted say so. What a server writes (status, uid, generation, creationTimestamp) may come back
    in a manifest and is dropped, as an API server drops it.
    """
    table = {}
    for name, kind in KINDS.items():
        rules = {**kind.allowed, **EVERYWHERE}
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
    complaints = [*_unknown(asked, kind.fields), *_misfits(asked, {**kind.allowed, **EVERYWHERE})]
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
