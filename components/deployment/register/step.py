"""Enter an exported model into the registry, with what it came from and how well it did.

The registry is the only thing that changes; nothing is deployed.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import EvaluationReport
from penstock.components.deployment.registry import Lineage, Registry

__all__ = ["run"]

logger = logging.getLogger(__name__)


def run(exported: Path | str, evaluation: Path | str, service: str, run_id: str, registry: Path | str) -> str:
    """Register the Model folder `exported` for a service.

    The same version again is no new one: its record gains this run's lineage.

    Args:
        evaluation: the report folder of evaluate.

    Returns:
        The version.

    Raises:
        ConfigError: `service` cannot be the name of an InferenceService.
        ContractError: a folder is damaged, or the registry holds something else under this version.
    """
    model, measured = Model(exported), EvaluationReport.load(evaluation)
    metrics = {"accuracy": measured.accuracy.estimate, "macro_f1": measured.macro_f1, "log_loss": measured.log_loss,
               "ece": measured.ece}
    origin = model.manifest.origin
    Registry(registry).register(service, model, Lineage(
        run_id=run_id, dataset=origin.dataset, dataset_hash=measured.dataset_hash, metrics=metrics,
        registered_at=datetime.now(UTC), made_by=origin.code_version))
    logger.info("service=%s version=%s accuracy=%.4f", service, model.version, metrics["accuracy"])
    return model.version
