"""Embedding: one batched torch operation on the device that holds the pixels.

    luminance -> local activity -> strength mask;   key and payload -> tile -> pattern at the picture's own size;
    picture + mask * pattern

The pattern is evaluated exactly at any size: the tile is band limited, so it is two small matrix products of cosines
(no resampling). Strength is set per picture, so that the whole picture reaches PSNR_DB; the mask moves it from flat
areas, where the eye sees it, to texture, where it does not, within MASK_RANGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.watermark import carrier, inform
from pipeline.watermark.types import MarkKey, Payload, Unsupported

if TYPE_CHECKING:
    import torch

PSNR_DB = 41.12
MASK_RANGE = (0.45, 2.6)
ACTIVITY_KNEE = 6.0
ACTIVITY_POWER = 0.8
EVENNESS = 0.33  # a power mean this low counts texture, which is everywhere, and not the edge of a flat shape
LUMA = (0.299, 0.587, 0.114)
FLAT_MAX = 1.75  # grey levels, root mean square, where the picture is flat
FLAT_SLOPE = 0.5
CLIPPED_MORE = 1.5
FLAT_SIZE = 0.5  # small pictures carry the mark at higher frequencies, where the eye sees less of it
USABLE_MIN = 0.1  # share of the pattern's energy that must survive clipping


@overload
def embed(images: torch.Tensor, payloads: Sequence[Payload], key: MarkKey) -> torch.Tensor: ...
@overload
def embed(images: NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey) -> NDArray[np.uint8]: ...
def embed(images: torch.Tensor | NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey) -> torch.Tensor | NDArray[np.uint8]:
    """Marks each picture with its payload: uint8 (B, H, W, 3) sRGB in, the same kind, shape and device out.

    Raises: Unsupported when the short side is below 256 pixels, or when a picture is so saturated that the mark would
    be clipped away.
    """
    import torch

    if isinstance(images, np.ndarray):
        return embed(torch.from_numpy(np.ascontiguousarray(images)), payloads, key).numpy()
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"embed takes uint8 (B, H, W, 3), not {images.dtype} {tuple(images.shape)}")
    batch, height, width, _ = images.shape
    if len(payloads) != batch:
        raise ValueError(f"{batch} pictures but {len(payloads)} payloads")
    if not carrier.supported(width, height):
        raise Unsupported(f"{width}x{height}: a mark needs a short side of at least {carrier.SHORT_SIDE_MIN} pixels")
    with torch.inference_mode():
        return _marked(images, payloads, key) if batch else images.clone()


def _marked(images: torch.Tensor, payloads: Sequence[Payload], key: MarkKey) -> torch.Tensor:
    """images: uint8 (B, H, W, 3) -> uint8 (B, H, W, 3)."""
    import torch

    device = images.device
    pixels = images.to(torch.float32)  # (B, H, W, 3)
    luma = pixels @ torch.tensor(LUMA, device=device)
    gain = torch.tensor(carrier.CHANNEL_GAIN, device=device)
    level = 255.0 / 10 ** (PSNR_DB / 20) / gain.square().mean().sqrt()
    strength = _strength(luma, level)
    phases = torch.from_numpy(np.stack([carrier.phases(key, p) for p in payloads])).to(device)
    shifts = torch.from_numpy(np.stack([carrier.shifts(key, p) for p in payloads])).to(device)
    group = torch.from_numpy(carrier.carrier(key).group).to(device)
    scale = carrier.canonical_scale(*luma.shape[1:])
    coefficients = inform.plan(inform.host(luma, strength), phases, group, shifts, scale)
    change = pattern(coefficients, images.shape[1], images.shape[2]).mul_(strength)
    change *= (level / change.square().mean((1, 2)).sqrt()).clamp_max_(1)[:, None, None]
    _refuse_saturated(luma[:, ::3, ::3], change[:, ::3, ::3])
    for channel, share in enumerate(carrier.CHANNEL_GAIN):
        pixels[..., channel].add_(change, alpha=share)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def pattern(coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """float32 (B, H, W): sum over k of Re(c exp(2 pi i k.x / TILE)) at canonical x. coefficients: complex64 (B, n)."""
    import torch

    grid, reach, device = carrier.lattice(), carrier.REACH, coefficients.device
    table = torch.zeros(len(coefficients), 2 * reach + 1, reach + 1, dtype=torch.complex64, device=device)
    table[:, torch.from_numpy(grid.ky + reach), torch.from_numpy(grid.kx)] = coefficients
    rows, columns = _waves(height, width)
    inner = table @ torch.from_numpy(columns).to(device)
    return torch.from_numpy(rows).to(device) @ torch.cat([inner.real, inner.imag], 1)


@lru_cache(maxsize=8)
def _waves(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
    """Real and imaginary parts of exp(2 pi i ky y / TILE) (H, 2 (2 reach + 1)), and the same in x (reach + 1, W)."""
    reach = carrier.REACH
    step = carrier.canonical_scale(height, width) * 2 * np.pi / carrier.TILE
    rows = np.exp(1j * step * np.outer(np.arange(height) - (height - 1) / 2, np.arange(-reach, reach + 1)))
    columns = np.exp(1j * step * np.outer(np.arange(reach + 1), np.arange(width) - (width - 1) / 2))
    return np.concatenate([rows.real, -rows.imag], 1).astype(np.float32), columns.astype(np.complex64)


def _strength(luma: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """float32 (B, H, W), grey levels: how strong the pattern may be, by the local deviation of luminance; mean square `level`^2 or less."""
    import torch.nn.functional as F

    height, width = luma.shape[1:]
    cell = max(2, round(4 / carrier.canonical_scale(height, width)))
    y = luma[:, None]
    mean = F.avg_pool2d(y, cell, ceil_mode=True)
    spread = F.avg_pool2d(y.square(), cell, ceil_mode=True)
    deviation = (spread - mean.square()).clamp_min_(0) ** (EVENNESS / 2)
    activity = F.avg_pool2d(deviation, 5, 1, 2, count_include_pad=False) ** (1 / EVENNESS)
    mask = (1 + activity / ACTIVITY_KNEE).pow_(ACTIVITY_POWER)
    mask = mask / mask.square().mean((2, 3), keepdim=True).sqrt()
    clipped = 1 + (CLIPPED_MORE - 1) * ((mean - 127.5).abs() > 124)  # half of the mark is lost there
    quiet = FLAT_MAX * carrier.canonical_scale(height, width) ** FLAT_SIZE * clipped
    mask = (mask.clamp_(*MASK_RANGE) * level).minimum(quiet + activity * FLAT_SLOPE)
    return F.interpolate(mask, size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def _refuse_saturated(luma: torch.Tensor, change: torch.Tensor) -> None:
    """Raises: Unsupported when clipping to 0..255 leaves less than USABLE_MIN of some picture's pattern."""
    kept = (luma + change).clamp(0, 255) - luma
    share = (kept * change).mean((1, 2)) / change.square().mean((1, 2))
    for index, value in enumerate(share.tolist()):
        if value < USABLE_MIN:
            raise Unsupported(f"picture {index} of the batch is saturated: only {value:.0%} of the mark would remain")
