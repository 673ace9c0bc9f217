"""What has become of a trial, from the object alone."""

from penstock.components.control.base import Manifest
from penstock.components.control.inference_service import Placement, inference_service
from penstock.components.deployment.analyse_canary.observed import Revision
from penstock.components.deployment.analyse_canary.watch import trouble

CANARY = Revision("v2", "digits-predictor-00002", "http://2")


def trial(version: str = "v2", percent: int = 20, message: str = "") -> Manifest:
    isvc = inference_service("digits", version, f"file:///{version}", runtime="r", stable=Placement("v1", "u", "r"))
    isvc["status"] = {
        "components": {"predictor": {"latestCreatedRevision": CANARY.name, "traffic": [
            {"revisionName": CANARY.name, "percent": percent},
            {"revisionName": "digits-predictor-00001", "percent": 100 - percent}]}},
        "modelStatus": {"transitionStatus": "BlockedByFailedLoad",
                        "lastFailureInfo": {"reason": "Killed", "message": message}} if message else {}}
    return isvc


def test_a_trial_that_goes_on_is_no_trouble() -> None:
    assert trouble(trial(), CANARY, 20) == ""


def test_each_trouble_has_its_words() -> None:
    assert trouble(None, CANARY, 20) == "the InferenceService was deleted"
    assert trouble(trial("v3"), CANARY, 20) == "v3 is on trial instead of v2: somebody else changed it"
    assert trouble(trial("v1"), CANARY, 20) == "nothing is on trial instead of v2: somebody else changed it"
    assert trouble(trial(message="by signal 9"), CANARY, 20) == "the canary failed: Killed: by signal 9"
    assert trouble(trial(percent=0), CANARY, 20) == "the canary gets 0 % of the requests instead of 20 %"
