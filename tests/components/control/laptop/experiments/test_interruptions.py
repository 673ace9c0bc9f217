"""Experiments that are cut off: deleted, left by a step that was killed, taken over, replaced."""

import json
import os
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import NotFound, ObjectConflict, ObjectRef, outcome

PATIENCE = timedelta(seconds=60)
REF = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep")


def test_deletion_in_mid_run_ends_the_trials(bench: Any) -> None:
    bench.hold.touch()
    bench.plane.apply(bench.experiment(f"while={bench.hold}"))
    bench.eventually(lambda: bench.began() == 2)
    bench.plane.delete(REF)
    assert bench.left() == []
    assert bench.plane.get(REF) is None
    assert bench.trials() == []
    assert list(bench.plane.watch(REF, PATIENCE)) == []
    with pytest.raises(NotFound, match="no such object"):
        list(bench.plane.logs(REF))


def test_a_trials_job_that_somebody_deletes_is_made_anew(bench: Any) -> None:
    bench.hold.touch()
    bench.plane.apply(bench.experiment(f"while={bench.hold}", parallelTrialCount=1, maxTrialCount=1))
    bench.eventually(lambda: bench.began() == 1)
    name = bench.jobs()[0].removeprefix("default.")
    bench.plane.delete(ObjectRef("kubeflow.org/v1", "PyTorchJob", name))
    bench.eventually(lambda: bench.began() == 2)
    bench.hold.unlink()
    assert bench.finish()["status"]["succeededTrialList"] == [name]


def test_goes_on_where_a_killed_step_left_it(bench: Any) -> None:
    """Trials that have ended stay as they are, those that ran start again, and the draws are those of one step."""
    manifest = bench.experiment(algorithm="tpe", maxTrialCount=5)
    bench.run(manifest)
    straight = bench.points()
    bench.plane.delete(REF)

    template = f"while={bench.hold}.${{trialParameters.x}}"
    manifest = bench.experiment(template, algorithm="tpe", maxTrialCount=5)
    held = [bench.folder / f"hold.{x}" for _, x in straight[2:4]]
    for path in held:
        path.touch()
    with bench.owned_by_another(manifest):
        bench.eventually(lambda: bench.began() == 4)
        with pytest.raises(ObjectConflict, match="kept by the living process"):
            bench.plane.apply(manifest)
    before = bench.trials()
    assert len(bench.left()) == 2  # orphans, until somebody takes over
    adopted = bench.plane.apply(manifest)
    assert outcome(adopted) == ""
    bench.eventually(lambda: bench.began() >= 4 and len(bench.left()) == 2)
    for path in held:
        path.unlink()
    status = bench.finish()["status"]
    assert status["trialsSucceeded"] == 5
    assert [x for _, x in bench.points()] == [x for _, x in straight]
    assert [trial["metadata"]["uid"] for trial in bench.trials()[:4]] == [trial["metadata"]["uid"] for trial in before]
    assert bench.trials()[:2] == before[:2]
    assert {line.text for line in bench.plane.logs(REF)} >= {f"trial {name} begins" for name, _ in bench.points()}


def test_another_one_replaces_that_of_a_killed_step(bench: Any) -> None:
    bench.hold.touch()
    with bench.owned_by_another(bench.experiment(f"while={bench.hold}")):
        bench.eventually(lambda: bench.began() == 2)
        old = bench.points()
    status = bench.run(bench.experiment(maxTrialCount=2))
    assert bench.left() == []
    assert status["trials"] == 2
    assert not {name for name, _ in old} & {name for name, _ in bench.points()}


def test_trials_that_the_seed_does_not_give_any_more_are_run_anew(bench: Any) -> None:
    """As after an Optuna that draws otherwise was installed between the two starts."""
    bench.hold.touch()
    manifest = bench.experiment(f"while={bench.hold}", maxTrialCount=2)
    with bench.owned_by_another(manifest):
        bench.eventually(lambda: bench.began() == 2)
    trial = bench.trials()[0]
    path = bench.folder / "laptop" / "objects" / "trial" / f"default.{trial['metadata']['name']}.json"
    changed = json.loads(path.read_text())
    changed["spec"]["parameterAssignments"][0]["value"] = "0.123"
    path.write_text(json.dumps(changed))
    bench.hold.unlink()
    assert bench.run(manifest)["trialsSucceeded"] == 2
    assert "0.123" not in [x for _, x in bench.points()]


def test_deletion_by_another_process_ends_the_trials(bench: Any) -> None:
    bench.hold.touch()
    with bench.owned_by_another(bench.experiment(f"while={bench.hold}")) as owner:
        bench.eventually(lambda: bench.began() == 2)
        bench.plane.delete(REF)
        assert bench.left() == []
        bench.hold.unlink()
        assert bench.jobs() == []
        os.kill(owner, 0)  # it still runs, and starts nothing more


def test_deletion_after_the_step_was_killed_ends_what_it_left(bench: Any) -> None:
    bench.hold.touch()
    manifest = bench.experiment(f"while={bench.hold}")
    with bench.owned_by_another(manifest):
        bench.eventually(lambda: bench.began() == 2)
    assert len(bench.left()) == 2
    bench.plane.delete(REF)
    assert bench.left() == []
