"""What the embedder does because it knows the picture: informed embedding.

A reader that lacks the original sees the picture as noise. The embedder does not have to: it computes the reader's
own statistic on the unmarked picture and spends the mark's power where the picture works against it.

1. *Shape*: less amplitude at radii where the picture is strong, more where it is weak. 2. *Shift*: of SHIFTS shifts
that key and payload allow, the one at which the picture itself correlates best with the tile: dirty-paper coding in
its simplest form (Costa, "Writing on dirty paper", IEEE Trans. IT 29(3), 1983), worth sqrt(2 ln SHIFTS) = 3.7 in Z.
3. *Gain*: of every code bit, so that all end up with the same margin (improved spread spectrum, Malvar & Florencio,
IEEE Trans. SP 51(4), 2003, solved for one common margin by bisection instead of by a fixed factor).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.watermark import carrier, code, front

if TYPE_CHECKING:
    import torch

GAIN_MIN = 0.35  # least amplitude of a code bit: what the whole picture grants, a crop of it may not
KNEE = 1.0
PIXEL_KNEE = 0.2
CELL = 4  # canonical pixels: the resolution of local means


@dataclass(frozen=True, slots=True)
class Host:
    """The unmarked pictures, as the reader sees them.

    spectrum: complex64 (B, n) on the lattice; level: float32 (B, n), its root mean square by ring; response: float32
    (B, n), what an amplitude of one grey level adds to it.
    """

    spectrum: torch.Tensor
    level: torch.Tensor
    response: torch.Tensor


def host(luma: torch.Tensor, mask: torch.Tensor) -> Host:
    """The reader's front end in torch, on the canonical grid. luma, mask: float32 (B, H, W)."""
    import torch
    import torch.nn.functional as F

    scale = carrier.canonical_scale(*luma.shape[1:])
    size = (max(8, round(luma.shape[1] * scale)), max(8, round(luma.shape[2] * scale)))
    planes = torch.stack([luma, mask], 1)
    if size != tuple(luma.shape[1:]):
        planes = F.interpolate(planes, size=size, mode="area" if scale < 1 else "bilinear")
    y, strength = planes[:, :1], planes[:, 1:]
    high = y - _smooth(y, front.HIGH_PASS_SIGMA, size)
    gain = 1 / (_smooth(high.square(), front.ENERGY_BOX / 3.46, size).clamp_min_(0).sqrt_() + front.FLOOR)
    room = ((y - 1).clamp(0, 2) + (254 - y).clamp(0, 2)) / 4  # half where clipping takes one side
    white = (high * gain).clamp_(-front.CLIP, front.CLIP)
    spectrum = _transform(white[:, 0])
    grid = carrier.lattice()
    ring = torch.from_numpy(grid.radius.astype(np.int64)).to(luma.device)
    member = F.one_hot(ring).to(torch.float32)
    level = (spectrum.abs().square() @ member / member.sum(0).clamp_min(1)).sqrt()[:, ring]
    passed = 1 - np.exp(-2 * (np.pi * front.HIGH_PASS_SIGMA * grid.radius / carrier.TILE) ** 2)
    mean = (strength * gain * room).mean((1, 2, 3)) * (size[0] * size[1] / 2)
    response = mean[:, None] * torch.from_numpy(passed.astype(np.float32)).to(luma.device)
    return Host(spectrum, level, response)


def _smooth(x: torch.Tensor, sigma: float, size: tuple[int, int]) -> torch.Tensor:
    """A blur of about sigma canonical pixels, on a grid CELL times coarser. x: float32 (B, 1, h, w)."""
    import torch.nn.functional as F

    coarse = F.avg_pool2d(x, CELL, ceil_mode=True, count_include_pad=False)
    radius = max(1, round(sigma * 1.2 / CELL))
    for _ in range(2):
        coarse = F.avg_pool2d(coarse, 2 * radius + 1, 1, radius, count_include_pad=False)
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _transform(white: torch.Tensor) -> torch.Tensor:
    """complex64 (B, n): Fourier transform at the lattice, phases relative to the centre. white: float32 (B, h, w)."""
    import torch

    rows, columns = _waves(*white.shape[1:])
    reach = carrier.REACH
    c = torch.from_numpy(columns).to(white.device)  # (w, 2 (reach + 1))
    inner = white @ c
    inner = torch.complex(inner[..., : reach + 1], inner[..., reach + 1 :])  # (B, h, reach + 1)
    table = torch.from_numpy(rows).to(white.device) @ inner
    grid = carrier.lattice()
    return table[:, torch.from_numpy(grid.ky + reach), torch.from_numpy(grid.kx)]


