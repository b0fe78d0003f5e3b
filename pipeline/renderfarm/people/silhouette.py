"""Counts the fingers of a hand in its outline, because the landmark network draws five clean fingers over four, six or a clump.

The hand is cut out turned and scaled by its joints, told from the ground by GrabCut (Rother et al., 2004) that starts from the joints, and
stripped of its fingers by a morphological opening as wide as two of them. What is left over are fingers: they are counted at several
distances from the palm, since neighbours often run together at their roots. Lengths are in palms: from the wrist to the middle knuckle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from renderfarm.people.litert import Floats
from renderfarm.people.palms import Square
from renderfarm.pictures import Pixels

Mask = npt.NDArray[np.uint8]
SIDE, PALM = 208, 60.0
"""The cut-out is 208 pixels a side, the palm 60: a finger is about 14 wide, and two of them with the gap are cut off by OPENING."""
OPENING = 0.46
DEPTHS = (0.08, 0.16, 0.24, 0.32, 0.42, 0.52, 0.62)
FINGER_MIN, STUB_MIN = 0.24, 0.10
"""Least length of a finger above the stripped palm, and of what is left of it above a depth."""
FAR, GRABCUT_ROUNDS = 0.8, 3
STRAIGHT, OUT, THUMB_OUT = 0.9, 0.25, 0.1
CHAINS = ((0, 1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""Joints of the thumb (with the wrist) and of the four fingers, root to tip."""
_KNUCKLES = (0, 1, 5, 9, 13, 17)


@dataclass(frozen=True, slots=True)
class Silhouette:
    """What the outline shows. `thickness`: mean width of each finger seen; `stretched`: how many fingers the joints say are straight;
    `web`: the widest gap between two straight fingers that is filled with skin."""

    fingers: int
    thickness: tuple[float, ...]
    stretched: int
    web: float


