"""Hands that the project draws for its benchmarks and tests: open, seen from the palm or the back, with four to seven digits or two fused.

A hand is a filled outline with light from one side, creases and nails, before a plain, shaded or cluttered ground; where it stands, its
size, turn, spread, proportions and skin are drawn from the generator. Nothing here imitates a photograph: what is judged is the outline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Picture = npt.NDArray[np.uint8]
Kind = Literal["four", "five", "six", "seven", "fused"]
KINDS: tuple[Kind, ...] = ("five", "four", "six", "seven", "fused")
SKINS = ((244, 208, 180), (226, 178, 146), (202, 148, 112), (160, 108, 78), (112, 74, 54), (82, 54, 40))
_SCALE = 2
_PALM_LINES = (
    ((-0.4, 0.1), (-0.1, 0.02), (0.1, -0.2), (0.1, -0.45)),
    ((-0.4, 0.16), (0.0, 0.14), (0.4, -0.02)),
    ((-0.2, 0.4), (0.1, 0.22), (0.45, 0.2)),
)


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit in palm units (palm width 1, y up, middle of the palm at 0, 0): its base, direction in radians, length, half width."""

    x: float
    y: float
    angle: float
    length: float
    half: float

    def at(self, share: float) -> tuple[float, float]:
        """A place along the digit's middle, 0 base to 1 tip."""
        return self.x + math.sin(self.angle) * self.length * share, self.y + math.cos(self.angle) * self.length * share


def hand(rng: np.random.Generator, kind: Kind = "five", side: int = 512) -> Picture:
    """A picture of one hand, uint8 (side, side, 3)."""
    return hand_and_joints(rng, kind, side)[0]


def hand_and_joints(rng: np.random.Generator, kind: Kind, side: int = 512) -> tuple[Picture, npt.NDArray[np.float32]]:
    """The picture, and the 21 joints that the landmark network should find, float32 (21, 2) in pixels; of more digits the first five."""
    big = side * _SCALE
    skin = np.array(SKINS[int(rng.integers(len(SKINS)))], np.float32) * rng.uniform(0.93, 1.05)
    ground = _ground(rng, big, skin)
    unit = big * rng.uniform(0.17, 0.26)
    turn = rng.normal(0, 0.25)
    mirror = rng.choice((-1.0, 1.0))
    centre = np.array([rng.uniform(0.42, 0.58), rng.uniform(0.52, 0.62)]) * big

    def place(x: float, y: float) -> tuple[float, float]:
        x, y = mirror * x, -y
        return (
            centre[0] + unit * (x * math.cos(turn) - y * math.sin(turn)),
            centre[1] + unit * (x * math.sin(turn) + y * math.cos(turn)),
        )

    mask = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(mask)
    made, bridges = digits(rng, kind)
    palm = [(-0.46, -0.5), (-0.52, 0.0), (-0.46, 0.45), (-0.2, 0.56), (0.15, 0.54), (0.46, 0.4), (0.5, 0.0), (0.4, -0.5)]
    wrist = rng.uniform(0.3, 0.38)
    arm = [(-wrist, -0.4), (wrist, -0.4), (wrist * 1.1, -3.5), (-wrist * 1.1, -3.5)]
    for shape in (palm, arm, *bridges):
        draw.polygon([place(*p) for p in shape], fill=255)
    for digit in made:
        _capsule(draw, digit, place, unit)
    mask = mask.filter(ImageFilter.GaussianBlur(unit * 0.035)).point([0] * 118 + [255] * 138).filter(ImageFilter.GaussianBlur(1.2))
    shaded = _shaded(rng, mask, skin, made, place, unit)
    image = Image.composite(shaded, ground, mask).resize((side, side), Image.Resampling.LANCZOS)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    noisy = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(1, 6), (side, side, 1))
    joints = [(0.0, -0.5), *(digit.at(share) for digit in (made + made[-1:])[:5] for share in (0, 0.4, 0.7, 1))]
    found = np.array([place(*joint) for joint in joints], np.float32) / np.float32(_SCALE)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), found


