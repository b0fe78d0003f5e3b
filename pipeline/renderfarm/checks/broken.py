"""Broken renders: black, flat, burnt out, or pure noise. A few milliseconds, first, always on.

Each rule measures one number and compares it with the border at which a picture is broken; `margin` is measured / border, so 1 is the
border and below it the picture is broken. The check's score is half the smallest margin, cut to 0..1: 0.5 is the border.

The borders separate, without an error, the 71 real pictures of the tuning set and drawn posters, signs, patterns, confetti, gradients and
night scenes from what six untrained decoders, white noise and enlarged noise give (numbers beside each border). A renderer's NaN arrives
here as black, because diffusers casts it to 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Bars, Image, judge
from renderfarm.job.checks import BrokenSettings
from renderfarm.schema import PromptRow, Verdict

BLACK_LEVEL = 16.0
"""The brightest thousandth of a black picture stays under this grey level; night scenes have lights."""
FLAT_SHARE, FLAT_TOLERANCE, FLAT_RANGE = 0.0005, 8, 12.0
"""Flat: under 0.05 % of the pixels differ by more than 8 levels from the median colour (a 10-pixel word on 512x512 has 0.07 %), and
the coarse thumbnail spans less than 12 levels, so that a plain gradient is no flat picture."""
NOISE_SMOOTH, NOISE_CORRELATION = 0.10, 0.35
"""Noise: under 10 % of neighbouring pixels are alike (real pictures .15 to .93, drawn ones over .5, noise 0 to .04), and the 32x32
thumbnail's neighbours correlate under .35 (real .27 to .97, confetti 0, noise -.05 to .20). Only both together are noise."""
BURNT_CALM, BURNT_CORNERS = 0.85, 0.90
"""Burnt out: 90 % of the pixels sit on corners of the RGB cube, and under 85 % of neighbours are alike (posters in pure colours: .91)."""


class RuleMargin(NamedTuple):
    """One rule's measured margin over its border, and what to say when it is below 1."""

    margin: float
    reason: str


class BrokenCheck:
    """Rejects pictures that no prompt asks for."""

    name = "broken"
    cost = 5

    def __init__(self, settings: BrokenSettings) -> None:
        self.settings = settings

    def prepare(self) -> None:
        """Nothing to load."""
        import cv2

        cv2.setNumThreads(1)

    def bars(self, row: PromptRow) -> Bars:
        """One bar for every row."""
        return Bars.one(self.settings.min_score, self.settings.on_fail)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3); the reason names the first rule that is broken, black before flat."""
        margins = findings(image)
        border = 2 * self.settings.min_score
        worst = next((f for f in margins if f.margin < border), min(margins, key=lambda finding: finding.margin))
        score = min(1.0, max(0.0, worst.margin / 2))
        return judge(self.name, score, self.bars(row), worst.reason)


def findings(image: Image) -> list[RuleMargin]:
    """All rules on uint8 (H, W, 3), H and W at least 1."""
    import cv2

    image = np.ascontiguousarray(image)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    smooth = _smooth_share(image)
    return [
        RuleMargin(_bright_level(grey) / BLACK_LEVEL, "the picture is black"),
        RuleMargin(_flat_margin(image, grey), "the picture is one flat colour"),
        RuleMargin(_burnt_margin(image, smooth), "the picture is burnt out: almost all of it is pure black, white or a pure colour"),
        RuleMargin(_noise_margin(grey, smooth), "the picture is only noise"),
    ]


def _bright_level(grey: npt.NDArray[np.uint8]) -> float:
    """The level that at most one pixel in a thousand exceeds."""
    counts = np.bincount(grey.ravel(), minlength=256)
    above = counts[::-1].cumsum()[::-1]  # pixels at this level or brighter
    return float(np.flatnonzero(above > grey.size / 1000).max(initial=0))


def _smooth_share(image: Image) -> float:
    """Share of horizontal neighbours that differ by at most 3 levels in every channel."""
    if image.shape[1] < 2:
        return 1.0
    import cv2

    step = np.asarray(cv2.absdiff(image[:, 1:], image[:, :-1]), np.uint8)
    return _share((step[..., 0] <= 3) & (step[..., 1] <= 3) & (step[..., 2] <= 3))


def _share(mask: npt.NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask)) / mask.size


def _flat_margin(image: Image, grey: npt.NDArray[np.uint8]) -> float:
    import cv2

    median = np.median(image[::4, ::4].reshape(-1, 3), axis=0).astype(int)
    low, high = np.maximum(median - FLAT_TOLERANCE, 0), np.minimum(median + FLAT_TOLERANCE, 255)
    share = 1 - float(np.count_nonzero(cv2.inRange(image, low, high))) / grey.size
    span = float(np.ptp(_thumbnail(grey)))
    return max(share / FLAT_SHARE, span / FLAT_RANGE)


def _burnt_margin(image: Image, smooth: float) -> float:
    edge = (image <= 3) | (image >= 252)
    corner = _share(edge[..., 0] & edge[..., 1] & edge[..., 2])
    return max(smooth / BURNT_CALM, BURNT_CORNERS / max(corner, 1e-6))


def _noise_margin(grey: npt.NDArray[np.uint8], smooth: float) -> float:
    if min(grey.shape) < 64:  # too few pixels for the statistics: an icon may look like anything
        return 2.0
    small = _thumbnail(grey)
    small = small - small.mean()
    power = float(np.mean(small * small)) + 1e-6
    correlation = min(float(np.mean(small[:, 1:] * small[:, :-1])), float(np.mean(small[1:] * small[:-1]))) / power
    return max(smooth / NOISE_SMOOTH, correlation / NOISE_CORRELATION)


def _thumbnail(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The picture as about 32 cells along its shorter side, each the mean of its pixels."""
    import cv2

    height, width = grey.shape
    cell = max(1.0, min(height, width) / 32)
    size = (max(2, int(width / cell)), max(2, int(height / cell)))
    return np.asarray(cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
