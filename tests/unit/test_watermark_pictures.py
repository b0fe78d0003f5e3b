"""Loading pictures: what is read, and one clear line for each thing that is not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PictureError
from pipeline.watermark import load_picture


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 4), np.uint8)).convert("RGBA" if "A" in mode else "RGB").convert(mode)


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [("RGB", "PNG", 3), ("RGBA", "PNG", 4), ("L", "PNG", 0), ("P", "PNG", 3), ("RGB", "JPEG", 3), ("RGBA", "WEBP", 4)],
)
def test_reads_eight_bit_pictures(mode: str, kind: str, channels: int) -> None:
    pixels = load_picture(coded(plain(mode), kind))
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((30, 40, channels) if channels else (30, 40))


def test_turns_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_picture(coded(plain("RGB"), "JPEG", exif=exif)).shape == (40, 30, 3)


BAD = {
    "truncated": (coded(plain("RGB"), "PNG")[:900], "truncated"),
    "truncated jpeg": (coded(plain("RGB", (300, 300)), "JPEG")[:5000], "truncated"),
    "one pixel": (coded(plain("RGB", (1, 1)), "PNG"), "1x1"),
    "16-bit grey": (coded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG"), "16-bit"),
    "16-bit colour": (png_header(8, 8, 16), "16-bit"),
    "cmyk": (coded(plain("CMYK"), "JPEG"), "CMYK"),
    "animated": (coded(plain("RGB"), "WEBP", save_all=True, append_images=[plain("RGB").rotate(90)]), "animated"),
    "animated png": (coded(plain("RGB"), "PNG", save_all=True, append_images=[plain("RGB").rotate(90)]), "animated"),
    "bomb": (png_header(60_000, 60_000), "million pixels"),
    "large bomb": (png_header(12_000, 12_000), "million pixels"),
    "text": (b"not an image at all", "not an image"),
    "gif": (coded(plain("RGB"), "GIF"), "not an image"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_refuses_with_one_line_that_names_the_file_and_the_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(PictureError) as caught:
        load_picture(data, "upload.png")
    assert reason in caught.value.what and caught.value.where == "upload.png" and caught.value.remedy
    assert "\n" not in caught.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot be read") as caught:
        load_picture(tmp_path / "absent.png")
    assert caught.value.where.endswith("absent.png")
