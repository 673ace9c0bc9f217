"""Compile a pipeline to the YAML that Kubeflow takes.

The only place that writes into `pipelines/compiled`.
"""

import importlib
from pathlib import Path

from penstock.pipelines.stages import pipeline_name

__all__ = ["compile_pipeline"]


def compile_pipeline(name: str, out: Path) -> Path:
    """Write `<out>/<name>.yaml` and return its path.

    Raises:
        ConfigError: there is no such pipeline.
    """
    from kfp import compiler

    name = pipeline_name(name)
    pipeline = getattr(importlib.import_module(f"penstock.pipelines.{name}"), name)
    out.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(out / f"{name}.yaml"))
    return out / f"{name}.yaml"
