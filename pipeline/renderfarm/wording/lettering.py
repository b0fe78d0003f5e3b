"""What lettering a picture must show: from a row's `text`, else from what its prompt says. Pure.

Quotation marks mean lettering only where the sentence says so: letters are made or named (`that says`, `the words`), or a thing that bears
letters stands there (`a sign "OPEN"`). A prompt or an adjective in quotation marks is none; the title of a work, and what nothing speaks
for or against, is uncertain: it is in `doubts` with both readings, and nothing is asked of the picture on it alone. Once a prompt surely
asks for lettering, its other quotations are taken for lettering too, if they look like it. The column `text` decides everything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from renderfarm.wording import cues
from renderfarm.wording.notext import Denial, denials
from renderfarm.wording.quotes import BLANKLESS, Quotation, quotations, tidied

Source = Literal["text", "prompt", ""]
"""Where a reading was found: in the row's `text`, in its prompt, or nowhere."""
_Sense = Literal["wanted", "none", "title", "named", "open"]
"""What one quotation is: lettering, no lettering, a work's title, something's name or somebody's speech, or nothing says."""

SHOWN_MAX = 60
CLAUSE_MAX = 240
_ENDS = re.compile(r"[.!?](?=\s)|[。！？…；;\n]")
_LIST = re.compile(
    r"\s*(?:[,;、，/&+|]\s*)*(?:and|or|und|oder|et|ou|y|o|e|en|of|i|oraz|och|eller|og|a|и|или|ve|veya|和|与|或|及|と|や|와|과|then)?\s*",
    re.IGNORECASE,
)
_BLANKLESS = re.compile(f"[{BLANKLESS}]")
_PIECE = re.compile(rf"[{BLANKLESS}]{{1,2}}|[^\W_]+(?:['’-][^\W_]+)*")
_AWAY = frozenset(cues.AWAY.split())
_SPOKEN = 6
"""Words within which a cue speaks of a quotation in small letters."""
_CLAUSE = 3
"""Words before a colon from which on it ends a clause, and no field of a form (`Style: "Art Deco"`)."""
_FLAGS = re.compile(r"\s--?\w+(?:[ :=]\S+)?|https?://\S+")


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
    prompt = tidied(prompt)
    found = quotations(prompt)
    senses = _senses(prompt, found)
    if len(found) == 1 and senses[0] == "none" and len(quotations(found[0].words)) > 0:
        outside = prompt[: found[0].start] + " " + prompt[found[0].end :]
        inner = from_prompt(found[0].words)  # a sign that says 'OPEN', all in quotation marks
        return inner if inner.text is not None or not denials(outside) else from_prompt(outside)
    wanted = [quote for quote, sense in zip(found, senses, strict=True) if sense == "wanted"]
    denied = denials(_masked(prompt, found))
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
            return Lettering(None, "", "", (_bare(prompt[match.start() : match.end()].strip(), _ENDS.split(rest)[0]),))
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


def _masked(prompt: str, found: list[Quotation]) -> str:
    """The prompt with what is quoted blacked out, of the same length; a sentence that ends within a quotation ends after it."""
    pieces: list[str] = []
    at = 0
    for quote in found:
        ended = (
            quote.words[-1:] in ".!?。！？"
            and prompt[quote.end : quote.end + 1].isspace()
            and prompt[quote.end + 1 : quote.end + 2].isupper()
        )
        pieces += [prompt[at : quote.start], "\x00" * (quote.end - quote.start - 1), "." if ended else "\x00"]
        at = quote.end
    return "".join(pieces) + prompt[at:]


