"""Experiments that the laptop does not take: what it does not honour, what Katib refuses, what is there already."""

from typing import Any

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import ControlError, ObjectConflict, ObjectRef, UnsupportedField

REF = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep")


def test_another_of_the_same_name_is_refused(bench: Any) -> None:
    bench.hold.touch()
    manifest = bench.experiment(f"while={bench.hold}", maxTrialCount=2)
    first = bench.plane.apply(manifest)
    assert bench.plane.apply(manifest)["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(ObjectConflict, match="delete it first"):
        bench.plane.apply(bench.experiment(maxTrialCount=2))
    bench.hold.unlink()
    bench.finish()
    with pytest.raises(ObjectConflict, match="delete it first"):
        bench.plane.apply(bench.experiment(maxTrialCount=2))


TRIAL_SPEC = "spec.trialTemplate.trialSpec"


@pytest.mark.parametrize(("path", "value", "text"), [
    ("spec.algorithm.algorithmName", "sobol", r"algorithmName='sobol' \(it must be: random, grid, tpe, multi"),
    ("spec.algorithm.algorithmSettings", [{"name": "gamma", "value": "0.2"}], r"algorithmSettings\[0\].name='gamma'"),
    ("spec.earlyStopping", {"algorithmName": "medianstop"}, "spec.earlyStopping.algorithmName='medianstop'"),
    ("spec.resumePolicy", "LongRunning", r"spec.resumePolicy='LongRunning' \(it must be: Never\)"),
    ("spec.metricsCollectorSpec", {"collector": {"kind": "File"}}, r"kind='File' \(it must be: StdOut\)"),
    ("spec.parameters.0.feasibleSpace.distribution", "normal", r"distribution='normal' \(it must be: uniform, logUni"),
    ("spec.trialTemplate.successCondition", "status.ok", r"successCondition='status.ok' \(for a PyTorchJob it must be"),
    ("spec.trialTemplate.primaryPodLabels", {"a": "b"}, r"primaryPodLabels=\{'a': 'b'\}"),
    (f"{TRIAL_SPEC}.spec.runPolicy.suspend", True, "trialSpec: PyTorchJob sweep: the laptop plane does not honour "
     "spec.runPolicy.suspend=True"),
    (f"{TRIAL_SPEC}.spec.pytorchReplicaSpecs.Master", {"replicas": 1}, "pytorchReplicaSpecs.Master"),
])
def test_what_the_laptop_does_not_honour_is_refused_by_name(bench: Any, path: str, value: Any, text: str) -> None:
    manifest = bench.experiment()
    node: Any = manifest
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    with pytest.raises((UnsupportedField, ConfigError), match=text):
        bench.plane.apply(manifest)
    assert bench.plane.get(REF) is None


def test_katibs_own_refusals_and_what_is_missing(bench: Any) -> None:
    with pytest.raises(ConfigError, match="parallelTrialCount=9: it must be at most maxTrialCount=4"):
        bench.plane.apply(bench.experiment(parallelTrialCount=9))
    endless = bench.experiment()
    del endless["spec"]["maxTrialCount"]
    with pytest.raises(ControlError, match=r"spec\.maxTrialCount is missing"):
        bench.plane.apply(endless)
    trial = {"apiVersion": REF.api_version, "kind": "Trial", "metadata": {"name": "t"}, "spec": {}}
    with pytest.raises(UnsupportedField, match="kind: Trial"):
        bench.plane.apply(trial)
    with pytest.raises(UnsupportedField, match="delete its Experiment"):
        bench.plane.delete(ObjectRef.of(trial))
