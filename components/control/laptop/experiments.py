"""The Experiment controller of the laptop: Optuna in the place of Katib's suggestion services, jobs of this plane as
trials.

Experiments live inside the process that applied them; `experiment_keeper` watches their trials there. The store, which
other processes read too, holds each Experiment and its Trials with their status. Which fields are honoured, `fields`
says.
"""

import copy
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from penstock.components.control.base import (
    ABSENT,
    HASH_ANNOTATION,
    ControlError,
    ControlPlane,
    LogLine,
    Manifest,
    NotFound,
    ObjectRef,
    UnsupportedField,
    manifest_hash,
)
from penstock.components.control.katib import validate_experiment
from penstock.components.control.katib_template import KINDS, render_trial
from penstock.components.control.laptop import agents
from penstock.components.control.laptop.experiment_keeper import ExperimentKeeper
from penstock.components.control.laptop.experiment_status import is_over, mark
from penstock.components.control.laptop.fields import refuse_unknown
from penstock.components.control.laptop.job_status import now
from penstock.components.control.laptop.ownership import adoption, kept_here
from penstock.components.control.laptop.store import POLL_SECONDS, Store
from penstock.components.control.laptop.suggestions import Suggestions
from penstock.components.control.laptop.trials import EXPERIMENT_LABEL, NUMBER_ANNOTATION, job_ref, objective_of

__all__ = ["ExperimentController"]

SEED_ANNOTATION = "penstock.dev/seed"  # of the algorithm, made up where its settings name none; a restart keeps it
log = logging.getLogger(__name__)
_keepers: dict[str, ExperimentKeeper] = {}  # by uid; of this process, whichever controller started them
_applying = threading.Lock()  # between a look whether an Experiment is there and the start of its keeper


