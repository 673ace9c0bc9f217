"""The stages of a pipeline and the configuration of each.

Loads the steps' configuration models on demand, because reading `--help` must not import pyarrow.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ConfigError

__all__ = ["PIPELINES", "Arguments", "anchored", "check", "override", "pipeline_name", "stage_configs"]

PIPELINES = ("train_and_deploy",)
Options = dict[str, object]


class Arguments(NamedTuple):
    """What a pipeline is started with, apart from its run id.

    `scalars`: parameters of the whole pipeline, such as service. `stages`: the options of each stage.
    """

    scalars: dict[str, str]
    stages: dict[str, Options]


def pipeline_name(name: str) -> str:
    """Return `name`, hyphens as underscores.

    Raises:
        ConfigError: there is no such pipeline.
    """
    if (known := name.replace("-", "_")) not in PIPELINES:
        raise ConfigError(f"there is no pipeline {name!r}; there is {', '.join(PIPELINES)}")
    return known


def stage_configs() -> dict[str, type[Config]]:
    """Return the configuration model of every stage of `train_and_deploy`, in the order of the steps."""
    from penstock.components.conversion.export.step import ExportConfig
    from penstock.components.conversion.quantize.step import QuantizeConfig
    from penstock.components.conversion.verify_parity.step import VerifyParityConfig
    from penstock.components.data.ingest.step import IngestConfig
    from penstock.components.data.split.step import SplitConfig
    from penstock.components.data.validate.step import ValidateConfig
    from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig
    from penstock.components.deployment.promote.step import PromoteConfig
    from penstock.components.deployment.roll_out.step import RollOutConfig
    from penstock.components.evaluation.evaluate.step import EvaluateConfig
    from penstock.components.evaluation.gate.step import GateConfig
    from penstock.components.training.train.step import TrainConfig
    from penstock.components.tuning.sweep.step import SweepConfig

    return {"ingest": IngestConfig, "validate": ValidateConfig, "split": SplitConfig, "sweep": SweepConfig,
            "train": TrainConfig, "evaluate": EvaluateConfig, "gate": GateConfig, "export": ExportConfig,
            "quantize": QuantizeConfig, "verify_parity": VerifyParityConfig, "roll_out": RollOutConfig,
            "analyse_canary": AnalyseCanaryConfig, "promote": PromoteConfig}


def override(arguments: Arguments, settings: Iterable[str]) -> Arguments:
    """Apply `--set` options.

    Args:
        settings: `stage.key=value`, `stage={"key": value}` or `scalar=value`; a value is JSON, else a string.

    Raises:
        ConfigError: a setting is malformed, or its stage or scalar is unknown.
    """
    scalars, stages = dict(arguments.scalars), {name: dict(options) for name, options in arguments.stages.items()}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: a value is missing; try --set train.epochs=3")
        name, _, key = path.partition(".")
        if name in scalars and not key:
            scalars[name] = text
        elif name in stages and key:
            stages[name][key] = _value(text)
        elif name in stages and isinstance(options := _value(text), dict):
            stages[name].update(options)
        elif name in stages:
            raise ConfigError(f"--set {setting}: a stage takes keys; try --set {name}.KEY=VALUE")
        else:
            close = difflib.get_close_matches(name, [*scalars, *stages], n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join([*scalars, *stages])}"
            raise ConfigError(f"--set {setting}: unknown {name!r}, {hint}")
    return Arguments(scalars, stages)


def anchored(arguments: Arguments) -> Arguments:
    """Make paths absolute, because a run may be taken up again from another folder."""
    from penstock.components.data.ingest.sources import anchored_source

    scalars, stages = dict(arguments.scalars), dict(arguments.stages)
    scalars["registry"] = str(Path(scalars["registry"]).expanduser().absolute())
    if source := str(stages["ingest"].get("source", "")):
        stages["ingest"] = stages["ingest"] | {"source": anchored_source(source)}
    return Arguments(scalars, stages)


def check(arguments: Arguments) -> None:
    """Parse the service's name and the options of every stage, so that a mistake shows before anything starts.

    Raises:
        ConfigError: naming the field, the value and what would be valid, for every stage that is wrong.
    """
    from penstock.components.control.inference_service import check_service_name

    check_service_name(arguments.scalars["service"])
    mistakes = []
    for name, config in stage_configs().items():
        try:
            config.parse(arguments.stages.get(name, {}))
        except ConfigError as error:
            mistakes.append(f"{name}: {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    _check_sweep(arguments.stages)
    _check_canary(arguments.stages)


def _check_sweep(stages: Mapping[str, Options]) -> None:
    """Refuse a search space that training, or Katib, would refuse trial by trial."""
    from penstock.components.tuning.sweep.step import SweepConfig, check_sweep

    try:
        check_sweep(SweepConfig.parse(stages.get("sweep", {})), stages.get("train", {}))
    except ConfigError as error:
        raise ConfigError(f"sweep: {error}") from error


def _check_canary(stages: Mapping[str, Options]) -> None:
    """Refuse a canary whose share of the sample could never prove what is asked of it."""
    from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig
    from penstock.components.deployment.roll_out.step import RollOutConfig

    share = RollOutConfig.parse(stages.get("roll_out", {})).canary_percent
    config = AnalyseCanaryConfig.parse(stages.get("analyse_canary", {}))
    if config.ladder and config.ladder[0] <= share:
        raise ConfigError(f"analyse_canary: ladder={list(config.ladder)} begins at or below "
                          f"roll_out.canary_percent={share}, where the canary is already")
    config.check_sample(share)


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
