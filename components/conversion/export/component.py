"""The KFP face of `export`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from penstock.components import images


@dsl.component(base_image=images.CONVERT, install_kfp_package=False)
def export(dataset: Input[Dataset], model: Input[Model], exported: Output[Model], service: str, run_id: str,
           config: dict) -> None:
    """Export a trained model to ONNX with its preprocessing inside, checked against torch on held-out rows.

    Args:
        dataset: the dataset folder; its validation rows are answered by both.
        model: the trained model folder.
        exported: the model folder that a server loads: ONNX, weights, golden rows, manifest.
        service: becomes the model's name.
        run_id: the pipeline run, noted as origin.
        config: options of `ExportConfig`.
    """
    from penstock.components.conversion.export.step import ExportConfig, run

    run(dataset.path, model.path, exported.path, service, run_id, ExportConfig.parse(config))
