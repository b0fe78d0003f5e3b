"""Lays a copy of a picture over its original: whether it shows it, how much of the copy that is, and what was changed in it.

Features (SIFT) of both are matched and give an affine map; where a picture has too few, the scale that is known from elsewhere and the best
place for it. What counts is the picture under the map, not how the map was found: the correlation of the two, blurred, where both are.

Measured on 19 photographs and posters and 20 renderings of 256 pixels, by 20 kinds of honest copies (JPEG 30, crops to 25 % a side,
turns, a mirror, stretches, blur, noise, screenshots): correlation from .992; of 117 other pictures, cut or whole: up to .897; with a
ninth of it replaced by another picture: from .889, median 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderfarm.pictures.reader import Pixels

SIDE = 512
"""Pixels of the longer side at which both are compared."""
ALIKE = 0.95
"""Correlation from which a copy shows the original, in the nine tenths of the area that fit best: so much may have been changed in it."""
CHANGED_MAX, ROUNDS = 0.1, 3
SURE = 0.99
"""Correlation at which no other map is tried."""
COVER_MIN = 0.01
PLACE_MIN = 16
"""Pixels of the original that a copy's shorter side must show to be looked for."""
BLANK = 1.0
"""Grey levels of deviation below which there is nothing to compare."""
_FEATURES, _RATIO, _NEAR_PX, _SHAPE_MAX = 1500, 0.8, 4.0, 1.5
_BLUR, _EDGE = 3.0, 9
_BLURS = (3.0, 3.6, 4.5, 6.0)
CHANGED_LEVELS, CHANGED_SHARE_MIN = 24.0, 0.002
"""Grey levels from which a place differs, once light and contrast are made equal; and the least area of a change, of what both show."""

Map = NDArray[np.float64]
"""Affine (2, 3), from pixels x, y of the copy to those of the original."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A copy over its original. cover: share of the copy's area that shows what the original has there, 0..1; alike: correlation of the
    two in it, -1..1; altered: boxes x0, y0, x1, y1 in shares of the copy's width and height; altered_share: of what both show."""

    cover: float
    alike: float
    altered: tuple[tuple[float, float, float, float], ...] = ()
    altered_share: float = 0.0

    @property
    def shown(self) -> bool:
        """Whether the copy shows the original."""
        return self.alike >= ALIKE


def lay_over(copy: Pixels, original: Pixels, scale: float | None = None) -> Overlay:
    """The best overlay of uint8 (H, W, 3) over another; what shows nothing of it has one too, with a low correlation.

    scale: the share of the original's longer side that the copy's longer side shows, where it is known (a watermark says it).
    About .15 CPU seconds; the worst case four times that.
    """
    small, original = shrunk(copy), shrunk(original)
    best, best_map, seen = Overlay(0.0, 0.0), None, small
    for shown, mapped in _maps(small, original, scale):
        found = _compared(shown, original, mapped)
        if found.alike > best.alike:
            best, best_map, seen = found, mapped, shown
        if best.alike >= SURE:
            break
    if best_map is None or not best.shown:
        return best
    altered, share = _altered(seen, original, best_map)
    if seen is not small:  # mirrored: the boxes lie in the copy as it is
        altered = tuple((1 - x1, y0, 1 - x0, y1) for x0, y0, x1, y1 in altered)
    return Overlay(best.cover, best.alike, altered, share)


def shrunk(pixels: Pixels) -> Pixels:
    """The picture with a longer side of SIDE pixels."""
    import cv2

    factor = SIDE / max(pixels.shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = max(8, round(pixels.shape[1] * factor)), max(8, round(pixels.shape[0] * factor))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=way), np.uint8)


def _maps(copy: Pixels, original: Pixels, scale: float | None) -> Iterator[tuple[Pixels, Map]]:
    """Ways in which the copy may lie on the original, the likeliest first, each with the copy as it lies: mirrored or not."""
    mirrored = np.ascontiguousarray(copy[:, ::-1])
    for shown in (copy, mirrored):
        if (by_features := _by_features(shown, original)) is not None:
            yield shown, by_features
    (height, width), (whole_height, whole_width) = copy.shape[:2], original.shape[:2]
    yield copy, np.array([[whole_width / width, 0, 0], [0, whole_height / height, 0]], np.float64)
    if scale is not None and 0 < scale < 1:
        for shown in (copy, mirrored):
            if (by_place := _by_place(shown, original, scale)) is not None:
                yield shown, by_place


def _by_features(copy: Pixels, original: Pixels) -> Map | None:
    import cv2

    finder = cv2.SIFT_create(nfeatures=_FEATURES)  # type: ignore[attr-defined]
    (ours, our_words), (theirs, their_words) = (
        finder.detectAndCompute(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None) for p in (copy, original)
    )
    if our_words is None or their_words is None or len(theirs) < 2:
        return None
    pairs = [pair for pair in cv2.BFMatcher().knnMatch(our_words, their_words, k=2) if len(pair) == 2]
    good = [first for first, second in pairs if first.distance < _RATIO * second.distance]
    if len(good) < 4:
        return None
    here, there = (
        np.array(points, np.float32) for points in zip(*((ours[m.queryIdx].pt, theirs[m.trainIdx].pt) for m in good), strict=True)
    )
    mapped: Any = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=_NEAR_PX)[0]
    longest, shortest = (1.0, 0.0) if mapped is None else np.linalg.svd(mapped[:, :2], compute_uv=False)
    return np.asarray(mapped, np.float64) if shortest > 0 and longest / shortest <= _SHAPE_MAX else None


