"""Drawing of the starter world: objects, backgrounds and lettering as shaded polygons.

Everything is a closed polygon or a polyline in scene units, rasterised by OpenCV at twice the final size and averaged
down, so edges are anti-aliased. Letters are strokes defined here; no font file is read. Scene units: x to the right,
y down, the frame is [0, 1] x [0, 1]. Colours are sRGB in 0..255. Which scene is drawn is decided in `world`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 256
_SCALE = 2
_CANVAS = SIZE * _SCALE
_SHIFT = 4  # OpenCV's fixed-point bits for sub-pixel polygon corners

Points = NDArray[np.float64]
Rgb = tuple[float, float, float]
Box = tuple[int, int, int, int]  # left, right, top, bottom in canvas pixels, ends excluded
CREAM: Rgb = (243.0, 238.0, 226.0)
INK: Rgb = (34.0, 32.0, 36.0)

# Strokes of the letters that the words use, on a grid 0..4 wide and 0..6 high; consecutive pairs are joined.
_GLYPHS: dict[str, tuple[tuple[float, ...], ...]] = {
    "A": ((0, 6, 2, 0, 4, 6), (0.75, 4, 3.25, 4)),
    "B": ((0, 0, 0, 6, 2.7, 6, 3.9, 5.3, 3.9, 3.8, 2.7, 3, 0, 3), (2.7, 3, 3.6, 2.2, 3.6, 0.8, 2.6, 0, 0, 0)),
    "E": ((4, 0, 0, 0, 0, 6, 4, 6), (0, 3, 3.2, 3)),
    "F": ((4, 0, 0, 0, 0, 6), (0, 3, 3.2, 3)),
    "H": ((0, 0, 0, 6), (4, 0, 4, 6), (0, 3, 4, 3)),
    "J": ((3.4, 0, 3.4, 4.6, 2.7, 5.8, 1.2, 6, 0.2, 5, 0.1, 4.4),),
    "L": ((0, 0, 0, 6, 3.8, 6),),
    "M": ((0, 6, 0, 0, 2, 3.6, 4, 0, 4, 6),),
    "N": ((0, 6, 0, 0, 4, 6, 4, 0),),
    "O": ((2, 0, 0.9, 0.35, 0.15, 1.5, 0, 3, 0.15, 4.5, 0.9, 5.65, 2, 6, 3.1, 5.65, 3.85, 4.5, 4, 3, 3.85, 1.5, 3.1, 0.35, 2, 0),),
    "P": ((0, 6, 0, 0, 2.6, 0, 3.8, 0.8, 3.8, 2.5, 2.6, 3.3, 0, 3.3),),
    "R": ((0, 6, 0, 0, 2.6, 0, 3.8, 0.8, 3.8, 2.4, 2.6, 3.2, 0, 3.2), (2, 3.2, 4, 6)),
    "S": ((3.8, 1.1, 3, 0.2, 2, 0, 0.8, 0.3, 0.2, 1.4, 0.7, 2.5, 2, 3, 3.3, 3.5, 3.8, 4.6, 3.2, 5.7, 2, 6, 0.9, 5.8, 0.1, 4.8),),
    "T": ((0, 0, 4, 0), (2, 0, 2, 6)),
    "V": ((0, 0, 2, 6, 4, 0),),
    "W": ((0, 0, 1, 6, 2, 2, 3, 6, 4, 0),),
    "Y": ((0, 0, 2, 3, 4, 0), (2, 3, 2, 6)),
}


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from (-1 left .. 1 right) and how strong the shading is (about 1)."""

    side: float
    strength: float


