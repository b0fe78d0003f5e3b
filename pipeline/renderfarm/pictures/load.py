"""A picture file -> uint8 pixels, or one clear line that says why not.

Reads PNG, JPEG and WebP, 8 bits a channel, grey, RGB or RGBA, one frame. The header decides before a pixel is
decoded, so that a decompression bomb costs nothing. Rotation by Exif is applied, since that is what a viewer shows.
"""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import PictureError

FORMATS = ("PNG", "JPEG", "WEBP")
PIXELS_MAX = 100_000_000
BYTES_MAX = 200_000_000
_ICC_COLOURS = slice(16, 20)  # ICC.1:2022, 7.2.6: the data colour space
_MODES = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "P": "RGB", "LA": "RGBA", "PA": "RGBA"}


def load_picture(source: Path | bytes, name: str = "") -> NDArray[np.uint8]:
    """uint8 (H, W), (H, W, 3) or (H, W, 4), sRGB, of a file or its bytes. `name` is for messages.

    Raises: PictureError for a file that is missing, a folder or a pipe, too large, no picture, truncated, 16-bit, CMYK, animated, or 1
    pixel wide or high.
    """
    where = name or (str(source) if isinstance(source, Path) else "the picture")
    data = _bytes_of(source, where)
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused below by rule
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError:
            raise _bomb(where) from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            raise PictureError("not an image that is read here", where, f"give it as one of {', '.join(FORMATS)}") from None
        with image:
            mode = _accepted_mode(image, data, where)
            try:
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(upright.convert(mode))
            except (OSError, ValueError, SyntaxError, EOFError):
                raise PictureError("the file is truncated or damaged", where, "fetch or copy it again") from None
    out: NDArray[np.uint8] = np.array(pixels, dtype=np.uint8)
    return out


def colour_profile(source: Path | bytes, name: str = "") -> bytes | None:
    """The ICC profile of a picture that `load_picture` reads: without it, a copy of another colour space would look otherwise.

    None where it is not one of RGB colours: a grey picture's does not fit a copy in colours, and viewers refuse or misread the pair.
    """
    from PIL import Image

    where = name or (str(source) if isinstance(source, Path) else "the picture")
    with Image.open(io.BytesIO(_bytes_of(source, where)), formats=FORMATS) as image:
        found = image.info.get("icc_profile")
    return found if isinstance(found, bytes) and found[_ICC_COLOURS] == b"RGB " else None


def _bytes_of(source: Path | bytes, where: str) -> bytes:
    """The file's bytes, refusing what is missing, no file, empty or too large before it is read."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            found = source.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe would never end, a device neither
                kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
                raise PictureError(f"{kind}, not a picture's file", where, "name the file")
            if found.st_size > BYTES_MAX:
                raise PictureError(f"the file is larger than {BYTES_MAX // 1_000_000} MB", where, "give a smaller file")
            data = source.read_bytes()
        except OSError as error:
            raise PictureError(f"cannot be read: {error.strerror}", where, "check the path and its permissions") from None
    if not data:
        raise PictureError("the file is empty", where, "fetch or copy it again")
    return data


def _accepted_mode(image: object, data: bytes, where: str) -> str:
    """The mode to convert to, by the header alone. Raises: PictureError as `load_picture`."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    width, height = image.size
    if width * height > PIXELS_MAX:
        raise _bomb(where)
    if min(width, height) < 2:
        raise PictureError(f"{width}x{height} pixels is no picture", where, "give one of at least 2x2 pixels")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a camera's JPEG with a preview or a depth map behind it
        raise PictureError("the picture is animated", where, "give one frame of it")
    if image.mode == "CMYK":
        raise PictureError("the picture is CMYK", where, "convert it to sRGB")
    sixteen = image.format == "PNG" and data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10"
    if sixteen or image.mode not in _MODES:
        raise PictureError(
            f"the picture is not 8 bits a channel ({'16-bit PNG' if sixteen else image.mode})",
            where,
            "convert it to 8 bits",
        )
    mode = _MODES[image.mode]
    return "RGBA" if mode == "RGB" and "transparency" in image.info else mode


def _bomb(where: str) -> PictureError:
    return PictureError(f"more than {PIXELS_MAX // 1_000_000} million pixels", where, "give a smaller picture")
