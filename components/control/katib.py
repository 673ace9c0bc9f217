"""What Katib 0.19 makes of an Experiment before it starts: refuses it, or expands its grid.

Ports the rules of the validating webhook (pkg/webhook/v1beta1/experiment/validator) with its defaults, and adds what
the webhook lets through and the Experiment then hangs or fails on: settings that a suggestion service refuses, names
that nothing replaces, arguments that the shell would take apart. Talks to no cluster.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import Manifest
from penstock.components.control.katib_algorithms import algorithm_complaints, early_stopping_complaints
from penstock.components.control.katib_schema import schema_complaints
from penstock.components.control.katib_space import parameter_complaints, search_points
from penstock.components.control.katib_template import template_complaints

__all__ = ["search_points", "validate_experiment"]

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 40
METRIC_NAME = re.compile(r"[\w|-]+", re.ASCII)  # of the collectors' default filter
DEFAULT_PARALLEL = 3
STRATEGIES = ("min", "max", "latest")
RESUME = ("", "Never", "LongRunning", "FromVolume")
ABSOLUTE = "an absolute path, for example /var/log/katib/metrics.log"


def validate_experiment(manifest: Manifest) -> None:
    """Check an Experiment as Katib 0.19 would, and what Katib would only stumble over later.

    Not checked: fields inside a batch/v1 Job, which the webhook compares with the API's, and namespaces.

    Raises:
        ConfigError: names each field that is wrong, with its value, what it must be and a valid example.
    """
    complaints = [*schema_complaints(manifest)] or [*_complaints(manifest["metadata"]["name"], manifest["spec"])]
    if complaints:
        metadata = manifest.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
        raise ConfigError(f"Experiment {name}: " + "; ".join(complaints))


def _complaints(name: str, spec: Mapping[str, Any]) -> Iterator[str]:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        yield (f"metadata.name={name!r}: lower-case letters, digits and dashes, a letter first, no dash last, at most "
               f"{LONGEST_NAME}, for example sweep-1a2b3c")
    yield from _counts(spec)
    yield from _objective(spec.get("objective", {}))
    yield from algorithm_complaints(spec)
    yield from early_stopping_complaints(spec)
    if spec.get("resumePolicy", "") not in RESUME:
        yield f"spec.resumePolicy={spec['resumePolicy']!r}: it must be {', '.join(RESUME[1:])}, for example Never"
    if not spec.get("parameters"):
        yield "spec.parameters: there is none, so nothing to search; for example a double learning_rate"
    yield from parameter_complaints(spec.get("parameters", []), spec.get("algorithm", {}).get("algorithmName", ""))
    yield from _collector(spec.get("metricsCollectorSpec", {}))
    if "trialTemplate" in spec:
        yield from template_complaints(spec)
    else:
        yield "spec.trialTemplate: it is missing, for example {trialSpec: {...}, trialParameters: [...]}"


def _counts(spec: Mapping[str, Any]) -> Iterator[str]:
    most, parallel = spec.get("maxTrialCount"), spec.get("parallelTrialCount", DEFAULT_PARALLEL)
    failed = spec.get("maxFailedTrialCount", 0)
    if most is not None and most <= 0:
        yield f"spec.maxTrialCount={most}: it must be greater than 0, for example 12"
    if parallel <= 0:
        yield f"spec.parallelTrialCount={parallel}: it must be greater than 0, for example 2"
    if failed < 0:
        yield f"spec.maxFailedTrialCount={failed}: it must not be less than 0, for example 3"
    if most is not None:
        for field, count in (("parallelTrialCount", parallel), ("maxFailedTrialCount", failed)):
            if count > most:
                by_default = "" if field in spec else " (the default)"
                yield f"spec.{field}={count}{by_default}: it must be at most maxTrialCount={most}, for example {most}"


def _objective(objective: Mapping[str, Any]) -> Iterator[str]:
    path, name = "spec.objective", objective.get("objectiveMetricName", "")
    others = objective.get("additionalMetricNames", [])
    if objective.get("type") not in ("minimize", "maximize"):
        yield f"{path}.type={objective.get('type', '')!r}: it must be minimize or maximize, for example maximize"
    for field, metric in (("objectiveMetricName", name), *(("additionalMetricNames", other) for other in others)):
        if not METRIC_NAME.fullmatch(metric):
            yield (f"{path}.{field}={metric!r}: a metric's name has letters, digits, _ and -, or no line is found for "
                   "it, for example validation_accuracy")
    if name in others:
        yield f"{path}.additionalMetricNames={others!r}: leave out the objective itself, {name}"
    for index, strategy in enumerate(objective.get("metricStrategies", [])):
        where = f"{path}.metricStrategies[{index}]"
        if strategy.get("name") not in (name, *others):
            yield f"{where}.name={strategy.get('name', '')!r}: no such metric is asked for, for example {name}"
        if strategy.get("value") not in STRATEGIES:
            yield f"{where}.value={strategy.get('value', '')!r}: it must be {', '.join(STRATEGIES)}, for example max"


def _collector(spec: Mapping[str, Any]) -> Iterator[str]:
    path, kind = "spec.metricsCollectorSpec", spec.get("collector", {}).get("kind", "StdOut")
    source = spec.get("source", {})
    if kind == "File":
        yield from _file_source(f"{path}.source.fileSystemPath", source)
    elif kind == "TensorFlowEvent":
        place = source.get("fileSystemPath", {})
        if place.get("kind", "Directory") != "Directory" or not place.get("path", "/").startswith("/"):
            yield f"{path}.source.fileSystemPath={place!r}: a Directory with an absolute path, for example /var/log/tb"
        if place.get("format"):
            yield f"{path}.source.fileSystemPath.format={place['format']!r}: leave it out for event files"
    elif kind == "Custom":
        place = source.get("fileSystemPath")
        if "customCollector" not in spec["collector"]:
            yield f"{path}.collector.customCollector: it is missing, for example {{name: collect, image: ...}}"
        if place is not None and (place.get("kind") not in ("File", "Directory")
                                  or not place.get("path", "").startswith("/")):
            yield f"{path}.source.fileSystemPath={place!r}: a File or Directory with {ABSOLUTE}"
    elif kind not in ("StdOut", "Push"):
        yield (f"{path}.collector.kind={kind!r}: it must be StdOut, File, TensorFlowEvent, Custom or Push "
               "(Katib 0.19 ships no image for PrometheusMetric), for example StdOut")
    if kind != "Push":  # the webhook does not look at those of StdOut, whose collector uses them too
        yield from _filters(f"{path}.source.filter.metricsFormat", source)


def _file_source(path: str, source: Mapping[str, Any]) -> Iterator[str]:
    place = source.get("fileSystemPath", {})
    if place.get("kind", "File") != "File" or not place.get("path", "/").startswith("/"):
        yield f"{path}={place!r}: a File with {ABSOLUTE}"
    if place.get("format", "TEXT") not in ("TEXT", "JSON"):
        yield f"{path}.format={place['format']!r}: it must be TEXT or JSON, for example TEXT"
    elif place.get("format") == "JSON" and "filter" in source:
        yield f"{path}.format='JSON': leave out source.filter, which is for TEXT"


def _filters(path: str, source: Mapping[str, Any]) -> Iterator[str]:
    for pattern in source.get("filter", {}).get("metricsFormat", []):
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            yield f"{path}={pattern!r}: it is no regular expression ({error})"
            continue
        if groups < 2:
            yield f"{path}={pattern!r}: the first group is the name, the second the value, for example (\\w+)=(\\S+)"
