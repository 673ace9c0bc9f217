"""The KFP face of `sweep`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def sweep(dataset: Input[Dataset], report: Output[Artifact], page: Output[HTML], run_id: str, train: dict,
          config: dict) -> dict:
    """Search the training options with a Katib Experiment; returns `train` with the best trial's parameters put in.

    Args:
        dataset: with the splits train and validation.
        report: the sweep report, its page, and one row per trial in trials.csv.
        page: the report for people.
        run_id: names the Experiment, so that a repeated step finds its own.
        train: options of the training that the sweep is for.
        config: options of `SweepConfig`: search space, objective, counts, algorithm. `max_trials` 0: no sweep.
    """
    import shutil

    from penstock.components.tuning.sweep.step import SweepConfig, run

    options = SweepConfig.parse(config)
    found = run(dataset.path, report.path, train, options, run_id=run_id, dataset_uri=dataset.uri)
    shutil.copy(f"{report.path}/index.html", page.path)
    return found
