"""The three kinds of job that the laptop runs: where each has its fields, what its pods are given, what it says.

Each follows its own controller: training-operator 1.9.4, Trainer 2.3.0 with JobSet 0.10.1, and Kubernetes 1.34. Starts
nothing and writes nothing: `job_keeper` does, by the same rules for all three.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from penstock.components.contracts.folder import text_sha256
from penstock.components.control.base import Manifest
from penstock.components.control.laptop.job_status import Cause, Counts, Plan, add_condition, now

__all__ = ["JOBS", "BatchJobKind", "JobKind", "PyTorchJobKind", "TrainJobKind", "kind_of"]

BACKOFF_LIMIT = 6  # of a Job that names none; torch-distributed names none for the Job under a TrainJob
FOREVER = float("inf")


class JobKind(Protocol):
    """What the controller must know of a kind; all methods that return nothing write into the job's status."""

    def plan(self, job: Manifest) -> Plan:
        """Read what the job asks for."""
        ...

    def pod_name(self, job: Manifest, index: int, attempt: int) -> str:
        """Name the pod of replica `index`, counted from 0 like the `attempt` to run it."""
        ...

    def environment(self, job: Manifest, index: int, port: int) -> dict[str, str]:
        """Return what the controller would put into the pod; where that names another pod, this machine and `port`."""
        ...

    def begin(self, job: Manifest) -> None:
        """Say that the job is there."""
        ...

    def count(self, job: Manifest, counts: Counts) -> None:
        """Say what runs."""
        ...

    def succeed(self, job: Manifest) -> None:
        """Say that the job has succeeded."""
        ...

    def fail(self, job: Manifest, cause: Cause, detail: str = "") -> None:
        """Say that the job has failed; `detail` replaces the controller's message."""
        ...


class PyTorchJobKind:
    """kubeflow.org/v1, workers alone, with an elasticPolicy.

    Source: pkg/controller.v1/pytorch/{envvar,elastic,pytorchjob_controller}.go, pkg/controller.v1/common/job.go,
    pkg/core/job.go, pkg/util/status.go.
    """

    def plan(self, job: Manifest) -> Plan:
        worker, policy = _worker(job), job["spec"]["runPolicy"]
        in_place = worker.get("restartPolicy") != "Never"
        limit = _restart_limit(policy["backoffLimit"]) if "backoffLimit" in policy else FOREVER
        return Plan(
            replicas=int(worker.get("replicas", 1)), container=worker["template"]["spec"]["containers"][0],
            in_place=in_place, limit=limit if in_place else 1,
            deadline=policy.get("activeDeadlineSeconds", FOREVER), one_suffices=True,
            spares=policy.get("cleanPodPolicy", "None") == "None")

    def pod_name(self, job: Manifest, index: int, attempt: int) -> str:
        return f"{job['metadata']['name']}-worker-{index}"

    def environment(self, job: Manifest, index: int, port: int) -> dict[str, str]:
        """The operator's PET_RDZV_ENDPOINT names the first pod and port 23456."""
        spec, elastic = job["spec"], job["spec"]["elasticPolicy"]
        least = elastic.get("minReplicas", elastic.get("maxReplicas", _worker(job).get("replicas", 1)))
        variables = {
            "PYTHONUNBUFFERED": "1",
            "PET_NPROC_PER_NODE": str(spec.get("nprocPerNode", "auto")),
            "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
            "PET_RDZV_BACKEND": str(elastic.get("rdzvBackend", "c10d")),
            "PET_NNODES": f"{least}:{elastic.get('maxReplicas', least)}",
        }
        if "maxRestarts" in elastic:
            variables["PET_MAX_RESTARTS"] = str(elastic["maxRestarts"])
        return variables

    def begin(self, job: Manifest) -> None:
        job["status"] = {"startTime": now()}
        self._say(job, "Created", f"PyTorchJob {job['metadata']['name']} is created.")

    def count(self, job: Manifest, counts: Counts) -> None:
        """Like the API, leave out what is 0. A worker that starts again in place has not stopped to run."""
        name = job["metadata"]["name"]
        labels = {"job-name": name, "operator-name": "pytorchjob-controller", "replica-type": "worker"}
        selector = ",".join(f"training.kubeflow.org/{label}={value}" for label, value in labels.items())
        shown = {state: count for state, count in counts._asdict().items() if count}
        job["status"]["replicaStatuses"] = {"Worker": shown | {"selector": selector}}
        if counts.active and not counts.succeeded:
            self._say(job, "Running", f"PyTorchJob {job['metadata']['namespace']}/{name} is running.")

    def succeed(self, job: Manifest) -> None:
        self.count(job, Counts(0, self.plan(job).replicas, 0))  # as the operator does with those still active
        metadata = job["metadata"]
        self._end(job, "Succeeded", f"PyTorchJob {metadata['namespace']}/{metadata['name']} successfully completed.")

    def fail(self, job: Manifest, cause: Cause, detail: str = "") -> None:
        name, failed = job["metadata"]["name"], job["status"].get("replicaStatuses", {}).get("Worker", {}).get("failed")
        message = {
            Cause.FAILURES: f"Job {name} has failed because it has reached the specified backoff limit",
            Cause.DEADLINE: f"Job {name} has failed because it was active longer than specified deadline",
            Cause.MACHINE: detail,
        }[cause]
        if cause is Cause.FAILURES and not self.plan(job).in_place:
            message = f"PyTorchJob {name} is failed because {failed} Worker replica(s) failed."
        self._end(job, "Failed", message)

    def _end(self, job: Manifest, kind: str, message: str) -> None:
        for entry in job["status"]["conditions"]:
            entry["status"] = "False" if entry["type"] == "Running" else entry["status"]
        self._say(job, kind, message)
        job["status"]["completionTime"] = now()

    def _say(self, job: Manifest, kind: str, message: str) -> None:
        add_condition(job, kind, f"PyTorchJob{kind}", message, "lastUpdateTime")


