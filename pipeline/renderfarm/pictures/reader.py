"""A picture file → pixels: the one door for every file that the program reads, its own or a stranger's.

One list of formats, one set of limits, one error. The header is judged before a pixel is decoded, so that a decompression bomb costs
nothing, and whatever a codec raises becomes a `PictureError` that says what, where and the remedy. Whoever reads a file gets the same
pixels: the first frame, turned upright as its Exif says, 8 bits a channel (the upper ones of 16-bit grey), palettes, grey and CMYK as
RGB, without alpha, and taken for sRGB whatever a profile in the file says. Who needs more finds it in `Picture`; who may lose nothing asks
for `exact`.
"""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import PictureError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Pixels = NDArray[np.uint8]
"""uint8 (H, W, 3), sRGB, red first."""

FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}
"""What is read, by the codec's name, and its media type."""
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""The endings of such files, for finding them in a folder; what a file is, its bytes say."""
BYTES_MAX, PIXELS_MAX = 200_000_000, 100_000_000

_EXACT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_ICC_COLOURS = slice(16, 20)  # ICC.1:2022, 7.2.6: the data colour space
_SMALLER, _WHOLE = "use a smaller copy", f"give a whole file in one of these formats: {', '.join(FORMATS)}"


@dataclass(frozen=True, slots=True)
class Picture:
    """What was read of a file. pixels: uint8 (H, W, 3), sRGB; alpha: uint8 (H, W), 0 transparent, None where nothing is.

    profile: the ICC profile, None where it is not one of RGB colours: a grey one does not fit pixels in colours.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    profile: bytes | None
    media_type: str

    def on_white(self) -> Pixels:
        """The pixels as a viewer shows them: what lies under transparent ones is arbitrary."""
        if self.alpha is None:
            return self.pixels
        alpha = self.alpha.astype(np.uint16)[..., None]
        return ((self.pixels.astype(np.uint16) * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def read_file(path: Path) -> bytes:
    """The bytes of a picture's file, cut just above what `read` takes. Raises: PictureError for what is missing, or no file."""
    try:
        if not stat.S_ISREG((found := path.stat()).st_mode):  # a pipe would never end, a device neither
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise PictureError(f"{kind}, not a picture's file", str(path), "name the file")
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}", str(path), "check the path and its permissions") from error


def read(data: bytes, where: str = "", *, exact: bool = False) -> Picture:
    """The picture in a file of one of FORMATS; `where` is for messages.

    exact: refuses what an 8-bit copy of the first frame in sRGB would not be the whole of: CMYK, 16 bits a channel, further frames.
    Raises: PictureError for what is none, empty, cut off, damaged, above the limits, or has 32 bits a channel.
    """
    with _opened(data, where) as image:
        what = "has 32 bits a channel" if image.mode in ("I", "F") else _lost(image) if exact else ""
        if what:
            raise PictureError(f"the picture {what}", where, "convert it to one frame of 8-bit sRGB")
        media_type, profile = _media_type(image), image.info.get("icc_profile")
        with _refused("the file is cut off or damaged", where):
            pixels, alpha = _decoded(image)
    return Picture(pixels, alpha, profile if isinstance(profile, bytes) and profile[_ICC_COLOURS] == b"RGB " else None, media_type)


def decode(data: bytes, where: str = "") -> Pixels:
    """The pixels alone, uint8 (H, W, 3), sRGB. Raises: PictureError as `read`."""
    return read(data, where).pixels


def media_type_of(data: bytes, where: str = "") -> str:
    """What kind of file it is, one of FORMATS' values, by the header alone. Raises: PictureError."""
    with _opened(data, where) as image:
        return _media_type(image)


def size_of(data: bytes, where: str = "") -> tuple[int, int]:
    """Width and height once upright, by the header alone (Exif 2.32, tag 0x0112: 5 to 8 lie on their side). Raises: PictureError."""
    with _opened(data, where) as image, _refused("the file is damaged", where):
        lies = image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5  # the codec turns a TIFF by itself
        return image.size[::-1] if lies else image.size


def _opened(data: bytes, where: str) -> ImageFile:
    """A picture whose header was read and found harmless."""
    from PIL import Image

    if not data or len(data) > BYTES_MAX:
        what, remedy = (f"the file has more than {BYTES_MAX:,} bytes", _SMALLER) if data else ("the file is empty", _WHOLE)
        raise PictureError(what, where, remedy)
    with _refused("this is no picture that can be read", where):
        image = Image.open(io.BytesIO(data), formats=list(FORMATS))
        if image.width * image.height > PIXELS_MAX:
            raise Image.DecompressionBombError
        return image


@contextlib.contextmanager
def _refused(what: str, where: str) -> Iterator[None]:
    """Turns whatever a codec raises over a hostile file into PictureError, and keeps its warnings quiet."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise PictureError(f"the picture has more than {PIXELS_MAX:,} pixels", where, _SMALLER) from error
    except Exception as error:
        raise PictureError(what, where, _WHOLE) from error


def _media_type(image: ImageFile) -> str:
    return FORMATS["JPEG" if image.format == "MPO" else str(image.format)]  # MPO: a camera's JPEG with a preview or a depth map behind it


def _lost(image: ImageFile) -> str:
    """What 8-bit pixels of one frame would lose of a picture, as the end of a sentence; "" for nothing."""
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return "is animated or has several pages"
    if image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
        return "has 16 bits a channel"
    if image.format == "AVIF":
        return "is AVIF, which may have more than 8 bits a channel"
    return "" if image.mode in _EXACT else f"is {image.mode}"


def _decoded(image: ImageFile) -> tuple[Pixels, NDArray[np.uint8] | None]:
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):  # Pillow's conversion would clip 16-bit grey to white
        grey = (np.asarray(image, np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), None
    alpha = np.array(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
    return np.array(image.convert("RGB")), alpha
