"""From the lattice's spectrum to a payload, and the bound on false alarms.

In short: two correlations between picture and key are weighed together. Without the mark a large sum is improbable, whatever the picture
is. So the threshold follows from how often we may be wrong, and not from a collection of pictures.

A *hypothesis* h says how the picture may lie: plane (luminance or colours, `front`), scale, rotation, flip, shift of the tile, view
(`front.views`). c is a codeword. Let a_k be the picture's spectrum on the lattice under h, aligned to its shift; u_k the key's phases;
s_k(c) the signs that the codeword gives them. The two correlations are

    S(h)    = sum over sync k of Re(a_k conj(u_k)) w_k       / sqrt(sum |a_k|^2 w_k^2 / 2),   w = the view, and
    Z(h, c) = sum over data k of Re(a_k conj(u_k)) s_k(c) t_k / sqrt(sum |a_k|^2 t_k^2 / 2),   t = how well the sync
    was found by band.

On a picture that was not marked with the key, the a_k do not depend on it, and the u_k are independent and uniform on
the circle (2^16 angles). Then E exp(x Re(a u)) = I_0(x |a|) <= exp(x^2 |a|^2 / 4), and Chernoff's bound gives P(S >=
s) <= exp(-s^2 / 2): for *every* picture, over the draw of the key. (The 2^16 angles add terms of order I_65536, which
are nothing.) Given the sync's phases, t is fixed and the data's phases are still uniform, so P(Z >= z | sync) <=
exp(-z^2 / 2) too. Hence S^2/2 + Z^2/2 (positive parts) is dominated by the sum of two independent exponential
variables, and P(S^2/2 + Z^2/2 >= t) <= (1 + t) exp(-t) = exp(-nats), nats = t - ln(1 + t).

A key has 2^48 valid words, because the HMAC is a function of the message, and each is another pattern of signs in each
of the V layouts (`carrier.layout`). The union bound over them and over all H hypotheses that a search can visit,
refinements included, gives P(any false alarm) <= H V 2^48 exp(-nats): `threshold` is where this is FALSE_ALARM, shared
among the keys tried. The HMAC adds nothing to that; it is in the count of words. What it guards against is a marked
picture, damaged, that decodes to a wrong word: one candidate passes it with chance 2^-16, and some 30 candidates are
tried a hypothesis and layout.

Only the code bits' sums s_j = sum over the data k of bit j of Re(a_k conj(u_k)) t_k depend on the layout. Whatever the
word, Z <= sum |s_j| / norm: its *ceiling*, near 9 on noise and in a wrong layout, and above the mark's own Z in the
right one. The layout of the highest ceiling is therefore decoded first, and the other one only where the first holds no
word that is believed; none is decoded whose ceiling is below the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import carrier, code, front
from renderfarm.watermark.carrier import TILE
from renderfarm.watermark.types import MESSAGE_BITS, VERSIONS, MarkKey, Payload, unseal

FALSE_ALARM = 1e-7
SHRINK = 20.0
ORDER = 3
SYNC_MIN = 4.5  # below it decoding is not tried: the largest of 16,384 shifts reaches 4 without a mark
OFFSETS_PER_PIXEL = 4  # the finest grid on which a shift is tried

Complex = NDArray[np.complex64]
Floats = NDArray[np.float32]


def threshold(hypotheses: int, keys: int) -> float:
    """The nats above which a word is believed (module's text). Shifts are counted here."""
    offsets = (TILE * OFFSETS_PER_PIXEL) ** 2 * len(front.views())
    return log(hypotheses * offsets * keys * len(VERSIONS)) + MESSAGE_BITS * log(2) - log(FALSE_ALARM)


@dataclass(frozen=True, slots=True)
class DecodedMark:
    """A decoded word: its payload, its statistic in nats, where the tile's origin lies (y, x), the layout's version."""

    payload: Payload
    nats: float
    offset: tuple[float, float]
    version: int


def sync_surface(spectrum: Complex, key: MarkKey, view: int) -> tuple[Floats, float]:
    """float32 (128, 128): the sync's correlation at each whole shift; and the norm that makes it a z value."""
    tile = carrier.carrier(key)
    sync = tile.sync
    grid = tile.lattice
    product = spectrum[sync] * search_phases(key, view)
    table = np.zeros((TILE, TILE // 2 + 1), np.complex64)
    ky, kx = grid.ky[sync], grid.kx[sync]
    table[ky % TILE, kx] = product
    on_axis = kx == 0
    table[-ky[on_axis] % TILE, 0] = np.conj(product[on_axis])
    surface = np.fft.irfft2(table, (TILE, TILE)) * (TILE * TILE / 2)
    norm = float(np.sqrt((np.abs(product) ** 2).sum() / 2)) + 1e-12
    return surface.astype(np.float32), norm


def refine_offset(spectrum: Complex, key: MarkKey, view: int, start: tuple[int, int]) -> tuple[float, float]:
    """The shift near `start`, to a quarter of a pixel, that correlates the sync frequencies best."""
    tile = carrier.carrier(key)
    sync = tile.sync
    product = spectrum[sync] * search_phases(key, view)
    steps = np.arange(-3, 4) / OFFSETS_PER_PIXEL
    rows = np.exp(2j * np.pi / TILE * np.outer(start[0] + steps, tile.lattice.ky[sync]))
    columns = np.exp(2j * np.pi / TILE * np.outer(start[1] + steps, tile.lattice.kx[sync]))
    scores = ((rows * product) @ columns.T).real
    i, j = np.unravel_index(int(scores.argmax()), scores.shape)
    return float(start[0] + steps[i]), float(start[1] + steps[j])


def decode(spectrum: Complex, key: MarkKey, view: int, offset: tuple[float, float], bound: float) -> DecodedMark | None:
    """The valid word (HMAC) of greatest Z at this shift, if it is above `bound` nats. spectrum: complex64 (n,)."""
    tile = carrier.carrier(key)
    ramp = np.exp(2j * np.pi / TILE * (tile.lattice.ky * offset[0] + tile.lattice.kx * offset[1]))
    aligned = (spectrum * np.conj(tile.phase) * ramp).real
    sync, data = tile.sync, ~tile.sync
    power = np.abs(spectrum) ** 2
    w = front.views()[view][sync]
    s = max(0.0, float((aligned[sync] * w).sum()) / (float(np.sqrt((power[sync] * w * w).sum() / 2)) + 1e-12))
    trust = _trust(aligned[sync], power[sync], sync)[tile.band]
    aligned = (aligned * trust)[data]
    norm = float(np.sqrt((power * trust * trust)[data].sum() / 2)) + 1e-12
    layouts = {v: np.bincount(carrier.layout(key, v)[data], aligned, minlength=code.N).astype(np.float32) / norm for v in VERSIONS}
    for version, soft in sorted(layouts.items(), key=lambda item: -np.abs(item[1]).sum()):
        decoded = _word(soft, key, s, bound)
        if decoded is not None:
            return DecodedMark(*decoded, offset, version)
    return None


def _word(soft: Floats, key: MarkKey, s: float, bound: float) -> tuple[Payload, float] | None:
    """The valid word of greatest Z in one layout and its nats, if above `bound`. soft: float32 (128,), the bits' share of Z."""
    if _nats(s, float(np.abs(soft).sum())) < bound:
        return None
    best: tuple[Payload, float] | None = None
    for candidate in code.candidates(soft, ORDER):
        payload = unseal(np.packbits(candidate[: code.K]).tobytes(), key)
        if payload is None:
            continue
        nats = _nats(s, max(0.0, float((soft * (1.0 - 2.0 * candidate)).sum())))
        if nats >= bound and (best is None or nats > best[1]):
            best = payload, nats
    return best


def _nats(s: float, z: float) -> float:
    """What two statistics weigh (module's text)."""
    total = (s * s + z * z) / 2
    return total - log(1 + total)


def _trust(aligned: Floats, power: Floats, sync: NDArray[np.bool_]) -> Floats:
    """float32 (bands,): how strongly the sync was found in each band of radii, shrunk towards the mean of all."""
    band = carrier.bands()[sync]
    count = np.bincount(band)
    strength = np.bincount(band, aligned) / np.sqrt(np.bincount(band, power) * count + 1e-12)
    mean = max(float((strength * count).sum() / count.sum()), 0.02)
    shrunk = (strength * count + mean * SHRINK) / (count + SHRINK)
    return np.asarray(np.maximum(shrunk, 0.1 * mean), np.float32)


@lru_cache(maxsize=64)
def search_phases(key: MarkKey, view: int) -> Complex:
    """complex64 (n_sync,): the conjugated phases of the sync frequencies, weighted."""
    tile = carrier.carrier(key)
    return np.asarray(np.conj(tile.phase[tile.sync]) * front.views()[view][tile.sync], np.complex64)
