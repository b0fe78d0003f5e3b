"""The search over scale, rotation and flip, on one Fourier transform of the whole picture.

A tile-periodic pattern under a linear map still has a line spectrum: the lattice's lines move to scale * R(rotation)
k / TILE. So a hypothesis needs no resampling: it reads the whitened picture's spectrum (padded to twice its size,
phases relative to the centre) at those lines, nearest bin, and correlates the sync frequencies over all shifts by one
small inverse transform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.watermark import carrier, detect
from pipeline.watermark.types import Geometry, MarkKey

SCALE_MIN, SCALE_MAX, SCALE_STEP = 0.47, 1.42, 0.011
ROTATION_MAX_DEG, ROTATION_STEP_DEG = 7.8, 0.6
REFINE_LEVELS = 3
KEEP = 12
GRID = 64  # samples a side of the shift surface: the tile's band ends at 20 cycles

SCALES = np.exp(np.arange(np.log(SCALE_MIN), np.log(SCALE_MAX), SCALE_STEP))
ROTATIONS = np.arange(-ROTATION_MAX_DEG, ROTATION_MAX_DEG + 1e-9, ROTATION_STEP_DEG)
HYPOTHESES = 2 * len(SCALES) * len(ROTATIONS) * (2 ** (REFINE_LEVELS + 1)) ** 2

Complex = NDArray[np.complex64]
Floats = NDArray[np.float32]


def candidates(white: Floats, keys: Sequence[MarkKey]) -> Iterator[tuple[MarkKey, Geometry]]:
    """The most likely geometries of all keys, best first. white: float32 (h, w), whitened luminance."""
    spectrum = Spectrum(white)
    found: list[tuple[float, MarkKey, float, float, bool]] = []
    for key in keys:
        for flipped in (False, True):
            scores = _coarse(spectrum, key, flipped)
            for i in np.argsort(-scores)[:KEEP]:
                s, r = divmod(int(i), len(ROTATIONS))
                found.append((float(scores[i]), key, float(SCALES[s]), float(ROTATIONS[r]), flipped))
    found.sort(key=lambda item: -item[0])
    for score, key, scale, rotation, flipped in found[: KEEP * len(keys)]:
        if score >= detect.SYNC_MIN:
            yield key, _refine(spectrum, key, scale, rotation, flipped)


class Spectrum:
    """The padded transform's low frequencies, phases relative to the centre, each ring at unit power."""

    def __init__(self, white: Floats) -> None:
        import cv2

        height, width = white.shape
        self.rows, self.columns = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
        full = np.fft.rfft2(white, (self.rows, self.columns))
        top = carrier.R_MAX * SCALE_MAX / carrier.TILE + 2 / min(height, width)
        self.reach_y, self.reach_x = int(top * self.rows), int(top * self.columns)
        ky = np.arange(-self.reach_y, self.reach_y + 1)
        kx = np.arange(-self.reach_x, self.reach_x + 1)
        right = full[np.ix_(ky, kx[self.reach_x :])]
        ramp = np.exp(1j * np.pi * ky / self.rows * (height - 1))[:, None] * np.exp(
            1j * np.pi * kx[self.reach_x :] / self.columns * (width - 1)
        )
        right = (right * ramp).astype(np.complex64)
        self.table = np.concatenate([np.conj(right[::-1, :0:-1]), right], 1)
        radius = np.hypot(ky[:, None] / self.rows, kx[None, :] / self.columns) * carrier.TILE
        ring = radius.astype(np.int64)
        power = (np.abs(self.table) ** 2).ravel()
        level = np.sqrt(np.bincount(ring.ravel(), power) / np.maximum(np.bincount(ring.ravel()), 1)) + 1e-6
        self.table = (self.table / level[ring]).astype(np.complex64)
        self.table /= np.sqrt(np.abs(self.table) + 0.05)

    def at(self, fy: Floats, fx: Floats) -> Complex:
        """complex64: the spectrum at frequencies in cycles a pixel, nearest bin."""
        iy = np.rint(fy * self.rows).astype(np.intp) + self.reach_y
        ix = np.rint(fx * self.columns).astype(np.intp) + self.reach_x
        return np.asarray(self.table.ravel().take(iy * self.table.shape[1] + ix), np.complex64)

    def between(self, fy: Floats, fx: Floats) -> Complex:
        """complex64: the same, bilinear."""
        y, x = fy * self.rows + self.reach_y, fx * self.columns + self.reach_x
        y0, x0 = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
        dy, dx = y - y0, x - x0
        t = self.table
        out = (t[y0, x0] * (1 - dx) + t[y0, x0 + 1] * dx) * (1 - dy) + (t[y0 + 1, x0] * (1 - dx) + t[y0 + 1, x0 + 1] * dx) * dy
        return np.asarray(out, np.complex64)


