"""Finds a patch that appears twice in one picture: RootSIFT against itself, one similarity transform, then the pixels themselves.

Method: keypoints (Lowe, 2004) with RootSIFT descriptors (Arandjelovic and Zisserman, 2012), matched among themselves with the generalised
2NN test (Amerini et al., 2011), one similarity transform by RANSAC. The new step is the last: the picture is warped by that transform and
compared with itself around the matches, because windows, letters and leaves that merely look alike agree in keypoints, not in pixels.
No weights, no network, one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.checks.base import Image, box_around
from pipeline.schema import Box

SIDE = 512
KEYPOINTS, CONTRAST, EDGE = 2500, 0.008, 20
"""More and fainter keypoints than SIFT's defaults: small patches have few. All 7 labelled copies are found, with 2000 at .02 six."""
NEIGHBOURS = 4
RATIO = 0.75
SOFTEN = 1.0
"""Blur before the keypoints: repeated letters of right signs lose a third of their evidence, pasted patches keep theirs; with 1.5
two of the 7 labelled ones are lost."""
APART = 0.05
"""Least way between the two places, as a share of the picture's diagonal: nearer ones are one structure described twice."""
INLIERS_MIN = 4
REACH_PX = 3.0
TRANSFORMS = 4
OVERLAP_MAX = 0.25
WINDOW, ALIKE, DETAIL, CROSSED = 9, 0.85, 8.0, 0.1
"""Pixels are compared in 9x9 windows: alike from a correlation of .85 on, where the weaker direction's gradient (Sobel) is over 8 and has a
tenth of the power."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Copy:
    """The best pair of alike places: how many matches agree, how many detailed pixels of the 512-pixel picture repeat, and where."""

    inliers: int
    alike_px: int
    boxes: tuple[Box, Box]

    @property
    def evidence(self) -> float:
        """Grows with both: a repeated letter has many alike pixels but few matches, a self-similar texture the other way round."""
        return float(self.inliers * self.alike_px)


def find_copy(image: Image) -> Copy | None:
    """The strongest repetition in uint8 (H, W, 3) sRGB, or None."""
    import cv2

    cv2.setNumThreads(1)
    height, width = image.shape[:2]
    if min(height, width) < 32:
        return None
    scale = SIDE / max(height, width)
    full = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey: npt.NDArray[np.uint8] = np.asarray(cv2.resize(full, shape, interpolation=how), np.uint8)
    points, descriptors = _keypoints(grey)
    source, target = _matches(points, descriptors, APART * float(np.hypot(*grey.shape)))
    if len(source) < INLIERS_MIN:
        return None
    return _verify(grey, source, target, scale, (width, height))


def _keypoints(grey: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Places float32 (N, 2) and RootSIFT float32 (N, 128) of unit length, one per place."""
    import cv2

    sift_class: Any = cv2.SIFT
    found, raw = sift_class.create(nfeatures=KEYPOINTS, contrastThreshold=CONTRAST, edgeThreshold=EDGE).detectAndCompute(
        cv2.GaussianBlur(grey, (0, 0), SOFTEN), None
    )
    if raw is None or len(found) == 0:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    places = np.array([k.pt for k in found], np.float32)
    _, first = np.unique(np.round(places), axis=0, return_index=True)  # one orientation per place is enough here
    sift = np.asarray(raw, np.float32)[first]
    return places[first], np.sqrt(sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-6))


