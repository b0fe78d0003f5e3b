"""What a check is, and the one convention about scores.

A check sees the pixels that ship and the row that asked for them, and answers with a `Verdict`. Scores: higher is better, and an image
fails where `score < threshold`. The thresholds of a row are its `Bars`. A check says them in one place, `bars(row)`, and judges by them;
`renderfarm recheck` asks there too, to judge recorded scores again under other settings. Boxes are in image pixels.
A check that cannot judge says `not_run` with the reason; it never answers `accepted` for something it did not look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from renderfarm.schema import Box, Outcome, PromptRow, Verdict

Image = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), sRGB, red first."""

OnFail = Literal["reject", "flag"]


@runtime_checkable
class Check(Protocol):
    """A quality check. `cost` is relative (about CPU milliseconds at 512x512): the cheap ones run first."""

    name: str
    cost: int

    def prepare(self) -> None:
        """Loads what the check needs, once per worker. May raise: then the check answers `not_run` with that reason."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges one image, uint8 (H, W, 3) sRGB. May raise: the registry turns that into `not_run`."""


@dataclass(frozen=True, slots=True)
class Bars:
    """What a score is held against: under `reject` the image is rejected, else under `flag` it is flagged; None: never."""

    reject: float | None = None
    flag: float | None = None

    @classmethod
    def one(cls, threshold: float, on_fail: OnFail) -> Bars:
        """A single bar with what falling short of it means."""
        return cls(reject=threshold) if on_fail == "reject" else cls(flag=threshold)

    def outcome(self, score: float) -> tuple[Outcome, float | None]:
        """What a score comes to, and the bar that it was held against: the one it fell short of, else the highest."""
        if self.reject is not None and score < self.reject:
            return "rejected", self.reject
        if self.flag is not None and score < self.flag:
            return "flagged", self.flag
        return "accepted", max((bar for bar in (self.reject, self.flag) if bar is not None), default=None)


@runtime_checkable
class Rejudged(Protocol):
    """A check whose recorded scores can be judged again: `bars` depends on its settings and the row alone, never on the picture."""

    name: str

    def bars(self, row: PromptRow) -> Bars | None:
        """What this row's score is held against; None where the check does not judge such a row."""


def judge(name: str, score: float, bars: Bars, reason: str, boxes: tuple[Box, ...] = (), passed: str = "", suspected: str = "") -> Verdict:
    """The verdict for a score: short of a bar it fails with `reason` (a flag with `suspected`, if given) and boxes, else it is accepted.

    The score is rounded to 4 digits first, so that judging the recorded number again gives the same answer.
    """
    rounded = round(float(score), 4)
    outcome, threshold = bars.outcome(rounded)
    if outcome == "accepted":
        return Verdict(name, outcome, passed, rounded, threshold)
    return Verdict(name, outcome, (outcome == "flagged" and suspected) or reason, rounded, threshold, boxes)


def not_run(name: str, reason: str) -> Verdict:
    """The verdict of a check that did not look, and why."""
    return Verdict(name, "not_run", reason)


def box_around(points: npt.NDArray[np.floating], width: int, height: int) -> Box:
    """The smallest box around float (N, 2) points x, y, cut to the image; at least one pixel wide and high."""
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    x0, y0 = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    return Box(x0, y0, int(np.clip(high[0], x0 + 1, width)), int(np.clip(high[1], y0 + 1, height)))
