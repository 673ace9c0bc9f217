"""Honoured fields: everything else is refused by name, and the templates use none that is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from penstock import manifests
from penstock.components.control.base import ControlError, Manifest, UnsupportedField
from penstock.components.control.laptop.fields import KINDS, honoured_fields, refuse_unknown

JOB, SERVICE, RUNTIME = "jobs/pytorchjob.yaml", "serving/inferenceservice.yaml", "serving/servingruntime.yaml"
LEASE: Manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "m-canary"},
                   "spec": {"holderIdentity": "run", "leaseDurationSeconds": 30}}


def template(name: str) -> Manifest:
    manifest = manifests.load(name)
    if name == SERVICE:
        manifest["metadata"]["name"] = "m"
        manifest["spec"]["predictor"]["model"] |= {"runtime": "penstock-onnx", "storageUri": "file:///models/m"}
    return manifest


@pytest.mark.parametrize("name", [JOB, SERVICE, RUNTIME])
def test_our_own_templates_are_honoured(name: str) -> None:
    refuse_unknown(template(name))


def test_what_a_server_wrote_may_come_back() -> None:
    written = {"uid": "1", "creationTimestamp": "now", "generation": 2, "resourceVersion": "3"}
    refuse_unknown(LEASE | {"metadata": LEASE["metadata"] | written, "status": {"anything": 1}})


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> Manifest:
    manifest = copy.deepcopy(LEASE) if name == "lease" else template(name)
    change(manifest)
    return manifest


@pytest.mark.parametrize(("name", "change", "complaint"), [
    (SERVICE, lambda m: m["spec"]["predictor"].update(minReplicas=2), r"predictor.minReplicas=2 \(it must be: 1\)"),
    (SERVICE, lambda m: m["spec"]["predictor"].update(maxReplicas=3),
     r"spec.predictor.maxReplicas=3 \(the nearest that it does: spec.predictor.minReplicas\)"),
    (SERVICE, lambda m: m["spec"]["predictor"].update(canaryTrafficPercent=101), "whole number from 0 to 100"),
    (SERVICE, lambda m: m["spec"]["predictor"].update(canaryTrafficPercent=True), "whole number from 0 to 100"),
    (SERVICE, lambda m: m["spec"]["predictor"]["model"].update(protocolVersion="v1"), "protocolVersion='v1'"),
    (SERVICE, lambda m: m["spec"]["predictor"]["model"].update(storageUri="s3://bucket/m"), "file:///absolute"),
    (SERVICE, lambda m: m["spec"].update(transformer={"minReplicas": 1}), "spec.transformer.minReplicas=1"),
    (SERVICE, lambda m: m["spec"].update(canary=[]), r"spec.canary=\[\]"),
    (SERVICE, lambda m: m["metadata"]["annotations"].update({"serving.kserve.io/deploymentMode": "Standard"}),
     "deploymentMode='Standard'"),
    (SERVICE, lambda m: m["metadata"].update(namespace="other"), "metadata.namespace='other'"),
    (SERVICE, lambda m: m["metadata"].update(finalizers=["x"]), r"metadata.finalizers\[0\]='x'"),
    (RUNTIME, lambda m: m["spec"]["containers"].append({"name": "kserve-container"}), "exactly one container"),
    (RUNTIME, lambda m: m["spec"]["containers"][0].pop("command"), "with its command"),
    (RUNTIME, lambda m: m["spec"]["containers"][0].update(resources={"limits": {"cpu": 1}}),
     r"spec.containers\[0\].resources.limits.cpu=1"),
    (JOB, lambda m: m["spec"]["pytorchReplicaSpecs"].update(Master={"replicas": 1}),
     "spec.pytorchReplicaSpecs.Master.replicas=1"),
    (JOB, lambda m: m["spec"]["runPolicy"].update(ttlSecondsAfterFinished=5), "ttlSecondsAfterFinished=5"),
    (JOB, lambda m: m["spec"]["pytorchReplicaSpecs"]["Worker"].update(restartPolicy="ExitCode"), "OnFailure or Never"),
    ("lease", lambda m: m["spec"].update(leaseDurationSeconds=0), "leaseDurationSeconds=0"),
    ("lease", lambda m: m.update(data={"a": 1}), "data.a=1"),
    ("lease", lambda m: m.update(kind="ConfigMap"), "ConfigMap"),
    ("lease", lambda m: m.update(apiVersion="coordination.k8s.io/v1beta1"), "it runs .*Lease"),
])
def test_every_other_field_is_refused_by_name(name: str, change: Callable[[Any], None], complaint: str) -> None:
    with pytest.raises(UnsupportedField, match=complaint):
        refuse_unknown(changed(name, change))


def test_all_complaints_come_at_once() -> None:
    manifest = template(SERVICE)
    manifest["spec"]["predictor"] |= {"minReplicas": 3, "maxReplicas": 4, "containerConcurrency": 5}

    with pytest.raises(UnsupportedField) as refused:
        refuse_unknown(manifest)

    assert all(name in str(refused.value) for name in ("minReplicas=3", "maxReplicas=4", "containerConcurrency=5"))


@pytest.mark.parametrize(("name", "change", "missing"), [
    (SERVICE, lambda m: m["spec"]["predictor"]["model"].pop("runtime"), "model.runtime is missing"),
    (SERVICE, lambda m: m["metadata"].pop("name"), "metadata.name is missing"),
    (JOB, lambda m: m["spec"].pop("elasticPolicy"), "spec.elasticPolicy is missing"),
    (RUNTIME, lambda m: m["spec"].pop("containers"), "spec.containers is missing"),
])
def test_what_nothing_can_start_without_is_named(name: str, change: Callable[[Any], None], missing: str) -> None:
    with pytest.raises(ControlError, match=missing):
        refuse_unknown(changed(name, change))


def test_the_table_says_what_becomes_of_each_field() -> None:
    table = honoured_fields()

    assert set(table) == {"InferenceService", "Lease", "PyTorchJob", "ServingRuntime"}
    assert all(text for fields in table.values() for text in fields.values())
    assert "from 0 to 100" in table["InferenceService"]["spec.predictor.canaryTrafficPercent"]
    assert all({*KINDS[kind].fields} == {*fields} for kind, fields in table.items())