@lru_cache(maxsize=8)
def _waves(height: int, width: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """exp(-2 pi i ky y / TILE) (2 reach + 1, h); the same in x, real and imaginary parts (w, 2 (reach + 1))."""
    reach, step = carrier.REACH, 2 * np.pi / carrier.TILE
    rows = np.exp(-1j * step * np.outer(np.arange(-reach, reach + 1), np.arange(height) - (height - 1) / 2))
    columns = np.exp(-1j * step * np.outer(np.arange(width) - (width - 1) / 2, np.arange(reach + 1)))
    return rows.astype(np.complex64), np.concatenate([columns.real, columns.imag], 1).astype(np.float32)


def plan(seen: Host, phases: torch.Tensor, group: torch.Tensor, shifts: torch.Tensor, scale: float) -> torch.Tensor:
    """complex64 (B, n): the coefficients to embed, unit power.

    phases: complex64 (B, n), key phase times code sign; group: int64 (n,), -1 = sync; shifts: int64 (B, m, 2),
    allowed; scale: canonical pixels a pixel.
    """
    import torch

    amplitude = _shape(seen, scale)
    weight = _reader_weight(seen, amplitude)
    aligned = seen.spectrum * phases.conj() * weight
    phases = phases * _ramp(aligned, shifts).conj()
    toward = (seen.spectrum * phases.conj()).real * weight
    pull = amplitude * seen.response * weight
    seat = torch.where(group < 0, code.N, group)
    member = torch.nn.functional.one_hot(seat, code.N + 1).to(torch.float32)  # a product sums in one order on any device
    sums = torch.stack([toward, pull, amplitude.square() / 2]) @ member
    gains = torch.ones_like(sums[0])
    gains[:, : code.N] = _equal_margins(*(s[:, : code.N] for s in sums))
    return phases * amplitude * gains[:, seat]


def _shape(seen: Host, scale: float) -> torch.Tensor:
    """float32 (B, n): amplitudes of unit total power, lower where the picture is strong or its pixels end."""
    import torch

    grid = carrier.lattice()
    device = seen.level.device
    cycles = grid.radius * scale / carrier.TILE  # a pixel
    prior = torch.from_numpy((grid.amplitude / np.sqrt(1 + (cycles / PIXEL_KNEE) ** 4)).astype(np.float32)).to(device)
    prior = prior / (prior.square().sum() / 2).sqrt()
    noise = seen.level / (seen.response * prior.mean() + 1e-9)
    amplitude = prior / (1 + (noise / KNEE).square()).sqrt()
    return amplitude / (amplitude.square().sum(1, keepdim=True) / 2).sqrt()


def _reader_weight(seen: Host, amplitude: torch.Tensor) -> torch.Tensor:
    """float32 (B, n): the weights that the reader will give, judged from the unmarked picture."""
    level = seen.level + amplitude * seen.response + 1e-6
    return amplitude * seen.response / level.square() / (seen.spectrum.abs() / level + 0.05).sqrt()


def _ramp(aligned: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """complex64 (B, n): exp(2 pi i k.d / TILE) for the allowed shift d at which picture and tile agree best."""
    import torch

    tile, grid = carrier.TILE, carrier.lattice()
    device = aligned.device
    ky, kx = torch.from_numpy(grid.ky).to(device), torch.from_numpy(grid.kx).to(device)
    table = torch.zeros(len(aligned), tile, tile // 2 + 1, dtype=torch.complex64, device=device)
    table[:, ky % tile, kx] = aligned
    axis = kx == 0
    table[:, -ky[axis] % tile, 0] = aligned[:, axis].conj()
    surface = torch.fft.irfft2(table, (tile, tile))
    rows = torch.arange(len(aligned), device=device)
    best = surface[rows[:, None], shifts[..., 0], shifts[..., 1]].argmax(1)
    dy, dx = shifts[rows, best].unbind(1)
    turn = (ky * dy[:, None] + kx * dx[:, None]) % tile
    return torch.polar(torch.ones_like(turn, dtype=torch.float32), turn * (2 * torch.pi / tile))


def _equal_margins(toward: torch.Tensor, pull: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """float32 (B, 128): gains >= GAIN_MIN, of unchanged total power, that make toward + gain * pull level."""
    import torch

    budget = power.sum(1, keepdim=True)
    pull = pull.clamp_min(1e-12)
    low = toward.amin(1, keepdim=True)
    high = (toward + 20 * pull).amax(1, keepdim=True)
    gains = torch.ones_like(toward)
    for _ in range(24):
        middle = (low + high) / 2
        gains = ((middle - toward) / pull).clamp_min(GAIN_MIN)
        over = (power * gains.square()).sum(1, keepdim=True) > budget
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return gains
