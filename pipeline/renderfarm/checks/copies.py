"""An object or a patch repeated inside one picture: two tiers, reject and flag.

`selfmatch.find_copy` measures; here its evidence becomes a score and a verdict. Rows that ask for several alike (a count over 1, a pattern,
a crowd) are never rejected for it, only flagged, and only where the evidence is overwhelming.
"""

from __future__ import annotations

import re

from renderfarm.checks.base import Bars, Image, judge
from renderfarm.checks.selfmatch import Copy, find_copy
from renderfarm.checks.wanted import expected_text
from renderfarm.job.checks import CopiesSettings
from renderfarm.schema import PromptRow, Verdict

EVIDENCE_HALF = 100.0
"""Evidence that scores .5. Drawn textures without a copy up to 21, 46 photographs up to 52 but for a wallpaper and the bars of a window (97
and 80: flagged); labelled copies from 700. Seamless textures repeat themselves (3,000 to 10,000) and are found, as they should be."""
LENIENT = 0.1
LETTERED = 0.2
"""Where the row wants text, letters and sign furniture repeat (evidence up to 720 on 32 signs): both thresholds are a fifth."""
_SEVERAL = re.compile(
    r"\b(?:patterns?|patterned|seamless|tiles?|tiled|tiling|mosaic|wallpaper|crowds?|rows? of|grid|stacks?|pile|shelf|shelves|collage"
    r"|twins?|pairs?|sets? of|several|many|multiple|dozens?|repeated|repeating|checkered|chequered|polka|bricks?|fence|flock|herd|audience"
    r"|crates?"
    r"|two|three|four|five|six|seven|eight|nine|ten|twelve|[2-9]|1[0-9])\b",
    re.IGNORECASE,
)


class CopiesCheck:
    """Weight-free self-matching; about 200 CPU ms at 512x512, half of that for flat pictures."""

    name = "copies"
    cost = 150

    def __init__(self, settings: CopiesSettings) -> None:
        self.settings = settings

    def prepare(self) -> None:
        """Loads OpenCV, which is all it needs."""
        import cv2

        cv2.setNumThreads(1)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3); both places are boxed."""
        copy = find_copy(image)
        value = score(copy)
        boxes = copy.boxes if copy else ()
        certain = "one part of the picture repeats exactly" if several_wanted(row) else "a part of the picture appears twice"
        suspected = certain if several_wanted(row) else "a part of the picture may be repeated"
        return judge(self.name, value, self.bars(row), certain, boxes, suspected=suspected)

    def bars(self, row: PromptRow) -> Bars:
        """Two tiers, certain and probable; lower ones for lettered rows; rows that want several alike are only flagged."""
        if several_wanted(row):
            return Bars(flag=LENIENT)
        lenience = LETTERED if expected_text(row) else 1.0
        certain, probable = self.settings.min_score * lenience, self.settings.flag_score * lenience
        if self.settings.on_fail == "flag":
            return Bars(flag=max(certain, probable))
        return Bars(reject=certain, flag=probable)


def score(copy: Copy | None) -> float:
    """1 without a repetition, .5 at EVIDENCE_HALF, towards 0 for large exact copies."""
    return 1.0 if copy is None else EVIDENCE_HALF / (EVIDENCE_HALF + copy.evidence)


def several_wanted(row: PromptRow) -> bool:
    """Whether the row asks for things that may look alike."""
    return any(wanted.low > 1 or (wanted.high or 0) > 1 for wanted in row.objects) or bool(_SEVERAL.search(row.prompt))
