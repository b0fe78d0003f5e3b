"""Embedding: one batched torch operation on the device that holds the pixels.

    luminance -> local activity -> strength mask;   key and payload -> tile -> pattern at the picture's own size;
    picture + mask * pattern

The pattern is exact at any size, without resampling: the tile holds few frequencies, so the pattern is two small matrix products of
cosines, over one period where the picture holds whole ones.

Strength is set so that each picture reaches PSNR_DB or more. The mask moves it, within MASK_RANGE, from flat areas, where the eye sees
it, to texture, where it does not. FLAT_MAX and FLAT_SLOPE cap it at what local deviation hides: sqrt(FLAT_MAX^2 + (FLAT_SLOPE activity)^2)
costs SSIM about as much everywhere, while a cap in proportion to activity spends most of it on areas of middling texture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import MarkUnsupported
from renderfarm.watermark import carrier, inform
from renderfarm.watermark.reader import read
from renderfarm.watermark.types import VERSION, VERSIONS, MarkKey, Payload

if TYPE_CHECKING:
    import torch

PSNR_DB = 41.12
MASK_RANGE = (0.45, 2.6)
ACTIVITY_KNEE = 6.0
FLAT_MAX = 1.75  # grey levels, root mean square, where the picture is flat
FLAT_SLOPE = 0.55
CLIPPED_MORE = 1.5
FLAT_SIZE = (0.5, 0.75)  # large and small pictures: these carry the mark at higher frequencies, where the eye sees less of it
EXPECTED_MIN, EXPECTED_SURE = 11.0, 20.0  # of Z: photographs have 20 to 40, black-and-white noise at most 17


@overload
def embed(images: torch.Tensor, payloads: Sequence[Payload], key: MarkKey, *, version: int = ...) -> torch.Tensor: ...
@overload
def embed(images: NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey, *, version: int = ...) -> NDArray[np.uint8]: ...
def embed(
    images: torch.Tensor | NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey, *, version: int = VERSION
) -> torch.Tensor | NDArray[np.uint8]:
    """Marks each picture with its payload: uint8 (B, H, W, 3) sRGB in, the same kind, shape and device out.

    The same picture gets the same pixels in any batch. version: an older one repeats an old mark. Raises: MarkUnsupported when the
    short side is below 256 pixels, or when a picture is so saturated or noisy all over that its mark would not read.
    """
    import torch

    if isinstance(images, np.ndarray):
        return embed(torch.from_numpy(np.require(images, requirements=["C", "W"])), payloads, key, version=version).numpy()
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"embed takes uint8 (B, H, W, 3), not {images.dtype} {tuple(images.shape)}")
    batch, height, width, _ = images.shape
    if len(payloads) != batch:
        raise ValueError(f"{batch} pictures but {len(payloads)} payloads")
    if version not in VERSIONS:
        raise ValueError(f"there is no mark of version {version}")
    if not carrier.supported(width, height):
        raise MarkUnsupported(f"{width}x{height}: a mark needs a short side of at least {carrier.SHORT_SIDE_MIN} pixels")
    with torch.inference_mode():
        return _marked(images.contiguous(), payloads, key, version) if batch else images.clone()


def _marked(images: torch.Tensor, payloads: Sequence[Payload], key: MarkKey, version: int) -> torch.Tensor:
    """images: uint8 (B, H, W, 3) -> uint8 (B, H, W, 3)."""
    import torch

    device = images.device
    height, width = images.shape[1:3]
    pixels = images.to(torch.float32)  # (B, H, W, 3)
    level = 255.0 / 10 ** (PSNR_DB / 20) / float(np.sqrt(np.square(np.array(carrier.CHANNEL_GAIN, np.float32)).mean()))
    scale = carrier.canonical_scale(height, width)
    cells = inform.cells(pixels, scale)
    strength = _strength(cells, level, scale)
    phases = torch.from_numpy(np.stack([carrier.phases(key, p, version) for p in payloads])).to(device)
    shifts = torch.from_numpy(np.stack([carrier.shifts(key, p) for p in payloads])).to(device)
    seats = inform.seats(key, version, device)
    unmarked = inform.host(cells, strength, (height * scale, width * scale))
    coefficients = inform.plan(unmarked, phases, seats, shifts, scale)
    change = inform.spread(strength, (height, width))[:, 0]
    rows, columns = _period(height, width)
    change.view(-1, height // rows, rows, width // columns, columns).mul_(pattern(coefficients, height, width)[:, None, :, None])
    power = level / torch.linalg.vector_norm(change, dim=(1, 2)).div_((height * width) ** 0.5)
    change *= power.clamp_max_(1)[:, None, None]
    run = math.gcd(height * width, 16)  # pixels that one row of a product covers: far faster than strided sums
    pixels.view(-1, 3 * run).addmm_(change.view(-1, run), _gains(run, device))
    marked = pixels.round_().clamp_(0, 255).to(torch.uint8)
    _refuse_unreadable(marked, inform.expected(unmarked, coefficients, seats), payloads, key)
    return marked


@lru_cache(maxsize=32)
def _gains(run: int, device: torch.device) -> torch.Tensor:
    """float32 (run, 3 run): brings the changes of a run of pixels to their channels."""
    import torch

    return torch.kron(torch.eye(run), torch.tensor(carrier.CHANNEL_GAIN)).to(device)


def _period(height: int, width: int) -> tuple[int, int]:
    """Pixels after which the pattern repeats, where the picture holds a whole number of such periods; else its size."""
    period = carrier.TILE / carrier.canonical_scale(height, width)
    whole = round(period)
    return (whole, whole) if abs(period - whole) < 1e-9 * period and height % whole == 0 == width % whole else (height, width)


def pattern(coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """float32 (B, h, w): sum over k of Re(c exp(2 pi i k.x / TILE)) at canonical x, over one `_period`. coefficients: complex64 (B, n)."""
    import torch

    reach, device = carrier.REACH, coefficients.device
    table = torch.zeros(len(coefficients), (2 * reach + 1) * (reach + 1), dtype=torch.complex64, device=device)
    table[:, inform.constants(device).place] = coefficients
    rows, columns = (torch.from_numpy(part).to(device) for part in _waves(height, width))
    inner = table.view(len(coefficients), -1, reach + 1) @ columns
    return rows @ torch.cat([inner.real, inner.imag], 1)


@lru_cache(maxsize=8)
def _waves(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
    """Real and imaginary parts of exp(2 pi i ky y / TILE) (h, 2 (2 reach + 1)), and the same in x (reach + 1, w), over a `_period`."""
    reach = carrier.REACH
    step = carrier.canonical_scale(height, width) * 2 * np.pi / carrier.TILE
    h, w = _period(height, width)
    rows = np.exp(1j * step * np.outer(np.arange(h) - (height - 1) / 2, np.arange(-reach, reach + 1)))
    columns = np.exp(1j * step * np.outer(np.arange(reach + 1), np.arange(w) - (width - 1) / 2))
    return np.concatenate([rows.real, -rows.imag], 1).astype(np.float32), columns.astype(np.complex64)


def _strength(cells: inform.Cells, level: float, scale: float) -> torch.Tensor:
    """float32 (B, 1, h', w'), grey levels: how strong the pattern may be, mean square `level`^2 or less.

    By the local deviation of luminance, as its power mean of exponent 1/4: so low a one counts texture, which is
    everywhere, and not the edge of a flat shape.
    """
    quartic = (cells.square - cells.mean.square()).clamp_min_(0).sqrt_().sqrt_().sqrt_()
    activity = inform.smooth(quartic, 2, 1).square_().square_()
    root = (1 + activity / ACTIVITY_KNEE).sqrt_()
    mask = root * root.sqrt()
    mask = mask / mask.square().mean((2, 3), keepdim=True).sqrt()
    clipped = 1 + (CLIPPED_MORE - 1) * ((cells.mean - 127.5).abs() > 124)  # half of the mark is lost there
    quiet = FLAT_MAX * max(scale**power for power in FLAT_SIZE) * clipped
    return (mask.clamp_(*MASK_RANGE) * level).minimum((quiet.square() + (FLAT_SLOPE * activity).square()).sqrt())


def _refuse_unreadable(marked: torch.Tensor, expected: torch.Tensor, payloads: Sequence[Payload], key: MarkKey) -> None:
    """Raises: MarkUnsupported for a picture that leaves the mark too weak to survive anything, or does not read back.

    Only doubtful ones, which are rare, are read: their statistic Z is low as far as it can be told beforehand.
    """
    for index, z in enumerate(expected.tolist()):
        if z >= EXPECTED_SURE:
            continue
        if z < EXPECTED_MIN or read(marked[index].cpu().numpy(), [key], search="fast").payload != payloads[index]:
            which = f"picture {index} of the batch" if len(payloads) > 1 else "the picture"
            raise MarkUnsupported(f"{which} is saturated or noisy all over: its mark would not read")
