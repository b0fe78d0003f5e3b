"""What the embedder does because it knows the picture: informed embedding.

To a reader, who lacks the original, the picture is noise. The embedder computes the reader's own statistic on the unmarked picture, and
spends the mark's power where the picture works against it:

    shape   less amplitude at radii where the picture is strong, more where it is weak
    shift   of the SHIFTS shifts that key and payload allow, the one at which the picture itself looks most like the tile. Dirty-paper
            coding in its simplest form (Costa, "Writing on dirty paper", IEEE Trans. IT 29(3), 1983); worth sqrt(2 ln SHIFTS) = 3.7 in Z
    gain    of every code bit, so that all end up with the same margin: improved spread spectrum (Malvar & Florencio, IEEE Trans. SP
            51(4), 2003), solved for one common margin instead of by a fixed factor
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import carrier, code, front
from renderfarm.watermark.types import MarkKey

if TYPE_CHECKING:
    import torch

GAIN_MIN = 0.35  # least amplitude of a code bit: what the whole picture grants, a crop of it may not
KNEE = 1.0
PIXEL_KNEE = 0.2
LUMA = (0.299, 0.587, 0.114)
NEWTON_STEPS = 8
CELL = 4  # canonical pixels: the resolution of local means


@dataclass(frozen=True, slots=True)
class UnmarkedSpectrum:
    """The unmarked pictures, as the reader sees them.

    spectrum: complex64 (B, n) on the lattice; level: float32 (B, n), its root mean square by ring; response: float32
    (B, n), what an amplitude of one grey level adds to it.
    """

    spectrum: torch.Tensor
    level: torch.Tensor
    response: torch.Tensor


@dataclass(frozen=True, slots=True)
class Cells:
    """What mask and plan see of the pictures: luminance, float32 (B, 1, h, w), about half the canonical grid's pixels a
    side, enough for every frequency of the tile; its mean and mean square by cells of 2 x 2, (B, 1, h / 2, w / 2).
    room: float32 (B,), the mean share of a mark that clipping leaves in green, by every third pixel.
    """

    luma: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor
    room: torch.Tensor


def cells(pixels: torch.Tensor, scale: float) -> Cells:
    """The pictures reduced to cells of about CELL canonical pixels. pixels: float32 (B, H, W, 3); scale: canonical pixels a pixel."""
    import torch
    import torch.nn.functional as F

    batch, height, width, _ = pixels.shape
    size = (2 * round(height * scale / CELL), 2 * round(width * scale / CELL))
    whole = height // size[0]
    weights = torch.tensor(LUMA, device=pixels.device)
    if (size[0] * whole, size[1] * whole) == (height, width):  # the common case, four times as fast
        lines = pixels.view(batch, size[0], whole, width * 3)
        sums = lines[:, :, 0] if whole == 1 else sum((lines[:, :, i] for i in range(2, whole)), lines[:, :, 0] + lines[:, :, 1])
        y = (sums.view(batch, *size, 3 * whole) @ (weights.repeat(whole) / whole**2))[:, None]
    else:
        y = F.interpolate((pixels @ weights)[:, None], size=size, mode="area" if height > size[0] else "bilinear")
    return Cells(y, _halved(y), _halved(y.square()), _room(pixels[:, ::3, ::3, 1].contiguous()).mean((1, 2)))


def _halved(plane: torch.Tensor) -> torch.Tensor:
    """Means over 2 x 2 pixels: `avg_pool2d` in a third of its time, the same bits."""
    total = plane[..., 0::2, 0::2] + plane[..., 0::2, 1::2]
    total += plane[..., 1::2, 0::2]
    total += plane[..., 1::2, 1::2]
    return total.mul_(0.25)


def _power(values: torch.Tensor) -> torch.Tensor:
    """float32: squared magnitudes. (`abs` rounds otherwise at the end of a batch than in its middle.)"""
    return values.real.square() + values.imag.square()


def _against(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """complex64: a times the conjugate of b. (The built-in product has the same fault as `abs`.)"""
    import torch

    return torch.complex(a.real * b.real + a.imag * b.imag, a.imag * b.real - a.real * b.imag)


def _room(values: torch.Tensor) -> torch.Tensor:
    """The share of a mark that clipping to 0..255 leaves: half where it takes one side."""
    return ((values - 1).clamp_(0, 2) + (254 - values).clamp_(0, 2)) / 4


def host(cells: Cells, strength: torch.Tensor, canonical: tuple[float, float]) -> UnmarkedSpectrum:
    """The reader's front end in torch. strength: float32 (B, 1, h', w'), by cells; canonical: height, width in canonical pixels."""

    y = cells.luma
    height, width = y.shape[2:]
    ground = smooth(cells.mean, _radius(front.HIGH_PASS_SIGMA), 2)
    energy = cells.square - 2 * cells.mean * ground + ground.square()
    gain = 1 / (smooth(energy, _radius(front.ENERGY_BOX / 3.46), 2).clamp_min_(0).sqrt_() + front.FLOOR)
    room = _room(cells.mean)
    room = room * (cells.room / room.mean((1, 2, 3)))[:, None, None, None]
    white = (y - spread(ground, (height, width))).mul_(spread(gain, (height, width))).clamp_(-front.CLIP, front.CLIP)
    spectrum = _transform(white[:, 0], canonical)
    fixed = constants(y.device)
    level = (_power(spectrum).double() @ fixed.member).sqrt().float()[:, fixed.ring]  # double: one sum in any batch
    mean = (strength * gain * room).mean((1, 2, 3)) * (canonical[0] * canonical[1] / 2)
    return UnmarkedSpectrum(spectrum, level, mean[:, None] * fixed.passed)