def _senses(prompt: str, found: list[Quotation]) -> list[_Sense]:
    """What each quotation is, in their order."""
    if not found:
        return []
    masked = _masked(prompt, found)
    outside = _FLAGS.sub(" ", " " + masked)
    if len(found) == 1 and not any(c.isalnum() for c in outside):
        return ["none"]
    folded = _folded(masked)
    linked = {at for at in range(1, len(found)) if _LIST.fullmatch(masked[found[at - 1].end : found[at].start])}
    senses: list[_Sense] = []
    for at, quote in enumerate(found):
        if at in linked and quote.mark not in "《〈" and senses[-1] != "none":
            senses.append(senses[-1])
        else:
            senses.append(_sense(quote, folded, listed={at, at + 1} & linked != set()))
    # A list is led from behind as well: "IN" and "OUT" signs.
    for at in range(len(found) - 2, -1, -1):
        if senses[at] == "open" and senses[at + 1] == "wanted" and at + 1 in linked:
            senses[at] = "wanted"
    if found and all(sense in ("title", "named") and quote.mark in "《〈" for sense, quote in zip(senses, found, strict=True)):
        return ["wanted" if sense == "named" else sense for sense in senses]
    upgraded = ("open", "named") if "wanted" in senses else ("open",) if cues.DESIGN.search(folded) else ()
    return [
        "wanted" if sense in upgraded and (_looks_lettered(found[at]) or {at, at + 1} & linked) else sense
        for at, sense in enumerate(senses)
    ]


def _folded(text: str) -> str:
    """Case-folded letter by letter, so that places stay the same."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _looks_lettered(quote: Quotation) -> bool:
    return quote.mark not in "《〈" and (not _lower(quote.words) or len(quote.words.split()) > 3)


def _lower(words: str) -> bool:
    """Whether it is all in small letters of a script that has capitals."""
    return (
        words == words.lower()
        and words != words.upper()
        and not any(c in "@/" or c.isdigit() for c in words)
        and not re.search(r"\w\.\w", words)
        and not _BLANKLESS.search(words)
    )


def _sense(quote: Quotation, folded: str, listed: bool) -> _Sense:
    """What one quotation is, by what stands before and behind it in its sentence."""
    before = folded[max(0, quote.start - CLAUSE_MAX) : quote.start]
    ends = [match.end() for match in _ENDS.finditer(before)]
    before = before[ends[-1] :] if ends else before
    behind = _ENDS.split(folded[quote.end : quote.end + 120], maxsplit=1)[0].split("\x00", 1)[0]
    matches = list(cues.BEFORE.finditer(before))
    found = [(match.lastgroup or "").rstrip("_") for match in matches]
    gap = _gap(before, matches[-1]) if matches else []
    near = bool(matches) and len(gap) <= 2 and not _AWAY.intersection(gap) and "\x00" not in before[matches[-1].end() :]
    if quote.mark in "《〈":
        return "wanted" if found and found[-1] == "verb" and not gap else "named" if found and found[-1] == "noun" and near else "title"
    if near and found and found[-1] in ("verb", "noun"):
        return "wanted"
    adjective = _adjective(quote, behind)
    if not quote.closed:
        return "wanted" if near and found and _led(found, matches, before, False) == "wanted" else "none"
    if adjective and not (near and found and found[-1] in ("speech", "reads")):
        return "open" if cues.AFTER_SURFACE.match(behind) else "none"
    small = _lower(quote.words) and len(quote.words.split()) <= 3
    if small:  # in small letters: rather a manner of speaking, unless it is spoken of
        kept = [at for at, match in enumerate(matches) if len(_gap(before, match)) <= _SPOKEN]
        found, matches = [found[at] for at in kept], [matches[at] for at in kept]
    led = _led(found, matches, before, small)
    if cues.AFTER_WORK.match(behind) and led != "wanted":
        led = "title"
    if led == "wanted" or _behind(quote, behind, found, titled=led == "title"):
        return "wanted"
    if led == "none":
        return led
    if led in ("title", "named"):
        dated = "surface" in found[-2:] and any(c.isdigit() for c in quote.words)  # a poster of "Spring Festival 2025": copy, and no title
        return "wanted" if dated else led
    if small and not listed:
        return "none"
    if before.rstrip()[-1:] in ("：", ":") and len(_PIECE.findall(before)) >= _CLAUSE and not _lower(quote.words) and "person" not in found:
        return "wanted"
    if not before.strip() and quote.start < 3 and len(quote.words.split()) >= 4 and _descriptive(quote.words):
        return "none"
    return "open"


def _descriptive(words: str) -> bool:
    """Whether a quotation at a prompt's beginning is rather the prompt itself."""
    return _lower(words.split()[1]) or _lower(words[:1])


