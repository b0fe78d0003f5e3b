"""Whether a prompt says that no lettering is wanted, in the wordings of many languages. Pure.

A wording is a *negation* (no, without, do not add), up to a few words, and a *noun* (text, lettering, letters). What stands between, and
what comes behind, decides: `without any visible text or logos` and `no watermark, text, or logo` want none; `no readable text`, `no
English text`, `no text on the shirt` may allow some, and are uncertain. Where the noun comes first (Turkish, Japanese, Korean), whole
phrases stand in the table. The tables are `notext.toml`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from renderfarm.wording.tables import alternatives, table

BETWEEN_MAX = 8
"""Words between a negation and its noun."""
BEHIND_MAX = 4


_TABLE = table("notext")


@dataclass(frozen=True, slots=True)
class Denial:
    """A place that speaks against lettering: characters `start` to `end` of the prompt, and whether it is sure to mean all lettering."""

    start: int
    end: int
    sure: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """A tongue, compiled: `wording` is a negation, words between and a noun; the others match what they are given from its start."""

    wording: re.Pattern[str]
    noun: re.Pattern[str]
    plain: re.Pattern[str]
    joins: re.Pattern[str]
    breaks: re.Pattern[str]
    behind: re.Pattern[str]
    picture: re.Pattern[str]


def _compiled(tongue: dict[str, str]) -> _Reader:
    parts = {name: alternatives(words) for name, words in tongue.items()}
    between = rf"(?P<between>(?:(?:\s*[,/;&]\s*|\s+|(?<=['’]))[^\s,.;:!?()\"“”/]+){{0,{BETWEEN_MAX}}}?)"
    gap = r"(?:\s*[,/&]\s*|\s+|(?<=['’]))"
    wording = rf"(?<!\w)(?P<negation>{parts['negations']}){between}{gap}(?P<noun>{parts['nouns']})(?!\w)"

    def whole(name: str) -> re.Pattern[str]:
        return re.compile(rf"(?:{parts[name]})(?!\w)" if name in parts else "(?!)", re.IGNORECASE)

    def after(name: str) -> re.Pattern[str]:
        return re.compile(rf"\s+(?:{parts[name]})" if name in parts else "(?!)", re.IGNORECASE)

    nouns = re.compile(rf"(?:{parts['nouns'].replace(' ', '|')})", re.IGNORECASE)
    spoken = (whole("plain"), whole("joins"), whole("breaks"), after("behind"), after("picture"))
    return _Reader(re.compile(wording, re.IGNORECASE), nouns, *spoken)


_READERS = [_compiled(tongue) for tongue in _TABLE["tongues"].values()]
_PHRASES = [
    (re.compile(alternatives(phrase), re.IGNORECASE), re.compile(alternatives(_TABLE["doubts"].get(name, "(?!)")), re.IGNORECASE))
    for name, phrase in _TABLE["phrases"].items()
]
_PHRASED = re.compile(
    r"text|test[oi]|scritt|letras|inscription|napis|letter|word|writ|print|schrift|beschrift|buchstaben|tekst|szöveg|felirat|текст|надпис|букв|metin|metni|yaz[ıi]|harf|kelime|[\u0900-\u097f\u0e00-\u0eff\u1100-\u11ff\u3040-\u9fff\uac00-\ud7af]",
    re.IGNORECASE,
)
"""Without one of these no phrase is there: most prompts have none, and this is the cheaper search."""
_UNSURE = re.compile("|".join(alternatives(phrase) for phrase in _TABLE["unsure"].values()), re.IGNORECASE)
_PARTS = re.compile(r"\s*[,/;&]\s*")
_TOKEN = re.compile(r"[^\s,.;:!?()\[\]{}\"“”„«»/'’|-]+")


def denials(prompt: str) -> list[Denial]:
    """Every place of the prompt that speaks against lettering, in order."""
    found: list[Denial] = []
    spoken = frozenset().union(*(_spoken(token) for token in _TOKEN.findall(prompt)))
    for reader in (_READERS[at] for at in sorted(spoken)):
        for match in reader.wording.finditer(prompt):
            sure = _sure(reader, match, prompt)
            if sure is not None:
                found.append(Denial(match.start(), match.end(), sure))
    if _PHRASED.search(prompt):
        for phrase, doubt in _PHRASES:
            for match in phrase.finditer(prompt):
                found.append(Denial(match.start(), match.end(), not doubt.search(prompt, max(0, match.start() - 20), match.start())))
        found += [Denial(match.start(), match.end(), False) for match in _UNSURE.finditer(prompt)]
    return sorted(found, key=lambda denial: (denial.start, denial.end))


@functools.lru_cache(maxsize=1 << 16)
def _spoken(token: str) -> frozenset[int]:
    """The tongues in which a word is a noun for lettering, by number. Nearly every word of nearly every prompt is one in none."""
    return frozenset(at for at, reader in enumerate(_READERS) if reader.noun.fullmatch(token))


def _sure(reader: _Reader, match: re.Match[str], prompt: str) -> bool | None:
    """Whether a negation with its noun is sure to mean all lettering; None where the noun is not what is negated."""
    parts = _PARTS.split(prompt[match.end("negation") : match.start("noun")])
    for part in parts[:-1]:
        if any(reader.breaks.fullmatch(word) for word in part.split()):
            return None
    sure = True
    last = parts[-1].split()
    for at, word in enumerate(last):
        if reader.breaks.fullmatch(word):
            return None
        if reader.joins.fullmatch(word):
            sure = True  # what stood before was another thing
        elif not reader.plain.fullmatch(word) and not reader.plain.fullmatch(" ".join(last[at : at + 2])):
            sure = False
    behind = prompt[match.end() : match.end() + 60]
    if reader.picture.match(behind):
        return sure
    if reader.behind.match(behind):
        return False
    return sure
