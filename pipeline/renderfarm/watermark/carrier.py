"""The tile: which frequencies carry what, under one key. Shared by the embedder and the reader; numpy only.

The mark is a real pattern, periodic in both directions with a period of TILE canonical pixels. *Canonical* pixels are
the picture resized, aspect kept, to an area of CANONICAL^2: a mark therefore scales with its picture, and a resized
copy needs no search. The tile is a sum of cosines at integer frequencies (ky, kx), R_MIN <= |k| <= R_MAX cycles a
tile, one half plane. Each has a phase drawn from the key. A fixed share (`sync`) carries no data; each other one
carries one bit of the codeword as its sign.

Each picture shifts the whole tile by an amount that the key derives from the payload: one of TILE^2 patterns. The
reader finds the shift by correlation in any case (a crop shifts the tile too), while the average of many marked
pictures of one key cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_256

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import code
from renderfarm.watermark.types import MarkKey, Payload

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
    """One key's tile. phase complex64 (n,), unit; group int64 (n,): codeword bit 0..127, or -1 for sync."""

    lattice: Lattice
    phase: NDArray[np.complex64]
    group: NDArray[np.int64]
    band: NDArray[np.int64]

    @property
    def sync(self) -> NDArray[np.bool_]:
        """bool (n,): the frequencies that carry no data."""
        return self.group < 0


@lru_cache(maxsize=1)
def lattice() -> Lattice:
    """The half-plane of frequencies (kx > 0, or kx = 0 and ky > 0), sorted by radius."""
    reach = REACH
    ky, kx = np.mgrid[-reach : reach + 1, 0 : reach + 1]
    radius = np.hypot(ky, kx)
    keep = (radius >= R_MIN) & (radius <= R_MAX) & ((kx > 0) | (ky > 0))
    ky, kx, radius = ky[keep], kx[keep], radius[keep]
    order = np.argsort(radius, kind="stable")
    amplitude = radius[order] ** -SLOPE
    amplitude /= np.sqrt((amplitude**2).sum() / 2)  # a cosine of amplitude a has power a^2 / 2
    return Lattice(ky[order], kx[order], radius[order].astype(np.float32), amplitude.astype(np.float32))


@lru_cache(maxsize=1)
def bands() -> NDArray[np.int64]:
    """int64 (n,): BANDS bands of radii, each with the same number of frequencies."""
    n = len(lattice().ky)
    return np.arange(n) * BANDS // n


@lru_cache(maxsize=32)
def carrier(key: MarkKey) -> Carrier:
    """Phases uniform on 2^16 angles, and frequencies dealt to the code bits in rounds: each spans all radii."""
    grid = lattice()
    n = len(grid.ky)
    stream = np.frombuffer(shake_256(key.derive("tile")).digest(2 * n + 4 * n), np.uint8)
    angles = stream[: 2 * n].view(np.uint16).astype(np.float64) * (2 * np.pi / 65536)
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(stream[2 * n :].tobytes()[:16], "big")))
    group = np.full(n, -1, np.int64)
    data = np.flatnonzero(np.arange(n) % SYNC_EVERY != SYNC_EVERY // 2)
    for start in range(0, len(data), code.N):
        seats = data[start : start + code.N]
        group[seats] = draw.permutation(code.N)[: len(seats)]
    return Carrier(grid, np.exp(1j * angles).astype(np.complex64), group, bands())


def phases(key: MarkKey, payload: Payload) -> NDArray[np.complex64]:
    """complex64 (n,): the key's phases times the signs of the payload's codeword."""
    tile = carrier(key)
    signs = 1.0 - 2.0 * code.encode(payload.sealed(key)).astype(np.float32)
    out: NDArray[np.complex64] = (tile.phase * np.where(tile.sync, 1.0, signs[tile.group])).astype(np.complex64)
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
