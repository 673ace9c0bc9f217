"""The KFP face of `roll_out`."""

from kfp import dsl

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def roll_out(service: str, version: str, registry: str, run_id: str, config: dict) -> str:
    """Put a registered version on trial; returns "first", "canary" or "serving" (it has all traffic already).

    Args:
        service: name of the InferenceService.
        version: a version in the registry.
        registry: the registry folder; the predictor reads the model from it.
        run_id: holds the canary lease; a second run on the same service stops here.
        config: options of `RollOutConfig`.
    """
    from penstock.components.control.connect import connect
    from penstock.components.deployment.roll_out.step import RollOutConfig, run

    return run(service, version, registry, run_id, RollOutConfig.parse(config), connect())
