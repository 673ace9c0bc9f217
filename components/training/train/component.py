"""The KFP face of `train`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def train(dataset: Input[Dataset], model: Output[Model], metrics: Output[Metrics], run_id: str, config: dict) -> None:
    """Train a classifier with a PyTorchJob, from its last checkpoint on if it was cut off.

    Args:
        dataset: with the splits train and validation.
        model: the trained network, its preprocessing and where it came from.
        metrics: loss and accuracy of the last epoch.
        run_id: names the job, so that a repeated step finds its own.
        config: options of `TrainConfig`: network, schedule, workers, restarts, time-out.
    """
    from penstock.components.training.train.step import TrainConfig, run

    measured = run(dataset.path, model.path, TrainConfig.parse(config), run_id=run_id, dataset_uri=dataset.uri)
    for name, value in measured.items():
        metrics.log_metric(name, value)
