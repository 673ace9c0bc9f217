"""The KFP face of export, called as the executor calls it: with artifacts and plain values."""

from pathlib import Path

from kfp import dsl

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.conversion.export.component import export


def test_export_writes_a_model_folder(sides: Dataset, good: Path, tmp_path: Path) -> None:
    exported = dsl.Model(name="exported", uri=str(tmp_path / "exported"))
    export.python_func(dataset=dsl.Dataset(uri=str(sides.folder)), model=dsl.Model(uri=str(good)), exported=exported,
                       service="sides", run_id="run-1", config={"golden_rows": 4.0})

    assert Model(exported.path).manifest.name == "sides"