class ExperimentController:
    """Runs Experiments; any thread may call any method. Reads Trials too.

    Args:
        store: the objects on disk.
        logs: folder for the lines of the trials.
        plane: runs the trials' jobs.
    """

    def __init__(self, store: Store, logs: Path, plane: ControlPlane) -> None:
        self._store, self._logs, self._plane = store, logs, plane

    def apply(self, manifest: Manifest) -> Manifest:
        """Start an Experiment, or adopt the one of the same name and hash.

        One whose owner died goes on here: trials that have ended stay, those that have not are started again. One of
        another hash is then replaced.

        Raises:
            ConfigError: Katib would refuse it.
            UnsupportedField: a field of it, or of its trials' job, is not honoured; nothing was written.
            ObjectConflict: the name is taken by another, or this one is kept by another living process.
        """
        validate_experiment(manifest)
        _refuse_template(manifest)
        ref = ObjectRef.of(manifest)
        with _applying:
            present = self._store.load(ref)
            if present is None:
                return self._create(manifest)
            found = adoption(present, manifest, ours=is_over(present) or present["metadata"]["uid"] in _keepers)
            if found == "adopt":
                return present
            if found == "take over" and (taken := self._take_over(present)) is not None:
                return taken
            self.delete(ref)
            return self._create(manifest)

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the object now and at each change, until it is over or gone, or the time is."""
        yield from self._store.follow(ref, timeout, is_over)

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of all trials of an Experiment, or of one Trial, as they come, until it is over or gone.

        Raises:
            NotFound: there is no such object.
        """
        found = self._store.load(ref)
        if found is None:
            raise NotFound(f"{ref}: there is no such object, so no log")
        trial = ref.name if ref.kind == "Trial" else ""
        path = self._lines(found["metadata"]["labels"][EXPERIMENT_LABEL] if trial else ref.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # its owner may have died before the first line
        with path.open("rb") as file:
            left = b""
            while True:
                current = self._store.load(ref)
                ended = current is None or is_over(current)
                *whole, left = (left + file.read()).split(b"\n")
                for line in whole:
                    pod, _, text = line.decode(errors="replace").partition(" ")
                    if pod.startswith(trial):
                        yield LogLine(pod, text)
                if ended:
                    return
                time.sleep(POLL_SECONDS)

    def failure(self, ref: ObjectRef) -> str:
        """Say what a Trial, or the last failed one of an Experiment, died of; "" where none has, or another process
        keeps it."""
        found = self._store.load(ref)
        owner = found and (found["metadata"]["ownerReferences"][0] if ref.kind == "Trial" else found["metadata"])
        keeper = _keepers.get(owner["uid"]) if owner else None
        if keeper is None or not keeper.troubles:
            return ""
        if ref.kind == "Trial":
            return keeper.troubles.get(ref.name, "")
        name, trouble = [*keeper.troubles.items()][-1]
        return f"trial {name}: {trouble}"

    def delete(self, ref: ObjectRef) -> None:
        """End every trial of an Experiment, and forget it and them; its log stays. A Trial alone is not deleted.

        Raises:
            UnsupportedField: it is a Trial.
            ControlError: a process does not end.
        """
        if ref.kind == "Trial":
            raise UnsupportedField(f"{ref}: the laptop plane does not delete a trial alone; delete its Experiment")
        present = self._store.load(ref)
        if present is None:
            return
        jobs = [self._store.load(job_ref(trial)) for trial in self._trials(present)]
        self._store.delete(ref)  # first, so that its keeper, which may be another process, starts nothing more
        keeper = _keepers.pop(present["metadata"]["uid"], None)
        if keeper:
            keeper.stop()
        for trial in self._trials(present):
            self._plane.delete(job_ref(trial))
            self._store.delete(ObjectRef.of(trial))
        for job in filter(None, jobs):
            agents.end_agents(job)  # the keeper may have deleted it just before, and may be at it still

    def _create(self, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        own = {HASH_ANNOTATION: manifest_hash(manifest), **kept_here(),
               SEED_ANNOTATION: _seed(manifest)}
        annotated = {"resourceVersion": ABSENT} | metadata | {"annotations": metadata.get("annotations", {}) | own}
        begun: Manifest = {"status": {"startTime": now(), "currentOptimalTrial": {"observation": {}}}}
        mark(begun, "Created", "ExperimentCreated", "Experiment is created")
        experiment = self._store.put(manifest | {"metadata": annotated}, status=begun["status"])
        return self._keep(experiment, _suggestions(experiment), [])

    def _take_over(self, present: Manifest) -> Manifest | None:
        """Go on with an Experiment whose owner died; None where its trials are not those that its seed gives now."""
        trials, suggestions = self._trials(present), _suggestions(present)
        for number, trial in enumerate(trials):
            ended = next((index for index, one in enumerate(trials) if not is_over(one)), number)
            drawn = suggestions.ask([objective_of(one) for one in trials[:min(ended, number)]])
            asked = {entry["name"]: entry["value"] for entry in trial["spec"]["parameterAssignments"]}
            if drawn != asked or trial["metadata"]["annotations"][NUMBER_ANNOTATION] != str(number):
                log.warning("experiment=%s trial=%d drawn=%s found=%s action=start-anew", present["metadata"]["name"],
                            number, drawn, asked)
                return None
        present["metadata"]["annotations"] |= kept_here()
        experiment = self._store.put(present)  # against that very version: of two that find it orphaned, one gets it
        return self._keep(experiment, suggestions, trials)

    def _keep(self, experiment: Manifest, suggestions: Suggestions, trials: list[Manifest]) -> Manifest:
        metadata = experiment["metadata"]
        for trial in self._former_trials(experiment):  # of one whose deletion was cut off
            self._plane.delete(job_ref(trial))
            self._store.delete(ObjectRef.of(trial))
        self._keep_lines(metadata["name"], [trial for trial in trials if is_over(trial)])
        key = f"{metadata['annotations'][HASH_ANNOTATION]}/{metadata['annotations'][SEED_ANNOTATION]}"
        keeper = ExperimentKeeper(self._store, self._plane, copy.deepcopy(experiment), key, suggestions, trials,
                                  self._lines(metadata["name"]))
        keeper.start()
        _keepers[metadata["uid"]] = keeper
        return experiment

    def _trials(self, experiment: Manifest) -> list[Manifest]:
        """Return the Trials of an Experiment in order."""
        bare = [trial for trial in self._trials_of(experiment["metadata"]["name"]) if _is_of(trial, experiment)]
        found = [trial for one in bare if (trial := self._store.load(ObjectRef.of(one))) is not None]
        return sorted(found, key=lambda trial: int(trial["metadata"]["annotations"][NUMBER_ANNOTATION]))

    def _former_trials(self, experiment: Manifest) -> list[Manifest]:
        """Return the Trials that another Experiment of this name has left."""
        return [trial for trial in self._trials_of(experiment["metadata"]["name"]) if not _is_of(trial, experiment)]

    def _trials_of(self, name: str) -> list[Manifest]:
        return [trial for trial in self._store.list("Trial") if trial["metadata"]["labels"][EXPERIMENT_LABEL] == name]

    def _keep_lines(self, name: str, trials: list[Manifest]) -> None:
        """Of what was printed before keep the lines of these trials; the jobs of others will say theirs again."""
        self._logs.mkdir(parents=True, exist_ok=True)
        lines, kept = self._lines(name), tuple(f"{trial['metadata']['name']}-".encode() for trial in trials)
        said = lines.read_bytes() if lines.exists() else b""
        lines.write_bytes(b"".join(line for line in said.splitlines(True) if line.startswith(kept)))

    def _lines(self, name: str) -> Path:
        return self._logs / f"{name}.trials.log"


def _is_of(trial: Manifest, experiment: Manifest) -> bool:
    return bool(trial["metadata"]["ownerReferences"][0]["uid"] == experiment["metadata"]["uid"])


def _seed(manifest: Manifest) -> str:
    settings = manifest["spec"]["algorithm"].get("algorithmSettings", [])
    asked: dict[str, str] = {entry["name"]: entry["value"] for entry in settings}
    return asked.get("random_state", str(secrets.randbelow(2**32)))


def _suggestions(experiment: Manifest) -> Suggestions:
    return Suggestions(experiment["spec"], int(experiment["metadata"]["annotations"][SEED_ANNOTATION]))


def _refuse_template(manifest: Manifest) -> None:
    """Check what `fields` cannot: the job that the template makes, and what has only one value for its kind.

    Raises:
        UnsupportedField: it is not honoured.
        ControlError: a field is missing without which no trial can start.
    """
    spec, template = manifest["spec"], manifest["spec"]["trialTemplate"]
    first = {parameter["name"]: space["list"][0] if (space := parameter["feasibleSpace"]).get("list") else space["min"]
             for parameter in spec["parameters"]}
    job = render_trial(spec, manifest["metadata"]["name"], "default", first)
    try:
        refuse_unknown(job)
    except UnsupportedField as error:
        raise UnsupportedField(f"spec.trialTemplate.trialSpec: {error}") from error
    except ControlError as error:
        raise ControlError(f"spec.trialTemplate.trialSpec: {error}") from error
    kind = KINDS[job["kind"]]
    only = {"successCondition": kind.success, "failureCondition": kind.failure, "primaryPodLabels": {**kind.pod_labels}}
    for field, value in only.items():
        if template.get(field) not in (None, "", {}, value):
            raise UnsupportedField(f"Experiment {manifest['metadata']['name']}: the laptop plane does not honour "
                                   f"spec.trialTemplate.{field}={template[field]!r} (for a {job['kind']} it must be: "
                                   f"{value!r}, or left out)")