class TrainJobKind:
    """trainer.kubeflow.org/v1alpha1 on the runtime torch-distributed: one JobSet with one indexed Job, `node`.

    Neither the runtime nor JobSet's defaults have a failurePolicy: the JobSet fails with its Job. The Job has the
    defaults OnFailure (JobSet's) and 6 (Kubernetes').
    Source: Trainer pkg/runtime/framework/plugins/{torch/torch,jobset/jobset}.go, pkg/controller/trainjob_controller.go,
    manifests/base/runtimes/torch_distributed.yaml; JobSet pkg/{controllers/failure_policy,webhooks/jobset_webhook}.go.
    """

    def plan(self, job: Manifest) -> Plan:
        spec = job["spec"]
        return Plan(
            replicas=int(spec["trainer"].get("numNodes", 1)), container=spec["trainer"], in_place=True,
            limit=_restart_limit(BACKOFF_LIMIT), deadline=spec.get("activeDeadlineSeconds", FOREVER),
            one_suffices=False, spares=False)

    def pod_name(self, job: Manifest, index: int, attempt: int) -> str:
        name = f"{job['metadata']['name']}-node-0-{index}"
        return f"{name}-{_suffix(job, index, attempt)}"

    def environment(self, job: Manifest, index: int, port: int) -> dict[str, str]:
        """The runtime's PET_MASTER_ADDR is <job>-node-0-0.<job>, its PET_MASTER_PORT 29500.

        Without resources a node counts as one CPU, so PET_NPROC_PER_NODE is 1 where the job does not say more.
        """
        return {
            "PET_NNODES": str(self.plan(job).replicas),
            "PET_NPROC_PER_NODE": str(job["spec"]["trainer"].get("numProcPerNode", 1)),
            "PET_NODE_RANK": str(index),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }

    def begin(self, job: Manifest) -> None:
        job["status"] = {}
        self._tell(job)

    def count(self, job: Manifest, counts: Counts) -> None:
        """What is counted is not pods but Jobs, of which there is one; it is ready when all its pods are."""
        ready = counts.active + counts.succeeded >= self.plan(job).replicas
        self._tell(job, active=int(counts.active > 0), ready=int(ready))

    def succeed(self, job: Manifest) -> None:
        self._tell(job, succeeded=1)
        add_condition(job, "Complete", "AllJobsCompleted", "jobset completed successfully")

    def fail(self, job: Manifest, cause: Cause, detail: str = "") -> None:
        """At the deadline the JobSet is deleted, and the counts stay as they were."""
        name = job["metadata"]["name"]
        if cause is Cause.DEADLINE:
            add_condition(job, "Failed", "DeadlineExceeded", "TrainJob exceeded its active deadline")
            return
        self._tell(job, failed=1)
        message = f"jobset failed due to one or more job failures (first failed job: {name}-node-0)"
        add_condition(job, "Failed", "FailedJobs", detail or message)

    def _tell(self, job: Manifest, **counts: int) -> None:
        states = dict.fromkeys(("active", "failed", "ready", "succeeded", "suspended"), 0) | counts
        job["status"]["jobsStatus"] = [{"name": "node"} | states]


