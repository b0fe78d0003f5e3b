"""Whether the picture shows the text that the row wants, and no other.

`wanted.expected_text` says what is wanted, `reader` what is there, `words.compare` how far apart they are; here the answers become
a verdict in a marketing person's words. An image about to be rejected is read a second time, larger, and keeps the better score: a
rejection costs a whole rendering, a second reading a third of a second. But a letter too many (Helllo) that one look saw is there.

What may be the reader's fault, in curved, script and worn lettering, is flagged with the reading and not rejected: its score lies in
`DOUBTED`, between the bar that rejects and the one that flags.
"""

from __future__ import annotations

from collections.abc import Sequence

from renderfarm.checks.base import Bars, Image, judge, not_run
from renderfarm.checks.reader import FIRST_SIDE, SECOND_SIDE, LetterReader
from renderfarm.checks.wanted import expected_text
from renderfarm.checks.words import SURE, UNSURE, Line, TextComparison, TextWord, compare, doubted
from renderfarm.job.checks import TextSettings
from renderfarm.schema import PromptRow, Verdict
from renderfarm.wording import reading
from renderfarm.wording.scripts import unread

UNWANTED_BORDER = 0.5
"""Score below which a picture counts as lettered where no text is wanted; see `evidence`."""
DOUBTED = (0.9, 0.91)
READ_ONCE = "text that passed was read once: a second, larger reading, which the check takes before it rejects, may score higher"
"""What judging recorded scores again by a higher bar cannot know."""
_SURFACES = ("sign", "label", "poster", "banner", "billboard", "menu", "cover", "logo", "screen", "badge", "flag", "card")
_SHOWN_MAX = 3


class TextCheck:
    """Reads the picture; slow (about 200 CPU ms at 512x512), so it runs after the cheap checks."""

    name = "text"
    cost = 200

    def __init__(self, settings: TextSettings, reader: LetterReader | None = None) -> None:
        self.settings = settings
        self._reader = reader or LetterReader()

    def prepare(self) -> None:
        """Loads the models, about a second."""
        self._reader.load()

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3). `not_run` where the row says nothing about text; `flagged` without a score where it wants letters that no
        reader here knows: nobody looked, so a person has to."""
        expected = expected_text(row)
        bars = self.bars(row)
        if bars is None:
            return not_run(self.name, "the row neither asks for text nor forbids it")
        if not expected:
            return self._unwanted(self._reader.read(image), bars)
        if not any(c.isalnum() for c in expected):
            return not_run(self.name, f"the wanted text {expected!r} has no letter or digit to read")
        if not self._reader.knows(expected):
            scripts = " and ".join(unread(expected))
            why = f"no installed text reader reads {scripts}" if scripts else "the text reader does not know all of its letters"
            return Verdict(self.name, "flagged", f"{expected!r} was not checked: {why}; look at it")
        return self._wanted(self._reader, image, row, expected, bars)

    def bars(self, row: PromptRow) -> Bars | None:
        """Wanted text has the job's bar, and a tenth of the way to 1 one that flags; unwanted text a fixed one; None where the row says
        nothing and the job ignores that. A row that may mean either is flagged at most: nothing is refused on a doubtful reading."""
        said = reading(row.text, row.prompt)
        expected = said.text
        if expected:
            sure = round(self.settings.min_score + (1 - self.settings.min_score) / 10, 4)
            return Bars(self.settings.min_score, sure) if self.settings.on_fail == "reject" else Bars(flag=sure)
        if expected == "":
            return Bars.one(UNWANTED_BORDER, self.settings.on_fail)
        if self.settings.unstated == "ignore":
            return None
        return Bars.one(UNWANTED_BORDER, "flag" if said.doubts else self.settings.unstated)

    def _unwanted(self, lines: Sequence[Line], bars: Bars) -> Verdict:
        guilty = [line for line in lines if evidence(line) > 1 - UNWANTED_BORDER]
        score = 1 - max((evidence(line) for line in lines), default=0.0)
        quoted = ", ".join(line.text for line in guilty[:_SHOWN_MAX])
        boxes = tuple(line.box for line in guilty)
        return judge(self.name, score, bars, f"unwanted text: {quoted}", boxes, "no text")

    def _wanted(self, reader: LetterReader, image: Image, row: PromptRow, expected: str, bars: Bars) -> Verdict:
        lines = reader.read(image, FIRST_SIDE, expected)
        best = compare(expected, lines, row.prompt)
        if bars.outcome(best.score)[0] != "accepted" and self.settings.second_look:
            enlarged = reader.read(image, SECOND_SIDE, expected)
            second = compare(expected, enlarged, row.prompt)
            if second.stuttered or (second.score > best.score and not best.stuttered):
                lines, best = enlarged, second
        boxes = tuple(lines[i].box for i in best.lines)
        reason = explain(best, expected, surface(row.prompt), bool(lines))
        score, (low, high) = best.score, DOUBTED
        if score < low and lines and doubted(best, expected, lines):
            score = low + (high - low) * score
        return judge(self.name, score, bars, reason, boxes, f"reads {expected}", suspected=f"perhaps {reason}")


def evidence(line: Line) -> float:
    """0..1: how sure it is that this line is lettering and no ornament: the reader's confidence, less for one or two letters."""
    letters = sum(c.isalnum() for c in line.text)
    sure = min(1.0, max(0.0, (line.confidence - UNSURE) / (SURE - UNSURE)))
    return sure * min(1.0, letters / 3)


def surface(prompt: str) -> str:
    """What the text stands on, in the prompt's own word: "the sign", else "the picture"."""
    spoken = prompt.casefold()
    return "the " + next((word for word in _SURFACES if word in spoken), "picture")


def explain(comparison: TextComparison, expected: str, where: str, anything_read: bool) -> str:
    """What is wrong with the text, for a marketing person."""
    if not anything_read:
        return f"no legible text, expected {expected}"
    parts = [f"{where} reads {read.shown}, expected {want.shown}" for want, read in comparison.misspelt[:_SHOWN_MAX]]
    if comparison.missing and not comparison.misspelt and not comparison.unexpected and len(comparison.missing) > _SHOWN_MAX:
        parts.append(f"most of the text is missing, expected {expected}")
    elif comparison.missing:
        parts.append(f"{_list(comparison.missing)} missing")
    if comparison.doubled:
        parts.append(f"{_list(comparison.doubled)} appears again")
    if comparison.unexpected:
        parts.append(f"unexpected text {_list(comparison.unexpected)}")
    return "; ".join(parts) or f"the text differs from {expected}"


def _list(words: Sequence[TextWord]) -> str:
    listed = ", ".join(word.shown for word in words[:_SHOWN_MAX])
    return listed if len(words) <= _SHOWN_MAX else f"{listed} and {len(words) - _SHOWN_MAX} more"
