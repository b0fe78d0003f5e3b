"""What lettering a picture must show: from a row's `text`, else from what its prompt says. Pure.

Quotation marks mean lettering only where the sentence says so: letters are made or named (`that says`, `the words`), or a thing that bears
letters stands there (`a sign "OPEN"`). A prompt or an adjective in quotation marks is none; the title of a work, and what nothing speaks
for or against, is uncertain: it is in `doubts` with both readings, and nothing is asked of the picture on it alone. Once a prompt surely
asks for lettering, its other quotations are taken for lettering too, if they look like it. The column `text` decides everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from renderfarm.wording import cues
from renderfarm.wording.notext import Denial, denials
from renderfarm.wording.quotes import Quotation, quotations, tidied
from renderfarm.wording.senses import ENDS, masked, senses_of

Source = Literal["text", "prompt", ""]
"""Where a reading was found: in the row's `text`, in its prompt, or nowhere."""

SHOWN_MAX = 60
NESTED_MAX = 3
"""Quotations within one that is the prompt itself: nobody puts a prompt in quotation marks more often."""


@dataclass(frozen=True, slots=True)
class Question:
    """What may mean two things: the place as the prompt has it, and both readings in plain words."""

    what: str
    readings: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.what} may mean: {self.readings[0]}, or: {self.readings[1]}"


@dataclass(frozen=True, slots=True)
class Lettering:
    """The text that the picture must show; "" where none is wanted, None where nothing is said. `where`: the words it was read from."""

    text: str | None
    source: Source = ""
    where: str = ""
    doubts: tuple[Question, ...] = ()


def from_prompt(prompt: str) -> Lettering:
    """What a prompt says about lettering. Several quotations are joined by blanks, in the order of the prompt."""
    return _read(tidied(prompt), NESTED_MAX)


def _read(prompt: str, nested: int) -> Lettering:
    found = quotations(prompt)
    senses = senses_of(prompt, found)
    if nested and len(found) == 1 and senses[0] == "none" and quotations(found[0].words):
        outside = prompt[: found[0].start] + " " + prompt[found[0].end :]
        inner = _read(found[0].words, nested - 1)  # a sign that says 'OPEN', all in quotation marks
        return inner if inner.text is not None or not denials(outside) else _read(outside, nested - 1)
    wanted = [quote for quote, sense in zip(found, senses, strict=True) if sense == "wanted"]
    denied = denials(masked(prompt, found))
    doubts = [_question(quote, prompt) for quote, sense in zip(found, senses, strict=True) if sense in ("title", "named", "open")]
    if all(quote.mark in "《〈" for quote in wanted) and (rest := _unquoted(prompt)) is not None:
        if rest.text is not None:
            return rest
        if not wanted:
            return _denied(prompt, denied, [*doubts, *rest.doubts])
    if wanted:
        doubts += [Question(f"{_cut(quote.words)!r} without a closing quotation mark", ("lettering up to the end", "less"))
                   for quote in wanted if not quote.closed]  # fmt: skip
        doubts += [_contradiction(prompt, denial) for denial in denied if denial.sure][:1]
        text = " ".join(quote.words.rstrip(",;") for quote in wanted)
        return Lettering(text, "prompt", _place(prompt, wanted[0]), tuple(doubts))
    return _denied(prompt, denied, doubts)


def _denied(prompt: str, denied: Sequence[Denial], doubts: list[Question]) -> Lettering:
    """The reading of a prompt that has no lettering for sure."""
    sure = [denial for denial in denied if denial.sure]
    if sure:
        return Lettering("", "prompt", prompt[sure[0].start : sure[0].end])
    doubts = doubts + [
        Question(repr(_cut(prompt[d.start : d.end])), ("no lettering at all", "some lettering is allowed")) for d in denied[:1]
    ]
    return Lettering(None, "", "", tuple(doubts))


def _contradiction(prompt: str, denial: Denial) -> Question:
    return Question(
        repr(_cut(prompt[denial.start : denial.end])), ("no other lettering than what is in quotation marks", "no lettering at all")
    )


def _question(quote: Quotation, prompt: str) -> Question:
    shown = _cut(quote.words)
    return Question(
        f"{_place(prompt, quote)!r}",
        (f"the picture shows the words {shown!r}", "a title, a name or a manner of speaking, and no lettering"),
    )


def _place(prompt: str, quote: Quotation) -> str:
    """The quotation with the words before it, for a person to find."""
    before = prompt[max(0, quote.start - 40) : quote.start].rsplit("\n", 1)[-1]
    if quote.start > 40 and " " in before:
        before = before.split(" ", 1)[1]
    return before.lstrip() + _cut(prompt[quote.start : quote.end])


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def _unquoted(prompt: str) -> Lettering | None:
    """Lettering without quotation marks."""
    colon = ":" in prompt or "：" in prompt
    if colon and (match := cues.FOLLOWING.search(prompt)) is not None:
        rest = prompt[match.end() :].strip()
        if rest and cues.FIELD.match(rest):
            return Lettering(rest, "prompt", prompt[match.start() : match.end()].strip())
        if rest and not match["facts"] and not match["fakta"]:
            return Lettering(None, "", "", (_bare(prompt[match.start() : match.end()].strip(), ENDS.split(rest)[0]),))
    if (match := cues.CAPITALS.search(prompt) or (colon and cues.BLANKLESS_UNQUOTED.search(prompt)) or None) is not None:
        return Lettering(None, "", "", (_bare(prompt[match.start() : match.start("words")].strip(), match["words"]),))
    if (match := cues.SENTENCE_FIRST.match(prompt)) is not None:
        return Lettering(match["words"], "prompt", prompt[match.start() : match.end()].strip())
    if (
        cues.SAID.search(prompt)
        and (match := cues.UNQUOTED.search(prompt)) is not None
        and (match["words"][:1].isupper() or match["words"][:1].isdigit())
    ):
        return Lettering(None, "", "", (_bare(prompt[match.start() : match.start("words")].strip(), match["words"]),))
    return None


def _bare(place: str, words: str) -> Question:
    shown = _cut(words.strip())
    return Question(
        f"{_cut(place)!r} without quotation marks", (f"the picture shows the words {shown!r}", "a description, and no lettering")
    )