def _matches(points: Floats, descriptors: Floats, apart: float) -> tuple[Floats, Floats]:
    """Pairs of alike places, float32 (M, 2) each: the nearest descriptors as long as each is clearly nearer than the next (g2NN)."""
    none = np.empty((0, 2), np.float32)
    if len(points) < NEIGHBOURS + 2:
        return none, none
    squared = np.maximum(0, 2 - 2 * (descriptors @ descriptors.T))
    gaps = points[:, None] - points[None]
    squared[np.einsum("ijk,ijk->ij", gaps, gaps) < apart * apart] = 4.0
    nearest = np.argpartition(squared, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
    order = np.argsort(np.take_along_axis(squared, nearest, axis=1), axis=1)
    nearest = np.take_along_axis(nearest, order, axis=1)
    distances = np.sqrt(np.take_along_axis(squared, nearest, axis=1))
    ratios = distances[:, :-1] / np.maximum(distances[:, 1:], 1e-6)
    keep = np.zeros_like(ratios, np.bool_)
    for k in range(ratios.shape[1]):  # the run up to the last clear gap belongs to the repetition
        keep[:, : k + 1] |= (ratios[:, k] < RATIO)[:, None]
    rows, columns = np.nonzero(keep & (distances[:, :-1] < 0.6))
    return points[rows], points[nearest[rows, columns]]


def _verify(grey: npt.NDArray[np.uint8], source: Floats, target: Floats, scale: float, size: tuple[int, int]) -> Copy | None:
    """The best of up to TRANSFORMS repetitions: each takes its matches away from the next."""
    import cv2

    cv2.setRNGSeed(7)
    fine, loud = _fine(grey)
    best: Copy | None = None
    for _ in range(TRANSFORMS):
        if len(source) < INLIERS_MIN:
            break
        transform, inside = _similarity(source, target)
        if transform is None or int(inside.sum()) < INLIERS_MIN:
            break
        zoom = float(np.hypot(transform[0, 0], transform[1, 0]))
        if 1 / 3 <= zoom <= 3:
            first, second = source[inside], target[inside]
            alike = _alike(fine, loud, np.asarray(transform, np.float64), first)
            boxes = (box_around(first / scale, *size), box_around(second / scale, *size))
            distinct = len(np.unique(np.round(first / 2), axis=0))
            found = Copy(distinct, alike, boxes)
            if _overlap(*boxes) <= OVERLAP_MAX and (best is None or found.evidence > best.evidence):
                best = found
        source, target = source[~inside], target[~inside]
    return best


def _similarity(source: Floats, target: Floats) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]]:
    """The similarity transform (2, 3) that most pairs agree on, by RANSAC, and which do; None for degenerate places."""
    import cv2

    estimate: Any = cv2.estimateAffinePartial2D
    transform, mask = estimate(source, target, method=cv2.RANSAC, ransacReprojThreshold=REACH_PX, maxIters=1000, confidence=0.99)
    return transform, np.asarray(mask).ravel().astype(np.bool_)


def _overlap(one: Box, other: Box) -> float:
    """Shared area as a share of the smaller box: a lattice or an edge that slides along itself overlaps its own copy."""
    width = max(0, min(one.x1, other.x1) - max(one.x0, other.x0))
    height = max(0, min(one.y1, other.y1) - max(one.y0, other.y0))
    smaller = min((b.x1 - b.x0) * (b.y1 - b.y0) for b in (one, other))
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


def _alike(fine: Floats, loud: npt.NDArray[np.bool_], transform: npt.NDArray[np.float64], seeds: Floats) -> int:
    """Pixels around the matches that correlate with what the transform puts there (window by window), where there is detail."""
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    other = np.asarray(cv2.warpAffine(fine, transform, fine.shape[::-1], flags=flags), np.float32)
    box = (WINDOW, WINDOW)
    product, a, b = (np.asarray(cv2.blur(p, box), np.float32) for p in (fine * other, fine * fine, other * other))
    alike = (product >= ALIKE * np.sqrt(np.maximum(a * b, 0))) & loud
    regions, labels = cv2.connectedComponents(cv2.dilate(alike.astype(np.uint8), np.ones((3, 3), np.uint8)))
    x, y = np.clip(np.rint(seeds), 0, np.array(fine.shape[::-1]) - 1).astype(int).T
    touched = np.zeros(regions, np.bool_)
    touched[labels[y, x]] = True
    touched[0] = False
    return int(np.count_nonzero(alike & touched[labels]))