@dataclass(frozen=True, slots=True)
class Constants:
    """What the lattice alone decides, on one device; n frequencies. ky, kx as `carrier.Lattice`; ring, member, passed: `_rings`.

    place: int64 (n,), of (ky, kx) in a table of (2 reach + 1, reach + 1); turns: complex64 (TILE,), the roots of unity;
    seat, axis, mirror: int64, where a half plane lies in the input of an inverse transform, which of it has kx = 0, and
    where that lies a second time.
    """

    ky: torch.Tensor
    kx: torch.Tensor
    place: torch.Tensor
    ring: torch.Tensor
    member: torch.Tensor
    passed: torch.Tensor
    turns: torch.Tensor
    seat: torch.Tensor
    axis: torch.Tensor
    mirror: torch.Tensor


@lru_cache(maxsize=8)
def constants(device: torch.device) -> Constants:
    """The lattice's constants, moved to a device once."""
    import torch

    grid, tile, reach = carrier.lattice(), carrier.TILE, carrier.REACH
    axis, half = np.flatnonzero(grid.kx == 0), tile // 2 + 1
    place = (grid.ky + reach) * (reach + 1) + grid.kx
    turns = np.exp(2j * np.pi / tile * np.arange(tile)).astype(np.complex64)
    seat, mirror = grid.ky % tile * half + grid.kx, -grid.ky[axis] % tile * half
    parts = (grid.ky, grid.kx, place, *_rings(), turns, seat, axis, mirror)
    return Constants(*(torch.from_numpy(part).to(device) for part in parts))


@dataclass(frozen=True, slots=True)
class Seats:
    """Who carries what under one key in one version, on one device.

    bit: int64 (n,), the code bit of a frequency, or N for sync; member: float64 (n, N + 1), the same, one-hot; data:
    float32 (n,), 1 where a frequency carries a code bit.
    """

    bit: torch.Tensor
    member: torch.Tensor
    data: torch.Tensor


@lru_cache(maxsize=32)
def seats(key: MarkKey, version: int, device: torch.device) -> Seats:
    """The key's seats, moved to a device once."""
    import torch

    group = carrier.layout(key, version)
    bit = np.where(group < 0, code.N, group)
    parts = (bit, np.eye(code.N + 1)[bit], (group >= 0).astype(np.float32))
    return Seats(*(torch.from_numpy(part).to(device) for part in parts))


