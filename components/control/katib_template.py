"""The trial template of a Katib Experiment: its checks, and the job that it makes of a set of parameters.

Katib replaces texts in the template's JSON (pkg/controller.v1beta1/experiment/manifest/generator.go), and its
collectors run the primary container as `sh -c "<command and args joined by blanks>"`. Pure functions; starts nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.components.control.base import Manifest

__all__ = ["KINDS", "TrialKind", "render_trial", "template_complaints"]

PLACEHOLDER = re.compile(r"\$\{trialParameters\..+?\}")
META = re.compile(r"\$\{trialSpec\.(.+?)\}")
META_INDEX = re.compile(r"(.+)\[(.+)]")
META_KEYS = ("Name", "Namespace", "Kind", "APIVersion", "Annotations", "Labels")
PLAIN = re.compile(r"[\w@%+=:,./\[\]^!-]+")  # what a shell hands on as it is
REWRITTEN = ("StdOut", "File", "TensorFlowEvent")  # the collectors that rewrite the command
SHELLS = (["sh", "-c"], ["bash", "-c"])


class TrialKind(NamedTuple):
    """What Katib fills in for a kind of job: the conditions that end a trial, and the labels of its primary pod."""

    success: str
    failure: str
    pod_labels: Mapping[str, str]


def _kind(succeeded: str, **labels: str) -> TrialKind:
    query = 'status.conditions.#(type=="{}")#|#(status=="True")#'
    return TrialKind(query.format(succeeded), query.format("Failed"), labels)


MASTER = {"training.kubeflow.org/job-role": "master"}
FIRST_NODE = {"jobset.sigs.k8s.io/replicatedjob-name": "node", "batch.kubernetes.io/job-completion-index": "0"}
KINDS: Mapping[str, TrialKind] = {
    "Job": _kind("Complete"),
    "TrainJob": _kind("Complete", **FIRST_NODE),
} | {name: _kind("Succeeded", **MASTER) for name in ("PyTorchJob", "TFJob", "XGBoostJob", "MPIJob")}


def render_trial(spec: Mapping[str, Any], name: str, namespace: str, assignments: Mapping[str, str]) -> Manifest:
    """Make the job of one trial: the template of an Experiment's `spec` with these parameters, under this name.

    Args:
        assignments: value of each of `spec.parameters`, by name.
    """
    template = spec["trialTemplate"]
    text = json.dumps(template["trialSpec"], ensure_ascii=False)
    for parameter in template["trialParameters"]:
        reference = parameter["reference"]
        meta = META.search(reference)
        value = _meta(meta[1], template["trialSpec"], name, namespace) if meta else assignments[reference]
        text = text.replace(f"${{trialParameters.{parameter['name']}}}", json.dumps(value, ensure_ascii=False)[1:-1])
    job: Manifest = json.loads(text)
    return job | {"metadata": job.get("metadata", {}) | {"name": name, "namespace": namespace}}


def template_complaints(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `spec.trialTemplate`, given the parameters beside it, whose types are checked."""
    template, path = spec["trialTemplate"], "spec.trialTemplate"
    if not template.get("primaryContainerName"):
        yield f"{path}.primaryContainerName='': it is missing, for example pytorch"
    if ("trialSpec" in template) == ("configMap" in template):
        yield f"{path}: it needs one of trialSpec and configMap, for example trialSpec: {{apiVersion: ..., kind: Job}}"
        return
    yield from _references(f"{path}.trialParameters", template, [one.get("name") for one in spec.get("parameters", [])])
    if "configMap" in template:  # what it holds, only the cluster knows
        yield from (f"{path}.configMap.{field}='': it is missing" for field in
                    ("configMapName", "configMapNamespace", "templatePath") if not template["configMap"].get(field))
        known = False
    else:
        yield from _placeholders(path, template)
        yield from _job(f"{path}.trialSpec", template["trialSpec"], template.get("primaryContainerName", ""))
        known = str(template["trialSpec"].get("kind")) in KINDS
        collector = spec.get("metricsCollectorSpec", {}).get("collector", {}).get("kind", "StdOut")
        if collector in REWRITTEN:
            yield from _words(f"{path}.trialSpec", template["trialSpec"], spec.get("parameters", []))
    if not known and not (template.get("successCondition") and template.get("failureCondition")):
        example = KINDS["Job"].success
        yield f"{path}: successCondition and failureCondition have no default here, for example {example}"


def _references(path: str, template: Mapping[str, Any], parameters: Sequence[Any]) -> Iterator[str]:
    names, seen = [], []
    for index, entry in enumerate(template.get("trialParameters", [])):
        name, reference, where = entry.get("name", ""), entry.get("reference", ""), f"{path}[{index}]"
        if not name or not reference or set(name) & set("{}"):
            yield f"{where}={entry!r}: it needs a name (without braces) and a reference, for example {{name: lr, " \
                  "reference: learning_rate}"
        elif name in names or reference in seen:
            yield f"{where}={entry!r}: this name or reference is there already; keep one"
        elif (meta := META.search(reference)) is not None:
            yield from _bad_meta(f"{where}.reference={reference!r}", meta[1], template.get("trialSpec"))
        elif reference not in parameters:
            yield f"{where}.reference={reference!r}: spec.parameters has no such name, for example {parameters[:1]}"
        names.append(name)
        seen.append(reference)
    for parameter in parameters:
        if parameter not in seen:
            yield f"{path}: none refers to the parameter {parameter!r}, so no trial could be made; for example " \
                  f"{{name: {parameter}, reference: {parameter}}}"


