"""The KFP face of `validate`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def validate(dataset: Input[Dataset], report: Output[Artifact], page: Output[HTML], config: dict) -> str:
    """Judge a dataset: class counts and balance, duplicates, contradicting labels, leakage, unreadable images.

    Args:
        dataset: the dataset to judge.
        report: report folder, with the page in it.
        page: the page alone, for the Kubeflow UI.
        config: thresholds, options of `ValidateConfig`.

    Returns:
        The verdict, `pass` or `fail`.
    """
    import shutil

    from penstock.components.data.validate.step import ValidateConfig, run

    found = run(dataset.path, report.path, ValidateConfig.parse(config))
    shutil.copy(f"{report.path}/index.html", page.path)
    return found.verdict
