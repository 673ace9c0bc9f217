"""Bring images and labels from a source into a dataset folder.

Sees to the folder; where rows come from is each source's work, and what a dataset looks like the contract's.
"""

import logging
from pathlib import Path

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.folder import text_sha256
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.sources import find_source

__all__ = ["IngestConfig", "run"]

logger = logging.getLogger(__name__)


def run(target: Path | str, config: IngestConfig) -> Dataset:
    """Ingest `config.source` into the new folder `target`; the source's own test split stays one.

    Returns:
        The dataset. Where `target` already holds this source's rows under these options, they are returned as they are.

    Raises:
        ConfigError: the source or one of its keys is unknown.
        ContractError: the source's content is bad, or `target` holds something else.
        StepError: the source could not be had.
    """
    rows = find_source(config.source).load(config)
    options = config.model_dump_json(exclude={"cache"})  # where a download is kept changes no row
    dataset = write_dataset(target, rows.description, rows.splits, made_from=text_sha256(options + rows.fingerprint))
    logger.info("source=%s rows=%d content_hash=%s", config.source, dataset.rows, dataset.manifest.content_hash)
    return dataset