def _bad_meta(where: str, key: str, trial_spec: Mapping[str, Any] | None) -> Iterator[str]:
    indexed = META_INDEX.fullmatch(key)
    kind, index = (indexed[1], indexed[2]) if indexed else (key, "")
    if kind not in META_KEYS or bool(index) != (kind in ("Annotations", "Labels")):
        yield f"{where}: the texts about a trial are {', '.join(META_KEYS)}, for example ${{trialSpec.Name}}"
    elif index and trial_spec is not None and index not in _at(trial_spec, "metadata", kind.lower()):
        yield f"{where}: trialSpec.metadata.{kind.lower()} has no {index!r}; add it there"


def _meta(key: str, trial_spec: Mapping[str, Any], name: str, namespace: str) -> str:
    indexed = META_INDEX.fullmatch(key)
    if indexed:
        return str(trial_spec["metadata"][indexed[1].lower()][indexed[2]])
    texts = {"Name": name, "Namespace": namespace, "Kind": trial_spec["kind"], "APIVersion": trial_spec["apiVersion"]}
    return str(texts[key])


def _placeholders(path: str, template: Mapping[str, Any]) -> Iterator[str]:
    text = json.dumps(template["trialSpec"], ensure_ascii=False)
    for index, entry in enumerate(template.get("trialParameters", [])):
        placeholder = f"${{trialParameters.{entry.get('name', '')}}}"
        if placeholder not in text:
            yield f"{path}.trialParameters[{index}]={entry!r}: trialSpec does not use {placeholder}"
        text = text.replace(placeholder, "")
    for left in sorted(set(PLACEHOLDER.findall(text))):
        yield f"{path}.trialSpec: {left} has no entry in trialParameters, for example {{name: lr, reference: lr}}"
    for left in sorted({found[0] for found in META.finditer(text)}):
        yield (f"{path}.trialSpec: Katib leaves {left} as it is; give it a name in trialParameters, for example "
               "{name: trialName, reference: '${trialSpec.Name}'}, and use ${trialParameters.trialName}")


def _job(path: str, job: Mapping[str, Any], primary: str) -> Iterator[str]:
    for field in ("name", "namespace"):
        if value := _at(job, "metadata").get(field):
            yield f"{path}.metadata.{field}={value!r}: leave it out, each trial gets its own"
    for field, example in (("apiVersion", "kubeflow.org/v1"), ("kind", "PyTorchJob")):
        if not job.get(field) or not isinstance(job[field], str):
            yield f"{path}.{field}={job.get(field)!r}: it must be a text, for example {example}"
    for where, containers in _containers(job):
        names = [container.get("name") for container in containers]
        if primary not in names:
            yield f"{path}.{where}: the primary container {primary!r} is not among {names}; every pod needs it"
    if "backoffLimit" not in _at(job, "spec", "runPolicy"):
        for role in _at(job, "spec", "pytorchReplicaSpecs"):
            policy = _at(job, "spec", "pytorchReplicaSpecs", role).get("restartPolicy", "OnFailure")
            if policy != "Never":
                yield (f"{path}.spec.pytorchReplicaSpecs.{role}.restartPolicy={policy!r}: without "
                       "runPolicy.backoffLimit a failed trial would start again for ever, for example Never")


def _containers(job: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield where a job of a known kind has containers, and those; what is no object is left to the API server."""
    places: list[tuple[str, ...]] = []
    if job.get("kind") == "Job":
        places = [("spec", "template", "spec")]
    elif job.get("kind") == "PyTorchJob":
        roles = _at(job, "spec", "pytorchReplicaSpecs")
        places = [("spec", "pytorchReplicaSpecs", str(role), "template", "spec") for role in roles]
    elif job.get("kind") == "TrainJob":
        yield "spec.trainer", [{"name": "node", **_at(job, "spec", "trainer")}]
    for place in places:
        found = _at(job, *place).get("containers")
        containers = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
        yield ".".join((*place, "containers")), containers


def _at(node: Any, *path: str) -> Mapping[str, Any]:
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _words(path: str, job: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A container that runs a shell itself is handed on as it is."""
    for where, containers in _containers(job):
        for container in containers:
            lists = (container.get("command"), container.get("args"))
            words = [word for words in lists if isinstance(words, list) for word in words]
            if words[:2] in SHELLS:
                continue
            for word in words:
                if not PLAIN.fullmatch(PLACEHOLDER.sub("x", str(word))):
                    yield (f"{path}.{where}: Katib hands {word!r} to sh -c, which would take it apart; use no blanks, "
                           "quotes or shell characters, for example --learning-rate=${trialParameters.lr}")
    for index, parameter in enumerate(parameters):
        for value in parameter.get("feasibleSpace", {}).get("list", []):
            if not PLAIN.fullmatch(value):
                yield (f"spec.parameters[{index}].feasibleSpace.list: Katib hands {value!r} to sh -c, which would take "
                       "it apart; use no blanks, quotes or shell characters, for example adamw")
