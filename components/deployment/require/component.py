"""The KFP face of `require`."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def require(report: Input[Artifact]) -> None:
    """Fail the run where a report's verdict is no, with its reason.

    Args:
        report: the report of validate, gate or analyse_canary.
    """
    from penstock.components.deployment.require.step import run

    run(report.path)
