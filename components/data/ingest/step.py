"""Bring images and labels from a source into a dataset folder.

Sees to the folder; where rows come from is each source's work, and what a dataset looks like the contract's. Every
source of files is read here or at any fsspec address. `s3://` takes its key and its server from AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_ENDPOINT_URL (FSSPEC_S3_ANON=true: no key); other schemes take one
package more (`gs://` gcsfs, `abfs://` adlfs) and the environment that it documents.
"""

import logging
from pathlib import Path

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.folder import text_sha256
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.sources import check_source

__all__ = ["IngestConfig", "run"]

logger = logging.getLogger(__name__)


def run(target: Path | str, config: IngestConfig) -> Dataset:
    """Ingest `config.source` into the new folder `target`; the source's own test split stays one.

    Returns:
        The dataset. Where `target` already holds this source's rows under these options, they are returned as they are.

    Raises:
        ConfigError: the source, one of its keys or columns is unknown, or it is not there.
        ContractError: the source's content is bad, or `target` holds something else.
        StepError: the source could not be had, or its storage stopped answering.
        DiskFull: there is no room for the dataset.
    """
    rows = check_source(config).load(config)
    options = config.model_dump_json(exclude={"cache"})  # where a download is kept changes no row
    dataset = write_dataset(target, rows.description, rows.splits, made_from=text_sha256(options + rows.fingerprint))
    logger.info("source=%s rows=%d content_hash=%s", config.source, dataset.rows, dataset.manifest.content_hash)
    return dataset
