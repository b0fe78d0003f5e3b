"""An object or a patch repeated inside one picture: two tiers, reject and flag.

`selfmatch.find_copy` measures; here its evidence becomes a score and a verdict. Rows that ask for several alike (a count over 1, a pattern,
a crowd) are never rejected for it, only flagged, and only where the evidence is overwhelming.
"""

from __future__ import annotations

import re

from pipeline.checks.base import Image, judge
from pipeline.checks.selfmatch import Copy, find_copy
from pipeline.checks.settings import CopiesSettings
from pipeline.checks.wanted import expected_text
from pipeline.schema import PromptRow, Verdict

EVIDENCE_HALF = 15_000.0
"""Evidence (matches x alike pixels) that scores .5. Tuning set: pasted copies 20,000 to 8 million, letters of right signs up to 13,000.
Known limit: of drawn patches of 8 to 25 % of a side about two thirds are found: small smooth ones have no keypoints."""
LENIENT = 0.1
LETTERED = 0.5
"""Where the row wants text, letters and sign furniture repeat (evidence up to 24,000 on 32 signs): both thresholds are halved."""
_SEVERAL = re.compile(
    r"\b(?:patterns?|patterned|seamless|tiles?|tiled|tiling|mosaic|wallpaper|crowds?|rows? of|grid|stacks?|pile|shelf|shelves|collage"
    r"|twins?|pairs?|sets? of|several|many|multiple|dozens?|repeated|repeating|checkered|chequered|polka|bricks?|fence|flock|herd|audience"
    r"|crates?"
    r"|two|three|four|five|six|seven|eight|nine|ten|twelve|[2-9]|1[0-9])\b",
    re.IGNORECASE,
)


class CopiesCheck:
    """Weight-free self-matching; about 150 CPU ms at 512x512."""

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
        found = find_copy(image)
        value = score(found)
        boxes = found.boxes if found else ()
        if several_wanted(row):
            return judge(self.name, value, LENIENT, "flag", "one part of the picture repeats exactly", boxes)
        lenience = LETTERED if expected_text(row) else 1.0
        least, probable = self.settings.min_score * lenience, self.settings.flag_score * lenience
        if value >= least:
            return judge(self.name, value, probable, "flag", "a part of the picture may be repeated", boxes)
        return judge(self.name, value, least, self.settings.on_fail, "a part of the picture appears twice", boxes)


def score(found: Copy | None) -> float:
    """1 without a repetition, .5 at EVIDENCE_HALF, towards 0 for large exact copies."""
    return 1.0 if found is None else EVIDENCE_HALF / (EVIDENCE_HALF + found.evidence)


def several_wanted(row: PromptRow) -> bool:
    """Whether the row asks for things that may look alike."""
    return any(wanted.count > 1 for wanted in row.objects) or bool(_SEVERAL.search(row.prompt))
