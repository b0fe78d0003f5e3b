"""Drawn pictures and odd files for tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from renderfarm.pictures import Pixels


def drawn(height: int = 96, width: int = 128) -> Pixels:
    """A gradient with a red disc: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    image[(y - height // 2) ** 2 + (x - width // 2) ** 2 < (height // 4) ** 2] = (200, 30, 40)
    return image


def coded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """A file as Pillow writes it."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colours: int, pixels: bytes, *before: tuple[bytes, bytes]) -> bytes:
    """A PNG put together by hand: its header may claim any size. colours: 0 grey, 2 RGB; before: chunks before the pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)),
        *before,
        (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