def _adjective(quote: Quotation, behind: str) -> bool:
    """Whether it is one word or two that speak of the noun right behind: a "cozy" lamp."""
    if cues.SHAPED.match(behind):
        return True  # an "L" shaped sofa
    if cues.AS_ADJECTIVE_BLANKLESS.match(behind) and not cues.AFTER_BLANKLESS.match(behind) and len(quote.words) <= 3:
        return True
    return _lower(quote.words) and quote.words[-1:].isalnum() and len(quote.words.split()) <= 3 and bool(cues.AS_ADJECTIVE.match(behind))


def _behind(quote: Quotation, behind: str, found: list[str], titled: bool) -> bool:
    """Whether what stands behind says that it is lettering; of a title, only that its letters are made: `"Jaws" poster` is none."""
    if any(cue.match(behind) for cue in (cues.AFTER_LETTERS, cues.AFTER_MADE)):
        return True
    if not titled and any(cue.match(behind) for cue in (cues.AFTER_SURFACE, cues.AFTER_BLANKLESS)):
        return True
    bears = any(kind in ("surface", "thing") for kind in found) or cues.BEFORE.search(behind[:40]) is not None
    return bool(cues.AFTER_ON.match(behind)) and bears and not _lower(quote.words)


def _gap(before: str, cue: re.Match[str]) -> list[str]:
    """The words between a cue and the quotation; where no blanks part words, every two letters count as one."""
    return _PIECE.findall(before[cue.end() :])


def _led(kinds: list[str], matches: list[re.Match[str]], before: str, small: bool) -> _Sense:
    """What the words before say, the nearest first; `small`: of a short quotation in small letters."""
    for at in range(len(kinds) - 1, -1, -1):
        kind, earlier = kinds[at], kinds[:at]
        if kind in ("verb", "noun"):
            return "wanted"
        away = len(_gap(before, matches[at]))
        blankless = (matches[at].lastgroup or "").endswith("_")
        if kind == "style" and away <= (1 if blankless else 5):
            return "none"
        if kind == "work" and away <= (1 if blankless else 3):
            return "title"
        if kind == "naming":
            return _named(earlier)
        if kind in ("speech", "reads"):
            bearer = next((k for k in reversed(earlier) if k in ("surface", "thing", "noun", "person")), "")
            if bearer:
                return "named" if bearer == "person" else "wanted"
            return "wanted" if kind == "reads" else "named"
        if kind == "surface" and not (small and _AWAY.intersection(_gap(before, matches[at]))):
            of_work = at > 0 and kinds[at - 1] == "work" and matches[at - 1].end() + 1 >= matches[at].start()  # a film poster "Night Train"
            away = bool(_AWAY.intersection(_gap(before, matches[at])))
            return "named" if (away or of_work) and cues.PUBLISHED.search(matches[at].group()) else "wanted"
        if kind == "thing" and ((at < len(kinds) - 1 and kinds[at + 1] == "weak") or matches[at].end() == len(before.rstrip(" :"))):
            return "wanted"
    return "open"


def _named(kinds: list[str]) -> _Sense:
    """What a name or title is given to: charts, buttons and posters bear theirs; works and shops may; people do not."""
    for at in range(len(kinds) - 1, -1, -1):
        if kinds[at] == "person":
            return "none"
        if kinds[at] in ("surface", "noun"):
            return "wanted"
        if kinds[at] in ("work", "thing"):
            return "title" if kinds[at] == "work" else "named"
    return "named"
