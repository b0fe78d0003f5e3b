"""Reading: picture and keys -> Reading. As it is and mirrored first; then a search over scale and rotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import carrier, detect, front
from renderfarm.watermark import search as _search
from renderfarm.watermark.types import Geometry, MarkKey, Reading

SHORT_SIDE_READ_MIN = 64


def read(image: NDArray[np.uint8], keys: Sequence[MarkKey], *, search: Literal["fast", "full"] = "full") -> Reading:
    """Looks for a mark under any of the keys. image: uint8 (H, W), (H, W, 3) or (H, W, 4), sRGB.

    `fast` tries the whole picture at any size and its mirror image, enough for reading back before storing; `full`
    adds crops, borders and rotations. `false_alarm` bounds the chance that a picture without a mark reads as present,
    over the draw of the keys.
    Raises: ValueError for another shape or dtype.
    """
    luma = front.luminance(image)
    height, width = image.shape[:2]
    if min(height, width) < SHORT_SIDE_READ_MIN or not keys:
        return _absent(0.0)
    hypotheses = front.PLANES * (2 + (_search.HYPOTHESES if search == "full" else 0))
    bound = detect.threshold(hypotheses, len(keys))
    best = 0.0
    for white, rounding, candidates, geometry in _ways(image, luma, keys, search == "full"):
        pixels = luma.size / geometry.scale**2
        spectrum = front.lattice_spectrum(white, rounding * pixels / (height * width))
        for key in candidates:
            match, z = detect_at(spectrum, key, bound)
            best = max(best, z)
            if match is not None:
                return _present(match, key, replace(geometry, offset=match.offset), bound)
    return _absent(best / 20)


Floats = NDArray[np.float32]
Way = tuple[Floats, float, Sequence[MarkKey], Geometry]


def _ways(image: NDArray[np.uint8], luma: Floats, keys: Sequence[MarkKey], full: bool) -> Iterator[Way]:
    """What to look at, cheapest first: a whitened plane and its rounding, the keys, how it was brought back.

    The whole picture and its mirror image by luminance, then by colours; then what the search proposes for each.
    """
    grey, grey_rounding = front.whiten(luma)
    for flipped in (False, True):
        yield front.warp(grey, 1, 0, flipped), grey_rounding, keys, Geometry(1.0, 0.0, flipped, (0.0, 0.0))
    colours = front.colours(image)
    if colours is not None:
        tint, tint_rounding = front.whiten(colours)
        for flipped in (False, True):
            yield front.warp(tint, 1, 0, flipped), tint_rounding, keys, Geometry(1.0, 0.0, flipped, (0.0, 0.0))
    if not full:
        return
    for key, way in _search.candidates(grey, keys):
        yield *front.whiten(front.warp(luma, way.scale, way.rotation_deg, way.flipped)), [key], way
    if colours is not None:
        for key, way in _search.candidates(tint, keys):  # whitening colours again costs more than it gives
            yield front.warp(tint, way.scale, way.rotation_deg, way.flipped), tint_rounding, [key], way


def detect_at(spectrum: NDArray[np.complex64], key: MarkKey, bound: float) -> tuple[detect.DecodedMark | None, float]:
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
        match = detect.decode(spectrum, key, view, offset, bound)
        if match is not None:
            return match, z
    return None, best


def _present(match: detect.DecodedMark, key: MarkKey, geometry: Geometry, bound: float) -> Reading:
    confidence = float(1 - np.exp(-(match.nats - bound)) / 2)
    return Reading(True, match.payload, key.key_id, confidence, geometry, detect.FALSE_ALARM, match.version)


def _absent(share: float) -> Reading:
    return Reading(False, None, None, min(share, 1.0) / 2, None, detect.FALSE_ALARM)
