"""The KFP face of `analyse_canary`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def analyse_canary(dataset: Input[Dataset], report: Output[Artifact], page: Output[HTML], service: str, version: str,
                   run_id: str, config: dict) -> str:
    """Judge a version on trial by the requests it answers; returns "first", "promote" or "roll_back".

    Args:
        dataset: held-out rows to send.
        report: the canary report and its page.
        page: the report for people.
        service: name of the InferenceService.
        version: the version on trial.
        run_id: holds the canary lease.
        config: options of `AnalyseCanaryConfig`.
    """
    import shutil

    from penstock.components.control.connect import connect
    from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run

    options = AnalyseCanaryConfig.parse(config)
    found = run(dataset.path, report.path, service, version, run_id, options, connect())
    shutil.copy(f"{report.path}/index.html", page.path)
    return found.verdict
