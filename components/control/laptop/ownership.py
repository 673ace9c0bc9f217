"""Which process keeps a job or an Experiment: written into the object, so that another can tell what to do with it.

Reads annotations and pids; ends and starts nothing.
"""

import logging
import os
from typing import Literal

from penstock.components.control.base import HASH_ANNOTATION, Manifest, ObjectConflict, ObjectRef, manifest_hash
from penstock.components.control.laptop.processes import Process, is_alive, this_process

__all__ = ["OWNER_ANNOTATION", "adoption", "kept_here"]

OWNER_ANNOTATION = "penstock.dev/owner"  # pid and start time of the process that keeps the object
log = logging.getLogger(__name__)


def kept_here() -> dict[str, str]:
    """Return the annotation of an object that this process keeps."""
    return {OWNER_ANNOTATION: this_process().model_dump_json()}


def adoption(present: Manifest, manifest: Manifest, *, ours: bool) -> Literal["adopt", "take over", "replace"]:
    """Say what becomes of the object whose name is asked for again.

    Args:
        ours: this process keeps it, or it is over and nobody needs to.

    Returns:
        adopt: it is the one, take it as it is. take over: it is the one, and nobody keeps it. replace: it is another,
        or was never whole, and nobody keeps it.

    Raises:
        ObjectConflict: it is another, or it is kept by another living process.
    """
    ref, metadata = ObjectRef.of(present), present["metadata"]
    same = metadata["annotations"][HASH_ANNOTATION] == manifest_hash(manifest)
    if ours:
        if not same:
            raise ObjectConflict(f"{ref} exists and is another; a {ref.kind} is immutable, so delete it first")
        return "adopt"
    owner = Process.model_validate_json(metadata["annotations"][OWNER_ANNOTATION])
    if is_alive(owner) and owner.pid != os.getpid():  # not `ours`: what this process began it did not come to keep
        raise ObjectConflict(f"{ref} is kept by the living process {owner.pid}; wait for it, or end it")
    whole = "status" in present  # older versions of penstock wrote that later, and might be killed before
    found: Literal["take over", "replace"] = "take over" if same and whole else "replace"
    log.info("object=%r owner=%d kept=false action=%r", str(ref), owner.pid, found)
    return found
