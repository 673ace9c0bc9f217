"""Registering: version, lineage, and refusals."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import EvaluationReport, Interval
from penstock.components.deployment.register.step import run
from penstock.components.deployment.registry import Registry


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    report = EvaluationReport(
        verdict="measured", reason="", dataset_hash="d2", model="w", split="test", rows=10,
        accuracy=Interval(estimate=0.9, lower=0.8, upper=1), macro_f1=0.89, log_loss=0.3, ece=0.02, per_class=(),
        confusion=())
    report.save(tmp_path / "evaluation", "<html></html>")
    return tmp_path / "evaluation"


def test_a_model_is_registered_with_its_lineage(tmp_path: Path, models: dict[str, Model], evaluation: Path) -> None:
    model = models["good"]

    assert run(model.folder, evaluation, "sides", "run-1", str(tmp_path / "registry")) == model.version
    entry = Registry(tmp_path / "registry").record("sides", model.version).lineage[0]
    assert (entry.run_id, entry.dataset, entry.dataset_hash, entry.made_by) == ("run-1", "sides", "d2", "test")
    assert entry.metrics == {"accuracy": 0.9, "macro_f1": 0.89, "log_loss": 0.3, "ece": 0.02}


def test_what_cannot_be_registered_leaves_nothing(tmp_path: Path, models: dict[str, Model], evaluation: Path) -> None:
    with pytest.raises(ConfigError, match="service='Sides'"):
        run(models["good"].folder, evaluation, "Sides", "run-1", tmp_path / "registry")
    with pytest.raises(ContractError, match=r"model\.json is missing"):
        run(tmp_path, evaluation, "sides", "run-1", tmp_path / "registry")
    assert not (tmp_path / "registry").exists()
