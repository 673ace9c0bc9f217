"""The KFP face of `ingest`."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from penstock.components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def ingest(dataset: Output[Dataset], config: dict) -> None:
    """Bring images and labels from a source into a dataset folder: Parquet shards and a manifest that vouches for them.

    Args:
        dataset: the dataset folder, with the source's own train and test splits.
        config: options of `IngestConfig`; `source` says where the images come from.
    """
    from penstock.components.data.ingest.step import IngestConfig, run

    run(dataset.path, IngestConfig.parse(config))
