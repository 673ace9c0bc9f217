"""The KFP face of quantize, called as the executor calls it: with artifacts and plain values."""

from pathlib import Path

from kfp import dsl

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.conversion.quantize.component import quantize


def test_quantize_writes_a_model_folder(sides: Dataset, convnet: Model, tmp_path: Path) -> None:
    quantized = dsl.Model(name="quantized", uri=str(tmp_path / "quantized"))
    quantize.python_func(dataset=dsl.Dataset(uri=str(sides.folder)), exported=dsl.Model(uri=str(convnet.folder)),
                         quantized=quantized, config={"calibration_rows": 50.0, "percentile": 100, "reduce_range": 0})

    assert Model(quantized.path).version != convnet.version
