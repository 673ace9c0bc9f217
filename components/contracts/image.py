"""One way to turn a picture file into the uint8 pixels a model was trained on.

Used where rows are made (ingest) and where one picture is asked about (predict), so that both see the same pixels.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from penstock.components.contracts.errors import ContractError

__all__ = ["PICTURE_SUFFIXES", "UNREADABLE", "decode_image", "picture_pixels"]

UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # Pillow's ways
PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})  # in lower case
MODES = {1: "L", 3: "RGB"}


def decode_image(data: bytes, height: int, width: int, channels: int, name: str = "image") -> npt.NDArray[np.uint8]:
    """Decode a PNG, JPEG or other picture file.

    Args:
        height: pixels; 0 together with width keeps the picture's own size.
        channels: 1 (grey) or 3 (RGB).
        name: for the error text.

    Returns:
        (H, W, C) uint8.

    Raises:
        ContractError: the bytes are no picture, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture_pixels(picture, height, width, channels)
    except UNREADABLE as error:
        raise ContractError(f"{name} is no readable image ({len(data):,} bytes): {error}") from error


def picture_pixels(picture: Image.Image, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of an opened picture, as it would be seen: turned as its EXIF says, on white where clear.

    Args:
        height: pixels; 0 together with width keeps the picture's own size.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        (H, W, C) uint8.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    if upright.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them at 255
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    fitted = upright.convert(MODES[channels])
    if height and width and fitted.size != (width, height):
        fitted = fitted.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted, np.uint8).reshape(fitted.height, fitted.width, channels)
