"""Drawn pictures and odd files for tests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from renderfarm.pictures import Pixels


def drawn(height: int = 96, width: int = 128) -> Pixels:
    """A gradient with a red disc: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    image[(y - height // 2) ** 2 + (x - width // 2) ** 2 < (height // 4) ** 2] = (200, 30, 40)
    return image


def texture(seed: int, side: int = 256) -> Pixels:
    """Detail at every scale, like foliage: uint8 (side, side, 3)."""
    rng = np.random.default_rng(seed)
    total = np.full((side, side, 3), 128, np.float32)
    for level in range(1, 8):
        cells = rng.integers(0, 256, (side >> level, side >> level, 3), np.uint8)
        layer = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
        total += (np.asarray(layer, np.float32) - 128) * 2.0 ** (level * 0.5) * 0.12
    return np.clip(total + rng.normal(0, 3, (side, side, 1)), 0, 255).astype(np.uint8)


def mug(seed: int, colour: int = 0, side: int = 256) -> Pixels:
    """A flat drawing of a mug before some discs, uint8 (side, side, 3). The seed draws pose, light and discs; not the mug's colour."""
    rng = np.random.default_rng(seed)
    colours = ((200, 40, 40), (40, 90, 200), (40, 150, 70), (235, 190, 40), (120, 60, 150))
    horizon, x, size = rng.uniform(0.55, 0.8) * side, rng.uniform(0.3, 0.7) * side, rng.uniform(0.17, 0.31) * side
    foot = horizon + size * rng.uniform(0.1, 0.5)
    image = Image.new("RGB", (side, side), (int(rng.uniform(160, 240)), 180, 60))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, horizon, side, side), fill=(int(rng.uniform(90, 150)), 90, 20))
    for _ in range(int(rng.integers(2, 7))):
        u, v, r = rng.uniform(0, side), rng.uniform(0, horizon), rng.uniform(0.02, 0.12) * side
        draw.ellipse((u - r, v - r, u + r, v + r), fill=colours[int(rng.integers(5))])
    draw.ellipse((x - size, foot - size * 0.15, x + size, foot + size * 0.2), fill=(50, 45, 45))
    draw.ellipse((x + size * 0.4, foot - size, x + size * 1.1, foot - size * 0.3), outline=(60, 60, 60), width=max(2, int(size / 8)))
    draw.rounded_rectangle((x - size * 0.6, foot - size * 1.2, x + size * 0.6, foot), radius=size * 0.1, fill=colours[colour])
    draw.rectangle((x - size * 0.4, foot - size * 1.1, x - size * 0.25, foot - size * 0.2), fill=(250, 250, 250))
    return np.clip(np.asarray(image, np.float32) + rng.normal(0, 2, (side, side, 1)), 0, 255).astype(np.uint8)


def _jpeg(picture: Pixels) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(coded(picture, "JPEG", quality=60))))


def _noise(picture: Pixels) -> Pixels:
    return np.clip(picture + np.random.default_rng(1).normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg": _jpeg,
    "resize": lambda p: np.asarray(Image.fromarray(p).resize((p.shape[1] * 2 // 3, p.shape[0] * 2 // 3), Image.Resampling.BICUBIC)),
    "brightness": lambda p: np.clip(p * 1.1 + 5.0, 0, 255).astype(np.uint8),
    "noise": _noise,
    "blur": lambda p: np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(1.5))),
    "crop": lambda p: np.ascontiguousarray(p[2:-2, 2:-2]),
    "mirror": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "turn": lambda p: np.ascontiguousarray(np.rot90(p)),
}
"""Edits that leave a picture the same to a person."""


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
