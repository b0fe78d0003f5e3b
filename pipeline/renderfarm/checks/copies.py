"""An object or a patch repeated inside one picture: two tiers, reject and flag.

`selfmatch.find_copies` measures; here the evidence becomes a score and a verdict. A small picture is looked at first, the full one only
where that shows something. What repeats by its nature, letters and textures (`repeats`), hardly counts; the picture is read for that only
where a copy is suspected, and once for this check and the text check together. Rows that ask for several alike (a count over 1, a pattern,
a crowd) are never rejected, only flagged, and only where the evidence is overwhelming.
"""

from __future__ import annotations

import re

from renderfarm.checks.base import Bars, Image, judge
from renderfarm.checks.reader import LetterReader
from renderfarm.checks.repeats import PLACES_MIN, Floats, in_rows, lettering, places, small
from renderfarm.checks.selfmatch import Copy, find_copies
from renderfarm.checks.wanted import expected_text
from renderfarm.job.checks import CopiesSettings
from renderfarm.schema import PromptRow, Verdict

EVIDENCE_HALF = 100.0
"""Evidence that scores .5. Drawn textures without a copy up to 21, 46 photographs up to 52 but for a wallpaper and the bars of a window (97
and 80: flagged); labelled copies from 700. Seamless textures repeat themselves (3,000 to 10,000) and are found, as they should be."""
LENIENT = 0.1
FIRST_SIDE, SETTLED = 256, 0.99
"""A picture that scores so much when it is looked at small is not looked at in full."""
SUSPECT, BY_NATURE = 0.6, 0.03
"""Below this score it is asked how much of the repetition lies outside lettering, and whether it is a texture's: only the rest is evidence,
but never less than so much. Of 81 forgeries 3 lie in what was read as text; of 46 lettered pictures that repeat 41 lie wholly in it."""
_SEVERAL = re.compile(
    r"\b(?:patterns?|patterned|seamless|tiles?|tiled|tiling|mosaic|wallpaper|crowds?|rows? of|grid|stacks?|pile|shelf|shelves|collage"
    r"|twins?|pairs?|sets? of|several|many|multiple|dozens?|repeated|repeating|checkered|chequered|polka|bricks?|fence|flock|herd|audience"
    r"|crates?"
    r"|two|three|four|five|six|seven|eight|nine|ten|twelve|[2-9]|1[0-9])\b",
    re.IGNORECASE,
)


class CopiesCheck:
    """Weight-free self-matching; about 60 CPU ms for a picture without a repetition, 250 with one, and the reading of the text."""

    name = "copies"
    cost = 150

    def __init__(self, settings: CopiesSettings, reader: LetterReader | None = None) -> None:
        self.settings = settings
        self._reader = reader or LetterReader()

    def prepare(self) -> None:
        """Loads OpenCV; the reader's models wait until they are needed."""
        import cv2

        cv2.setNumThreads(1)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3); both places are boxed."""
        evidence, copy = self._strongest(image, row)
        boxes = copy.boxes if copy else ()
        certain = "one part of the picture repeats exactly" if several_wanted(row) else "a part of the picture appears twice"
        suspected = certain if several_wanted(row) else "a part of the picture may be repeated"
        return judge(self.name, score(evidence), self.bars(row), certain, boxes, suspected=suspected)

    def bars(self, row: PromptRow) -> Bars:
        """Two tiers, certain and probable; rows that want several alike are only flagged."""
        if several_wanted(row):
            return Bars(flag=LENIENT)
        certain, probable = self.settings.min_score, self.settings.flag_score
        if self.settings.on_fail == "flag":
            return Bars(flag=max(certain, probable))
        return Bars(reject=certain, flag=probable)

    def _strongest(self, image: Image, row: PromptRow) -> tuple[float, Copy | None]:
        """The copy with the most evidence, and how much that is once what repeats by its nature counts less."""
        first = find_copies(image, FIRST_SIDE)
        if not first or score(first[0].evidence) >= SETTLED:
            return (first[0].evidence, first[0]) if first else (0.0, None)
        best: tuple[float, Copy | None] = 0.0, None
        grey, scale = small(image)
        for copy in find_copies(image):
            if copy.evidence <= best[0]:
                break
            evidence = copy.evidence
            if score(evidence) < SUSPECT:
                evidence *= self._unnatural(image, row, copy, grey, scale)
            best = max(best, (evidence, copy), key=lambda found: found[0])
        return best

    def _unnatural(self, image: Image, row: PromptRow, copy: Copy, grey: Floats, scale: float) -> float:
        """How much of a repetition is evidence: what lies outside lettering; little where the picture shows the motif of both places in
        many, and nothing where those lie in rows."""
        motifs = [places(grey, scale, box) for box in copy.boxes]
        if all(in_rows(motif) for motif in motifs):
            return 0.0
        if all(len(motif) >= PLACES_MIN for motif in motifs):
            return BY_NATURE
        lines = self._reader.read(image, expected=expected_text(row) or "")
        return max(BY_NATURE, 1 - min(lettering(box, lines) for box in copy.boxes))


def score(evidence: float) -> float:
    """1 without evidence, .5 at EVIDENCE_HALF, towards 0 for large exact copies."""
    return EVIDENCE_HALF / (EVIDENCE_HALF + evidence)


def several_wanted(row: PromptRow) -> bool:
    """Whether the row asks for things that may look alike."""
    return any(wanted.low > 1 or (wanted.high or 0) > 1 for wanted in row.objects) or bool(_SEVERAL.search(row.prompt))