class BatchJobKind:
    """batch/v1, one pod. Source: Kubernetes pkg/controller/job/job_controller.go."""

    def plan(self, job: Manifest) -> Plan:
        spec = job["spec"]
        limit, in_place = spec.get("backoffLimit", BACKOFF_LIMIT), _pod(job)["restartPolicy"] == "OnFailure"
        return Plan(
            replicas=1, container=_pod(job)["containers"][0], in_place=in_place,
            limit=_restart_limit(limit) if in_place else limit + 1,
            deadline=spec.get("activeDeadlineSeconds", FOREVER), one_suffices=False, spares=False)

    def pod_name(self, job: Manifest, index: int, attempt: int) -> str:
        return f"{job['metadata']['name']}-{_suffix(job, index, attempt)}"

    def environment(self, job: Manifest, index: int, port: int) -> dict[str, str]:
        return {}

    def begin(self, job: Manifest) -> None:
        job["status"] = {"startTime": now()}
        self.count(job, Counts(1, 0, 0))

    def count(self, job: Manifest, counts: Counts) -> None:
        """Like the API, leave out a 0, but for the counts that are pointers there."""
        kept = {name: job["status"][name] for name in ("startTime", "conditions") if name in job["status"]}
        shown = {state: count for state, count in counts._asdict().items() if count}
        job["status"] = kept | shown | {"ready": counts.active, "terminating": 0, "uncountedTerminatedPods": {}}

    def succeed(self, job: Manifest) -> None:
        self.count(job, Counts(0, 1, job["status"].get("failed", 0)))
        for kind in ("SuccessCriteriaMet", "Complete"):
            self._say(job, kind, "CompletionsReached", "Reached expected number of succeeded pods")
        job["status"]["completionTime"] = now()

    def fail(self, job: Manifest, cause: Cause, detail: str = "") -> None:
        """The pod that is deleted with the job counts as failed; there is no completionTime."""
        status = job["status"]
        self.count(job, Counts(0, 0, status.get("failed", 0) + status.get("active", 0)))
        reason, message = {
            Cause.FAILURES: ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            Cause.DEADLINE: ("DeadlineExceeded", "Job was active longer than specified deadline"),
            Cause.MACHINE: ("BackoffLimitExceeded", detail),
        }[cause]
        for kind in ("FailureTarget", "Failed"):
            self._say(job, kind, reason, message)

    def _say(self, job: Manifest, kind: str, reason: str, message: str) -> None:
        add_condition(job, kind, reason, message, "lastProbeTime")


JOBS: Mapping[str, JobKind] = {"Job": BatchJobKind(), "PyTorchJob": PyTorchJobKind(), "TrainJob": TrainJobKind()}


def kind_of(job: Manifest) -> JobKind:
    """Return what is known of the kind of a job that `fields` let through."""
    return JOBS[job["kind"]]


def _restart_limit(backoff: int) -> int:
    """A job whose containers start again in place fails *at* the limit, not past it, and never at the first start."""
    return max(backoff, 1)


def _worker(job: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    return found


def _pod(job: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def _suffix(job: Manifest, index: int, attempt: int) -> str:
    """Return what the API server would make up for a generateName, the same one for the same pod."""
    return text_sha256(f"{job['metadata']['uid']}/{index}/{attempt}")[:5]
