"""`synthetic://shapes`: pictures of simple shapes, drawn on the spot, so that a test or a first try needs no download.

The shapes differ clearly but are shifted, scaled, turned and noisy: a linear model learns some, a small network most.
"""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.dataset import Description, ImageFormat, rows_table
from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.rows import SourceRows, choose_rows, fit_images

__all__ = ["Shapes", "load"]

EXAMPLE = "synthetic://shapes?rows=600&seed=0"
Floats = npt.NDArray[np.float64]


class Shapes(Config):
    """What stands behind the question mark of `synthetic://shapes?…`."""

    rows: int = Field(default=600, ge=10, le=1_000_000, description="Training rows; a fifth as many again for testing.")
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Another seed draws other pictures.")
    size: int = Field(default=28, ge=8, le=512, description="Side of a picture in pixels.")
    classes: int = Field(default=5, ge=2, le=8, description="Kinds of shapes.")


# Each answers, for points in units of the shape's radius with y pointing down, how far outside its edge they are.
SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.95,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 0.8,
    "triangle": lambda x, y: np.maximum(y - 0.65, 0.9 * abs(x) - 0.45 * (y + 1)),
    "cross": lambda x, y: np.minimum(np.maximum(abs(x) - 1, abs(y) - 0.3), np.maximum(abs(x) - 0.3, abs(y) - 1)),
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.75) - 0.22,
    "bar": lambda x, y: np.maximum(abs(x) - 1, abs(y) - 0.3),
    "diamond": lambda x, y: 0.85 * (0.55 * abs(y) + abs(x)) - 0.5,
    "moon": lambda x, y: np.maximum(np.hypot(x, y) - 0.95, 0.8 - np.hypot(x - 0.5, y)),
}
NOISE = 22.0  # standard deviation in grey levels of 255
DRAWN_TOGETHER = 4096  # rows: bounds the memory of one batch of float pictures


def load(config: IngestConfig) -> SourceRows:
    """Draw the pictures.

    Returns:
        Splits `train` and `test`, classes in turns; ids `train-00000`…; slice columns `background` (dark, light) and
        `size` (small, large). The same source gives the same pixels.

    Raises:
        ConfigError: the source names another drawing or an unknown key.
    """
    address = urlsplit(config.source)
    if address.netloc != "shapes" or address.path.strip("/"):
        raise ConfigError(f"source {config.source!r}: shapes are all that can be drawn, for example {EXAMPLE}")
    try:
        query = Shapes.parse(dict(parse_qsl(address.query, keep_blank_values=True)))
    except ConfigError as error:
        raise ConfigError(f"source {config.source!r}: {error}; a valid one is {EXAMPLE}") from error

    splits = {split: _split(split, rows, query, config)
              for split, rows in (("train", query.rows), ("test", query.rows // 5))}
    side = config.image_size or query.size
    description = Description(
        name="shapes", source=config.source, classes=tuple(SHAPES)[: query.classes],
        image=ImageFormat.model_validate({"height": side, "width": side, "channels": config.channels or 1}))
    return SourceRows(description, splits, query.model_dump_json())


def _split(split: str, rows: int, query: Shapes, config: IngestConfig) -> pa.Table:
    labels = np.arange(rows) % query.classes
    random = np.random.default_rng([query.seed, split == "test"])
    light, large = random.random(rows) < 0.3, random.random(rows) < 0.5
    pictures = np.empty((rows, query.size, query.size, 1), np.uint8)
    for start in range(0, rows, DRAWN_TOGETHER):
        batch = slice(start, start + DRAWN_TOGETHER)
        pictures[batch, ..., 0] = _draw(labels[batch], light[batch], large[batch], query.size, random)

    chosen = choose_rows(labels, config.limit)
    table = rows_table([f"{split}-{row:05d}" for row in chosen],
                       fit_images(pictures[chosen], config.image_size, config.channels), labels[chosen])
    table = table.append_column("background", pa.array(np.where(light, "light", "dark")[chosen]))
    return table.append_column("size", pa.array(np.where(large, "large", "small")[chosen]))


def _draw(labels: npt.NDArray[np.integer], light: npt.NDArray[np.bool_], large: npt.NDArray[np.bool_], size: int,
          random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw one picture per label, anti-aliased from the distance to the shape's edge.

    Returns:
        (N, size, size) uint8.
    """
    count = len(labels)

    def per_picture(low: float | Floats, high: float | Floats) -> Floats:
        return random.uniform(low, high, count)[:, np.newaxis, np.newaxis]

    radius = per_picture(np.where(large, 0.28, 0.2), np.where(large, 0.38, 0.28)) * size
    down, right = np.mgrid[:size, :size] + 0.5
    y = (down - size * per_picture(0.42, 0.58)) / radius
    x = (right - size * per_picture(0.42, 0.58)) / radius
    angle = per_picture(-0.25, 0.25)  # radians
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

    outside = np.empty((count, size, size))
    for index, shape in enumerate(SHAPES.values()):
        outside[labels == index] = shape(x[labels == index], y[labels == index])
    ink = np.clip(0.5 - outside * radius, 0, 1)
    ground = per_picture(np.where(light, 70.0, 5.0), np.where(light, 110.0, 40.0))
    picture = ground + (per_picture(170, 250) - ground) * ink + random.normal(0, NOISE, ink.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)
