"""The KFP face of `evaluate`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from penstock.components import images


@dsl.component(base_image=images.TORCH, install_kfp_package=False)
def evaluate(dataset: Input[Dataset], model: Input[Model], report: Output[Artifact], page: Output[HTML],
             classification: Output[ClassificationMetrics], metrics: Output[Metrics], config: dict) -> None:
    """Measure a trained model on held-out rows: accuracy, per class, ranking, calibration and slices.

    Args:
        dataset: the dataset folder; `config.split` says which rows are held out.
        model: the trained model folder.
        report: the evaluation report, its page, and one answer per row for the gate.
        page: the report for people.
        classification: the confusion matrix, for the Kubeflow UI.
        metrics: accuracy with its interval, macro F1, macro AUC, log loss and so on, for the Kubeflow UI.
        config: options of `EvaluateConfig`.
    """
    import shutil

    from penstock.components.evaluation.evaluate.step import EvaluateConfig, log_metrics, run

    found = run(dataset.path, model.path, report.path, EvaluateConfig.parse(config))
    log_metrics(found, classification, metrics)
    shutil.copy(f"{report.path}/index.html", page.path)
