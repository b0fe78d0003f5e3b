"""A stranger's picture file, opened with care: plain formats only, nothing larger than `PIXELS_MAX`, upright. No torch."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from renderfarm.errors import RenderFailed

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
PIXELS_MAX = 64_000_000


def open_picture(data: bytes, *, decode: bool = True) -> Picture:
    """Returns the picture, turned upright. Raises RenderFailed when it is none or too large.

    Without `decode` only its header is read, and it is not turned.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata of a stranger's file is no news
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
            if opened.width * opened.height > PIXELS_MAX:
                raise RenderFailed(f"{opened.width}×{opened.height} is more than {PIXELS_MAX:,} pixels")
            return ImageOps.exif_transpose(opened) if decode else opened
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise RenderFailed(f"not a readable {', '.join(FORMATS)} file{why}") from error


def picture_size(data: bytes) -> tuple[int, int]:
    """Returns width and height once upright, from the header (Exif 2.32, tag 0x0112: 5 to 8 lie on their side)."""
    opened = open_picture(data, decode=False)
    width, height = opened.size
    return (height, width) if opened.getexif().get(0x0112, 1) >= 5 else (width, height)
