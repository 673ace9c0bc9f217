"""Which fields of Experiment the laptop plane honours, as data.

What Katib would refuse is not here: `control.katib` has those rules, for both planes.
"""

from penstock.components.control.laptop.field_rules import METADATA, Allowed, Kind

__all__ = ["EXPERIMENT"]

ALGORITHMS = ("random", "grid", "tpe", "multivariate-tpe")
SETTINGS = ("random_state", "n_EI_candidates", "n_startup_trials", "n_ei_candidates")
TRIAL_KINDS = ("PyTorchJob", "TrainJob", "Job")
TEMPLATE = "spec.trialTemplate"


def _one_of(*values: str) -> Allowed:
    return Allowed(lambda value: value in values, ", ".join(values))


EXPERIMENT = Kind(
    "kubeflow.org/v1beta1",
    METADATA | {
        "spec.objective.type": "which of two trials is better",
        "spec.objective.goal": "ends the Experiment when a trial reaches it",
        "spec.objective.objectiveMetricName": "read from the lines of each trial's primary pod",
        "spec.objective.additionalMetricNames[]": "read too, and shown",
        "spec.objective.metricStrategies[].name": "which metric",
        "spec.objective.metricStrategies[].value": "which of its values counts: min, max or latest",
        "spec.algorithm.algorithmName": "drawn by Optuna, grid in the order of its GridSampler",
        "spec.algorithm.algorithmSettings[].name": "as the algorithm has them",
        "spec.algorithm.algorithmSettings[].value": "the same random_state gives the same trials",
        "spec.parallelTrialCount": "trials that run at the same time; default 3",
        "spec.maxTrialCount": "never more than so many are started",
        "spec.maxFailedTrialCount": "so many failed trials, or trials without the objective, fail the Experiment",
        "spec.resumePolicy": "an Experiment that is over stays so",
        "spec.parameters[].name": "as in trialParameters",
        "spec.parameters[].parameterType": "int, double, categorical or discrete",
        "spec.parameters[].feasibleSpace.min": "the least",
        "spec.parameters[].feasibleSpace.max": "the greatest",
        "spec.parameters[].feasibleSpace.step": "only values that are so far apart, from min",
        "spec.parameters[].feasibleSpace.list[]": "only these",
        "spec.parameters[].feasibleSpace.distribution": "how an int or double is drawn",
        "spec.metricsCollectorSpec.collector.kind": "reads lines with name=value",
        f"{TEMPLATE}.retain": "keep the job of a trial that has ended",
        f"{TEMPLATE}.primaryPodLabels.*": "only Katib's default for the kind of job",
        f"{TEMPLATE}.primaryContainerName": "checked",
        f"{TEMPLATE}.successCondition": "only Katib's default for the kind of job",
        f"{TEMPLATE}.failureCondition": "only Katib's default for the kind of job",
        f"{TEMPLATE}.trialParameters[].name": "`${trialParameters.<name>}` is replaced in trialSpec",
        f"{TEMPLATE}.trialParameters[].description": "kept",
        f"{TEMPLATE}.trialParameters[].reference": "a parameter, or `${trialSpec.Name}` and its like",
        f"{TEMPLATE}.trialSpec.*": "the job of a trial; honoured as far as its own kind is",
    },
    ("spec.maxTrialCount",),
    {
        "spec.algorithm.algorithmName": _one_of(*ALGORITHMS),
        "spec.algorithm.algorithmSettings[].name": _one_of(*SETTINGS),
        "spec.resumePolicy": _one_of("Never"),
        "spec.parameters[].feasibleSpace.distribution": _one_of("uniform", "logUniform"),
        "spec.metricsCollectorSpec.collector.kind": _one_of("StdOut"),
        f"{TEMPLATE}.trialSpec.kind": _one_of(*TRIAL_KINDS),
    },
)
