"""Where the hands of a picture are, and where one should be: palms that the detector finds, and wrists of the bodies that `people` sees.

A palm alone must be surer than one at a wrist. Faces, ears and feet are no hands: a palm inside a face or at a foot counts only where a
wrist is as well. Each wrist that is seen gets a look of its own, larger. One without anything like a palm hides its hand more often than
not (in a pocket, under an arm: 9 of 14), so it promises none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renderfarm.people.bodies import Face, People, Wrist
from renderfarm.people.palms import HandReader, Palm, Square, distinct
from renderfarm.pictures import Pixels

PALM_FOUND, PALM_AT_WRIST, PALM_SURE = 0.3, 0.5, 0.7
"""A palm worth a look; from here on, at a wrist and anywhere, `PRESENCE_LOW` makes it a hand, else `PRESENCE_SURE` does."""
PRESENCE_LOW, PRESENCE_SURE = 0.5, 0.8
"""Of the tuned crops of `scripts/bench/sets/hands.csv` 98 to 99 of 100 that pass are hands, and three of four hands pass."""
WRIST_SEEN, WRIST_SURE = 0.5, 0.9
REACH, AROUND = 0.5, 1.5
"""A palm belongs to a wrist whose square's middle is within half a side; the look around a wrist is so many squares wide."""
SIDE_MIN = 48.0
"""Smaller squares show fingers under 5 pixels wide."""
HANDS_MAX = 4


@dataclass(frozen=True, slots=True)
class HandPlace:
    """Where to read a hand: its square, the presence that makes it one, and how surely (0..1) an arm promises this palm."""

    square: Square
    needed: float
    promised: float = 0.0


def find(reader: HandReader, people: People, image: Pixels, tiles: Sequence[int] = ()) -> list[HandPlace]:
    """Looks through uint8 (H, W, 3); `tiles`: where no people are seen, in that many tiles a side as well."""
    wrists = [wrist for body in people.bodies for wrist in body.wrists() if wrist.seen >= WRIST_SEEN and _inside(wrist, image)]
    feet = [tuple(foot) for body in people.bodies for foot in body.feet()]
    palms = [palm for palm in reader.palms(image, PALM_FOUND, () if people else tiles) if not _other(palm, wrists, people.faces, feet)]
    for wrist in wrists:
        if wrist.square.side >= SIDE_MIN and not any(palm.score >= PALM_AT_WRIST and _at(palm, wrist) for palm in palms):
            palms += [palm for palm in _around(reader, wrist, image) if _at(palm, wrist)]
    places = []
    for palm in distinct(palms)[:HANDS_MAX]:
        seen = max((wrist.seen for wrist in wrists if _at(palm, wrist)), default=0.0)
        needed = PRESENCE_LOW if palm.score >= (PALM_AT_WRIST if seen else PALM_SURE) else PRESENCE_SURE
        places.append(HandPlace(palm.square, needed, seen if seen >= WRIST_SURE else 0.0))
    lonely = [wrist for wrist in wrists if wrist.seen >= WRIST_SURE and not any(_at(palm, wrist) for palm in palms)]
    return places + [HandPlace(wrist.square, PRESENCE_LOW) for wrist in lonely if wrist.square.side >= SIDE_MIN]


def _around(reader: HandReader, wrist: Wrist, image: Pixels) -> list[Palm]:
    """Palms in a larger look around a wrist."""
    half = AROUND * wrist.square.side / 2
    left, top = max(0, round(wrist.square.x - half)), max(0, round(wrist.square.y - half))
    part = image[top : round(wrist.square.y + half), left : round(wrist.square.x + half)]
    if min(part.shape[:2]) < SIDE_MIN / 2:
        return []
    return [Palm(palm.score, palm.x + left, palm.y + top, palm.side, palm.turn) for palm in reader.palms(part, PALM_FOUND)]


def _inside(wrist: Wrist, image: Pixels) -> bool:
    """Whether the wrist and most of the hand lie in the picture."""
    edge = 0.15 * wrist.square.side
    return all(
        edge <= x <= image.shape[1] - edge and edge <= y <= image.shape[0] - edge
        for x, y in ((wrist.x, wrist.y), (wrist.square.x, wrist.square.y))
    )


def _at(palm: Palm, wrist: Wrist) -> bool:
    square = palm.square
    return math.hypot(square.x - wrist.square.x, square.y - wrist.square.y) <= REACH * max(square.side, wrist.square.side)


def _other(palm: Palm, wrists: Sequence[Wrist], faces: Sequence[Face], feet: Sequence[tuple[float, ...]]) -> bool:
    """Whether the palm is a face's, or nearer to a foot than to any wrist."""
    if any(_at(palm, wrist) for wrist in wrists):
        return False
    if any(face.box.x0 <= palm.x <= face.box.x1 and face.box.y0 <= palm.y <= face.box.y1 for face in faces):
        return True
    return bool(feet) and min(float(np.hypot(palm.x - x, palm.y - y)) for x, y in feet) <= palm.side
