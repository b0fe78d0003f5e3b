"""Pixels → picture files: PNG, JPEG and WebP. No metadata is added but the XMP packet that is given.

PNG is the default of a job, and zlib's search for matches in a photograph-like picture is what it costs: measured
on one core at 512² on marked pictures, 58 ms and 261 KiB at zlib level 6, 18 ms and 301 KiB at level 1, and 11 ms
and 285 KiB with run-length matching and the Paeth filter, which finds what there is to find in flat areas. That
last one is level 1 here; levels 2 to 9 are zlib's own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from renderfarm.errors import PictureError
from renderfarm.pictures import xmp as xmp_packets
from renderfarm.pictures.reader import Picture, Pixels

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""What can be written, and the ending of its names."""

WEBP_SIDE_MAX = 16_383
CHROMA_FULL_QUALITY = 90
"""From this JPEG quality on, colour keeps its full resolution: halved, red letters on white get a fringe."""


def encode(image: Pixels, media_type: str, *, quality: int = 92, level: int = 1, xmp: bytes | None = None) -> bytes:
    """One picture file.

    image: uint8 (H, W, 3), sRGB; quality: 1..100, JPEG and WebP; level: 0..9, PNG only, 0 and 1 the fast way of the
    module's docstring; xmp: a packet of `xmp.packet`. Raises: PictureError for a media type or a size that cannot
    be written.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image is uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if media_type == "image/webp":
        data = _encode_webp(image, quality)
    elif media_type in EXTENSIONS:
        data = _encode_cv2(image, media_type, quality, level)
    else:
        raise PictureError(f"cannot write {media_type}", remedy=f"choose one of {', '.join(EXTENSIONS)}")
    return xmp_packets.add(data, xmp) if xmp else data


def _encode_cv2(image: Pixels, media_type: str, quality: int, level: int) -> bytes:
    import cv2

    flags: Sequence[int]
    if media_type == "image/png":
        if level <= 1:
            flags = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
                     cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH)  # fmt: skip
        else:
            flags = (cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
                     cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS)  # fmt: skip
    else:
        full = quality >= CHROMA_FULL_QUALITY
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        flags = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    done, encoded = cv2.imencode(f".{EXTENSIONS[media_type]}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    if not done:
        raise PictureError(f"cannot write {image.shape[1]}×{image.shape[0]} pixels as {media_type}")
    return bytes(encoded.tobytes())


def _encode_webp(image: Pixels, quality: int) -> bytes:
    """Method 2 of 6: half of the default's time for 3 to 8 % more bytes."""
    from PIL import Image

    if max(image.shape[:2]) > WEBP_SIDE_MAX:
        raise PictureError(f"a WebP picture is at most {WEBP_SIDE_MAX} pixels wide and high", remedy="choose png or jpeg")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()


def encode_like(source: Picture, pixels: Pixels) -> bytes:
    """A PNG file of pixels, uint8 (H, W, 3), made from a picture's own, with the alpha and the colour profile of that picture."""
    if source.alpha is None and source.profile is None:
        return encode(pixels, "image/png")
    from PIL import Image

    file, both = io.BytesIO(), pixels if source.alpha is None else np.dstack([pixels, source.alpha])
    Image.fromarray(both).save(file, "PNG", compress_level=1, icc_profile=source.profile)
    return file.getvalue()


def thumbnail(image: Pixels, side: int = 192) -> bytes:
    """A small WebP for contact sheets: longer side at most `side` pixels, about 3 kB. image: uint8 (H, W, 3)."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return _encode_webp(np.asarray(small, dtype=np.uint8), quality=70)
