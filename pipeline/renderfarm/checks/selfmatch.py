"""Finds a patch that appears twice in one picture: RootSIFT against itself, each match's own transform, then the pixels.

Method: keypoints (Lowe, 2004) with RootSIFT descriptors (Arandjelovic and Zisserman, 2012), each matched with its nearest neighbour
elsewhere in the picture. A single match tells shift, turn and scale by itself, so a small smooth patch that has only one or two keypoints
gives a hypothesis as well; matches that agree support each other. What decides are the pixels: the picture is warped by the hypothesis and
compared with itself around the matches, because windows, letters and leaves that merely look alike agree in keypoints, not in pixels. A
pasted patch correlates by .96 to 1 in its median, things that are only alike by .88 to .96. No weights, no network, one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Image, box_around
from renderfarm.schema import Box

SIDE = 512
KEYPOINTS, CONTRAST, EDGE = 2500, 0.008, 20
"""More and fainter keypoints than SIFT's defaults: small patches have few. All 7 labelled copies are found, with 2000 at .02 six."""
SOFTEN = 1.0
"""Blur before the keypoints: repeated letters of right signs lose a third of their evidence, pasted patches keep theirs; with 1.5
two of the 7 labelled ones are lost."""
DISTANCE, RATIO = 0.62, 0.9
"""Largest distance of two descriptors, and of it to that of the next place: loose, since the pixels decide."""
APART = 0.05
"""Least way between the two places, as a share of the picture's diagonal: nearer ones are one structure described twice."""
SAME_PX, REACH_PX, NEAR_PX, INLIER_PX = 4.0, 5.0, 110.0, 3.0
"""One place described twice; how far a supporting match may be off, and how far away it may be; the same after the common fit."""
HYPOTHESES, ZOOM = 16, 3.0
MARGIN_PX = 44
OVERLAP_MAX = 0.25
WINDOW, ALIKE, DETAIL, CROSSED, GAIN = 9, 0.85, 8.0, 0.1, 4.0
"""Pixels are compared in 9x9 windows: alike from a correlation of .85 on, where the weaker direction's gradient (Sobel) is over 8 and has a
tenth of the power, and the power itself differs less than fourfold."""
LIKENESS_LOW, LIKENESS_POWER = 0.9, 4
"""What repeats with a correlation of .9 is no evidence: from .85 on, a wallpaper and the bars of a window (.95, .97) weighed like a small
pasted patch. Shares of three other powers, or of the inliers, tell no better (64 drawn and 46 real pictures, each with and without)."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Copy:
    """A pair of alike places: how many matches agree, how many detailed pixels of the 512-pixel picture repeat, their median correlation,
    the best match's descriptor distance as a share of the next, and where both places are."""

    inliers: int
    alike_px: int
    likeness: float
    ratio: float
    boxes: tuple[Box, Box]

    @property
    def evidence(self) -> float:
        """Pixels that repeat, weighed by how exactly they do and by how clearly the match stands out among others."""
        exact = min(1.0, max(0.0, (self.likeness - LIKENESS_LOW) / (1 - LIKENESS_LOW)))
        return float(self.alike_px * exact**LIKENESS_POWER * (1 - self.ratio))


class _Matches(NamedTuple):
    """Pairs of alike places: float32 (M, 2) each, the ratio of each, and its own similarity transform float64 (M, 2, 3)."""

    source: Floats
    target: Floats
    ratio: Floats
    transform: npt.NDArray[np.float64]


def find_copies(image: Image, side: int = SIDE) -> list[Copy]:
    """The repetitions in uint8 (H, W, 3) sRGB, strongest first; the picture is looked at with its longer side at `side` pixels."""
    import cv2

    cv2.setNumThreads(1)
    height, width = image.shape[:2]
    if min(height, width) < 32:
        return []
    scale = side / max(height, width)
    full = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey: npt.NDArray[np.uint8] = np.asarray(cv2.resize(full, shape, interpolation=how), np.uint8)
    matches = _matches(grey, APART * float(np.hypot(*grey.shape)))
    if matches is None:
        return []
    return sorted(_supported(grey, matches, scale, (width, height)), key=lambda copy: -copy.evidence)


