"""Pictures as all of the book gets them: in RGB, upright, transparent pixels on white, 16 bits scaled to 8."""

import io
import warnings
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageOps

MAX_PIXELS = 50_000_000
THUMBNAIL = 256
"""Longest edge of a thumbnail."""


class TooLargeError(ValueError):
    """A picture has more than MAX_PIXELS pixels."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture in RGB; one that is already, upright and without transparency, is returned as it is."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would cut 16 bits off at 255
        values, key = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))
        if key is not None:
            image.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def open_image(source: str | bytes, edge: int = 0, formats: tuple[str, ...] | None = None) -> Image.Image:
    """A picture, read to its end, in RGB.

    Args:
        source: path or content of the file.
        edge: if given, of the size that is needed: the picture may come smaller, which is fast, but not below that.
        formats: that are read; all that Pillow reads if None.

    Raises:
        TooLargeError: by its header; nothing is decoded.
        Exception: whatever a decoder raises on a damaged file.
    """
    too_large = f"the image has more than {MAX_PIXELS:,} pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise TooLargeError(too_large)
                if edge:
                    image.draft("RGB", (edge, edge))  # a JPEG is read to its end, but decoded small
                image.load()
                return to_rgb(image)
    except Image.DecompressionBombError:
        raise TooLargeError(too_large) from None


@lru_cache(maxsize=1024)
def thumbnail(source: str | bytes) -> Image.Image:
    """A picture with edges of at most THUMBNAIL; raises the errors of ``open_image``."""
    image = open_image(source, THUMBNAIL)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image
