"""The page of a validation: the rules, what the pictures look like, and every kind of trouble by example.

Draws what the step found; judges nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup

from penstock.components.contracts.dataset import Description, images_array
from penstock.components.contracts.image import decode_image
from penstock.components.contracts.reports import ValidationReport
from penstock.components.reporting.page import Section, checks_table, render_page, table
from penstock.components.reporting.plots import bars, histogram, image_grid

__all__ = ["draw_page"]

SAMPLES = 200  # pictures on the page, shared by the classes; a thumbnail takes one to six kB
PER_CLASS = 10
EXAMPLES = 10  # groups of repeated pictures shown
HISTOGRAM_IMAGES, HISTOGRAM_VALUES = 2_000, 8_000_000  # at most, of the first split: more changes no bar visibly
THUMBNAIL = 96  # pixels a side, for images that have sizes of their own
SLICE_VALUES = 20


def draw_page(report: ValidationReport, description: Description, splits: Mapping[str, pa.Table],
              repeated: Sequence[Sequence[int]]) -> str:
    """Draw the page.

    Args:
        splits: the tables that were judged, without rows that hold no picture.
        repeated: groups of rows with the same picture; rows count over all splits in their order.
    """
    first = next(iter(splits))
    rows = pa.concat_tables(splits.values())
    place = [name for name, part in splits.items() for _ in range(len(part))]
    sections = [
        Section("Checks", checks_table(report.checks), "Each rule, and what was found."),
        Section("Rows per class", bars(description.classes, {
            name: list(counts.values()) for name, counts in report.class_counts.items()}, "rows")),
        Section("Samples", _samples(splits[first], description), f"The first pictures of each class in {first}."),
        Section("Pixels", _pixels(splits[first], description),
                f"Values from 0 (black) to 255 (white), over {first}."),
    ]
    if repeated:
        sections.append(Section(
            "Repeated pictures", _repeats(rows, place, description, repeated),
            f"{len(repeated):,} pictures occur more than once, pixel for pixel. The largest groups:"))
    slices = [column for column in rows.column_names if column not in {"id", "image", "label"}]
    if slices:
        sections.append(Section("Slice columns", _slices(rows, slices), "Metrics are reported for each of these, too."))
    facts = {
        "dataset": report.dataset,
        "source": description.source,
        "rows": ", ".join(f"{name} {count:,}" for name, count in report.rows.items()),
        "classes": f"{len(description.classes)}",
        "images": _format(description),
        "content hash": report.content_hash[:12],
    }
    return render_page(f"Validation of {report.dataset}", report.verdict, report.reason, sections, facts)


def _samples(rows: pa.Table, description: Description) -> Markup:
    labels = rows["label"].to_numpy()
    per_class = max(1, min(PER_CLASS, SAMPLES // len(description.classes)))
    chosen = [row for label in range(len(description.classes)) for row in np.flatnonzero(labels == label)[:per_class]]
    return _pictures(rows, description, chosen, [description.classes[labels[row]] for row in chosen], columns=10)


def _repeats(rows: pa.Table, place: Sequence[str], description: Description,
             repeated: Sequence[Sequence[int]]) -> Markup:
    chosen = [row for group in repeated[:EXAMPLES] for row in group[:4]]
    labels, ids = rows["label"].to_numpy(), rows["id"]
    captions = [f"{place[row]}: {ids[row].as_py()}, {description.classes[labels[row]]}" for row in chosen]
    return _pictures(rows, description, chosen, captions, columns=8)


def _pictures(rows: pa.Table, description: Description, chosen: Sequence[int], captions: Sequence[str],
              columns: int) -> Markup:
    return image_grid(_arrays(rows.take(pa.array(chosen, pa.int64())), description), captions, columns)


def _pixels(rows: pa.Table, description: Description) -> Markup:
    height, width, channels = description.image.shape
    values = (height or THUMBNAIL) * (width or THUMBNAIL) * channels
    count = min(len(rows), HISTOGRAM_IMAGES, max(HISTOGRAM_VALUES // values, 1))
    spread = np.linspace(0, len(rows) - 1, count).astype(int)  # a folder's rows come class by class
    images = _arrays(rows.take(pa.array(spread)), description)
    brightness = images.mean(axis=(1, 2, 3))
    return histogram(images.reshape(-1), 32, "pixel value") + histogram(brightness, 40, "mean brightness of a picture")


def _arrays(rows: pa.Table, description: Description) -> npt.NDArray[np.uint8]:
    """Return (N, H, W, C) uint8; images with sizes of their own become square thumbnails."""
    if description.image.encoding == "raw":
        return images_array(rows, description.image)
    channels = description.image.channels
    arrays = [decode_image(data, THUMBNAIL, THUMBNAIL, channels) for data in rows["image"].to_pylist()]
    return np.stack(arrays) if arrays else np.empty((0, THUMBNAIL, THUMBNAIL, channels), np.uint8)


def _slices(rows: pa.Table, columns: Sequence[str]) -> Markup:
    lines = []
    for column in columns:
        counts = sorted(rows[column].value_counts().to_pylist(), key=lambda entry: -entry["counts"])
        listed = ", ".join(f"{entry['values']} ({entry['counts']:,})" for entry in counts[:SLICE_VALUES])
        lines.append([column, len(counts), listed + (", …" if len(counts) > SLICE_VALUES else "")])
    return table(["Column", "Values", "Rows of each"], lines, numeric={1})


def _format(description: Description) -> str:
    kind = "grey" if description.image.channels == 1 else "RGB"
    height, width, _ = description.image.shape
    return f"{width} × {height}, {kind}" if width else f"sizes of their own, {kind}"