def _matches(grey: npt.NDArray[np.uint8], apart: float) -> _Matches | None:
    """Every keypoint with its nearest neighbour elsewhere, where that is near enough and clearly nearer than the next place."""
    import cv2

    sift_class: Any = cv2.SIFT
    keypoints, raw = sift_class.create(nfeatures=KEYPOINTS, contrastThreshold=CONTRAST, edgeThreshold=EDGE).detectAndCompute(
        cv2.GaussianBlur(grey, (0, 0), SOFTEN), None
    )
    if raw is None or len(keypoints) < 4:
        return None
    sift = np.asarray(raw, np.float32)
    descriptors = np.sqrt(sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-6))
    places = np.array([k.pt for k in keypoints], np.float32)
    shape = np.array([(k.size, np.deg2rad(k.angle)) for k in keypoints], np.float32)
    likeness = descriptors @ descriptors.T
    x, y = places.T
    likeness[(x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < apart * apart] = -1
    nearest, first, second = _two_nearest(likeness, places)
    distance, next_distance = (np.sqrt(np.maximum(0, 2 - 2 * value)) for value in (first, second))
    matched = np.flatnonzero((distance < DISTANCE) & (distance < RATIO * next_distance))
    if not matched.size:
        return None
    source, target = places[matched], places[nearest[matched]]
    transform = _similarities(source, target, shape[matched], shape[nearest[matched]])
    ratio = (distance[matched] / np.maximum(next_distance[matched], 1e-6)).astype(np.float32)
    return _Matches(source, target, ratio, transform)


def _two_nearest(likeness: Floats, places: Floats) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """For each row the most alike place, its likeness, and that of the next one that is another place. Spoils `likeness`."""
    rows = np.arange(len(likeness))
    nearest = likeness.argmax(axis=1)
    first = likeness[rows, nearest].copy()
    second = np.full_like(first, -1)
    open_rows, last = rows, nearest
    for _ in range(4):  # a place may be described several times, once for each orientation
        likeness[open_rows, last] = -1
        last = likeness[open_rows].argmax(axis=1)
        second[open_rows] = likeness[open_rows, last]
        same = np.linalg.norm(places[last] - places[nearest[open_rows]], axis=1) < SAME_PX
        open_rows, last = open_rows[same], last[same]
        if not open_rows.size:
            break
    return nearest, first, second


def _similarities(source: Floats, target: Floats, source_shape: Floats, target_shape: Floats) -> npt.NDArray[np.float64]:
    """What maps each source keypoint to its target: zoom by their sizes, turn by their angles. (size, angle): float32 (M, 2)."""
    zoom, turn = target_shape[:, 0] / np.maximum(source_shape[:, 0], 1e-6), target_shape[:, 1] - source_shape[:, 1]
    c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
    maps = np.zeros((len(source), 2, 3))
    maps[:, 0, 0], maps[:, 0, 1], maps[:, 1, 0], maps[:, 1, 1] = c, -s, s, c
    maps[:, :, 2] = target - np.einsum("nij,nj->ni", maps[:, :, :2], source)
    return maps


def _supported(grey: npt.NDArray[np.uint8], matches: _Matches, scale: float, size: tuple[int, int]) -> Iterator[Copy]:
    """What the best supported hypotheses come to; each takes its matches away from the next."""
    import cv2

    cv2.setRNGSeed(7)
    source, target, ratio, transform = matches
    zoom = np.hypot(transform[:, 0, 0], transform[:, 1, 0])
    told = np.einsum("nij,mj->nmi", transform[:, :, :2], source) + transform[:, None, :, 2]
    support = (np.linalg.norm(told - target, axis=2) < REACH_PX) & (np.linalg.norm(source[:, None] - source, axis=2) < NEAR_PX)
    counts = support.sum(axis=1) * ((zoom > 1 / ZOOM) & (zoom < ZOOM))
    fine, loud = _fine(grey)
    used = np.zeros(len(source), np.bool_)
    tried = 0
    for at in np.lexsort((ratio, -counts)):
        if used[at] or not counts[at]:
            continue
        members = np.flatnonzero(support[at])
        used[members] = True
        fitted = _fitted(transform[at], source[members], target[members])
        copy = _compare(fine, loud, fitted, source[members], float(ratio[members].min()), scale, size)
        if copy:
            yield copy
        tried += 1
        if tried == HYPOTHESES:
            break


def _fitted(transform: npt.NDArray[np.float64], source: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """The similarity (2, 3) that the supporting matches agree on; with one, with neighbours only, or where they agree on nothing sensible
    (all of it mapped to a point), the keypoint's own."""
    import cv2

    if len(source) < 2 or np.ptp(source, axis=0).max() <= 12:
        return transform
    estimate: Any = cv2.estimateAffinePartial2D
    fitted, _ = estimate(source, target, method=cv2.LMEDS if len(source) > 4 else cv2.RANSAC, ransacReprojThreshold=INLIER_PX)
    if fitted is None or not 1 / ZOOM < float(np.hypot(fitted[0, 0], fitted[1, 0])) < ZOOM:
        return transform
    return np.asarray(fitted, np.float64)


def _overlap(box: Box, other: Box) -> float:
    """Shared area as a share of the smaller box: a lattice or an edge that slides along itself overlaps its own copy."""
    width = max(0, min(box.x1, other.x1) - max(box.x0, other.x0))
    height = max(0, min(box.y1, other.y1) - max(box.y0, other.y0))
    smaller = min((b.x1 - b.x0) * (b.y1 - b.y0) for b in (box, other))
    return width * height / smaller


def _fine(grey: npt.NDArray[np.uint8]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The picture less its blur, float32 (H, W), and where it has detail in two directions: a straight edge is alike all along."""
    import cv2

    soft = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    fine = np.asarray(soft - cv2.GaussianBlur(soft, (0, 0), 6.0), np.float32)
    x, y = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    xx, yy, xy = (np.asarray(cv2.blur(p, (WINDOW, WINDOW)), np.float32) for p in (x * x, y * y, x * y))
    weaker = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)  # the structure tensor's smaller eigenvalue (Harris)
    return fine, weaker > np.maximum(DETAIL * DETAIL, CROSSED * (xx + yy))


def _compare(
    fine: Floats,
    loud: npt.NDArray[np.bool_],
    transform: npt.NDArray[np.float64],
    seeds: Floats,
    ratio: float,
    scale: float,
    size: tuple[int, int],
) -> Copy | None:
    """What of the detailed pixels around the matches correlates with what the transform puts there, window by window; None for nothing."""
    import cv2

    low = np.maximum(seeds.min(axis=0) - MARGIN_PX, 0).astype(int)
    high = np.minimum(seeds.max(axis=0) + MARGIN_PX, fine.shape[::-1]).astype(int)
    moved = transform.copy()
    moved[:, 2] += transform[:, :2] @ low
    own = fine[low[1] : high[1], low[0] : high[0]]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    other = np.asarray(cv2.warpAffine(fine, moved, own.shape[::-1], flags=flags), np.float32)
    product, a, b = (np.asarray(cv2.blur(p, (WINDOW, WINDOW)), np.float32) for p in (own * other, own * own, other * other))
    correlation = product / np.sqrt(np.maximum(a * b, 1e-6))
    alike = (correlation >= ALIKE) & loud[low[1] : high[1], low[0] : high[0]] & (b > a / GAIN) & (b < a * GAIN)
    regions, labels = cv2.connectedComponents(cv2.dilate(alike.astype(np.uint8), np.ones((3, 3), np.uint8)))
    x, y = np.clip(np.rint(seeds - low), 0, np.array(own.shape[::-1]) - 1).astype(int).T
    touched = np.zeros(regions, np.bool_)
    touched[labels[y, x]] = True
    touched[0] = False
    repeated = alike & touched[labels]
    if not repeated.any():
        return None
    points = np.argwhere(repeated)[:, ::-1] + low
    boxes = tuple(_box(corners, scale, size) for corners in (points, points @ transform[:, :2].T + transform[:, 2]))
    if _overlap(boxes[0], boxes[1]) > OVERLAP_MAX:
        return None
    distinct = len(np.unique(np.round(seeds / 2), axis=0))
    return Copy(distinct, len(points), float(np.median(correlation[repeated])), ratio, (boxes[0], boxes[1]))


def _box(points: npt.NDArray[Any], scale: float, size: tuple[int, int]) -> Box:
    """Around pixels of the 512-pixel picture, in image pixels; less half a window, which reaches that far beyond what repeats."""
    low, high = points.min(axis=0), points.max(axis=0)
    inset = np.minimum(WINDOW // 2, (high - low) / 4)
    return box_around(np.stack([low + inset, high - inset]) / scale, *size)