def digits(rng: np.random.Generator, kind: Kind) -> tuple[list[Digit], list[list[tuple[float, float]]]]:
    """The digits, thumb first, and the outlines that join fused ones."""
    fingers = {"four": 3, "five": 4, "six": 5, "seven": 6, "fused": 4}[kind]
    spread = rng.uniform(0.75, 1.15) * (0.30 + 0.03 * (fingers - 4))
    slim = min(1.0, 4.3 / fingers)
    size = rng.uniform(0.9, 1.1)
    made = [Digit(-0.42, -0.18, -rng.uniform(0.75, 1.0), 0.72 * size * rng.uniform(0.92, 1.08), 0.125)]
    for n in range(fingers):
        t = n / (fingers - 1) if fingers > 1 else 0.5
        length = (0.86 + 0.2 * math.sin(math.pi * (0.15 + 0.75 * t)) - 0.18 * t) * size * rng.uniform(0.95, 1.05)
        x = -0.37 + 0.74 * t
        angle = (t - 0.42) * spread * 2.4 + rng.normal(0, 0.03)
        made.append(Digit(x, 0.46 - 0.12 * abs(t - 0.4), angle, length, (0.118 - 0.02 * t) * slim * rng.uniform(0.95, 1.05)))
    if kind != "fused":
        return made, []
    first = int(rng.integers(1, 4))
    one, other = made[first], made[first + 1]
    reach = rng.uniform(0.7, 1.0)
    bridge = [(one.x, one.y), one.at(reach), other.at(reach), (other.x, other.y)]
    return made, [bridge]


def _capsule(draw: ImageDraw.ImageDraw, digit: Digit, place: object, unit: float) -> None:
    assert callable(place)
    for share in np.linspace(-0.12, 1, 60):
        x, y = place(*digit.at(float(share)))
        half = digit.half * unit * (1.06 - 0.2 * share + 0.04 * math.cos(share * 9.5))
        draw.ellipse([x - half, y - half, x + half, y + half], fill=255)


def _shaded(
    rng: np.random.Generator, mask: Image.Image, skin: npt.NDArray[np.float32], made: list[Digit], place: object, unit: float
) -> Image.Image:
    """The skin: lit from one side by the outline's own relief, with creases at the joints and in the palm."""
    assert callable(place)
    relief = np.asarray(mask.filter(ImageFilter.GaussianBlur(unit * 0.09)), np.float32) / 255
    down, right = np.gradient(relief)
    side = rng.uniform(0, 2 * math.pi)
    light = 0.80 + 0.2 * relief + (right * math.cos(side) + down * math.sin(side)) * unit * rng.uniform(0.03, 0.08)
    image = Image.fromarray(np.clip(skin[None, None] * light[..., None], 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    crease = tuple(int(c * 0.72) for c in skin)
    width = max(2, int(unit * 0.014))
    for digit in made:
        for share in (0.06, 0.38, 0.68) if digit is not made[0] else (0.3, 0.65):
            x, y = digit.at(share)
            across = digit.half * 0.75
            ends = [(x - math.cos(digit.angle) * across, y + math.sin(digit.angle) * across)]
            ends.append((x + math.cos(digit.angle) * across, y - math.sin(digit.angle) * across))
            draw.line([place(*end) for end in ends], fill=crease, width=width)
    for line in _PALM_LINES:
        draw.line([place(*p) for p in line], fill=crease, width=width, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(_SCALE * 0.8))


def _ground(rng: np.random.Generator, big: int, skin: npt.NDArray[np.float32]) -> Image.Image:
    """A ground that is no skin colour: shaded, perhaps with shapes."""
    while True:
        colour = rng.uniform(20, 245, 3)
        if np.abs(colour - skin).max() > 60 and np.abs((colour - colour.mean()) - (skin - skin.mean())).max() > 25:
            break
    ramp = np.linspace(rng.uniform(0.85, 1.0), rng.uniform(1.0, 1.1), big)[:, None, None]
    image = Image.fromarray(np.clip(colour[None, None] * ramp * np.ones((1, big, 1)), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 7))):
        x, y, r = rng.uniform(0, big), rng.uniform(0, big), rng.uniform(0.03, 0.14) * big
        tint = tuple(int(c) for c in np.clip(colour * rng.uniform(0.7, 1.2) + rng.uniform(-15, 15, 3), 0, 255))
        draw.ellipse([x - r, y - r * rng.uniform(0.4, 1), x + r, y + r], fill=tint)
    return image
