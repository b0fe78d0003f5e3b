"""What is remembered of an image to find its near-duplicates: a PDQ hash, its quality, and a colour thumbnail of 384 bytes.

PDQ sees luminance only, so a red and a blue mug in one pose collide; the thumbnail (CIELAB, L at 16x16, a and b at 8x8) confirms or
refutes. A query also carries the hashes of its eight mirrored and turned forms (`pdq` says how well those can be known).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Image
from renderfarm.pictures import pdq

SIGNATURE_BYTES = 16 * 16 + 2 * 8 * 8
Planes = tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]
"""L int16 (16, 16) 0..255 and ab int16 (8, 8, 2) 0..255 with 128 neutral: OpenCV's 8-bit CIELAB."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`pdq`: 64 hex digits; `quality` 0..100; `signature`: base64 of 384 bytes, both to be recorded. `forms`: the PDQ
    of the eight mirrored and turned forms, in the order of `turned`; needed of a query only, () for what was read back from records."""

    pdq: str
    quality: int
    signature: str
    forms: tuple[str, ...] = ()


def fingerprint(image: Image) -> Fingerprint:
    """The fingerprint of uint8 (H, W, 3) sRGB, with its forms; about 13 CPU ms at 512x512."""
    import cv2

    cv2.setNumThreads(1)
    image = np.ascontiguousarray(image)
    digest, quality = pdq.pdq(image)
    small = np.asarray(cv2.resize(image, (pdq.FORM_SIDE, pdq.FORM_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    return Fingerprint(digest, quality, signature(image), (digest, *pdq.pdq_dihedral(small)[1:]))


def signature(image: Image) -> str:
    """The colour thumbnail of uint8 (H, W, 3) sRGB as base64: 256 bytes L (16x16), then 64 bytes a and 64 bytes b (8x8)."""
    import cv2

    small = np.asarray(cv2.resize(np.ascontiguousarray(image), (16, 16), interpolation=cv2.INTER_AREA), np.float32)
    lab = np.asarray(cv2.cvtColor(small / 255, cv2.COLOR_RGB2LAB), np.float32)  # L 0..100, a and b about -128..127
    colour = lab[..., 1:].reshape(8, 2, 8, 2, 2).mean(axis=(1, 3)) + 128
    planes = (lab[..., 0] * 2.55, colour[..., 0], colour[..., 1])
    return base64.b64encode(b"".join(np.clip(np.rint(p), 0, 255).astype(np.uint8).tobytes() for p in planes)).decode()


def planes(text: str) -> Planes:
    """Reads a signature back.

    Raises:
        ValueError: it is no base64 of 384 bytes.
    """
    return raw_planes(base64.b64decode(text, validate=True))


def raw_planes(raw: bytes) -> Planes:
    """Reads a decoded signature back. Raises: ValueError: these are not 384 bytes."""
    if len(raw) != SIGNATURE_BYTES:
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, this one {len(raw)}")
    values = np.frombuffer(raw, np.uint8).astype(np.int16)
    return values[:256].reshape(16, 16), np.stack([values[256:320].reshape(8, 8), values[320:].reshape(8, 8)], axis=-1)


def turned(array: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    """The eight forms of an array (N, N, ...), as views, in the order of `pdq.pdq_dihedral`."""
    flips = (array, array[:, ::-1], array[::-1], array[::-1, ::-1])
    yield from flips
    yield from (flip.swapaxes(0, 1) for flip in flips)


@cache
def _odd() -> npt.NDArray[np.uint8]:
    return (np.arange(16) % 2).astype(np.uint8)


def derived_forms(pdq_hex: str) -> npt.NDArray[np.uint64]:
    """uint64 (8, 4): the forms as far as the hash alone tells them, for a fingerprint read back from a record.

    A mirror negates the odd columns of the DCT, so their bits flip; a transposition transposes (PDQ's description, section "dihedral").
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(pdq_hex), np.uint8)).reshape(16, 16)
    flips = [bits ^ (_odd()[None, :] * x) ^ (_odd()[:, None] * y) for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))]
    forms = [*flips, *(flip.T for flip in flips)]
    return np.stack([np.packbits(form).view(">u8").astype(np.uint64) for form in forms])
