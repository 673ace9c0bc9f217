"""What is refused before anything starts, with the name of what is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from penstock.components.control.base import ControlError, Manifest, ObjectRef, UnsupportedField
from penstock.components.control.inference_service import inference_service

Change = Callable[[Manifest], object]


def pod_of(job: Manifest) -> Any:
    if job["kind"] == "Job":
        return job["spec"]["template"]["spec"]
    return job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]


def refused(bed: Any, manifest: Manifest, error: type[ControlError], text: str) -> None:
    with pytest.raises(error, match=text):
        bed.apply(manifest)
    assert bed.plane.get(ObjectRef.of(manifest)) is None


@pytest.mark.parametrize(("kind", "change", "field"), [
    ("Job", lambda job: job["spec"].update(backofLimit=1), "backofLimit"),
    ("Job", lambda job: pod_of(job)["containers"][0].update(comand=["x"]), "comand"),
    ("PyTorchJob", lambda job: job["spec"]["runPolicy"].update(backofLimit=1), "backofLimit"),
    ("PyTorchJob", lambda job: pod_of(job)["containers"][0].update(comand=["x"]), "comand"),
    ("TrainJob", lambda job: job["spec"]["trainer"].update(numNode=2), "numNode"),
    ("TrainJob", lambda job: job["spec"].update(backoffLimit=2), "backoffLimit"),
])
def test_an_unknown_field_is_named(bed: Any, kind: str, change: Change, field: str) -> None:
    job = bed.job(kind, bed.long)
    change(job)

    refused(bed, job, UnsupportedField, field)


def test_an_unknown_field_of_a_service_is_named(bed: Any) -> None:
    service = inference_service(bed.job("Job", "")["metadata"]["name"], "1", "file:///nowhere", runtime="penstock-onnx")
    service["spec"]["predictor"]["canaryPercent"] = 20

    refused(bed, service, UnsupportedField, "canaryPercent")


@pytest.mark.parametrize(("kind", "change", "text"), [
    ("Job", lambda job: pod_of(job).update(restartPolicy="Always"), "restartPolicy"),
    ("Job", lambda job: job["spec"].update(backoffLimit=-1), "backoffLimit"),
    ("PyTorchJob", lambda job: pod_of(job)["containers"][0].update(name="main"), "pytorch"),
    ("TrainJob", lambda job: job["spec"]["runtimeRef"].update(name="nothing-like-it"), "nothing-like-it"),
    ("TrainJob", lambda job: job["spec"]["trainer"].update(env=[{"name": "PET_NNODES", "value": "3"}]), "PET_NNODES"),
    ("TrainJob", lambda job: job["metadata"].update(name=f"1{job['metadata']['name']}"), "name"),
])
def test_a_wrong_value_is_named(bed: Any, kind: str, change: Change, text: str) -> None:
    job = bed.job(kind, bed.long)
    change(job)

    refused(bed, job, ControlError, text)
