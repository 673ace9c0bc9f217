"""The KFP face of `train`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def train(dataset: Input[Dataset], model: Output[Model], page: Output[HTML], metrics: Output[Metrics], run_id: str,
          config: dict) -> None:
    """Train a classifier with a PyTorchJob or a TrainJob, from its last checkpoint on if it was cut off.

    Args:
        dataset: with the splits train and validation.
        model: the trained network, its preprocessing and where it came from.
        page: curves of loss, accuracy and learning rate, for people.
        metrics: loss and accuracy of the last epoch.
        run_id: names the job, so that a repeated step finds its own.
        config: options of `TrainConfig`: network, schedule, kind of job, workers, restarts, time-out.
    """
    from penstock.components.training.train.step import TrainConfig, run, write_page

    measured = run(dataset.path, model.path, TrainConfig.parse(config), run_id=run_id, dataset_uri=dataset.uri)
    write_page(model.path, page.path)
    for name, value in measured.items():
        metrics.log_metric(name, value)
