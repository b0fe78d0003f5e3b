"""What is remembered of an image to find its near-duplicates: a PDQ hash, its quality, and a colour thumbnail of 384 bytes.

PDQ sees luminance only, so a red and a blue mug in one pose collide; the thumbnail (CIELAB, L at 16x16, a and b at 8x8) confirms or
refutes. A query also carries the hashes of its eight mirrored and turned forms (`pdq` says how well those can be known).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderfarm.pictures import pdq
from renderfarm.pictures.reader import Pixels

SIGNATURE_BYTES = 16 * 16 + 2 * 8 * 8
Planes = tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]
"""L int16 (16, 16) 0..255 and ab int16 (8, 8, 2) 0..255 with 128 neutral: OpenCV's 8-bit CIELAB."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`pdq`: 64 hex digits; `quality` 0..100; `signature`: base64 of 384 bytes; all to be recorded. `forms`: the PDQ of the eight
    mirrored and turned forms, in the order of `pdq.eight_forms`; needed of a query only, () for what was read back from records."""

    pdq: str
    quality: int
    signature: str
    forms: tuple[str, ...] = ()


def fingerprint(image: Pixels) -> Fingerprint:
    """The fingerprint of uint8 (H, W, 3) sRGB, with its forms; about 13 CPU ms at 512x512."""
    image = np.ascontiguousarray(image)
    digest, quality = pdq.hash_of(image)
    return Fingerprint(digest, quality, signature(image), (digest, *pdq.hashes_of_other_forms(image)))


def signature(image: Pixels) -> str:
    """The colour thumbnail of uint8 (H, W, 3) sRGB as base64: 256 bytes L (16x16), then 64 bytes a and 64 bytes b (8x8)."""
    import cv2

    small = np.asarray(cv2.resize(np.ascontiguousarray(image), (16, 16), interpolation=cv2.INTER_AREA), np.float32)
    lab = np.asarray(cv2.cvtColor(small / 255, cv2.COLOR_RGB2LAB), np.float32)  # L 0..100, a and b about -128..127
    colour = lab[..., 1:].reshape(8, 2, 8, 2, 2).mean(axis=(1, 3)) + 128
    planes = (lab[..., 0] * 2.55, colour[..., 0], colour[..., 1])
    return base64.b64encode(b"".join(np.clip(np.rint(p), 0, 255).astype(np.uint8).tobytes() for p in planes)).decode()


def planes_of(text: str) -> Planes:
    """Reads a signature back. Raises: ValueError: it is no base64 of 384 bytes."""
    return planes_of_bytes(base64.b64decode(text, validate=True))


def planes_of_bytes(raw: bytes) -> Planes:
    """Reads a decoded signature back. Raises: ValueError: these are not 384 bytes."""
    if len(raw) != SIGNATURE_BYTES:
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, this one {len(raw)}")
    values = np.frombuffer(raw, np.uint8).astype(np.int16)
    return values[:256].reshape(16, 16), np.stack([values[256:320].reshape(8, 8), values[320:].reshape(8, 8)], axis=-1)


def forms_of_signature(text: str) -> list[Planes]:
    """The planes of the eight mirrored and turned forms, in the order of `pdq.eight_forms`. Raises: ValueError as `planes_of`."""
    light, colour = planes_of(text)
    return list(zip(pdq.eight_forms(light), pdq.eight_forms(colour), strict=True))
