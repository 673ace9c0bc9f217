"""The KFP face of `verify_parity`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from penstock.components import images


@dsl.component(base_image=images.CONVERT, install_kfp_package=False)
def verify_parity(dataset: Input[Dataset], exported: Input[Model], quantized: Input[Model], report: Output[Artifact],
                  page: Output[HTML], shipped: Output[Model], config: dict) -> str:
    """Hold the exported and the quantized model against torch and pick what ships; returns "pass" or "fail".

    Args:
        dataset: the dataset folder; all are asked about the same held-out rows.
        exported: the fp32 candidate; the torch network is rebuilt from its weights.
        quantized: the int8 candidate, or a copy of `exported` where nothing was quantized.
        report: the parity report and its page.
        page: the report for people.
        shipped: a copy of the candidate that was picked; absent where none may ship.
        config: options of `VerifyParityConfig`: limits, and how latency is measured.
    """
    import shutil

    from penstock.components.conversion.verify_parity.step import VerifyParityConfig, run

    options = VerifyParityConfig.parse(config)
    found = run(dataset.path, exported.path, quantized.path, report.path, shipped.path, options)
    shutil.copy(f"{report.path}/index.html", page.path)
    return found.verdict
