"""The KFP face of `restore`, the pipeline's exit handler."""

from kfp import dsl

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def restore(status: dsl.PipelineTaskFinalStatus, service: str, registry: str, run_id: str) -> None:
    """Put the traffic back to stable where the run ended in the middle of a trial, and say in the registry what serves.

    Args:
        status: how the run ended; a terminated one says RUNNING, a failed one has no message. What this run still
            holds decides, not this.
        service: name of the InferenceService.
        registry: the registry folder.
        run_id: the run; another run's trial is left alone.
    """
    from penstock.components.deployment.restore.step import run

    run(service, registry, run_id)
