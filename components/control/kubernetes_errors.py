"""What an API server's refusal means, and what to do about it.

    ControlError
    ├── Unreachable    no answer: wrong kubeconfig, or no cluster there
    ├── Forbidden      RBAC: names user, verb, resource, namespace and the rule that is missing
    ├── Refused        the server or a webhook does not take the object; its text is passed on word for word
    └── ObjectConflict, UnsupportedField   as on every plane

Pure: from status code and text to an error. Sends nothing.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from penstock.components.control.base import ControlError, ObjectConflict, UnsupportedField

__all__ = ["FIELD_CONFLICT", "MANAGER", "Forbidden", "Refused", "Unreachable", "is_transient", "refusal", "status_of"]

MANAGER = "penstock"  # our name as the owner of fields
FIELD_CONFLICT = "FieldManagerConflict"
RBAC = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" in API group '
                  r'"(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?')
UNKNOWN_FIELD = ("unknown field", "field not declared in schema")
OTHER_MANAGER = re.compile(r'conflict with "([^"]*)"')


class Unreachable(ControlError):
    """The cluster does not answer."""


class Forbidden(ControlError):
    """This user may not do that, or is not known at all."""


class Refused(ControlError):
    """The API server, or a webhook that it asks, refuses an object."""


def status_of(body: str | bytes | None) -> dict[str, Any]:
    """Read the `Status` object in an error's body; one that is none becomes its message."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        found = json.loads(text)
    except ValueError:
        return {"message": text.strip()}
    return found if isinstance(found, dict) else {"message": text.strip()}


def is_transient(code: int, status: Mapping[str, Any]) -> bool:
    """Whether the same request may well succeed in a moment: server busy or starting, a webhook that restarts."""
    if code in (429, 502, 503, 504):
        return True
    message = status.get("message", "")
    return code == 500 and ("failed calling webhook" in message or "leader changed" in message)


def refusal(what: str, code: int, status: Mapping[str, Any]) -> ControlError:
    """Make the error for an answer that is none of 2xx and 404.

    Args:
        what: was asked for, as in "create Job default/x".
        code: HTTP status.
        status: of the body, see `status_of`.
    """
    message = str(status.get("message") or status.get("reason") or f"HTTP {code}")
    rule = RBAC.search(message) if code == 403 else None
    if rule:
        error: ControlError = _forbidden(what, rule)
    elif code == 401:
        error = Forbidden(f"cannot {what}: the cluster does not accept the credentials ({message}); renew them, and "
                          "check with `kubectl auth whoami`")
    elif any(text in message for text in UNKNOWN_FIELD):
        error = UnsupportedField(f"cannot {what}: the cluster does not know a field of it: {message}")
    elif code == 409:
        error = _conflict(what, message, status)
    elif code == 404:
        error = ControlError(f"cannot {what}: {message}; create what is missing, or set PENSTOCK_NAMESPACE to the "
                             "namespace that is meant")
    elif code < 500:
        error = Refused(f"cannot {what}: {message}")
    else:
        error = ControlError(f"cannot {what}: the API server answers {code}: {message}")
    return error


def _forbidden(what: str, rule: re.Match[str]) -> Forbidden:
    where = f"namespace {rule['namespace']}" if rule["namespace"] else "the whole cluster"
    missing = f"{{apiGroups: [{json.dumps(rule['group'])}], resources: [{rule['resource']}], verbs: [{rule['verb']}]}}"
    return Forbidden(f"cannot {what}: {rule['user']} may not {rule['verb']} {rule['resource']} of API group "
                     f"{rule['group'] or 'core'} in {where}; missing is the rule {missing}: bind it, or the Role in "
                     "manifests/rbac/ that has it, to this user")


def _conflict(what: str, message: str, status: Mapping[str, Any]) -> ObjectConflict:
    causes = [cause for cause in status.get("details", {}).get("causes", []) if cause.get("reason") == FIELD_CONFLICT]
    if causes:
        held = "; ".join(f"{cause.get('field')} by {', '.join(OTHER_MANAGER.findall(cause.get('message', '')))}"
                         for cause in causes)
        return ObjectConflict(f"cannot {what}: somebody else set other values, and penstock overwrites only its own: "
                              f"{held}; take the fields back there, or delete the object")
    return ObjectConflict(f"cannot {what}: {message}: get it again, look, and apply anew")
