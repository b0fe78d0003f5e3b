"""Finds hands and their 21 joints: MediaPipe's palm detector and hand landmark network, run by LiteRT on one thread.

The two networks and what their numbers mean: Zhang et al., "MediaPipe Hands" (2020), and the graph files of mediapipe 0.10.21 (anchors of
strides 8 and 16, boxes of 192 pixels, a square 2.6 palms wide around the hand, turned so that the fingers point up). The weights are no
part of this package: `weights` says where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from renderfarm.people.litert import Floats, anchors, letterbox, load, run, sigmoid
from renderfarm.people.weights import HandModels
from renderfarm.pictures import Pixels

PALM_SIDE, HAND_SIDE = 192, 224
PALM_WIDTHS, PALM_RISE = 2.6, 0.5
"""The hand's square: this many palm boxes wide, moved this share of one towards the fingers (hand_landmark_tracking_cpu.pbtxt)."""
IOU_MAX, INSIDE_MAX = 0.3, 0.6
TILE_OVERLAP = 1.3


@dataclass(frozen=True, slots=True)
class Palm:
    """One palm: the detector's confidence 0..1, its middle, its side in pixels, and the turn in radians that puts its fingers up."""

    score: float
    x: float
    y: float
    side: float
    turn: float

    @property
    def square(self) -> Square:
        """The square that holds the whole hand."""
        rise = PALM_RISE * self.side
        return Square(self.x + rise * math.sin(self.turn), self.y - rise * math.cos(self.turn), PALM_WIDTHS * self.side, self.turn)


@dataclass(frozen=True, slots=True)
class Square:
    """A turned square of the picture: middle, side in pixels, turn in radians."""

    x: float
    y: float
    side: float
    turn: float

    def matrix(self, pixels: int) -> npt.NDArray[np.float64]:
        """The affine (2, 3) from picture pixels to a crop of `pixels` a side."""
        scale = pixels / self.side
        c, s = math.cos(self.turn) * scale, math.sin(self.turn) * scale
        matrix = np.array([[c, s, 0.0], [-s, c, 0.0]])
        matrix[:, 2] = pixels / 2 - matrix[:, :2] @ (self.x, self.y)
        return matrix

    def moved(self, right: float, down: float, zoom: float, turn: float) -> Square:
        """The square moved by shares of its side, zoomed and turned: another look at the same hand."""
        return Square(self.x + right * self.side, self.y + down * self.side, self.side * zoom, self.turn + turn)


@dataclass(frozen=True, slots=True)
class Joints:
    """The landmark network's answer for one crop: 21 joints float32 (21, 3) in picture pixels, presence and handedness 0..1."""

    points: Floats
    presence: float
    right: float


class HandReader:
    """Both networks, loaded. Not thread-safe; one per worker; about 40 MB."""

    def __init__(self, models: HandModels) -> None:
        self._palm, self._hand = load(models.palm), load(models.hand)

    def palms(self, image: Pixels, least: float, tiles: Sequence[int] = ()) -> list[Palm]:
        """Palms in uint8 (H, W, 3), surest first; with `tiles` also in that many overlapping tiles a side, for small hands."""
        height, width = image.shape[:2]
        palms = self._palms(image, least)
        for n in tiles:
            rows, columns = math.ceil(height / n * TILE_OVERLAP), math.ceil(width / n * TILE_OVERLAP)
            for i in range(n):
                for j in range(n):
                    top, left = round(i * (height - rows) / (n - 1)), round(j * (width - columns) / (n - 1))
                    for palm in self._palms(image[top : top + rows, left : left + columns], least):
                        palms.append(Palm(palm.score, palm.x + left, palm.y + top, palm.side, palm.turn))
        return distinct(palms)

    def _palms(self, image: Pixels, least: float) -> list[Palm]:
        frame = letterbox(image, PALM_SIDE)
        outputs = run(self._palm, frame.values)
        boxes = next(o for o in outputs if o.shape[-1] == 18)[0]
        scores = sigmoid(next(o for o in outputs if o.shape[-1] == 1)[0, :, 0])
        likely = np.flatnonzero(scores > least)
        places = boxes[likely].reshape(-1, 9, 2) / PALM_SIDE
        places[:, 0] += _anchors()[likely]
        places[:, 2:] += _anchors()[likely][:, None]
        palms = []
        for score, place in zip(scores[likely], places, strict=True):
            middle, wrist, knuckle = (frame.back(place[k] * PALM_SIDE) for k in (0, 2, 4))
            turn = math.pi / 2 - math.atan2(wrist[1] - knuckle[1], knuckle[0] - wrist[0])
            palms.append(Palm(float(score), float(middle[0]), float(middle[1]), float(place[1].max()) * PALM_SIDE / frame.scale, turn))
        return palms

    def joints(self, image: Pixels, square: Square) -> Joints:
        """The hand in a square of uint8 (H, W, 3)."""
        import cv2

        matrix = square.matrix(HAND_SIDE)
        flags = cv2.INTER_AREA if square.side > HAND_SIDE else cv2.INTER_LINEAR
        crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, (HAND_SIDE, HAND_SIDE), flags=flags)
        outputs = run(self._hand, (crop / np.float32(255))[None])
        points = outputs[0].reshape(21, 3).astype(np.float64)
        back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
        points[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] *= square.side / HAND_SIDE
        return Joints(points.astype(np.float32), float(outputs[1].ravel()[0]), float(outputs[2].ravel()[0]))


@cache
def _anchors() -> Floats:
    """float32 (2016, 2), shares of the side (palm_detection_cpu.pbtxt)."""
    return anchors(PALM_SIDE, ((8, 2), (16, 6)))


def distinct(palms: Sequence[Palm]) -> list[Palm]:
    """The surest palm of each group that overlaps, or of which one lies inside the other."""
    separate: list[Palm] = []
    for palm in sorted(palms, key=lambda palm: -palm.score):
        if all(_apart(palm, other) for other in separate):
            separate.append(palm)
    return separate


def _apart(palm: Palm, other: Palm) -> bool:
    reach = (palm.side + other.side) / 2
    across, down = (max(0.0, min(reach - abs(gap), palm.side, other.side)) for gap in (palm.x - other.x, palm.y - other.y))
    shared, smaller = across * down, min(palm.side, other.side) ** 2
    return shared <= IOU_MAX * (palm.side**2 + other.side**2 - shared) and shared <= INSIDE_MAX * smaller
