"""The KFP face of verify_parity, called as the executor calls it: with artifacts and plain values."""

from pathlib import Path

from kfp import dsl

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import load_verdict
from penstock.components.conversion.verify_parity.component import verify_parity


def test_verify_parity_returns_its_verdict_and_writes_three_outputs(sides: Dataset, convnet: Model,
                                                                    tmp_path: Path) -> None:
    report, page, shipped = (kind(name=name, uri=str(tmp_path / name)) for kind, name in (
        (dsl.Artifact, "report"), (dsl.HTML, "page"), (dsl.Model, "shipped")))
    verdict = verify_parity.python_func(
        dataset=dsl.Dataset(uri=str(sides.folder)), exported=dsl.Model(uri=str(convnet.folder)),
        quantized=dsl.Model(uri=str(convnet.folder)), report=report, page=page, shipped=shipped,
        config={"rounds": 3.0, "round_seconds": 0.001, "batches": [1.0], "max_accuracy_drop": 1})

    assert verdict == load_verdict(report.path)[0] == "pass"
    assert Model(shipped.path).version == convnet.version
    assert "<h1>Parity</h1>" in Path(page.path).read_text()
