"""Who gets which share of a service's requests: KServe's Knative mode, as arithmetic.

Source: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative/ksvc_reconciler.go (traffic targets) and
pkg/apis/serving/v1beta1/inference_service_status.go (rolled-out revisions). Starts nothing and reads nothing.

One thing differs: Knative makes a new revision of every changed template, here a template that comes back brings its
revision back.
"""

from collections.abc import Collection
from typing import NamedTuple

__all__ = ["RollOut", "Target", "needed", "settle", "targets", "weights"]


class Target(NamedTuple):
    """One entry of `status.components.predictor.traffic`: the newest ready revision (`latest`), or the one before."""

    revision: str
    percent: int
    latest: bool


class RollOut(NamedTuple):
    """Where a service stands; "" is no revision, `percent` the canaryTrafficPercent, 100 where the field is absent."""

    percent: int = 100
    created: str = ""
    ready: str = ""
    rolled_out: str = ""
    previous: str = ""


def targets(state: RollOut, serving: Collection[str]) -> list[Target]:
    """Share out the traffic.

    - Before the first roll-out the newest ready revision gets everything, whatever the percent says.
    - A revision that is not ready gets nothing: "latest" then means the old one, which has both shares.
    - A canary that was ready and is no longer serving gets nothing at once.

    Args:
        serving: the revisions whose predictor is ready now.
    """
    if not state.ready:
        return []
    if not state.rolled_out:
        return [Target(state.ready, 100, True)]
    alive = state.ready == state.rolled_out or state.ready in serving
    percent = state.percent if alive else 0
    if percent == 100:
        return [Target(state.ready, 100, True)]
    return [Target(state.ready, percent, True), Target(state.rolled_out, 100 - percent, False)]


def weights(shares: Collection[Target]) -> dict[str, int]:
    """Add up the shares per revision and leave out what is 0."""
    total: dict[str, int] = {}
    for share in shares:
        total[share.revision] = total.get(share.revision, 0) + share.percent
    return {revision: percent for revision, percent in total.items() if percent}


def settle(state: RollOut, live: Collection[Target], serving: Collection[str]) -> RollOut:
    """Draw the consequence of the traffic that the gateway has taken.

    All of it on the newest revision: that is rolled out. A percent below 100 on a revision that is rolled out already
    is a roll back after the promotion: the one before is the rolled-out one again, as soon as it serves.
    """
    if state.ready != state.rolled_out and list(live) == [Target(state.ready, 100, True)]:
        return state._replace(rolled_out=state.ready, previous=state.rolled_out)
    if _is_taken_back(state) and state.previous in serving:
        return state._replace(rolled_out=state.previous)
    return state


def needed(state: RollOut) -> set[str]:
    """Say which revisions must run; what still has traffic besides is drained, not needed."""
    wanted = {state.rolled_out}
    if state.percent or not state.rolled_out:
        wanted.add(state.created)
    if _is_taken_back(state):
        wanted.add(state.previous)
    return wanted - {""}


def _is_taken_back(state: RollOut) -> bool:
    return state.percent < 100 and state.created == state.rolled_out and state.previous not in ("", state.rolled_out)
