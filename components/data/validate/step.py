"""Judge a dataset before anything is trained on it: enough rows, balanced, unrepeated, consistent, not leaked.

Succeeds whatever the verdict, so that the report is kept; a `require` step stops the run on `fail`.
"""

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.dataset import Dataset, Description
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.image import decode_image
from penstock.components.contracts.reports import Check, ValidationReport
from penstock.components.data.validate.repeats import Repeats, find_repeats

__all__ = ["ValidateConfig", "judge", "run"]

logger = logging.getLogger(__name__)

OFF = {"min_rows_per_class": 0, "max_class_imbalance": 0, "max_duplicate_share": 1, "max_conflicting_labels": -1,
       "max_leaked": -1, "max_unreadable_share": 1}


class ValidateConfig(Config):
    """How much trouble a dataset may have. Fashion-MNIST has none of it: no picture of it repeats, pixel for pixel."""

    min_rows_per_class: int = Field(default=10, ge=0, description="Training rows of the rarest class. 0: off.")
    max_class_imbalance: float = Field(
        default=20.0, ge=0, description="Training rows of the largest class over those of the rarest. 0: off.")
    max_duplicate_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of a split's rows that repeat one of its pictures. 1: off.")
    max_conflicting_labels: int = Field(
        default=0, ge=-1, description="Pictures that occur under more than one label. -1: off.")
    max_leaked: int = Field(default=0, ge=-1, description="Pictures that two splits share. -1: off.")
    max_unreadable_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the source's images that hold no picture. 1: off.")


def run(source: Path | str, target: Path | str, config: ValidateConfig) -> ValidationReport:
    """Judge the dataset folder `source` and write the report folder `target`.

    Returns:
        The report; verdict `pass` or `fail`.

    Raises:
        ContractError: the dataset is damaged, or `target` holds another report.
    """
    from penstock.components.data.validate.page import draw_page

    dataset = Dataset(source)
    description = dataset.description
    splits, pictures, unreadable = _readable(dataset.read_all(), description)
    if "train" not in splits:
        raise ContractError(f"{source} has no train split to judge; it has {', '.join(splits)}")
    repeats = find_repeats(pictures, np.concatenate([part["label"].to_numpy() for part in splits.values()]),
                           np.concatenate([np.full(len(part), name) for name, part in splits.items()]))
    class_counts = {name: _class_counts(part, description.classes) for name, part in splits.items()}

    checks = judge(class_counts, repeats, unreadable, config)
    broken = [check for check in checks if not check.passed]
    report = ValidationReport(
        verdict="fail" if broken else "pass",
        reason=_reason(checks, len(pictures), len(description.classes)), checks=checks,
        dataset=description.name, content_hash=dataset.manifest.content_hash,
        rows={name: len(part) for name, part in splits.items()}, class_counts=class_counts,
        duplicates=repeats.surplus, conflicting_labels=repeats.conflicting, leaked=repeats.shared,
        unreadable=unreadable)
    logger.info("dataset=%s verdict=%s reason=%r", report.dataset, report.verdict, report.reason)
    return report.save(target, draw_page(report, description, splits, [rows for _, rows in repeats.groups]))


def judge(class_counts: Mapping[str, Mapping[str, int]], repeats: Repeats, unreadable: Mapping[str, int],
          config: ValidateConfig) -> tuple[Check, ...]:
    """Hold what was found against the thresholds.

    Args:
        class_counts: per split and class the rows.
        unreadable: per split the images that hold no picture, which `class_counts` leaves out.
    """
    trained = class_counts["train"]
    rarest, largest = min(trained, key=trained.__getitem__), max(trained, key=trained.__getitem__)
    imbalance = trained[largest] / trained[rarest] if trained[rarest] else float(trained[largest])
    sizes = {name: max(sum(counts.values()), 1) for name, counts in class_counts.items()}
    duplicate_share = max((surplus / sizes[name] for name, surplus in repeats.surplus.items()), default=0.0)
    files = sum(sizes.values()) + sum(unreadable.values())
    found = {
        "min_rows_per_class": (trained[rarest], f"rarest: {rarest}"),
        "max_class_imbalance": (imbalance, f"largest: {largest}"),
        "max_duplicate_share": (duplicate_share, _listed(repeats.surplus)),
        "max_conflicting_labels": (repeats.conflicting, "pictures under more than one label"),
        "max_leaked": (max(repeats.shared.values(), default=0), _listed(repeats.shared) or "one split"),
        "max_unreadable_share": (sum(unreadable.values()) / files, _listed(unreadable)),
    }
    return tuple(_check(threshold, getattr(config, threshold), value, detail)
                 for threshold, (value, detail) in found.items())


def _check(threshold: str, limit: float, value: float, detail: str) -> Check:
    bound, _, name = threshold.partition("_")
    if limit == OFF[threshold]:
        return Check(name=name, passed=True, value=value, rule="not limited", detail=detail)
    passed, relation = (value >= limit, ">=") if bound == "min" else (value <= limit, "<=")
    return Check(name=name, passed=passed, value=value, rule=f"{relation} {limit:g}", detail=detail)


def _reason(checks: tuple[Check, ...], rows: int, classes: int) -> str:
    broken = [f"{check.name} is {check.value:.4g}, the rule is {check.rule} ({check.detail})"
              for check in checks if not check.passed]
    if broken:
        return "; ".join(broken) + ". Mend the data, or change the threshold of that name in validate's config."
    return f"{rows:,} rows in {classes} classes pass all {len(checks)} checks."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def _class_counts(rows: pa.Table, classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(rows["label"].to_numpy(), minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def _readable(splits: Mapping[str, pa.Table], description: Description
              ) -> tuple[dict[str, pa.Table], npt.NDArray[np.integer], dict[str, int]]:
    """Set rows without a picture aside.

    Returns:
        The other rows, by split; one number per such row over all splits, equal for equal pictures; per split how many
        rows were set aside, with those that ingest left out.
    """
    kept, pictures, unreadable = {}, [], {}
    for name, rows in splits.items():
        column = rows["image"]
        if description.image.encoding == "encoded":
            column = pa.chunked_array([_digests(column.to_pylist(), description.image.channels)], pa.binary())
        kept[name] = rows.filter(column.is_valid())
        pictures += column.drop_null().chunks
        unreadable[name] = column.null_count + description.unreadable.get(name, 0)
    numbers = pa.chunked_array(pictures, column.type).combine_chunks().dictionary_encode().indices
    return kept, numbers.to_numpy(zero_copy_only=False), unreadable


def _digests(images: list[bytes], channels: int) -> list[bytes | None]:
    """Hash each encoded image's pixels, whatever its compression; None where there are none."""
    def digest(data: bytes) -> bytes | None:
        try:
            pixels = decode_image(data, 0, 0, channels)
        except ContractError:
            return None
        return hashlib.blake2b(f"{pixels.shape}".encode() + pixels.tobytes(), digest_size=16).digest()

    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
        return list(pool.map(digest, images))
