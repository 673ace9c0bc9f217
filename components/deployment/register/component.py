"""The KFP face of `register`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def register(exported: Input[Model], evaluation: Input[Artifact], service: str, run_id: str, registry: str) -> str:
    """Enter an exported model into the registry; returns its version.

    Args:
        exported: the Model folder.
        evaluation: the report of evaluate, for the lineage.
        service: name of the InferenceService that it is meant for.
        run_id: the run that made it.
        registry: the registry folder.
    """
    from penstock.components.deployment.register.step import run

    return run(exported.path, evaluation.path, service, run_id, registry)
