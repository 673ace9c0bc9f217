"""A service in KServe's Knative mode, moved by the functions of the deployment steps: what its clients see of it."""

import logging

import pytest

from penstock.components.contracts.errors import StepError
from penstock.components.control.base import Manifest, ObjectConflict, ObjectRef
from penstock.components.control.inference_service import (
    Placement,
    canary_version,
    is_settled,
    newest_revision,
    percent_of,
    service_ref,
    stable,
)
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.traffic import change_share, describe, finish_trial, return_to_stable, start_trial

pytestmark = pytest.mark.cluster
PATIENCE = 300.0
REQUESTS = 400
# Of a share of 20 % in 400 requests: four standard deviations, sqrt(0.2 x 0.8 / 400) = 2 points each.
LEAST, MOST = 0.12, 0.28
log = logging.getLogger(__name__)


def look(plane: KubernetesPlane, service: str) -> Manifest:
    found = plane.get(service_ref(service))
    assert found is not None
    return found


def generations(plane: KubernetesPlane, service: str) -> int:
    """Count the revisions that were ever made: each is a start of new pods."""
    found = plane.get(ObjectRef("serving.knative.dev/v1", "Configuration", f"{service}-predictor"))
    assert found is not None
    return int(found["metadata"]["generation"])


def test_a_canary_gets_its_share_and_nobody_notices_promotion_and_return(
        plane: KubernetesPlane, service: str, model_store, models, traffic, record_property) -> None:
    good, alike, wrong = (Placement(models[name].version, model_store.uri(name), "penstock-onnx")
                          for name in ("good", "alike", "wrong"))
    with CanaryLease(plane, service, "run-1", 60) as lease, traffic(service) as clients:
        isvc = start_trial(plane, service, alike, 20, lease, PATIENCE)
        log.info("event=trial traffic=%r", describe(isvc))
        clients.forget()
        clients.wait(REQUESTS)
        share = clients.versions[alike.version] / clients.versions.total()
        log.info("event=split canary=%.3f requests=%d", share, clients.versions.total())
        record_property("split", share)
        assert LEAST < share < MOST
        made = generations(plane, service)

        isvc = change_share(plane, service, alike.version, 50, lease, PATIENCE)
        assert percent_of(isvc, newest_revision(isvc)) == 50
        clients.forget()
        clients.wait(REQUESTS)
        share = clients.versions[alike.version] / clients.versions.total()
        log.info("event=climbed canary=%.3f traffic=%r", share, describe(isvc))
        assert abs(share - 0.5) < 4 * 0.5 / REQUESTS**0.5

        isvc = finish_trial(plane, service, alike.version, 50, lease, PATIENCE)
        log.info("event=promoted traffic=%r failed=%d", describe(isvc), len(clients.failures))
        clients.wait_for(alike.version)
        assert (stable(isvc), canary_version(isvc), is_settled(isvc)) == (alike, "", True)
        assert generations(plane, service) == made  # no pod was started for it

        start_trial(plane, service, wrong, 20, lease, PATIENCE)
        return_to_stable(plane, service, PATIENCE)
        isvc = look(plane, service)
        log.info("event=returned traffic=%r failed=%d", describe(isvc), len(clients.failures))
        clients.wait_for(alike.version)
        assert (stable(isvc), canary_version(isvc), is_settled(isvc)) == (alike, "", True)
        assert percent_of(isvc, newest_revision(isvc)) == 100

        finish = start_trial(plane, service, good, 20, lease, PATIENCE)  # after a return the next trial is as any
        assert percent_of(finish, newest_revision(finish)) == 20
        finish_trial(plane, service, good.version, 20, lease, PATIENCE)
        clients.wait_for(good.version)
        lease.release()
    log.info("event=ended requests=%d failed=%d", clients.versions.total(), len(clients.failures))
    assert clients.failures == []


def test_a_canary_that_does_not_load_is_found_and_the_stable_version_serves_on(
        plane: KubernetesPlane, service: str, model_store, traffic) -> None:
    before = stable(look(plane, service))
    broken = Placement("broken", model_store.uri("broken"), "penstock-onnx")
    with CanaryLease(plane, service, "run-2", 60) as lease, traffic(service) as clients:
        with pytest.raises(StepError, match=r"version broken of .* does not start: .*model.onnx is not the file"):
            start_trial(plane, service, broken, 20, lease, PATIENCE)
        log.info("event=broken failure=%r", plane.failure(service_ref(service)))
        return_to_stable(plane, service, PATIENCE)
        clients.wait_for(before.version)
        lease.release()
    isvc = look(plane, service)
    assert (stable(isvc), is_settled(isvc)) == (before, True)
    assert clients.failures == []
    assert clients.versions.keys() == {before.version}


def test_the_lease_is_held_by_one_run(plane: KubernetesPlane, name: str) -> None:
    first, second = CanaryLease(plane, name, "run-1"), CanaryLease(plane, name, "run-2")
    first.acquire()
    first.renew()

    with pytest.raises(ObjectConflict, match="run run-1 holds the canary lease"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    plane.delete(ObjectRef("coordination.k8s.io/v1", "Lease", f"{name}-canary"))
