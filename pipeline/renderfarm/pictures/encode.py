"""Pixels to picture files and back: PNG, JPEG and WebP out; those and a few more in, bounded against hostile files.

Encoding adds no metadata but the XMP packet it is given. Decoding trusts nothing that a file says: bytes and pixels
are limited before any pixel memory is asked for, and whatever the codec raises becomes a `PictureError`.

PNG is the default of a job, and zlib's search for matches in a photograph-like picture is what it costs: measured
on one core at 512² on marked pictures, 58 ms and 261 KiB at zlib level 6, 18 ms and 301 KiB at level 1, and 11 ms
and 285 KiB with run-length matching and the Paeth filter, which finds what there is to find in flat areas. That
last one is level 1 here; levels 2 to 9 are zlib's own.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import PictureError
from renderfarm.pictures import xmp as xmp_packets

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
"""uint8 (H, W, 3), sRGB."""

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""What can be written, and the ending of its names."""

BYTES_MAX = 64 << 20
PIXELS_MAX = 64_000_000
WEBP_SIDE_MAX = 16_383
CHROMA_FULL_QUALITY = 90
"""From this JPEG quality on, colour keeps its full resolution: halved, red letters on white get a fringe."""

READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}


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


def decode(data: bytes, bytes_max: int = BYTES_MAX, pixels_max: int = PIXELS_MAX) -> Pixels:
    """The pixels of a PNG, JPEG, WebP, GIF (first frame), BMP or AVIF file, turned upright, without alpha.

    Returns uint8 (H, W, 3); the colours are taken for sRGB, whatever a profile in the file says.
    Raises: PictureError for anything else, for what is cut off or damaged, and above the limits.
    """
    with _opened(data, bytes_max, pixels_max) as picture:
        from PIL import ImageOps

        with _guarded():
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):  # Pillow's conversion would clip 16-bit grey to white
                grey = (np.asarray(upright, np.uint16) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"), dtype=np.uint8)


def media_type_of(data: bytes) -> str:
    """The media type that the bytes themselves show, whatever a name says.

    Raises: PictureError for one that `decode` would not read.
    """
    with _opened(data, len(data), PIXELS_MAX) as picture:
        return MEDIA_TYPES[str(picture.format)]


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) as the header says it, before any turning upright. Raises: PictureError."""
    with _opened(data, len(data), PIXELS_MAX) as picture:
        return picture.size


def thumbnail(image: Pixels, side: int = 192) -> bytes:
    """A small WebP for contact sheets: longer side at most `side` pixels, about 3 kB. image: uint8 (H, W, 3)."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return _encode_webp(np.asarray(small, dtype=np.uint8), quality=70)


def _opened(data: bytes, bytes_max: int, pixels_max: int) -> Image:
    """A picture whose header was read and found harmless; no pixel is decoded yet."""
    from PIL import Image

    if len(data) > bytes_max:
        raise PictureError(f"the file has {len(data):,} bytes; at most {bytes_max:,} are read", remedy="use a smaller copy")
    with _guarded():
        picture = Image.open(io.BytesIO(data), formats=READABLE)
    if picture.width * picture.height > pixels_max:
        raise PictureError(
            f"the picture has {picture.width}×{picture.height} pixels; at most {pixels_max:,} are read",
            remedy="use a smaller copy",
        )
    return picture


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Turns whatever a codec raises over a hostile file into PictureError, and keeps its warnings quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise PictureError(
            f"this is no picture that can be read ({type(error).__name__})",
            remedy=f"give a whole file in one of these formats: {', '.join(READABLE)}",
        ) from error
