"""PDQ, a perceptual hash of 256 bits: pictures that look alike have hashes that differ in few bits.

Source: Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm" (2019), and the
reference code in facebook/ThreatExchange. Written here in numpy because the only binding of the reference comes as source and needs a
compiler; its hashes, kept as vectors in the tests, are met bit for bit. Bits are written in the reference's order, so hashes can be looked
up elsewhere. PDQ sees luminance only: two pictures of one shape in two colours are one to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from renderfarm.pictures.reader import Pixels

Number = TypeVar("Number", bound=np.generic)
Plane = NDArray[np.float32]
"""float32 (H, W): luminance."""

SAMPLES = 64
BITS = 256
HEX_DIGITS = 64
SIDE_MAX = 512
"""Longer sides are halved down to this first, as the reference does: the hash looks at 64 × 64 in the end."""

SIDE_MIN = 5
"""Smaller pictures have no hash in the reference: zeros, quality 0."""

FORM_SIDE = 128
NEAR = 31
"""Two hashes this close are one picture (the paper's recommendation); unrelated ones differ in 128 bits, give or take 8."""

QUALITY_MIN = 50
"""Below it (of 0..100) a picture is too flat for its hash to mean anything (same source)."""


def hash_of(image: Pixels) -> tuple[str, int]:
    """Hash (64 hex digits) and quality (0..100) of uint8 (H, W, 3); some 10 ms on one core at 512²."""
    if min(image.shape[:2]) < SIDE_MIN:
        return "0" * HEX_DIGITS, 0
    small = _jarosz(_luminance(_reduced(image, SIDE_MAX)))
    coefficients = (_dct() @ small @ _dct().T).ravel()
    above = coefficients > np.sort(coefficients)[BITS // 2 - 1]  # the reference's median is the lower of the two middle ones
    return np.packbits(above[::-1]).tobytes().hex(), _quality(small)


def _luminance(image: Pixels) -> Plane:
    """float32 (H, W), 0..255, ITU-R BT.601."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _jarosz(plane: Plane) -> Plane:
    """float32 (64, 64): two box filters along each axis, as wide as the reduction needs, then every (n/64)-th value."""
    for _ in range(2):
        plane = _box(_box(plane, 1), 0)
    rows, columns = (((np.arange(SAMPLES) + 0.5) * side / SAMPLES).astype(np.int64) for side in plane.shape)
    return np.asarray(plane[np.ix_(rows, columns)], np.float32)


def _box(plane: Plane, axis: int) -> Plane:
    """Running mean over the reference's window, cut short at the edges."""
    side = plane.shape[axis]
    window = (side + 2 * SAMPLES - 1) // (2 * SAMPLES)
    ahead = (window + 2) // 2
    sums = np.cumsum(plane, axis=axis, dtype=np.float64)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
    first = np.maximum(np.arange(side) - (window - ahead), 0)
    last = np.minimum(np.arange(side) + ahead, side)
    shape = (-1, 1) if axis == 0 else (1, -1)
    return np.asarray((sums.take(last, axis) - sums.take(first, axis)) / (last - first).reshape(shape), np.float32)


@cache
def _dct() -> Plane:
    """float32 (16, 64): the 16 lowest frequencies of a DCT-II without its constant."""
    frequency, place = np.arange(1, 17)[:, None], np.arange(SAMPLES)[None, :]
    return np.asarray(np.sqrt(2 / SAMPLES) * np.cos(np.pi / (2 * SAMPLES) * frequency * (2 * place + 1)), np.float32)


def _quality(small: Plane) -> int:
    """The reference's measure: the summed steps between neighbours, in whole hundredths of the range, over 90, at most 100."""
    steps = (np.trunc(np.diff(small, axis=axis) * 100 / 255) for axis in (0, 1))
    return min(100, int(sum(np.abs(step).sum() for step in steps) / 90))


def hashes_of_other_forms(image: Pixels) -> tuple[str, ...]:
    """The hashes of a picture's other seven `eight_forms`, uint8 (H, W, 3).

    Each form of a 128-pixel miniature is hashed; deriving the forms from one DCT, as the reference can, misses by up to 46 bits because
    its downsampling is not symmetric (measured over 60 pictures), this by up to 22.
    """
    _, *others = eight_forms(_reduced(image, FORM_SIDE))
    return tuple(hash_of(form)[0] for form in others)


def forms_of_hash(digest: str) -> NDArray[np.uint64]:
    """uint64 (8, 4): the hashes of all eight forms as far as the hash alone tells them, for one that was read back from a record.

    A mirror negates the odd columns of the DCT, so their bits flip; a transposition transposes (PDQ's description, section "dihedral").
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digest), np.uint8)).reshape(16, 16)
    odd = np.arange(16, dtype=np.uint8) % 2
    flips = [bits ^ (odd[None, :] * x) ^ (odd[:, None] * y) for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))]
    return np.stack([np.packbits(form).view(">u8").astype(np.uint64) for form in (*flips, *(flip.T for flip in flips))])


def eight_forms(array: NDArray[Number]) -> Iterator[NDArray[Number]]:
    """A picture or plane (H, W, ...) as it is, left-right, upside down, both, and those four transposed, as views."""
    flips = (array, array[:, ::-1], array[::-1], array[::-1, ::-1])
    yield from flips
    yield from (flip.swapaxes(0, 1) for flip in flips)


def _reduced(image: Pixels, side_max: int) -> Pixels:
    height, width = image.shape[:2]
    if max(height, width) <= side_max:
        return np.ascontiguousarray(image)
    import cv2

    size = (min(width, side_max), min(height, side_max))  # each side for itself: PDQ ignores the aspect ratio
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def packed(hashes: list[str]) -> NDArray[np.uint64]:
    """Hashes as uint64 (N, 4), as `hamming` takes them. Raises: ValueError for what is not 64 hex digits."""
    if any(len(text) != HEX_DIGITS for text in hashes):
        raise ValueError(f"a PDQ hash has {HEX_DIGITS} hex digits")
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64).reshape(-1, 4)
