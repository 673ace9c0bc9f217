"""The KFP face of `split`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def split(rows: Input[Dataset], dataset: Output[Dataset], config: dict) -> None:
    """Carve validation rows, and test rows where the source has none, out of the ingested training rows.

    Args:
        rows: the ingested dataset.
        dataset: the same rows with the splits train, validation and test.
        config: options of `SplitConfig`: the shares and the seed.
    """
    from penstock.components.data.split.step import SplitConfig, run

    run(rows.path, dataset.path, SplitConfig.parse(config))
