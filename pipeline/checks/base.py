"""What a check is, and the one convention about scores.

A check sees the pixels that ship and the row that asked for them, and answers with a `Verdict`. Scores: higher is better, and an image
fails where `score < threshold`; so recorded scores can be judged again by other thresholds. Boxes are in image pixels.
A check that cannot judge says `not_run` with the reason; it never answers `accepted` for something it did not look at.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.schema import Box, Outcome, PromptRow, Verdict

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


def judge(
    name: str, score: float, threshold: float, on_fail: OnFail, reason: str, boxes: tuple[Box, ...] = (), passed: str = ""
) -> Verdict:
    """The verdict for a score: below the threshold it fails with `reason` and boxes, else it is accepted with `passed`.

    The score is rounded to 4 digits first, so that judging the recorded number again gives the same answer.
    """
    rounded = round(float(score), 4)
    if rounded >= threshold:
        return Verdict(name, "accepted", passed, rounded, threshold)
    outcome: Outcome = "rejected" if on_fail == "reject" else "flagged"
    return Verdict(name, outcome, reason, rounded, threshold, boxes)


def not_run(name: str, reason: str) -> Verdict:
    """The verdict of a check that did not look, and why."""
    return Verdict(name, "not_run", reason)


def box_around(points: npt.NDArray[np.floating], width: int, height: int) -> Box:
    """The smallest box around float (N, 2) points x, y, cut to the image; at least one pixel wide and high."""
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    x0, y0 = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    return Box(x0, y0, int(np.clip(high[0], x0 + 1, width)), int(np.clip(high[1], y0 + 1, height)))