@lru_cache(maxsize=1)
def _rings() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """Of each frequency: its ring (n,); its share in the ring's mean (n, rings); what the high pass leaves of it (n,)."""
    radius = carrier.lattice().radius
    ring = radius.astype(np.int64)
    member = np.eye(int(ring.max()) + 1)[ring]
    passed = 1 - np.exp(-2 * (np.pi * front.HIGH_PASS_SIGMA * radius / carrier.TILE) ** 2)
    return ring, member / np.maximum(member.sum(0), 1), passed.astype(np.float32)


def _radius(sigma: float) -> int:
    """Cells on each side of a box that, run twice, blurs by about sigma canonical pixels."""
    return max(1, round(sigma * 1.2 / CELL))


def smooth(coarse: torch.Tensor, radius: int, times: int) -> torch.Tensor:
    """Means over (2 radius + 1)^2 cells, fewer at the border, `times` times, of float32 (B, 1, h', w'): two small products."""
    import torch

    rows, columns = (torch.from_numpy(_box(side, radius, times)).to(coarse.device) for side in coarse.shape[2:])
    return rows @ coarse @ columns.T


@lru_cache(maxsize=32)
def _box(side: int, radius: int, times: int) -> NDArray[np.float32]:
    """float32 (side, side): the means of one axis."""
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side))) <= radius
    return np.asarray(np.linalg.matrix_power(near / near.sum(1, keepdims=True), times), np.float32)


def spread(coarse: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """float32 (B, 1, H, W): cells brought to a picture's size, bilinear."""
    import torch.nn.functional as F

    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _transform(white: torch.Tensor, canonical: tuple[float, float]) -> torch.Tensor:
    """complex64 (B, n): Fourier transform at the lattice, phases relative to the centre. white: float32 (B, h, w)."""
    import torch

    reach = carrier.REACH
    rows, columns, weight = (torch.from_numpy(part).to(white.device) for part in _waves(*white.shape[1:], *canonical))
    inner = white @ columns
    table = rows @ torch.complex(inner[..., : reach + 1], inner[..., reach + 1 :])
    return table.flatten(1)[:, constants(white.device).place] * weight


@lru_cache(maxsize=8)
def _waves(rows: int, columns: int, height: float, width: float) -> tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.float32]]:
    """exp(-2 pi i ky y / TILE) (2 reach + 1, rows); the same in x, real and imaginary parts (columns, 2 (reach + 1));
    and what brings back to each frequency (n,) the canonical pixels that one pixel here is the mean of.
    """
    reach, turn, grid = carrier.REACH, 2 * np.pi / carrier.TILE, carrier.lattice()
    dy, dx = height / rows, width / columns
    y = np.exp(-1j * turn * dy * np.outer(np.arange(-reach, reach + 1), np.arange(rows) - (rows - 1) / 2))
    x = np.exp(-1j * turn * dx * np.outer(np.arange(columns) - (columns - 1) / 2, np.arange(reach + 1)))
    passed = np.sinc(grid.ky * dy / carrier.TILE) * np.sinc(grid.kx * dx / carrier.TILE)
    return y.astype(np.complex64), np.concatenate([x.real, x.imag], 1).astype(np.float32), (dy * dx / passed).astype(np.float32)


def plan(unmarked: UnmarkedSpectrum, phases: torch.Tensor, dealt: Seats, shifts: torch.Tensor, scale: float) -> torch.Tensor:
    """complex64 (B, n): the coefficients to embed, unit power.

    phases: complex64 (B, n), key phase times code sign; shifts: int64 (B, m, 2), allowed; scale: canonical pixels a pixel.
    """
    import torch

    amplitude = _shape(unmarked, scale)
    weight = _reader_weight(unmarked, amplitude)
    aligned = _against(unmarked.spectrum, phases) * weight
    phases = _against(phases, _ramp(aligned, shifts))
    toward = _against(unmarked.spectrum, phases).real * weight
    pull = amplitude * unmarked.response * weight
    sums = (torch.stack([toward, pull, amplitude.square() / 2]).double() @ dealt.member).float()  # double: as above
    gains = torch.ones_like(sums[0])
    gains[:, : code.N] = _equal_margins(*(s[:, : code.N] for s in sums))
    return phases * amplitude * gains[:, dealt.bit]


