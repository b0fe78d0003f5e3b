"""What people do to pictures, for `watermark.py`: (picture, rng) -> picture, each strength drawn anew; and the curves of the plot."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.bench.watermark_others import Picture

Rng = np.random.Generator


def jpeg(picture: Picture, quality: float) -> Picture:
    """The picture through JPEG, 4:2:0."""
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def scaled(picture: Picture, factor: float, restore: bool = False) -> Picture:
    """Resized by `factor`, but no further than to a short side of 256; and back when `restore`."""
    height, width = picture.shape[:2]
    factor = max(factor, 256 / min(height, width))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    out = cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=way)
    return np.asarray(cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC) if restore else out, np.uint8)


def cropped(picture: Picture, sides: NDArray[np.float64]) -> Picture:
    """Cut by these shares at top, bottom, left and right."""
    (height, width), (top, bottom, left, right) = picture.shape[:2], sides
    rows = slice(round(top * height), round((1 - bottom) * height))
    return np.ascontiguousarray(picture[rows, round(left * width) : round((1 - right) * width)])


def turned(picture: Picture, degrees: float, border: int) -> Picture:
    """Turned about the centre on a canvas of the same size."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border), np.uint8)


def noisy(picture: Picture, sigma: float, rng: Rng) -> Picture:
    """Gaussian noise of this standard deviation in grey levels."""
    return np.clip(np.round(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """A Gaussian blur in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.05)), np.uint8)


def screenshot(picture: Picture, rng: Rng) -> Picture:
    """Shown at another size within a border of one colour, then JPEG 85."""
    out = scaled(picture, rng.uniform(0.6, 1.3))
    shares = zip(np.repeat(out.shape[:2], 2), rng.uniform(0.01, 0.1, 4), strict=True)
    top, bottom, left, right = (round(side * share) for side, share in shares)
    colour = [int(v) for v in rng.integers(0, 256, 3)]
    return jpeg(np.asarray(cv2.copyMakeBorder(out, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour), np.uint8), 85)


def brighter(picture: Picture, factor: float) -> Picture:
    """Every channel times a factor."""
    return np.clip(np.round(picture * factor), 0, 255).astype(np.uint8)


Attack = Callable[[Picture, Rng], Picture]
BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT, cv2.BORDER_REPLICATE)
ATTACKS: dict[str, tuple[float, Attack]] = {
    "clean": (0.99, lambda p, r: p),
    "JPEG 90-50": (0.99, lambda p, r: jpeg(p, r.uniform(50, 90))),
    "scale 0.4-1.5 kept": (0.99, lambda p, r: scaled(p, r.uniform(0.4, 1.5))),
    "scale 0.4-1.5 restored": (0.99, lambda p, r: scaled(p, r.uniform(0.4, 1.5), True)),
    "crop <= 15 % a side": (0.99, lambda p, r: cropped(p, r.uniform(0, 0.15, 4))),
    "rotation <= 7 deg": (0.99, lambda p, r: turned(p, r.uniform(-7, 7), BORDERS[r.integers(3)])),
    "screenshot": (0.99, screenshot),
    "social 0.75 + JPEG 75": (0.99, lambda p, r: jpeg(scaled(p, 0.75), 75)),
    "noise 5": (0.99, lambda p, r: noisy(p, 5, r)),
    "blur 1": (0.99, lambda p, r: blurred(p, 1)),
    "brightness +-20 %": (0.99, lambda p, r: brighter(p, r.uniform(0.8, 1.2))),
    "flip": (0.99, lambda p, r: np.ascontiguousarray(p[:, ::-1])),
    "JPEG 30": (0.95, lambda p, r: jpeg(p, 30)),
    "crop 25 % a side": (0.95, lambda p, r: cropped(p, np.full(4, 0.25))),
    "blur 2": (0.95, lambda p, r: blurred(p, 2)),
    "noise 12": (0.95, lambda p, r: noisy(p, 12, r)),
    "crop + scale + JPEG 75": (0.95, lambda p, r: jpeg(scaled(cropped(p, r.uniform(0, 0.15, 4)), r.uniform(0.5, 1.3)), 75)),
}
CURVES: dict[str, tuple[list[float], Callable[[Picture, float, Rng], Picture]]] = {
    "JPEG quality": ([90, 70, 50, 40, 30, 20, 15, 10], lambda p, s, r: jpeg(p, s)),
    "scale": ([1.5, 1.0, 0.75, 0.6, 0.5], lambda p, s, r: scaled(p, s)),
    "crop, % a side": ([5, 10, 15, 20, 25, 28], lambda p, s, r: cropped(p, np.full(4, s / 100))),
    "rotation, degrees": ([1, 3, 5, 7, 7.6, 8.5], lambda p, s, r: turned(p, s, cv2.BORDER_REFLECT)),
    "noise sigma": ([5, 10, 15, 20, 30], lambda p, s, r: noisy(p, s, r)),
    "blur sigma": ([1, 2, 3, 4, 5], lambda p, s, r: blurred(p, s)),
}