def silhouette(image: Pixels, points: Floats) -> Silhouette | None:
    """Judges the hand with these joints, float32 (21, 2+) in pixels of uint8 (H, W, 3); None where it cannot be told from its ground."""
    matrix = hand_square(points).matrix(SIDE)
    joints = (points[:, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    mask = _mask(image, matrix, joints)
    if mask is None:
        return None
    thickness = _fingers(mask, float(joints[0, 1]))
    straight = stretched(points)
    return Silhouette(len(thickness), thickness, sum(straight), _web(mask, joints, straight))


def palm_length(points: Floats) -> float:
    """From the wrist to the middle knuckle, or the palm's breadth where the hand is seen foreshortened; pixels, at least one."""
    length = np.linalg.norm(points[9, :2] - points[0, :2])
    return max(1.0, float(length), 1.05 * float(np.linalg.norm(points[5, :2] - points[17, :2])))


def hand_square(points: Floats) -> Square:
    """The square around a hand that puts its fingers up and makes its palm PALM pixels long."""
    wrist, along = points[0, :2], points[9, :2] - points[0, :2]
    length = palm_length(points)
    middle = wrist + along / max(float(np.linalg.norm(along)), 1e-6) * length
    return Square(float(middle[0]), float(middle[1]), length * SIDE / PALM, math.atan2(float(along[0]), -float(along[1])))


def stretched(points: Floats) -> list[bool]:
    """Which of the five fingers are straight and point away from the palm, by the joints."""
    length = palm_length(points)
    flat = points[:, :2]
    straight = []
    for chain in CHAINS:
        root, knee, *_, tip = (flat[i] for i in chain[-4:])
        path = sum(float(np.linalg.norm(flat[i] - flat[j])) for i, j in zip(chain[-4:], chain[-3:], strict=False))
        start, away, least = (flat[17], flat[2], THUMB_OUT) if chain[0] == 0 else (flat[0], knee, OUT)
        out = float(np.linalg.norm(tip - start) - np.linalg.norm(away - start))
        straight.append(float(np.linalg.norm(tip - root)) > STRAIGHT * path and out > least * length)
    return straight


def _mask(image: Pixels, matrix: npt.NDArray[np.float64], joints: Floats) -> Mask | None:
    """The hand's pixels, uint8 (SIDE, SIDE) of 0 and 1, or None."""
    import cv2

    cv2.setRNGSeed(7)
    flags = cv2.INTER_AREA if np.hypot(matrix[0, 0], matrix[0, 1]) < 1 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(image.shape[:2], 255, np.uint8), matrix, (SIDE, SIDE)) > 0
    pixels = np.clip(np.rint(joints), -SIDE, 2 * SIDE).astype(np.int32)
    palm = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(palm, cv2.convexHull(pixels[list(_KNUCKLES)]), 1)
    palm = np.asarray(cv2.erode(palm, np.ones((3, 3), np.uint8)), np.uint8)
    hand = palm.copy()
    for chain in CHAINS:
        cv2.polylines(hand, [pixels[list(chain)]], False, 1, 3)
    away = np.asarray(cv2.distanceTransform(1 - hand, cv2.DIST_L2, 3))
    guess = np.where(away < 1, cv2.GC_PR_FGD, np.where(away > FAR * PALM, cv2.GC_BGD, cv2.GC_PR_BGD)).astype(np.uint8)
    guess[np.asarray(cv2.erode(palm, np.ones((9, 9), np.uint8))) > 0] = cv2.GC_FGD
    guess[~inside] = cv2.GC_BGD
    if not (np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() and np.isin(guess, (cv2.GC_BGD, cv2.GC_PR_BGD)).any()):
        return None
    cut: Any = cv2.grabCut
    cut(cv2.GaussianBlur(crop, (0, 0), 1.0), guess, None, np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    skin = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, labels = cv2.connectedComponents(skin)
    touching = np.bincount(labels[(palm > 0) & (skin > 0)], minlength=count)
    return (labels == touching.argmax()).astype(np.uint8) if touching.any() else None


def _fingers(mask: Mask, wrist: float) -> tuple[float, ...]:
    """The thickness of each finger in palms, at the depth that shows the most of them; ascending. Below the wrist is the arm."""
    import cv2

    edge = round(OPENING * PALM)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge | 1, edge | 1))
    padded = cv2.copyMakeBorder(mask, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    body = np.asarray(cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel), np.uint8)[edge:-edge, edge:-edge]
    if not body.any():
        return ()
    depth: Floats = np.asarray(cv2.distanceTransform(1 - body, cv2.DIST_L2, 5), np.float32) / np.float32(PALM)
    best: tuple[float, ...] = ()
    for least in DEPTHS:
        fingers = _beyond(mask, depth, least, wrist)
        if len(fingers) > len(best):
            best = fingers
    return best


def _beyond(mask: Mask, depth: Floats, least: float, wrist: float) -> tuple[float, ...]:
    """The thickness of what stands out further than `least` palms from the stripped palm, and is a finger."""
    import cv2

    count, labels, boxes, _ = cv2.connectedComponentsWithStats(((mask > 0) & (depth > least)).astype(np.uint8))
    thicknesses = []
    for region in range(1, count):
        x, y, width, height, area = boxes[region]
        tall = np.where(labels[y : y + height, x : x + width] == region, depth[y : y + height, x : x + width], 0)
        reach = float(tall.max())
        tip = y + int(tall.argmax()) // width
        if reach >= FINGER_MIN and reach - least >= STUB_MIN and tip <= wrist - 0.15 * PALM:
            thicknesses.append(float(area) / ((reach - least) * PALM * PALM))
    return tuple(sorted(thicknesses))


def _web(mask: Mask, joints: Floats, straight: list[bool]) -> float:
    """The widest distance, in palms, between neighbouring straight fingers at one joint with nothing but skin between them; 0 without."""
    widest = 0.0
    for finger, neighbour in zip(range(1, 4), range(2, 5), strict=True):
        if not (straight[finger] and straight[neighbour]):
            continue
        for joint in (2, 3):
            a, b = joints[CHAINS[finger][joint]], joints[CHAINS[neighbour][joint]]
            between = np.rint(a + (b - a) * np.linspace(0.2, 0.8, 24)[:, None]).astype(int)
            between = between[((between >= 0) & (between < SIDE)).all(axis=1)]
            if len(between) and mask[between[:, 1], between[:, 0]].mean() > 0.97:
                widest = max(widest, float(np.linalg.norm(a - b)) / PALM)
    return widest
