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
TRAIN_JOB: Manifest = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "train"},
    "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": {
        "image": "i", "command": ["torchrun"], "args": ["-m", "x"], "env": [{"name": "A", "value": "1"}],
        "numNodes": 2, "numProcPerNode": 1}}}
BATCH_JOB: Manifest = {
    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
    "spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "any", "image": "i", "command": ["python"]}]}}}}
WRITTEN_HERE = {"lease": LEASE, "train": TRAIN_JOB, "job": BATCH_JOB}


def template(name: str) -> Manifest:
    if name in WRITTEN_HERE:
        return copy.deepcopy(WRITTEN_HERE[name])
    manifest = manifests.load(name)
    if name == SERVICE:
        manifest["metadata"]["name"] = "m"
        manifest["spec"]["predictor"]["model"] |= {"runtime": "penstock-onnx", "storageUri": "file:///models/m"}
    return manifest


@pytest.mark.parametrize("name", [JOB, SERVICE, RUNTIME, "train", "job"])
def test_our_own_templates_are_honoured(name: str) -> None:
    refuse_unknown(template(name))


def test_what_a_server_wrote_may_come_back() -> None:
    written = {"uid": "1", "creationTimestamp": "now", "generation": 2, "resourceVersion": "3"}
    refuse_unknown(LEASE | {"metadata": LEASE["metadata"] | written, "status": {"anything": 1}})


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> Manifest:
    manifest = template(name)
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
    (JOB, lambda m: m["metadata"].update(name="1st"), "metadata.name='1st'"),
    ("train", lambda m: m["spec"]["runtimeRef"].update(name="deepspeed"), "runtimeRef.name='deepspeed'"),
    ("train", lambda m: m["spec"]["trainer"]["env"].append({"name": "PET_NNODES", "value": "3"}),
     r"env\[1\].name='PET_NNODES' \(it must be: none of PET_NNODES, .*, which the runtime sets"),
    ("train", lambda m: m["spec"]["trainer"].update(numNodes=0), "numNodes=0"),
    ("train", lambda m: m["spec"]["trainer"].update(resourcesPerNode={"limits": {"cpu": 1}}),
     "spec.trainer.resourcesPerNode.limits.cpu=1"),
    ("train", lambda m: m["spec"].update(suspend=True), "spec.suspend=True"),
    ("train", lambda m: m["spec"].update(runtimePatches=[{"manager": "a/b"}]), r"runtimePatches\[0\].manager='a/b'"),
    ("job", lambda m: m["spec"].update(parallelism=2), r"spec.parallelism=2 \(it must be: 1\)"),
    ("job", lambda m: m["spec"].update(backoffLimit=-1), "spec.backoffLimit=-1"),
    ("job", lambda m: m["spec"].update(ttlSecondsAfterFinished=1), "spec.ttlSecondsAfterFinished=1"),
    ("job", lambda m: m["spec"]["template"]["spec"].update(restartPolicy="Always"), "OnFailure or Never"),
    ("job", lambda m: m["spec"]["template"]["spec"]["containers"][0].update(volumeMounts=[{"name": "v"}]),
     r"containers\[0\].volumeMounts\[0\].name='v'"),
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
    ("train", lambda m: m["spec"]["trainer"].pop("command"), "spec.trainer.command is missing"),
    ("job", lambda m: m["spec"]["template"]["spec"].pop("restartPolicy"), "restartPolicy is missing"),
])
def test_what_nothing_can_start_without_is_named(name: str, change: Callable[[Any], None], missing: str) -> None:
    with pytest.raises(ControlError, match=missing):
        refuse_unknown(changed(name, change))


def test_the_table_says_what_becomes_of_each_field() -> None:
    table = honoured_fields()

    assert set(table) >= {"InferenceService", "Job", "Lease", "PyTorchJob", "ServingRuntime", "TrainJob"}
    assert all(text for fields in table.values() for text in fields.values())
    assert "from 0 to 100" in table["InferenceService"]["spec.predictor.canaryTrafficPercent"]
    assert all({*KINDS[kind].fields} == {*fields} for kind, fields in table.items())