def expected(unmarked: UnmarkedSpectrum, coefficients: torch.Tensor, dealt: Seats) -> torch.Tensor:
    """float32 (B,): the statistic Z (`detect`) of the data that the reader will find if nothing is done to the picture."""
    amplitude = _power(coefficients).sqrt()
    marked = unmarked.spectrum + unmarked.response * coefficients
    weight = _reader_weight(unmarked, amplitude) * dealt.data
    share = _against(marked, coefficients).real / amplitude.clamp_min(1e-12) * weight
    return share.sum(1) / ((_power(marked) * weight.square()).sum(1) / 2).sqrt().clamp_min(1e-12)


def _shape(unmarked: UnmarkedSpectrum, scale: float) -> torch.Tensor:
    """float32 (B, n): amplitudes of unit total power, lower where the picture is strong or its pixels end."""
    import torch

    grid = carrier.lattice()
    cycles = grid.radius * scale / carrier.TILE  # a pixel
    prior = torch.from_numpy((grid.amplitude / np.sqrt(1 + (cycles / PIXEL_KNEE) ** 4)).astype(np.float32)).to(unmarked.level.device)
    prior = prior / (prior.square().sum() / 2).sqrt()
    noise = unmarked.level / (unmarked.response * prior.mean() + 1e-9)
    amplitude = prior / (1 + (noise / KNEE).square()).sqrt()
    return amplitude / (amplitude.square().sum(1, keepdim=True) / 2).sqrt()


def _reader_weight(unmarked: UnmarkedSpectrum, amplitude: torch.Tensor) -> torch.Tensor:
    """float32 (B, n): the weights that the reader will give, judged from the unmarked picture."""
    level = unmarked.level + amplitude * unmarked.response + 1e-6
    return amplitude * unmarked.response / level.square() / (_power(unmarked.spectrum).sqrt() / level + 0.05).sqrt()


def _ramp(aligned: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """complex64 (B, n): exp(2 pi i k.d / TILE) for the allowed shift d at which picture and tile agree best."""
    import torch

    tile, fixed = carrier.TILE, constants(aligned.device)
    table = torch.zeros(len(aligned), tile * (tile // 2 + 1), dtype=torch.complex64, device=aligned.device)
    table[:, fixed.seat] = aligned
    table[:, fixed.mirror] = aligned[:, fixed.axis].conj()
    surface = torch.fft.irfft2(table.view(len(aligned), tile, -1), (tile, tile)).flatten(1)
    best = surface.gather(1, shifts[..., 0] * tile + shifts[..., 1]).argmax(1)
    dy, dx = shifts[torch.arange(len(aligned), device=aligned.device), best].unbind(1)
    return fixed.turns[(fixed.ky * dy[:, None] + fixed.kx * dx[:, None]) % tile]


def _equal_margins(toward: torch.Tensor, pull: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """float32 (B, 128): gains >= GAIN_MIN, of about unchanged total power, that make toward + gain * pull level.

    The power is a convex, rising function of the level: Newton's steps from above fall towards the root.
    """
    budget = power.sum(1, keepdim=True)
    pull = pull.clamp_min(1e-12)
    steep = power / pull
    level = (toward + pull * (power.sum(1, keepdim=True) / power).sqrt()).amax(1, keepdim=True)
    for _ in range(NEWTON_STEPS):
        gains = ((level - toward) / pull).clamp_min_(GAIN_MIN)
        free = gains > GAIN_MIN
        level = level - ((power * gains.square()).sum(1, keepdim=True) - budget) / (2 * (steep * gains * free).sum(1, keepdim=True) + 1e-20)
    return ((level - toward) / pull).clamp_min_(GAIN_MIN)
