"""The search over scale, rotation and flip, on one Fourier transform of the whole picture.

The mark is periodic, so its spectrum is a set of lines, and stays one when the picture is scaled, turned or mirrored: the lines move to
scale * R(rotation) k / TILE. So no hypothesis needs the picture resampled. It takes the whitened picture's spectrum (padded to twice its
size, phases relative to the centre) at those lines, nearest bin, and one small inverse transform correlates the sync frequencies over all
shifts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import carrier, detect, front
from renderfarm.watermark.types import Geometry, MarkKey

SCALE_MIN, SCALE_MAX, SCALE_STEP = 0.47, 1.42, 0.011
ROTATION_MAX_DEG, ROTATION_STEP_DEG = 7.8, 0.6
REFINE_LEVELS = 3
KEEP = 12

SCALES = np.exp(np.arange(np.log(SCALE_MIN), np.log(SCALE_MAX), SCALE_STEP))
ROTATIONS = np.arange(-ROTATION_MAX_DEG, ROTATION_MAX_DEG + 1e-9, ROTATION_STEP_DEG)
HYPOTHESES = 2 * len(SCALES) * len(ROTATIONS) * (2 ** (REFINE_LEVELS + 1)) ** 2

Complex = NDArray[np.complex64]
Floats = NDArray[np.float32]


def candidates(white: Floats, keys: Sequence[MarkKey]) -> Iterator[tuple[MarkKey, Geometry]]:
    """The most likely geometries of all keys, best first. white: float32 (h, w), whitened luminance."""
    spectrum = Spectrum(white)
    starts: list[tuple[float, MarkKey, int, Geometry]] = []
    for key in keys:
        for view, flipped in itertools.product(range(len(front.views())), (False, True)):
            scores = _coarse(spectrum, key, view, flipped)
            for i in np.argsort(-scores)[:KEEP]:
                s, r = divmod(int(i), len(ROTATIONS))
                start = Geometry(float(SCALES[s]), float(ROTATIONS[r]), flipped, (0.0, 0.0))
                starts.append((float(scores[i]), key, view, start))
    starts.sort(key=lambda item: -item[0])
    for score, key, view, start in starts[: KEEP * len(keys)]:
        if score >= detect.SYNC_MIN:
            yield key, _refine(spectrum, key, view, start)


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


def _coarse(spectrum: Spectrum, key: MarkKey, view: int, flipped: bool) -> Floats:
    """float32 (scales * rotations,): the largest sync z over all shifts."""
    plan = _grid_lines(view, flipped)
    phases = detect.search_phases(key, view)[plan.used]
    out = np.empty((len(SCALES), len(ROTATIONS)), np.float32)
    half = plan.grid // 2 + 1
    table = np.zeros((len(ROTATIONS), plan.grid * half), np.complex64)
    for i, scale in enumerate(SCALES):
        product = spectrum.at(plan.fy * scale, plan.fx * scale) * phases
        norm = np.sqrt((product.real**2 + product.imag**2).sum(1) / 2) + 1e-12
        table[:, plan.seat] = product
        table[:, plan.mirror_seat] = np.conj(product[:, plan.mirror])
        surface = np.fft.irfft2(table.reshape(-1, plan.grid, half), (plan.grid, plan.grid))
        out[i] = surface.reshape(len(ROTATIONS), -1).max(1) * (plan.grid**2 / 2) / norm
    return out.ravel()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the sync lines of one view lie at scale 1, fy and fx float32 (rotations, m), and their seats in the shift table."""

    grid: int
    used: NDArray[np.bool_]
    fy: Floats
    fx: Floats
    seat: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    mirror_seat: NDArray[np.int64]


@lru_cache(maxsize=4)
def _grid_lines(view: int, flipped: bool) -> _Plan:
    """The plan of a view; its shift table is as small as the view's largest radius allows."""
    grid = carrier.lattice()
    sync = np.arange(len(grid.ky)) % carrier.SYNC_EVERY == carrier.SYNC_EVERY // 2
    used = front.views()[view][sync] > 0
    ky, kx = grid.ky[sync][used], grid.kx[sync][used]
    side = 32 if grid.radius[sync][used].max() < 15 else 64
    rows = [lines(ky, kx, 1.0, float(r), flipped) for r in ROTATIONS]
    fy, fx = np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
    half, mirror = side // 2 + 1, kx == 0
    seat, mirror_seat = (ky % side) * half + kx, (-ky[mirror] % side) * half
    return _Plan(side, used, fy.astype(np.float32), fx.astype(np.float32), seat, mirror, mirror_seat)


def _refine(spectrum: Spectrum, key: MarkKey, view: int, start: Geometry) -> Geometry:
    """Climbs on the sync's z from a grid point, halving the steps."""
    scale, rotation = start.scale, start.rotation_deg
    best = _score(spectrum, key, view, scale, rotation, start.flipped)
    ds, dr = SCALE_STEP / 2, ROTATION_STEP_DEG / 2
    for _ in range(REFINE_LEVELS):
        for s, r in [(scale * np.exp(i * ds), rotation + j * dr) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]:
            score = _score(spectrum, key, view, float(s), float(r), start.flipped)
            if score > best:
                best, scale, rotation = score, float(s), float(r)
        ds, dr = ds / 2, dr / 2
    return Geometry(scale, rotation, start.flipped, (0.0, 0.0))


def _score(spectrum: Spectrum, key: MarkKey, view: int, scale: float, rotation: float, flipped: bool) -> float:
    """The largest sync z over all shifts at one geometry, bilinear."""
    grid = carrier.lattice()
    fy, fx = lines(grid.ky, grid.kx, scale, rotation, flipped)
    surface, norm = detect.sync_surface(spectrum.between(fy, fx), key, view)
    return float(surface.max()) / norm
