"""What an API server's refusals become: every text below is one that a real cluster sent."""

import pytest

from penstock.components.control.base import ControlError, ObjectConflict, UnsupportedField
from penstock.components.control.kubernetes_errors import Forbidden, Refused, is_transient, refusal, status_of

RBAC = ('pytorchjobs.kubeflow.org is forbidden: User "system:serviceaccount:team:runner" cannot create resource '
        '"pytorchjobs" in API group "kubeflow.org" in the namespace "team"')
NODES = 'nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope'
WEBHOOK = ('admission webhook "validator.pytorchjob.training-operator.kubeflow.org" denied the request: '
           'spec.pytorchReplicaSpecs[Worker].template.spec.containers: Required value: must have at least one '
           'container with name pytorch')
QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: cpu=4, used: cpu=8, limited: cpu=10'
UNKNOWN = ('PyTorchJob in version "v1" cannot be handled as a PyTorchJob: strict decoding error: unknown field '
           '"spec.runPolicy.backofLimit"')
UNTYPED = "failed to create typed patch object (team/t7; /v1, Kind=ConfigMap): .dat: field not declared in schema"


def test_what_rbac_forbids_names_user_verb_resource_and_the_missing_rule() -> None:
    error = refusal("create PyTorchJob team/x", 403, {"message": RBAC})

    assert isinstance(error, Forbidden)
    assert str(error) == (
        "cannot create PyTorchJob team/x: system:serviceaccount:team:runner may not create pytorchjobs of API group "
        'kubeflow.org in namespace team; missing is the rule {apiGroups: ["kubeflow.org"], resources: [pytorchjobs], '
        "verbs: [create]}: bind it, or the Role in manifests/rbac/ that has it, to this user")
    assert "jane may not list nodes of API group core in the whole cluster" in str(
        refusal("list Node", 403, {"message": NODES}))


@pytest.mark.parametrize(("code", "message"), [(403, WEBHOOK), (400, WEBHOOK), (403, QUOTA), (422, "is invalid: spec")])
def test_a_refusal_is_passed_on_word_for_word(code: int, message: str) -> None:
    error = refusal("create PyTorchJob team/x", code, {"message": message})

    assert isinstance(error, Refused)
    assert str(error) == f"cannot create PyTorchJob team/x: {message}"


@pytest.mark.parametrize(("code", "message"), [(400, UNKNOWN), (500, UNTYPED)])
def test_a_field_that_the_cluster_does_not_know(code: int, message: str) -> None:
    error = refusal("apply ConfigMap team/t7", code, {"message": message})

    assert isinstance(error, UnsupportedField)
    assert message in str(error)


def test_a_field_of_somebody_else_names_field_and_owner() -> None:
    cause = {"reason": "FieldManagerConflict", "field": ".spec.predictor.canaryTrafficPercent",
             "message": 'conflict with "kubectl-edit" using serving.kserve.io/v1beta1'}
    status = {"message": "Apply failed with 1 conflict", "details": {"causes": [cause]}}
    error = refusal("apply InferenceService team/digits", 409, status)

    assert isinstance(error, ObjectConflict)
    assert ".spec.predictor.canaryTrafficPercent by kubectl-edit; take the fields back there" in str(error)


def test_a_version_that_has_moved_on_is_a_conflict() -> None:
    error = refusal("apply Lease team/x", 409, {"message": "the object has been modified"})

    assert isinstance(error, ObjectConflict)
    assert str(error) == "cannot apply Lease team/x: the object has been modified: get it again, look, and apply anew"


@pytest.mark.parametrize(("code", "kind", "text"), [
    (401, Forbidden, "does not accept the credentials (Unauthorized); renew them"),
    (404, ControlError, "create what is missing, or set PENSTOCK_NAMESPACE"),
    (500, ControlError, "the API server answers 500: Unauthorized"),
])
def test_other_answers_say_what_to_do(code: int, kind: type[ControlError], text: str) -> None:
    error = refusal("get Job team/x", code, {"message": "Unauthorized"})

    assert type(error) is kind
    assert text in str(error)


@pytest.mark.parametrize(("code", "message", "again"), [
    (429, "", True), (503, "apiserver not ready", True), (500, "etcdserver: leader changed", True),
    (500, 'failed calling webhook "x": connection refused', True), (500, UNTYPED, False), (403, RBAC, False)])
def test_what_may_succeed_in_a_moment(code: int, message: str, again: bool) -> None:
    assert is_transient(code, {"message": message}) is again


@pytest.mark.parametrize(("body", "message"), [
    (b'{"kind": "Status", "message": "no"}', "no"), ("upstream connect error\n", "upstream connect error"),
    ("[]", "[]"), (None, "")])
def test_any_body_has_a_message(body: bytes | str | None, message: str) -> None:
    assert status_of(body)["message"] == message
