"""The KFP face of `promote`."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def promote(report: Input[Artifact], service: str, version: str, registry: str, run_id: str, config: dict) -> str:
    """Carry out the verdict on a canary, all traffic to it or none; returns the URL of the service.

    Args:
        report: the report of analyse_canary.
        service: name of the InferenceService.
        version: the version that was judged.
        registry: the registry folder, where the stage is written down.
        run_id: holds the canary lease, which is given back here.
        config: options of `PromoteConfig`.
    """
    from penstock.components.control.connect import connect
    from penstock.components.deployment.promote.step import PromoteConfig, run

    return run(report.path, service, version, registry, run_id, PromoteConfig.parse(config), connect())
