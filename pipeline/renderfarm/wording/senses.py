"""What each quotation of a prompt is, by the sentence that it stands in: lettering or none, a title, a name, or nothing says. Pure.

The words before decide, the nearest first, then those behind; `cues` holds both. Short quotations in small letters are manners of speaking
unless a cue is close. What is open becomes lettering where the prompt surely asks for some, or shows what lives from its letters.
"""

from __future__ import annotations

import re
from typing import Literal

from renderfarm.wording import cues
from renderfarm.wording.quotes import BLANKLESS, Quotation

Sense = Literal["wanted", "none", "title", "named", "open"]
"""What one quotation is: lettering, no lettering, a work's title, something's name or somebody's speech, or nothing says."""

CLAUSE_MAX = 240
ENDS = re.compile(r"[.!?](?=\s)|[。！？…；;\n]")
"""Where a sentence ends."""
_LIST = re.compile(
    r"\s*(?:[,;、，/&+|]\s*)*(?:and|or|und|oder|et|ou|y|o|e|en|of|i|oraz|och|eller|og|a|и|или|ve|veya|和|与|或|及|と|や|와|과|then)?\s*",
    re.IGNORECASE,
)
_BLANKLESS = re.compile(f"[{BLANKLESS}]")
_PIECE = re.compile(rf"[{BLANKLESS}]{{1,2}}|[^\W_]+(?:['’-][^\W_]+)*")
_AWAY = frozenset(cues.AWAY.split())
_THE = tuple(
    f"{word} " for word in ("the", "der", "die", "das", "den", "le", "la", "les", "el", "il", "lo", "os", "as", "het", "de", "det")
)
_SPOKEN = 6
"""Words within which a cue speaks of a quotation in small letters."""
_CLAUSE = 3
"""Words before a colon from which on it ends a clause, and no field of a form (`Style: "Art Deco"`)."""
_FLAGS = re.compile(r"\s--?\w+(?:[ :=]\S+)?|https?://\S+")


def masked(prompt: str, found: list[Quotation]) -> str:
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


def senses_of(prompt: str, found: list[Quotation]) -> list[Sense]:
    """What each quotation is, in their order."""
    if not found:
        return []
    black = masked(prompt, found)
    outside = _FLAGS.sub(" ", " " + black)
    if len(found) == 1 and not any(c.isalnum() for c in outside):
        return ["none"]
    folded = _folded(black)
    linked = {at for at in range(1, len(found)) if _LIST.fullmatch(black[found[at - 1].end : found[at].start])}
    senses: list[Sense] = []
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


def _sense(quote: Quotation, folded: str, listed: bool) -> Sense:
    """What one quotation is, by what stands before and behind it in its sentence."""
    before = folded[max(0, quote.start - CLAUSE_MAX) : quote.start]
    ends = [match.end() for match in ENDS.finditer(before)]
    before = before[ends[-1] :] if ends else before
    behind = ENDS.split(folded[quote.end : quote.end + 120], maxsplit=1)[0].split("\x00", 1)[0]
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
    if len(quote.words.split()) >= 3 and cues.AFTER_THING.match(behind) and not cues.AFTER_WORK.match(behind):
        return "wanted"
    if adjective and not (near and found and found[-1] in ("speech", "reads")):
        return "open" if cues.AFTER_SURFACE.match(behind) else "none"
    small = _lower(quote.words) and len(quote.words.split()) <= 3
    if small:  # in small letters: rather a manner of speaking, unless it is spoken of
        kept = [at for at, match in enumerate(matches) if len(_gap(before, match)) <= _SPOKEN]
        found, matches = [found[at] for at in kept], [matches[at] for at in kept]
    led = _led(found, matches, before, small)
    if cues.AFTER_WORK.match(behind) and led != "wanted":
        led = "title"
    if led == "wanted" or _behind(quote, before, behind, found, titled=led == "title"):
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


def _behind(quote: Quotation, before: str, behind: str, found: list[str], titled: bool) -> bool:
    """Whether what stands behind says that it is lettering; of a title, only that its letters are made: `"Jaws" poster` is none."""
    if any(cue.match(behind) for cue in (cues.AFTER_LETTERS, cues.AFTER_MADE)):
        return True
    if not titled and any(cue.match(behind) for cue in (cues.AFTER_SURFACE, cues.AFTER_BLANKLESS)):
        return True
    bears = any(kind in ("surface", "thing") for kind in found) or cues.BEFORE.search(behind[:40]) is not None
    if quote.words != quote.words.upper() and before.endswith(_THE):
        return False  # the "Mona Lisa" on a wall
    return bool(cues.AFTER_ON.match(behind)) and bears and not _lower(quote.words)


def _gap(before: str, cue: re.Match[str]) -> list[str]:
    """The words between a cue and the quotation; where no blanks part words, every two letters count as one."""
    return _PIECE.findall(before[cue.end() :])


def _led(kinds: list[str], matches: list[re.Match[str]], before: str, small: bool) -> Sense:
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
            for_other = of_work or bool(_AWAY.intersection(_gap(before, matches[at])))
            return "named" if for_other and cues.PUBLISHED.search(matches[at].group()) else "wanted"
        if kind == "thing" and matches[at].end() == len(before.rstrip()) and cues.CALLED.search(matches[at].group()):
            return "named"
        if kind == "thing" and ((at < len(kinds) - 1 and kinds[at + 1] == "weak") or matches[at].end() == len(before.rstrip(" :"))):
            return "wanted"
    return "open"


def _named(kinds: list[str]) -> Sense:
    """What a name or title is given to: charts, buttons and posters bear theirs; works and shops may; people do not."""
    for at in range(len(kinds) - 1, -1, -1):
        if kinds[at] == "person":
            return "none"
        if kinds[at] in ("surface", "noun"):
            return "wanted"
        if kinds[at] in ("work", "thing"):
            return "title" if kinds[at] == "work" else "named"
    return "named"
