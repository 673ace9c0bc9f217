"""The fields of a Katib Experiment and their types.

The CRD of Katib 0.19 keeps unknown fields, so a misspelt one would be ignored in silence, and a number where a text
belongs is only found by the webhook. Knows no rule about values.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.components.control.base import Manifest

__all__ = ["schema_complaints"]

Schema = Any  # a type; [schema] for a list; {name: schema} for an object; {"*": schema} for one with any names
SETTINGS = {"algorithmName": str, "algorithmSettings": [{"name": str, "value": str}]}
SPEC: Schema = {
    "parameters": [{"name": str, "parameterType": str, "feasibleSpace": {
        "min": str, "max": str, "step": str, "list": [str], "distribution": str}}],
    "objective": {"type": str, "goal": float, "objectiveMetricName": str, "additionalMetricNames": [str],
                  "metricStrategies": [{"name": str, "value": str}]},
    "algorithm": SETTINGS,
    "earlyStopping": SETTINGS,
    "parallelTrialCount": int,
    "maxTrialCount": int,
    "maxFailedTrialCount": int,
    "resumePolicy": str,
    "metricsCollectorSpec": {
        "collector": {"kind": str, "customCollector": {"*": object}},
        "source": {"fileSystemPath": {"path": str, "kind": str, "format": str}, "filter": {"metricsFormat": [str]},
                   "httpGet": {"*": object}}},
    "trialTemplate": {
        "retain": bool, "primaryPodLabels": {"*": str}, "primaryContainerName": str, "successCondition": str,
        "failureCondition": str, "trialParameters": [{"name": str, "description": str, "reference": str}],
        "trialSpec": {"*": object},
        "configMap": {"configMapName": str, "configMapNamespace": str, "templatePath": str}},
}
WORDS: Mapping[Any, str] = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
MOST = 2**31 - 1  # counts are int32


def schema_complaints(manifest: Manifest) -> Iterator[str]:
    """Yield each field that an Experiment has not, and each value of another type than its field's."""
    for key, wanted in (("apiVersion", "kubeflow.org/v1beta1"), ("kind", "Experiment")):
        if manifest.get(key) != wanted:
            yield f"{key}={manifest.get(key)!r}: it must be {wanted}"
    yield from _mismatches("metadata", manifest.get("metadata"), {"name": str, "*": object})
    if isinstance(manifest.get("metadata"), Mapping) and "name" not in manifest["metadata"]:
        yield "metadata.name='': it is missing, for example sweep-1a2b3c"
    yield from _mismatches("spec", manifest.get("spec"), SPEC)


def _mismatches(path: str, value: object, schema: Schema) -> Iterator[str]:
    if isinstance(schema, dict):
        if not isinstance(value, Mapping):
            yield f"{path}={value!r}: it must be an object"
            return
        for key, inner in value.items():
            wanted = schema.get(key, schema.get("*"))
            if wanted is None:
                near = difflib.get_close_matches(str(key), [*schema], n=1, cutoff=0)[0]
                yield f"{path}.{key}={inner!r}: there is no such field; the nearest is {near}"
            else:
                yield from _mismatches(f"{path}.{key}", inner, wanted)
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{path}={value!r}: it must be a list"
            return
        for index, inner in enumerate(value):
            yield from _mismatches(f"{path}[{index}]", inner, schema[0])
    elif not _is_a(value, schema):
        yield f"{path}={value!r}: it must be {WORDS[schema]}"


def _is_a(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST
    return isinstance(value, kind)