def _by_place(copy: Pixels, original: Pixels, scale: float) -> Map | None:
    """The best place for an upright copy whose longer side shows `scale` of the original's longer side."""
    import cv2

    factor = scale * max(original.shape[:2]) / max(copy.shape[:2])
    size = min(round(copy.shape[1] * factor), original.shape[1]), min(round(copy.shape[0] * factor), original.shape[0])
    if min(size) < PLACE_MIN:
        return None
    whole, part = cv2.cvtColor(original, cv2.COLOR_RGB2GRAY), cv2.cvtColor(cv2.resize(copy, size), cv2.COLOR_RGB2GRAY)
    fits = cv2.matchTemplate(whole, part, cv2.TM_CCOEFF_NORMED)
    x, y = cv2.minMaxLoc(fits)[3]
    return np.array([[size[0] / copy.shape[1], 0, x], [0, size[1] / copy.shape[0], y]], np.float64)


def _under(copy: Pixels, original: Pixels, mapped: Map) -> tuple[Pixels, NDArray[np.bool_]]:
    """The original as the copy should show it, uint8 (H, W, 3) of the copy's size, and where it has something to show."""
    import cv2

    size, back = copy.shape[1::-1], cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(original, mapped, size, flags=cv2.INTER_LINEAR | back)
    whole = np.full(original.shape[:2], 255, np.uint8)
    inside = cv2.erode(cv2.warpAffine(whole, mapped, size, flags=cv2.INTER_NEAREST | back), np.ones((_EDGE, _EDGE), np.uint8))
    return np.asarray(there, np.uint8), np.asarray(inside) > 0


def _compared(copy: Pixels, original: Pixels, mapped: Map) -> Overlay:
    import cv2

    there, inside = _under(copy, original, mapped)
    cover = float(inside.mean())
    if cover < COVER_MIN:
        return Overlay(cover, 0.0)
    ours, theirs = (
        cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _BLUR)[inside].astype(np.float64)
        for p in (copy, there)
    )
    for _ in range(ROUNDS):
        kept = ours - ours.mean(), theirs - theirs.mean()
        apart = np.abs(kept[0] - kept[1] * ((kept[0] * kept[1]).sum() / max((kept[1] ** 2).sum(), 1.0)))
        least = apart <= np.quantile(apart, 1 - CHANGED_MAX / ROUNDS)
        ours, theirs = ours[least], theirs[least]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    blank = [float(levels.std()) < BLANK for levels in (ours, theirs)]
    if any(blank):  # a blank place shows another blank one, and nothing else
        return Overlay(cover, 1.0 if all(blank) else 0.0)
    return Overlay(cover, float((ours * theirs).sum() / np.sqrt((ours**2).sum() * (theirs**2).sum())))


def _altered(copy: Pixels, original: Pixels, mapped: Map) -> tuple[tuple[tuple[float, float, float, float], ...], float]:
    """Places where the copy shows something else, after its light and contrast are made the original's, and their share of the area."""
    import cv2

    there, inside = _under(copy, original, mapped)
    ours = np.asarray(cv2.GaussianBlur(copy.astype(np.float32), (0, 0), _BLUR), np.float32)
    ways = []
    for blur in _BLURS:  # a copy that was blurred or enlarged is held against an original as soft as it
        theirs = np.asarray(cv2.GaussianBlur(there.astype(np.float32), (0, 0), blur), np.float32)
        ways.append(np.max([_apart(ours[..., k], theirs[..., k], inside) for k in range(3)], axis=0))
    difference = min(ways, key=lambda apart: float(np.minimum(apart[inside], CHANGED_LEVELS).mean()))
    changed = ((difference >= CHANGED_LEVELS) & inside).astype(np.uint8)
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    changed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((_EDGE, _EDGE), np.uint8))
    count, _, places, _ = cv2.connectedComponentsWithStats(changed, connectivity=8)
    large = [places[k] for k in range(1, count) if places[k, cv2.CC_STAT_AREA] >= CHANGED_SHARE_MIN * inside.sum()]
    height, width = inside.shape
    boxes = tuple((float(x / width), float(y / height), float((x + w) / width), float((y + h) / height)) for x, y, w, h, _ in large)
    return boxes, float(sum(place[cv2.CC_STAT_AREA] for place in large) / inside.sum())


def _apart(ours: NDArray[np.float32], theirs: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Grey levels between two channels, once one is made as light and as contrasty as the other, as far as that explains more."""
    a, b = ours[inside].astype(np.float64), theirs[inside].astype(np.float64)
    lighter = (1.0, float(np.median(a - b)))
    ways = [lighter]
    like = np.abs(a - b - lighter[1]) <= max(4.0, float(np.quantile(np.abs(a - b - lighter[1]), 0.9)))
    if (spread := float(b[like].std())) > 4:
        gain = float(((a[like] - a[like].mean()) * (b[like] - b[like].mean())).mean()) / spread**2
        ways.append((gain, float(a[like].mean() - gain * b[like].mean())))
    gain, offset = min(ways, key=lambda way: float(np.minimum(np.abs(a - way[0] * b - way[1]), CHANGED_LEVELS).mean()))
    return np.abs(ours - gain * theirs - np.float32(offset))
