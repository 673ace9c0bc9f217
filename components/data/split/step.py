"""Carve a validation split, and where the source has none a test split, out of the ingested training rows.

Decides which row goes where; what a dataset folder looks like is the contract's work.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from penstock.components.contracts.config import Config
from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.folder import text_sha256

__all__ = ["SplitConfig", "run", "split_rows"]

logger = logging.getLogger(__name__)


class SplitConfig(Config):
    """Which shares of the training rows are held out."""

    validation: float = Field(
        default=0.1, ge=0, lt=1, description="Share to choose on: sweep, early stopping, export check. 0: none.")
    test: float = Field(
        default=0.1, ge=0, lt=1,
        description="Share nobody looks at before the report; a test split of the source's own stays instead. 0: none.")
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Another seed draws other rows; KFP carries 53 bits.")

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "SplitConfig":
        held_out = self.validation + self.test
        if held_out >= 1:
            raise ValueError(f"validation + test = {held_out:g} leaves no training rows; try 0.1 and 0.1")
        return self


def run(source: Path | str, target: Path | str, config: SplitConfig) -> Dataset:
    """Split the dataset folder `source` into the new folder `target`; splits that the source brings stay as they are.

    Returns:
        The dataset. Where `target` already holds the same rows split the same way, they are returned as they are.

    Raises:
        ContractError: `source` is damaged, or `target` holds something else.
        StepError: there are so few rows that a split would be empty.
    """
    ingested = Dataset(source)
    shares = {name: share for name, share in (("validation", config.validation), ("test", config.test))
              if share and name not in ingested.manifest.splits}
    parts = split_rows(ingested.read("train"), shares, config.seed)
    splits = parts | {name: ingested.read(name) for name in ingested.manifest.splits if name != "train"}
    for name, table in splits.items():
        if not len(table):
            raise StepError(f"{name} would get none of the {ingested.manifest.splits['train'].rows:,} training rows at "
                            f"shares {shares} and seed {config.seed}; bring more rows, or change a share or the seed")
    made_from = text_sha256(ingested.manifest.content_hash + config.model_dump_json())
    dataset = write_dataset(target, ingested.description, splits, made_from=made_from)
    logger.info("dataset=%s %s", ingested.description.name,
                " ".join(f"{name}={split.rows}" for name, split in dataset.manifest.splits.items()))
    return dataset


def split_rows(table: pa.Table, shares: Mapping[str, float], seed: int = 0) -> dict[str, pa.Table]:
    """Share out rows by a hash of their id.

    A row keeps its split when others are added or removed, so a grown dataset never leaks old training rows into
    its test set. The price: shares hold on average, not to the row (at 10 % of 60,000: 6,000 +- 73, one sigma).

    Args:
        table: any table with a unique string column `id`.
        shares: per held-out split its share of the rows; they add up to less than 1.

    Returns:
        The same columns and order under the names in `shares`, and under "train" what is left.
    """
    draws = np.array([_draw(seed, row_id) for row_id in table["id"].to_pylist()])
    chosen = np.searchsorted(np.cumsum(list(shares.values())), draws, side="right")
    return {name: table.filter(pa.array(chosen == index)) for index, name in enumerate([*shares, "train"])}


def _draw(seed: int, row_id: str) -> float:
    """Map an id to [0, 1), evenly and for ever."""
    digest = hashlib.blake2b(f"{seed}:{row_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
