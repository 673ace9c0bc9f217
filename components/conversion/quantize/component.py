"""The KFP face of `quantize`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from penstock.components import images


@dsl.component(base_image=images.CONVERT, install_kfp_package=False)
def quantize(dataset: Input[Dataset], exported: Input[Model], quantized: Output[Model], config: dict) -> None:
    """Quantize an exported model to int8, with ranges calibrated on rows of the train split.

    Args:
        dataset: the dataset folder; rows of its train split are used for calibration.
        exported: the exported model folder.
        quantized: the same as a model folder of its own, in int8; with method "none" a copy of `exported`.
        config: options of `QuantizeConfig`.
    """
    from penstock.components.conversion.quantize.step import QuantizeConfig, run

    run(dataset.path, exported.path, quantized.path, QuantizeConfig.parse(config))
