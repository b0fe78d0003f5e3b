"""What repeats by its nature, so that a repetition in it is no copy: lettering, and textures that are made to repeat.

Letters come again (ER in ERSTER, the M of MOMMY), drawn alike by good models. A wallpaper, a plaid, a fence or a board of sponsors shows
its motif in many places; a pasted patch shows in two, seldom in three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Image
from renderfarm.checks.words import Line
from renderfarm.schema import Box

LETTERING_MARGIN = 0.25
"""Each line is widened by so much of its letters' height."""
PLACES_SIDE, PLACES_ALIKE, PLACES_MIN = 256, 0.7, 4
"""A motif is looked for in the 256-pixel picture; from a correlation of .7 on a place shows it, and from four places on it is a texture.
Of 38 tuned forgeries 36 have two or three such places; fences, shelves of books, woven bark and drawn patterns 4 to 32."""
MOTIF_PX, WINDOW_PX, PLACES_MAX, FLAT_SPREAD, STEP_PX = 64, 40, 12, 2.0, 3

Floats = npt.NDArray[np.float32]


def lettering(box: Box, lines: Sequence[Line]) -> float:
    """Which share of a box lies in read lines of text."""
    inside = np.zeros((box.y1 - box.y0, box.x1 - box.x0), np.bool_)
    for line in lines:
        margin = LETTERING_MARGIN * line.height
        x0, y0 = max(0, int(line.box.x0 - margin) - box.x0), max(0, int(line.box.y0 - margin) - box.y0)
        x1, y1 = int(line.box.x1 + margin) - box.x0, int(line.box.y1 + margin) - box.y0
        inside[y0 : max(0, y1), x0 : max(0, x1)] = True
    return float(inside.mean())


def small(image: Image) -> tuple[Floats, float]:
    """The grey picture that `places` looks in, float32 (H, W), and its scale, from uint8 (H, W, 3)."""
    import cv2

    scale = PLACES_SIDE / max(image.shape[:2])
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.float32), scale


def places(grey: Floats, scale: float, box: Box) -> npt.NDArray[np.int64]:
    """Where the 256-pixel picture shows what it shows in a box (in image pixels), that place among them: (N, 2) of y, x, most alike first;
    none for a flat one, at most PLACES_MAX. Turned and zoomed ones are not found."""
    import cv2

    low = np.clip(np.array([box.y0, box.x0]) * scale, 0, np.array(grey.shape) - 4).astype(int)
    high = np.clip(np.array([box.y1, box.x1]) * scale, low + 4, grey.shape).astype(int)
    motif = _busiest(grey[low[0] : high[0], low[1] : high[1]])
    if motif.std() < FLAT_SPREAD:
        return np.zeros((0, 2), np.int64)
    alike = np.asarray(cv2.matchTemplate(grey, motif, cv2.TM_CCOEFF_NORMED))
    away_y, away_x = (max(2, side // 2) for side in motif.shape)
    found: list[tuple[int, int]] = []
    while len(found) < PLACES_MAX:
        y, x = (int(at) for at in np.unravel_index(alike.argmax(), alike.shape))
        if alike[y, x] < PLACES_ALIKE:
            break
        found.append((y, x))
        alike[max(0, y - away_y) : y + away_y + 1, max(0, x - away_x) : x + away_x + 1] = -1
    return np.array(found, np.int64).reshape(-1, 2)


def _busiest(part: Floats) -> Floats:
    """The part itself, or of a large one the window with the most corners: an edge is like itself all along, sky is like much."""
    import cv2

    if max(part.shape) <= MOTIF_PX:
        return part
    height, width = (min(side, WINDOW_PX) for side in part.shape)
    corners = cv2.cornerMinEigenVal(cv2.GaussianBlur(part, (0, 0), 1.0), 5)
    sums = cv2.integral(corners)
    busy = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = np.unravel_index(busy.argmax(), busy.shape)
    return part[y : y + height, x : x + width]


def in_rows(points: npt.NDArray[np.int64]) -> bool:
    """Whether three of the places (N, 2) lie in a row at equal steps: a lattice, and no handful of things that look alike."""
    step = points[None] - points[:, None]
    after = points[None] + step  # (N, N, 2): where a third one would be
    missed = np.abs(after[:, :, None] - points).max(axis=-1).min(axis=-1)
    return bool((missed[step.any(axis=-1)] <= STEP_PX).any())
