"""The pipeline: from raw images to an endpoint whose canary earned its promotion.

Says which step follows which and what may come from a cache; sizes nothing (`profiles` does) and runs nothing.
"""

from typing import Any

from kfp import dsl

from penstock.components.conversion.export.component import export as export_step
from penstock.components.conversion.quantize.component import quantize as quantize_step
from penstock.components.conversion.verify_parity.component import verify_parity as verify_parity_step
from penstock.components.data.ingest.component import ingest as ingest_step
from penstock.components.data.split.component import split as split_step
from penstock.components.data.validate.component import validate as validate_step
from penstock.components.deployment.analyse_canary.component import analyse_canary as analyse_canary_step
from penstock.components.deployment.promote.component import promote as promote_step
from penstock.components.deployment.register.component import register as register_step
from penstock.components.deployment.require.component import require as require_step
from penstock.components.deployment.restore.component import restore as restore_step
from penstock.components.deployment.roll_out.component import roll_out as roll_out_step
from penstock.components.evaluation.evaluate.component import evaluate as evaluate_step
from penstock.components.evaluation.gate.component import gate as gate_step
from penstock.components.training.train.component import train as train_step
from penstock.components.tuning.sweep.component import sweep as sweep_step

__all__ = ["train_and_deploy"]

OWN_DEFAULTS: dict[str, Any] = {}  # a stage without options takes the defaults of its step


def _named(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Show the task under its function's name."""
    return task.set_display_name(task.component_spec.name.replace("-", "_"))


def _live(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Name a task that looks at, or changes, what is live: an answer from a cache would be yesterday's."""
    return _named(task).set_caching_options(False)


@dsl.pipeline(name="train-and-deploy", description="From raw images to an endpoint whose canary earned its promotion.")
def train_and_deploy(
    run_id: str,
    registry: str,
    service: str = "fashion-mnist",
    ingest: dict = OWN_DEFAULTS,
    validate: dict = OWN_DEFAULTS,
    split: dict = OWN_DEFAULTS,
    sweep: dict = OWN_DEFAULTS,
    train: dict = OWN_DEFAULTS,
    evaluate: dict = OWN_DEFAULTS,
    gate: dict = OWN_DEFAULTS,
    export: dict = OWN_DEFAULTS,
    quantize: dict = OWN_DEFAULTS,
    verify_parity: dict = OWN_DEFAULTS,
    roll_out: dict = OWN_DEFAULTS,
    analyse_canary: dict = OWN_DEFAULTS,
    promote: dict = OWN_DEFAULTS,
) -> None:
    """Take data to a live endpoint, version by version.

    Args:
        run_id: Name of this run: up to 40 lower-case letters, digits and hyphens. The same name adopts what it began.
        registry: Folder of the model registry, the same for all runs.
        service: Name of the InferenceService, for example fashion-mnist.
        ingest: Where the rows come from, for example {"source": "fashion-mnist"}; {} takes the step's own defaults.
        validate: Thresholds of data quality; {} takes the step's own defaults.
        split: Shares held out for validation and test; {} takes the step's own defaults.
        sweep: Options to search before training, and how; {} takes the step's own defaults, which search none.
        train: Network and training, for example {"network": "convnet", "epochs": 3}; {} takes the step's own defaults.
        evaluate: Which split is measured, and in which slices; {} takes the step's own defaults.
        gate: What a candidate must reach before it may be deployed; {} takes the step's own defaults.
        export: ONNX conversion; {} takes the step's own defaults.
        quantize: int8 conversion, for example {"method": "none"}; {} takes the step's own defaults.
        verify_parity: What a converted model may lose, and what ships; {} takes the step's own defaults.
        roll_out: Share of the traffic for the canary; {} takes the step's own defaults.
        analyse_canary: Requests sampled and limits applied; {} takes the step's own defaults.
        promote: How long promotion may take; {} takes the step's own defaults.
    """
    clean_up = restore_step(service=service, registry=registry, run_id=run_id)
    with dsl.ExitHandler(_live(clean_up)):
        rows = _named(ingest_step(config=ingest))
        validation = _named(validate_step(dataset=rows.outputs["dataset"], config=validate))
        valid = _live(require_step(report=validation.outputs["report"]))
        data = _named(split_step(rows=rows.outputs["dataset"], config=split)).after(valid)
        dataset = data.outputs["dataset"]
        swept = _named(sweep_step(dataset=dataset, run_id=run_id, train=train, config=sweep))
        trained = _named(train_step(dataset=dataset, run_id=run_id, config=swept.outputs["Output"]))
        model = trained.outputs["model"]
        evaluation = _named(evaluate_step(dataset=dataset, model=model, config=evaluate))
        measured = evaluation.outputs["report"]
        judged = _live(gate_step(dataset=dataset, evaluation=measured, service=service, registry=registry,
                                  config=gate))
        good = _live(require_step(report=judged.outputs["report"]))
        exported = _named(
            export_step(dataset=dataset, model=model, service=service, run_id=run_id, config=export)).after(good)
        raw = exported.outputs["exported"]
        quantized = _named(quantize_step(dataset=dataset, exported=raw, config=quantize))
        parity = _named(verify_parity_step(dataset=dataset, exported=raw, quantized=quantized.outputs["quantized"],
                                           config=verify_parity))
        equal = _live(require_step(report=parity.outputs["report"]))
        registered = _live(register_step(exported=parity.outputs["shipped"], evaluation=measured, service=service,
                                         run_id=run_id, registry=registry)).after(equal)
        version = registered.outputs["Output"]
        rolled_out = _live(
            roll_out_step(service=service, version=version, registry=registry, run_id=run_id, config=roll_out))
        canary = _live(analyse_canary_step(dataset=dataset, service=service, version=version, run_id=run_id,
                                           config=analyse_canary)).after(rolled_out)
        promoted = _live(promote_step(report=canary.outputs["report"], service=service, version=version,
                                      registry=registry, run_id=run_id, config=promote))
        _live(require_step(report=canary.outputs["report"])).after(promoted)