class Canvas:
    """A float32 picture (2 * SIZE squared, RGB 0..255) on which shaded shapes are laid, back to front."""

    def __init__(self, light: Light) -> None:
        self.pixels: NDArray[np.float32] = np.zeros((_CANVAS, _CANVAS, 3), np.float32)
        self.light = light
        self.lettering: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 of the word, scene units

    def fill(self, outline: Points, colour: Rgb, shade: str = "flat", gain: float = 1.0) -> None:
        """Fill a closed outline (N, 2). `shade`: "flat" slants gently, "round" turns like a cylinder, "none"."""
        box = _bounds(outline, 0.01)
        mask, fixed = _blank(box, outline)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        self._lay(mask, box, colour, shade, gain)

    def stroke(self, line: Points, colour: Rgb, width: float, closed: bool = False, shade: str = "none") -> None:
        """Draw a polyline (N, 2) of `width` scene units with round joints."""
        box = _bounds(line, width + 0.01)
        mask, fixed = _blank(box, line)
        cv2.polylines(mask, [fixed], closed, 255, max(1, round(width * _CANVAS)), cv2.LINE_AA, _SHIFT)
        self._lay(mask, box, colour, shade, 1.0)

    def shadow(self, x: float, y: float, half_width: float, half_height: float, depth: float = 0.42) -> None:
        """Darken a soft ellipse, the contact shadow under an object."""
        axis = np.arange(_CANVAS, dtype=np.float32) / _CANVAS
        left, right = _span(x - 2 * half_width, x + 2 * half_width)
        top, bottom = _span(y - 3 * half_height, y + 3 * half_height)
        dx = (axis[None, left:right] - x) / half_width
        dy = (axis[top:bottom, None] - y) / half_height
        dark = 1.0 - depth * np.exp(-1.4 * (dx**2 + dy**2))
        self.pixels[top:bottom, left:right] *= dark[..., None]

    def _lay(self, mask: NDArray[np.uint8], box: Box, colour: Rgb, shade: str, gain: float) -> None:
        left, right, top, bottom = box
        if left >= right or top >= bottom:
            return
        alpha = mask[..., None].astype(np.float32) / 255.0
        tone = gain * self._tone(shade, (left, right), (top, bottom))
        ink = _lit(colour, tone)
        region = self.pixels[top:bottom, left:right]
        region += alpha * (ink - region)

    def _tone(self, shade: str, across: tuple[int, int], down: tuple[int, int]) -> NDArray[np.float32]:
        """Brightness factor (H, W) over a bounding box."""
        u = np.linspace(-1, 1, across[1] - across[0], dtype=np.float32)[None, :]
        v = np.linspace(-1, 1, down[1] - down[0], dtype=np.float32)[:, None]
        side, strength = self.light.side, self.light.strength
        if shade == "round":
            turned = 1.08 - 0.34 * strength * (u - 0.45 * side) ** 2 - 0.05 * v
            glint = 0.20 * strength * np.exp(-(((u - 0.5 * side) / 0.13) ** 2))
            return np.asarray(turned + glint, np.float32)
        if shade == "flat":
            return np.asarray(1.0 + strength * (0.08 * side * u - 0.09 * v), np.float32)
        return np.ones((down[1] - down[0], across[1] - across[0]), np.float32)

    def finish(self) -> NDArray[np.uint8]:
        """The picture at SIZE: uint8 (SIZE, SIZE, 3), sRGB."""
        small = cv2.resize(self.pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return np.clip(np.round(small), 0, 255).astype(np.uint8)


def _span(low: float, high: float) -> tuple[int, int]:
    return max(0, int(low * _CANVAS)), min(_CANVAS, int(high * _CANVAS) + 1)


def _bounds(points: Points, margin: float) -> Box:
    (x0, y0), (x1, y1) = points.min(0) - margin, points.max(0) + margin
    return *_span(x0, x1), *_span(y0, y1)


def _blank(box: Box, points: Points) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """An empty mask of a box, and the points in the mask's fixed-point pixels."""
    left, right, top, bottom = box
    mask = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
    fixed = np.round((points * _CANVAS - (left, top)) * 2**_SHIFT).astype(np.int32)
    return mask, fixed


def _lit(colour: Rgb, tone: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour (3) under a tone (H, W): darker by multiplication, brighter towards white -> (H, W, 3)."""
    base = np.asarray(colour, np.float32)
    tone = tone[..., None]
    dark = base * np.minimum(tone, 1.0)
    lifted: NDArray[np.float32] = dark + (255.0 - dark) * np.clip(tone - 1.0, 0.0, 0.6)
    return lifted


def tint(colour: Rgb, factor: float) -> Rgb:
    """The colour darkened (factor < 1) or mixed with white (factor > 1)."""
    mixed = _lit(colour, np.full((1, 1), factor, np.float32))[0, 0]
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """Points (N, 2) of an elliptic arc, degrees clockwise from the right."""
    angle = np.radians(np.linspace(start, stop, 49))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> Points:
    """Outline (N, 2) of a rectangle with rounded corners."""
    r = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    corners = ((x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270))
    return np.concatenate([ellipse(cx, cy, r, r, a, a + 90)[::6] for cx, cy, a in corners])


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an object stands: middle of its base, half height, mirrored or not (+1 or -1)."""

    x: float
    base: float
    half: float
    flip: float

    def at(self, points: Points | Sequence[Sequence[float]]) -> Points:
        """Object units (u in about -1..1, v from -1 top to 1 base) to scene units."""
        local = np.asarray(points, np.float64)
        return np.stack([self.x + self.flip * self.half * local[:, 0], self.base + self.half * (local[:, 1] - 1)], 1)


def letter(canvas: Canvas, word: str, pose: Pose, centre: tuple[float, float], width: float, colour: Rgb) -> None:
    """Write `word` centred at (u, v), `width` object units wide at four letters, never mirrored."""
    advance = 5.6
    total = advance * len(word) - 1.6
    unit = min(width / 20.8, width / (total + 0.0))
    upright = Pose(pose.x, pose.base, pose.half, 1.0)
    middle, rise = centre[0] * pose.flip, 1.12 * 3 * unit
    corners = [[middle - unit * total / 2, centre[1] - rise], [middle + unit * total / 2, centre[1] + rise]]
    (x0, y0), (x1, y1) = upright.at(corners).tolist()
    canvas.lettering = (x0, y0, x1, y1)
    for index, character in enumerate(word):
        left = middle + unit * (index * advance - total / 2)
        for strokes in _GLYPHS[character]:
            points = np.asarray(strokes, np.float64).reshape(-1, 2)
            local = np.stack([left + unit * points[:, 0], centre[1] + unit * 1.12 * (points[:, 1] - 3)], 1)
            canvas.stroke(upright.at(local), colour, 1.15 * unit * pose.half)


def _ink_on(colour: Rgb) -> Rgb:
    """Black or cream, whichever stands out from `colour` (Rec. 601 luma)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return INK if luma > 135 else CREAM


def _mug(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 1.05, pose.half * 0.2)
    canvas.stroke(pose.at(ellipse(0.72, 0.1, 0.36, 0.46, -95, 95)), tint(colour, 0.86), 0.17 * pose.half)
    bottom = ellipse(0, 0.86, 0.68, 0.14, 0, 180)
    body = np.concatenate([[[-0.74, -0.78], [0.74, -0.78]], bottom])
    canvas.fill(pose.at(body), colour, "round")
    canvas.fill(pose.at(ellipse(0, -0.78, 0.74, 0.2)), tint(colour, 1.18), "none")
    canvas.fill(pose.at(ellipse(0, -0.76, 0.64, 0.15)), tint(colour, 0.55), "none")


def _bottle(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 0.62, pose.half * 0.14)
    right = [[0.14, -0.8], [0.14, -0.52], [0.2, -0.4], [0.36, -0.24], [0.42, -0.08], [0.42, 0.9], [0.36, 1.0]]
    left = [[-u, v] for u, v in reversed(right)]
    canvas.fill(pose.at(right + left), colour, "round")
    canvas.fill(pose.at(rounded(-0.18, -1.0, 0.18, -0.76, 0.05)), tint(colour, 0.5), "round")
    canvas.fill(pose.at([[-0.42, 0.3], [0.42, 0.3], [0.42, 0.66], [-0.42, 0.66]]), CREAM, "round")


def _box(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x + 0.12 * pose.flip * pose.half, pose.base, pose.half * 1.25, pose.half * 0.2)
    lighter, darker = tint(colour, 1.22), tint(colour, 0.66)
    canvas.fill(pose.at([[-0.92, -0.62], [-0.6, -1.0], [1.0, -1.0], [0.68, -0.62]]), lighter, "flat")
    canvas.fill(pose.at([[0.68, -0.62], [1.0, -1.0], [1.0, 0.62], [0.68, 1.0]]), darker, "flat")
    canvas.fill(pose.at([[-0.92, -0.62], [0.68, -0.62], [0.68, 1.0], [-0.92, 1.0]]), colour, "flat")
    if word:
        letter(canvas, word, pose, (-0.12, 0.19), 1.3, _ink_on(colour))
    else:
        canvas.fill(pose.at([[-0.24, -0.62], [0.0, -0.62], [0.0, -0.1], [-0.24, -0.1]]), tint(CREAM, 0.9), "none")


def _shirt(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base - 0.02 * pose.half, pose.half * 0.8, pose.half * 0.12)
    neck = ellipse(0, -0.98, 0.27, 0.24, 0, 180)
    right = [[0.3, -1.0], [0.62, -0.88], [1.08, -0.32], [0.78, -0.04], [0.6, -0.26], [0.62, 1.0]]
    left = [[-u, v] for u, v in right]
    outline = np.concatenate([left[::-1], neck[::-1], right])
    canvas.fill(pose.at(outline), colour, "flat")
    for side in (-1, 1):
        canvas.stroke(pose.at([[side * 0.6, -0.28], [side * 0.52, -0.5]]), tint(colour, 0.72), 0.03 * pose.half)
    canvas.stroke(pose.at(neck), tint(colour, 0.7), 0.06 * pose.half)
    if word:
        letter(canvas, word, pose, (0.0, 0.12), 1.02, _ink_on(colour))


def _tote(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 0.95, pose.half * 0.16)
    canvas.stroke(pose.at(ellipse(0, -0.4, 0.36, 0.54, 180, 360)), tint(colour, 0.7), 0.11 * pose.half)
    canvas.fill(pose.at([[-0.72, -0.42], [0.72, -0.42], [0.8, 1.0], [-0.8, 1.0]]), colour, "flat")
    canvas.stroke(pose.at([[-0.71, -0.31], [0.71, -0.31]]), tint(colour, 0.72), 0.03 * pose.half)
    if word:
        letter(canvas, word, pose, (0.0, 0.3), 1.3, _ink_on(colour))


def _lamp(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 0.7, pose.half * 0.14)
    metal: Rgb = (120.0, 116.0, 112.0)
    canvas.fill(pose.at([[-0.06, -0.2], [0.06, -0.2], [0.06, 0.9], [-0.06, 0.9]]), metal, "round")
    canvas.fill(pose.at(ellipse(0, 0.92, 0.4, 0.1)), tint(metal, 0.85), "round")
    shade = [[-0.38, -1.0], [0.38, -1.0], [0.84, 0.12], [-0.84, 0.12]]
    canvas.fill(pose.at(shade), colour, "round")
    canvas.fill(pose.at(ellipse(0, 0.12, 0.84, 0.1)), tint((255.0, 226.0, 150.0), 1.1), "none")


def _phone(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 0.68, pose.half * 0.13)
    canvas.fill(pose.at(rounded(-0.52, -1.0, 0.52, 1.0, 0.16)), tint(colour, 0.62), "none")
    canvas.fill(pose.at(rounded(-0.48, -0.96, 0.48, 0.96, 0.14)), colour, "flat")
    canvas.fill(pose.at(rounded(-0.4, -0.88, 0.02, -0.34, 0.12)), tint(colour, 0.7), "none")
    for v in (-0.74, -0.48):
        canvas.fill(pose.at(ellipse(-0.19, v, 0.11, 0.11)), INK, "none")


def _sign(canvas: Canvas, pose: Pose, colour: Rgb, word: str | None) -> None:
    canvas.shadow(pose.x, pose.base, pose.half * 0.55, pose.half * 0.1)
    canvas.fill(pose.at([[-0.08, 0.0], [0.08, 0.0], [0.08, 1.0], [-0.08, 1.0]]), (126.0, 96.0, 70.0), "round")
    canvas.fill(pose.at(rounded(-1.06, -1.0, 1.06, 0.36, 0.12)), colour, "flat")
    canvas.stroke(pose.at(rounded(-0.97, -0.91, 0.97, 0.27, 0.08)), _ink_on(colour), 0.035 * pose.half, closed=True)
    if word:
        letter(canvas, word, pose, (0.0, -0.32), 1.62, _ink_on(colour))


Painter = Callable[[Canvas, Pose, Rgb, "str | None"], None]
PAINTERS: dict[str, Painter] = {
    "mug": _mug, "bottle": _bottle, "box": _box, "T-shirt": _shirt,
    "tote bag": _tote, "lamp": _lamp, "phone": _phone, "sign": _sign,
}  # fmt: skip


def _bands(canvas: Canvas, horizon: float, upper: tuple[Rgb, Rgb], lower: tuple[Rgb, Rgb]) -> None:
    """Two vertical gradients that meet at the horizon."""
    y = (np.arange(_CANVAS, dtype=np.float32) + 0.5)[:, None, None] / _CANVAS
    up, low = np.asarray(upper, np.float32), np.asarray(lower, np.float32)
    above = up[0] + (up[1] - up[0]) * (y / horizon)
    below = low[0] + (low[1] - low[0]) * ((y - horizon) / (1 - horizon))
    edge = np.clip((y - horizon) * _CANVAS * 0.5 + 0.5, 0, 1)
    canvas.pixels[:] = above * (1 - edge) + below * edge


def _studio(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _bands(canvas, horizon, ((196, 199, 204), (214, 217, 221)), ((208, 211, 215), (226, 228, 231)))
    glow = np.linspace(-1, 1, _CANVAS, dtype=np.float32) * canvas.light.side
    canvas.pixels *= (1.0 + 0.05 * glow)[None, :, None]


def _wood(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _bands(canvas, horizon, ((236, 226, 206), (228, 216, 192)), ((186, 134, 84), (208, 158, 106)))
    for plank in range(1, 4):
        y = horizon + (1 - horizon) * (plank / 3.6) ** 1.3
        canvas.stroke(np.asarray([[-0.1, y], [1.1, y]]), (160, 110, 66), 0.006)


def _brick(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _bands(canvas, horizon, ((164, 98, 80), (172, 106, 88)), ((150, 146, 142), (172, 168, 164)))
    rows = 6
    for row in range(rows):
        y = horizon * row / rows
        canvas.stroke(np.asarray([[-0.1, y], [1.1, y]]), (196, 160, 144), 0.008)
        for x in np.arange(0.0 if row % 2 else 0.125, 1.05, 0.25):
            canvas.stroke(np.asarray([[x, y], [x, y + horizon / rows]]), (196, 160, 144), 0.008)
    canvas.stroke(np.asarray([[-0.1, horizon], [1.1, horizon]]), (120, 114, 110), 0.012)


def _beach(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _bands(canvas, horizon, ((150, 204, 238), (206, 232, 242)), ((232, 212, 164), (240, 224, 182)))
    sea = np.asarray([[-0.1, horizon - 0.16], [1.1, horizon - 0.16], [1.1, horizon], [-0.1, horizon]])
    canvas.fill(sea, (60, 150, 178), "none")
    canvas.stroke(np.asarray([[-0.1, horizon], [1.1, horizon]]), (246, 248, 246), 0.012)


def _garden(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _bands(canvas, horizon, ((190, 222, 240), (222, 238, 240)), ((112, 164, 72), (138, 186, 88)))
    hedge = np.asarray(
        [[-0.1, horizon + 0.01]]
        + [[x, horizon - 0.14 - 0.03 * np.sin(14 * x)] for x in np.linspace(-0.1, 1.1, 60)]
        + [[1.1, horizon + 0.01]]
    )
    canvas.fill(hedge, (74, 128, 66), "none")


Scenery = Callable[[Canvas, float, np.random.Generator], None]
SCENERY: dict[str, Scenery] = {"studio": _studio, "table": _wood, "brick": _brick, "beach": _beach, "garden": _garden}
