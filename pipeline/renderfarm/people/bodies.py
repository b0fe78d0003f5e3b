"""One look for people in the picture itself: faces, and bodies with 33 landmarks. Shared: one look a picture, whoever asks.

MediaPipe's face detector (full range), pose detector and pose landmark network, run by LiteRT on one thread: Bazarevsky et al., "BlazePose"
(2020), and the graph files of mediapipe 0.10.21 (anchors, boxes of 192 and 224 pixels, a square 2.5 times as wide as the way from the hips
to the point above the head). The weights are no part of this package: `weights` says where they come from.

About 8 CPU ms for the faces, 21 for where bodies are, 28 for each body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from renderfarm.people.litert import Floats, anchors, letterbox, load, run, sigmoid
from renderfarm.people.palms import Square
from renderfarm.people.weights import PeopleModels
from renderfarm.pictures import Pixels
from renderfarm.schema import Box

FACE_SIDE, POSE_SIDE, BODY_SIDE = 192, 224, 256
FACE_SURE, POSE_SURE, BODY_SURE = 0.6, 0.5, 0.5
"""From here on it is one: MediaPipe's own borders."""
BODIES_MAX, BODY_WIDTHS, IOU_MAX = 4, 2.5, 0.3
WRISTS, ELBOWS, FEET = (15, 16), (13, 14), (27, 28, 29, 30, 31, 32)
FINGERS = ((17, 19), (18, 20))
"""Landmarks: the knuckles of little and index finger of each hand."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face: confidence 0..1 and its box."""

    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Wrist:
    """Where a hand hangs: the wrist, the middle of its knuckles, how surely (0..1) the arm is seen, its length to the elbow in pixels."""

    x: float
    y: float
    hand_x: float
    hand_y: float
    seen: float
    forearm: float

    @property
    def square(self) -> Square:
        """The square that should hold the hand, fingers up: as wide as a forearm is long, or as far as the knuckles say."""
        across, down = self.hand_x - self.x, self.hand_y - self.y
        side = max(0.9 * self.forearm, 3.2 * math.hypot(across, down))
        return Square(self.x + 1.2 * across, self.y + 1.2 * down, max(side, 1.0), math.atan2(across, -down))


@dataclass(frozen=True, slots=True)
class Body:
    """A body: confidence 0..1, landmarks float32 (33, 4): x, y in picture pixels, chance to be visible, chance to be in the picture."""

    score: float
    points: Floats

    def wrists(self) -> list[Wrist]:
        """Both, left of the person first."""
        found = []
        for wrist, elbow, fingers in zip(WRISTS, ELBOWS, FINGERS, strict=True):
            (x, y), hand = self.points[wrist, :2], self.points[list(fingers), :2].mean(axis=0)
            seen = float(min(self.points[wrist, 2:].min(), self.points[elbow, 2]))
            forearm = float(np.linalg.norm(self.points[wrist, :2] - self.points[elbow, :2]))
            found.append(Wrist(float(x), float(y), float(hand[0]), float(hand[1]), seen * self.score, forearm))
        return found

    def feet(self) -> Floats:
        """Ankles, heels and toes that are seen, float32 (N, 2)."""
        points = self.points[list(FEET)]
        return np.asarray(points[points[:, 2] > 0.5, :2], np.float32)


@dataclass(frozen=True, slots=True)
class People:
    """Whom a picture shows, surest first."""

    faces: tuple[Face, ...] = ()
    bodies: tuple[Body, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.faces or self.bodies)


class PeopleReader:
    """The three networks, loaded. Not thread-safe; one per worker; about 60 MB. Keeps the last picture's answer for the next who asks."""

    def __init__(self, models: PeopleModels) -> None:
        self._face, self._pose, self._body = (load(data) for data in (models.face, models.pose, models.body))
        self._last: tuple[Pixels, People] | None = None

    def people(self, image: Pixels) -> People:
        """Faces and bodies in uint8 (H, W, 3)."""
        if self._last is not None and self._last[0] is image:
            return self._last[1]
        found = People(tuple(self._faces(image)), tuple(self._bodies(image)))
        self._last = (image, found)
        return found

    def _faces(self, image: Pixels) -> list[Face]:
        frame = letterbox(image, FACE_SIDE)
        boxes, scores = run(self._face, frame.values * 2 - 1)
        chances = sigmoid(scores[0, :, 0])
        faces: list[Face] = []
        for k in sorted(np.flatnonzero(chances > FACE_SURE), key=lambda k: -chances[k]):
            middle, half = boxes[0, k, :2] + _face_anchors()[k] * FACE_SIDE, boxes[0, k, 2:4] / 2
            (x0, y0), (x1, y1) = frame.back(middle - half), frame.back(middle + half)
            height, width = image.shape[:2]
            left, top = int(np.clip(x0, 0, width - 1)), int(np.clip(y0, 0, height - 1))
            box = Box(left, top, int(np.clip(x1, left + 1, width)), int(np.clip(y1, top + 1, height)))
            if all(_shared(box, other.box) <= IOU_MAX for other in faces):
                faces.append(Face(float(chances[k]), box))
        return faces

    def _bodies(self, image: Pixels) -> list[Body]:
        frame = letterbox(image, POSE_SIDE)
        boxes, scores = run(self._pose, frame.values * 2 - 1)
        chances = sigmoid(scores[0, :, 0])
        squares: list[Square] = []
        for k in sorted(np.flatnonzero(chances > POSE_SURE), key=lambda k: -chances[k]):
            points = frame.back(boxes[0, k].reshape(-1, 2)[2:4] + _pose_anchors()[k] * POSE_SIDE)
            (x, y), (across, down) = points[0], points[1] - points[0]
            square = Square(float(x), float(y), max(1.0, BODY_WIDTHS * math.hypot(across, down)), math.atan2(across, -down))
            if len(squares) < BODIES_MAX and all(math.hypot(x - s.x, y - s.y) > 0.2 * min(square.side, s.side) for s in squares):
                squares.append(square)
        bodies = [self._read(image, square) for square in squares]
        return sorted((body for body in bodies if body.score >= BODY_SURE), key=lambda body: -body.score)

    def _read(self, image: Pixels, square: Square) -> Body:
        import cv2

        matrix = square.matrix(BODY_SIDE)
        flags = cv2.INTER_AREA if square.side > BODY_SIDE else cv2.INTER_LINEAR
        crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, (BODY_SIDE, BODY_SIDE), flags=flags)
        outputs = run(self._body, (crop / np.float32(255))[None])
        rows = outputs[0].reshape(39, 5)[:33]
        back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
        points = np.concatenate([rows[:, :2] @ back[:, :2].T + back[:, 2], sigmoid(rows[:, 3:])], axis=1)
        return Body(float(outputs[1].ravel()[0]), points.astype(np.float32))


@cache
def _face_anchors() -> Floats:
    return anchors(FACE_SIDE, ((4, 1),))


@cache
def _pose_anchors() -> Floats:
    return anchors(POSE_SIDE, ((8, 2), (16, 2), (32, 6)))


def _shared(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = max(0, min(one.x1, other.x1) - max(one.x0, other.x0))
    down = max(0, min(one.y1, other.y1) - max(one.y0, other.y0))
    area = (one.x1 - one.x0) * (one.y1 - one.y0) + (other.x1 - other.x0) * (other.y1 - other.y0) - across * down
    return across * down / max(1, area)
