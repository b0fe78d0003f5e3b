"""The tile: which frequencies carry what, under one key. Shared by the embedder and the reader; numpy only.

The mark is a real pattern, periodic in both directions with a period of TILE canonical pixels. *Canonical* pixels are
the picture resized, aspect kept, to an area of CANONICAL^2: a mark therefore scales with its picture, and a resized
copy needs no search. The tile is a sum of cosines at integer frequencies (ky, kx), R_MIN <= |k| <= R_MAX cycles a
tile, one half plane. Each has a phase drawn from the key. A fixed share (`sync`) carries no data; each other one
carries one bit of the codeword as its sign: the *layout* says which. It is all that differs between the versions of the
mark, so that a reader who has found the tile tries the layouts on it. What is drawn from the key, and the order of the
frequencies, is computed in whole numbers: no library's random stream and no rounding can move it.

Each picture shifts the whole tile by an amount that the key derives from the payload: one of TILE^2 patterns. The
reader finds the shift by correlation in any case (a crop shifts the tile too), while the average of many marked
pictures of one key cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import code, pcg64
from renderfarm.watermark.types import VERSION, MarkKey, Payload

CANONICAL = 512
TILE = 128
R_MIN = 3.5
R_MAX = 26.0
REACH = int(R_MAX)
SHIFTS = 1024
SYNC_EVERY = 4
BANDS = 8
SHORT_SIDE_MIN = 256
CHANNEL_GAIN = (0.62, 1.0, 0.35)  # the mark in R, G, B; near the weights of luminance: the most of it for the least squared error
SLOPE = 0.5  # amplitudes fall as |k|^-SLOPE


@dataclass(frozen=True, slots=True)
class Lattice:
    """The frequencies, the same for every key: ky, kx int64 (n,); radius and amplitude float32 (n,), unit power."""

    ky: NDArray[np.int64]
    kx: NDArray[np.int64]
    radius: NDArray[np.float32]
    amplitude: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Carrier:
    """One key's tile. phase complex64 (n,), unit; sync bool (n,): the frequencies that carry no data."""

    lattice: Lattice
    phase: NDArray[np.complex64]
    sync: NDArray[np.bool_]
    band: NDArray[np.int64]


@lru_cache(maxsize=1)
def lattice() -> Lattice:
    """The half-plane of frequencies (kx > 0, or kx = 0 and ky > 0), sorted by radius."""
    reach = REACH
    ky, kx = np.mgrid[-reach : reach + 1, 0 : reach + 1]
    squared = ky * ky + kx * kx
    keep = (squared >= R_MIN**2) & (squared <= R_MAX**2) & ((kx > 0) | (ky > 0))
    ky, kx, squared = ky[keep], kx[keep], squared[keep]
    order = np.argsort(squared, kind="stable")
    radius = np.sqrt(squared[order])
    amplitude = radius**-SLOPE
    amplitude /= np.sqrt((amplitude**2).sum() / 2)  # a cosine of amplitude a has power a^2 / 2
    return Lattice(ky[order], kx[order], radius.astype(np.float32), amplitude.astype(np.float32))


@lru_cache(maxsize=1)
def bands() -> NDArray[np.int64]:
    """int64 (n,): BANDS bands of radii, each with the same number of frequencies."""
    n = len(lattice().ky)
    return np.arange(n) * BANDS // n


@lru_cache(maxsize=32)
def carrier(key: MarkKey) -> Carrier:
    """Phases uniform on 2^16 angles."""
    n = len(lattice().ky)
    angles = np.frombuffer(_stream(key, "tile", 2 * n), "<u2").astype(np.float64) * (2 * np.pi / 65536)
    sync = np.arange(n) % SYNC_EVERY == SYNC_EVERY // 2
    return Carrier(lattice(), np.exp(1j * angles).astype(np.complex64), sync, bands())


@lru_cache(maxsize=64)
def layout(key: MarkKey, version: int) -> NDArray[np.int64]:
    """int64 (n,): the codeword bit, 0..127, that each frequency carries, or -1 for sync. `version` is one of VERSIONS.

    Frequencies are dealt to the bits in rounds, each of which spans all radii. In version 2 the j-th seat of a round gets the bit whose
    word, of 128 words of 64 bits from the key's stream, is the j-th smallest; in version 1 NumPy's generator shuffled a round.
    """
    sync = carrier(key).sync
    seats, n = int((~sync).sum()), len(sync)
    rounds = -(-seats // code.N)
    if version == 1:
        seed = int.from_bytes(_stream(key, "tile", 2 * n + 16)[2 * n :], "big")
        dealt = np.array(list(islice(pcg64.permutations(seed, code.N), rounds)), np.int64)
    else:
        words = np.frombuffer(_stream(key, f"layout {version}", 8 * code.N * rounds), "<u8")
        dealt = np.argsort(words.reshape(rounds, code.N), 1, "stable")
    group = np.full(n, -1, np.int64)
    group[~sync] = dealt.ravel()[:seats]
    return group


def _stream(key: MarkKey, purpose: str, length: int) -> bytes:
    """So many bytes, without end, that only the key's holder knows."""
    return shake_256(key.derive(purpose)).digest(length)


def phases(key: MarkKey, payload: Payload, version: int = VERSION) -> NDArray[np.complex64]:
    """complex64 (n,): the key's phases times the signs of the payload's codeword."""
    tile = carrier(key)
    signs = 1.0 - 2.0 * code.encode(payload.sealed(key)).astype(np.float32)
    out: NDArray[np.complex64] = (tile.phase * np.where(tile.sync, 1.0, signs[layout(key, version)])).astype(np.complex64)
    return out


def shifts(key: MarkKey, payload: Payload) -> NDArray[np.int64]:
    """int64 (SHIFTS, 2): the (y, x) shifts of the tile, 0..127 each, that this payload may use."""
    draw = np.frombuffer(shake_256(key.derive("shift", payload.message)).digest(2 * SHIFTS), np.uint8)
    return (draw % TILE).astype(np.int64).reshape(SHIFTS, 2)


def canonical_scale(height: int, width: int) -> float:
    """Canonical pixels per pixel of a picture of this size."""
    return float(CANONICAL / np.sqrt(height * width))


def supported(width: int, height: int) -> bool:
    """Whether a picture of this size can carry a mark: a short side of at least 256 pixels."""
    return min(width, height) >= SHORT_SIDE_MIN
