"""Decide whether a candidate may be deployed: absolute limits, and no loss against the version that serves now.

Brings the evaluation and the serving version together; the rules are in `checks`. Changes nothing that serves.
"""

from collections.abc import Sequence
from pathlib import Path

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import Check, EvaluationReport, GateReport
from penstock.components.control.base import ControlPlane
from penstock.components.control.inference_service import Placement
from penstock.components.deployment.registry import Registry
from penstock.components.evaluation.gate.checks import Contest, GateConfig, absolute_checks, change_checks, figures
from penstock.components.evaluation.gate.serving import contest, misfit, open_serving, serving_now
from penstock.components.evaluation.predictions import Predictions

__all__ = ["GateConfig", "judge", "run"]


def run(dataset: Path | str, evaluation: Path | str, target: Path | str, service: str,
        registry: Path | str, config: GateConfig, plane: ControlPlane) -> GateReport:
    """Judge the candidate that the report folder `evaluation` measured, and write the report folder `target`.

    Args:
        dataset: the dataset folder that the evaluation read; the serving version answers the same rows.
        service: name of the InferenceService that the candidate would join.
        registry: folder of the model registry, which holds the serving version too.
        plane: asked for what serves now.

    Raises:
        ContractError: a folder is damaged, the evaluation measured another dataset, or the serving version is
            neither where the control plane says nor registered, and the gate is not switched off.
    """
    from penstock.components.evaluation.gate.page import render

    source, measured, answers = Dataset(dataset), EvaluationReport.load(evaluation), Predictions.load(evaluation)
    if measured.dataset_hash != source.manifest.content_hash:
        raise ContractError(f"{evaluation} measured dataset {measured.dataset_hash[:12]}, {source.folder} holds "
                            f"{source.manifest.content_hash[:12]}; give the gate the dataset that was evaluated")
    serving = serving_now(plane, service)
    candidate = figures(answers, source.description.classes, measured.ece_bins)
    checks, versus = absolute_checks(measured, config), None
    if serving.version and config.compares:
        model, reason = _opponent(serving, service, Registry(registry), source, config)
        checks.append(Check(name="comparable", passed=not reason, value=not reason, rule="same classes and image shape",
                            detail=reason or f"version {serving.version} answers the same rows"))
        versus = _contest(model, source, answers, measured, config) if model else None
    if versus:
        checks += change_checks(versus, config)
    report = judge(checks, measured, candidate, serving.version, versus, config)
    return report.save(target, render(report, measured, versus, service, config))


def judge(checks: Sequence[Check], measured: EvaluationReport, candidate: dict[str, float], version: str,
          versus: Contest | None, config: GateConfig) -> GateReport:
    """Make the verdict from the checks: `fail` where a blocking one failed, unless the gate is switched off."""
    failed = [check for check in checks if check.blocking and not check.passed]
    reason = f"accuracy {measured.accuracy.estimate:.2%} on {measured.rows:,} rows of {measured.split}, "
    reason += _standing(version, versus) + "; " + (_explain(failed) if failed else "no limit is broken")
    if not config.enabled:
        checks = [check.model_copy(update={"blocking": False}) for check in checks]
        reason = f"the gate was switched off by configuration (enabled=false), or it had said: {reason}"
    return GateReport(verdict="fail" if failed and config.enabled else "pass", reason=reason, checks=tuple(checks),
                      serving_version=version, candidate=candidate, serving=versus.serving if versus else {})


def _opponent(serving: Placement, service: str, registry: Registry, source: Dataset,
              config: GateConfig) -> tuple[Model | None, str]:
    """Return the model that serves, or why it cannot answer the rows; a gate that is off is not held up by a lost one.

    Raises:
        ContractError: it is not where it is said to be, and the gate is on.
    """
    try:
        model = open_serving(serving, service, registry)
    except ContractError as error:
        if config.enabled:
            raise
        return None, str(error)
    reason = misfit(model, source.description)
    return None if reason else model, reason


def _contest(model: Model, source: Dataset, answers: Predictions, measured: EvaluationReport,
             config: GateConfig) -> Contest:
    rows = source.read(measured.split)
    if rows["id"].to_pylist() != answers.ids:
        raise ContractError(f"the evaluation's answers are not to the rows of {measured.split} in {source.folder}; "
                            f"run evaluate again")
    return contest(model, rows, images_array(rows, source.description.image), answers, measured, config)


def _standing(version: str, versus: Contest | None) -> str:
    if versus:
        return f"{versus.overall.difference.estimate * 100:+.2f} points against serving version {version}"
    return f"not compared with serving version {version}" if version else "nothing serves yet to compare with"


def _explain(failed: Sequence[Check]) -> str:
    """Say what failed by how much; where the number alone says little, say which."""
    return "; ".join(
        f"{check.name.replace('_', ' ')} is {check.value:.4g}, must be {check.rule}" if ">=" in check.rule
        or "<=" in check.rule else check.detail for check in failed)