def lines(ky: NDArray[np.int64], kx: NDArray[np.int64], scale: float, rotation_deg: float, flipped: bool) -> tuple[Floats, Floats]:
    """Where the lattice's lines lie in the picture: (fy, fx), cycles a canonical pixel."""
    angle = np.deg2rad(rotation_deg)
    c, s = np.cos(angle) * scale / carrier.TILE, np.sin(angle) * scale / carrier.TILE
    fy, fx = c * ky - s * kx, s * ky + c * kx
    return (fy, -fx) if flipped else (fy, fx)


def _coarse(spectrum: Spectrum, key: MarkKey, flipped: bool) -> Floats:
    """float32 (scales * rotations,): the largest sync z over all shifts."""
    tile = carrier.carrier(key)
    sync = tile.sync
    ky, kx = tile.lattice.ky[sync], tile.lattice.kx[sync]
    weight = detect.search_phases(key)
    out = np.empty((len(SCALES), len(ROTATIONS)), np.float32)
    fy, fx = _grid_lines(flipped)
    seat = (ky % GRID) * (GRID // 2 + 1) + kx
    mirror = kx == 0
    mirror_seat = (-ky[mirror] % GRID) * (GRID // 2 + 1)
    table = np.zeros((len(ROTATIONS), GRID * (GRID // 2 + 1)), np.complex64)
    for i, scale in enumerate(SCALES):
        product = spectrum.at(fy * scale, fx * scale) * weight
        norm = np.sqrt((product.real**2 + product.imag**2).sum(1) / 2) + 1e-12
        table[:, seat] = product
        table[:, mirror_seat] = np.conj(product[:, mirror])
        surface = np.fft.irfft2(table.reshape(-1, GRID, GRID // 2 + 1), (GRID, GRID))
        out[i] = surface.reshape(len(ROTATIONS), -1).max(1) * (GRID * GRID / 2) / norm
    return out.ravel()


@lru_cache(maxsize=2)
def _grid_lines(flipped: bool) -> tuple[Floats, Floats]:
    """float32 (rotations, n_sync) each: the sync lines at scale 1."""
    grid = carrier.lattice()
    sync = np.arange(len(grid.ky)) % carrier.SYNC_EVERY == carrier.SYNC_EVERY // 2
    rows = [lines(grid.ky[sync], grid.kx[sync], 1.0, float(r), flipped) for r in ROTATIONS]
    return np.stack([r[0] for r in rows]).astype(np.float32), np.stack([r[1] for r in rows]).astype(np.float32)


def _refine(spectrum: Spectrum, key: MarkKey, scale: float, rotation: float, flipped: bool) -> Geometry:
    """Climbs on the sync's z from a grid point, halving the steps."""
    best = _score(spectrum, key, scale, rotation, flipped)
    ds, dr = SCALE_STEP / 2, ROTATION_STEP_DEG / 2
    for _ in range(REFINE_LEVELS):
        for s, r in [(scale * np.exp(i * ds), rotation + j * dr) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]:
            score = _score(spectrum, key, float(s), float(r), flipped)
            if score > best:
                best, scale, rotation = score, float(s), float(r)
        ds, dr = ds / 2, dr / 2
    return Geometry(scale, rotation, flipped, (0.0, 0.0))


def _score(spectrum: Spectrum, key: MarkKey, scale: float, rotation: float, flipped: bool) -> float:
    """The largest sync z over all shifts at one geometry, bilinear."""
    tile = carrier.carrier(key)
    fy, fx = lines(tile.lattice.ky, tile.lattice.kx, scale, rotation, flipped)
    surface, norm = detect.sync_surface(spectrum.between(fy, fx), key)
    return float(surface.max()) / norm
