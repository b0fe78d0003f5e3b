"""Reading: picture and keys -> Reading. As it is and mirrored first; then a search over scale and rotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.watermark import carrier, detect, front
from pipeline.watermark import search as _search
from pipeline.watermark.types import Geometry, MarkKey, Reading

SHORT_SIDE_READ_MIN = 64


def read(image: NDArray[np.uint8], keys: Sequence[MarkKey], *, search: Literal["fast", "full"] = "full") -> Reading:
    """Looks for a mark under any of the keys. image: uint8 (H, W), (H, W, 3) or (H, W, 4), sRGB.

    `fast` tries the whole picture at any size and its mirror image, enough for reading back before storing; `full`
    adds crops, borders and rotations. `false_alarm` bounds the chance that a picture without a mark reads as present,
    over the draw of the keys.
    Raises: ValueError for another shape or dtype.
    """
    luma = front.luminance(image)
    if min(luma.shape) < SHORT_SIDE_READ_MIN or not keys:
        return _absent(0.0)
    grid = front.canonical(luma)
    hypotheses = 2 + _search.HYPOTHESES if search == "full" else 2
    bound = detect.threshold(hypotheses, len(keys))
    best = 0.0
    shrink = luma.size / grid.size
    upright, rounding = front.whiten(grid)
    for flipped in (False, True):
        white = np.ascontiguousarray(upright[:, ::-1]) if flipped else upright
        spectrum = front.lattice_spectrum(white, rounding / shrink)
        for key in keys:
            match, z = detect_at(spectrum, key, bound)
            best = max(best, z)
            if match is not None:
                return _present(match, key, Geometry(1.0, 0.0, flipped, match.offset), bound)
    if search == "full":
        for key, geometry in _search.candidates(upright, keys):
            turned = front.warp(grid, geometry.scale, geometry.rotation_deg, geometry.flipped)
            white, rounding = front.whiten(turned)
            spectrum = front.lattice_spectrum(white, rounding / (shrink * geometry.scale**2))
            match, z = detect_at(spectrum, key, bound)
            best = max(best, z)
            if match is not None:
                found = Geometry(geometry.scale, geometry.rotation_deg, geometry.flipped, match.offset)
                return _present(match, key, found, bound)
    return _absent(best / 20)


def detect_at(spectrum: NDArray[np.complex64], key: MarkKey, bound: float) -> tuple[detect.Match | None, float]:
    """A word above `bound` nats at the best shift of one geometry, if any view of the spectrum shows one; the sync's z."""
    best = 0.0
    for view in range(len(front.views())):
        surface, norm = detect.sync_surface(spectrum, key, view)
        peak = int(surface.argmax())
        z = float(surface.flat[peak]) / norm
        best = max(best, z)
        if z < detect.SYNC_MIN:
            continue
        offset = detect.refine_offset(spectrum, key, view, divmod(peak, carrier.TILE))
        match = detect.decode(spectrum, key, view, offset)
        if match is not None and match.nats >= bound:
            return match, z
    return None, best


def _present(match: detect.Match, key: MarkKey, geometry: Geometry, bound: float) -> Reading:
    confidence = float(1 - np.exp(-(match.nats - bound)) / 2)
    return Reading(True, match.payload, key.key_id, confidence, geometry, detect.FALSE_ALARM)


def _absent(share: float) -> Reading:
    return Reading(False, None, None, min(share, 1.0) / 2, None, detect.FALSE_ALARM)
