"""The KFP face of `gate`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def gate(dataset: Input[Dataset], evaluation: Input[Artifact], report: Output[Artifact], page: Output[HTML],
         service: str, registry: str, config: dict) -> str:
    """Judge a candidate by absolute limits and against the version now serving; returns "pass" or "fail".

    Args:
        dataset: the dataset folder that was evaluated; the serving version answers the same rows.
        evaluation: the candidate's evaluation report.
        report: the gate report and its page.
        page: the report for people.
        service: name of the InferenceService that the candidate would join.
        registry: folder of the model registry, which holds the serving version too.
        config: options of `GateConfig`.
    """
    import shutil

    from penstock.components.control.connect import connect
    from penstock.components.evaluation.gate.step import GateConfig, run

    options = GateConfig.parse(config)
    found = run(dataset.path, evaluation.path, report.path, service, registry, options, connect())
    shutil.copy(f"{report.path}/index.html", page.path)
    return found.verdict
