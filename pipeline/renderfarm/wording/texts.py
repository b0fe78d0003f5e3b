"""What the column `text` says: the words that a picture must show, or that it must show none. Pure.

People write `none`, `n/a`, `-` or `kein Text` for no lettering, put the words in quotation marks, and name the parts: in `Headline: SALE`
the name is no lettering. Words that mean no text are lettered all the same where they stand in quotation marks: `"No"`.
"""

from __future__ import annotations

import functools
import re

from renderfarm.wording.lettering import Lettering, Question, from_prompt
from renderfarm.wording.notext import denials
from renderfarm.wording.quotes import Quotation, quotations, tidied
from renderfarm.wording.tables import alternatives, table

_TABLE = table("texts")
_NONE = frozenset(alternatives(_TABLE["none"]).split("|"))
_DASHES = re.compile(r"[\s\-–—_./]*|[xX×*]")
_EMPTY = re.compile(r"[\s\"“”„‟'‘’«»「」『』]*")
_POLITE = re.compile(
    r"(?:please|bitte|s['’]il (?:te|vous) plaît|por favor|per favore|alstublieft|proszę|tack|prosím|пожалуйста|lütfen|at all|"
    r"whatsoever|wanted|needed|required|here|erwünscht|gewünscht|gewollt|nötig|notwendig|vorgesehen|souhaitée?|nécessaire|deseado|necesario|"
    r"desiderato|necessario|desejado|necessário|gewenst|nodig|potrzebny)"
)
_LOGOS = re.compile(
    r"(?:no|or|nor|and|any|kein|keine|oder|und|ni|ou|ningún|e|o|without)?\s*(?:logos?|watermarks?|marks?|wasserzeichen|filigranes?|"
    r"marcas? de agua|numbers?|zahlen)"
)
_NO_PART = re.compile(
    r"(?:no|without|kein(?:e|en)?|ohne|sans|pas de|sin|senza|sem|geen|bez|utan|ingen|uden) (?:copy|headlines?|slogans?|claims?|cta|"
    r"taglines?|overlays?|titles?|titel|titre)"
)
_LABELLED = re.compile(rf"\s*(?:[-*•]\s*)?(?P<label>{alternatives(_TABLE['labels'])})\s*[:：=]\s*(?P<words>.*)", re.IGNORECASE | re.DOTALL)
_PARTS = re.compile(rf"[\r\n;|]+|,\s*(?=(?:{alternatives(_TABLE['labels'])})\s*[:：=])", re.IGNORECASE)
_BULLETS = re.compile(r"\s*[-*•–·]\s+(?=[^\W\d])")
_NUMBERS = re.compile(r"\s*(\d{1,2})[.)]\s+(?=\S)")
_DESCRIBED = re.compile(
    r".*\S\s+(?:(?:in|mit|en|em|con|com|with|met)\s+(?:[\w-]+\s+){0,4}(?:letters|lettering|fonts?|typeface|caps|capitals|script|schrift|buchstaben|"
    r"lettern|lettres|letras|lettere|caratteri)|\((?:in|auf|en|on|with|mit|con|bold|small|large|fett|klein|groß)\b[^()]*\))[.\s]*"
    r"|(?:the |das |die |le |la |el |il |o |a )?(?:words?|wort|worte|mots?|palabras?|parol[ae]|palavras?)\s+(?-i:[A-ZÀ-ÖØ-Þ]{2,}).*"
    r"|(?:[\w'’-]+\s+){0,4}(?:logo|wordmark|brand name)(?:\s+only)?|logo (?:of|von|de|di|van) .+"
    r"|(?:text|lettering|words?|schrift|texte|texto|testo) (?:on|auf|sur|en|su|na|op) [^:：]{1,30}[:：].+"
    r"|(?:(?-i:EN|DE|FR|ES|IT|PT|NL|PL|JA|ZH|KO|US|UK)\s*[:：][^\r\n]+(?:[\r\n]+|$)){2,}",
    re.IGNORECASE,
)
"""A cell that says how or where letters stand, or in which language: it may not be the lettering itself."""

NONE_CHARS_MAX = 200
"""Nobody says that there is no text in more characters."""
READ_CHARS_MAX = 10_000
"""Characters of a cell that are looked at for what they mean; as many as a prompt may have. A longer one is the lettering as it stands."""


def from_text(cell: str) -> Lettering:
    """What a cell of `text` says. An empty one, and one with nothing but quotation marks, wants no lettering."""
    if len(cell) > READ_CHARS_MAX:
        return Lettering(cell.strip(), "text", cell.strip()[:60])
    shown = tidied(cell).strip()
    if says_none(shown):
        return Lettering("", "text", cell.strip())
    shown = _unlisted(shown)
    parts = [match for part in _PARTS.split(shown) if part.strip() for match in [_LABELLED.fullmatch(part)]]
    if parts and all(parts):
        values = [_bare(match["words"].strip()) for match in parts if match and not says_none(match["words"].strip())]
        return Lettering(" ".join(value for value in values if value), "text", cell.strip())
    bare = _bare(shown)
    if bare != shown:
        return Lettering(bare, "text", cell.strip())
    unsure = [denial for denial in denials(shown) if not denial.sure]
    if unsure and unsure[0].start == 0 and unsure[0].end == len(shown.rstrip(" .!")):
        question = Question(repr(shown), ("the picture shows these very words", "some lettering is allowed, and none is required"))
        return Lettering(None, "text", shown, (question,))
    if (unsure and unsure[0].start == 0) or _DESCRIBED.fullmatch(shown):
        question = Question(repr(shown[:60]), ("the picture shows all of these words", "they say what it shows, and how"))
        return Lettering(shown, "text", shown, (question,))
    said = from_prompt(shown) if quotations(shown) else None
    if said is not None and said.text:
        return Lettering(
            shown, "text", shown, (Question(repr(shown), ("the picture shows all of these words", f"it shows {said.text!r} only")),)
        )
    return Lettering(shown, "text", shown)


@functools.lru_cache(maxsize=4096)
def reading(text: str | None, prompt: str) -> Lettering:
    """What lettering a row wants: its `text` decides, and without one the prompt."""
    if text is None:
        return from_prompt(prompt)
    said = from_text(text)
    if said.text is not None:
        return said
    asked = from_prompt(prompt)
    return Lettering(asked.text, asked.source, asked.where, (*said.doubts, *asked.doubts))


def says_none(shown: str) -> bool:
    """Whether it says that no lettering is wanted."""
    if len(shown) > NONE_CHARS_MAX:
        return False
    if _EMPTY.fullmatch(shown) or _DASHES.fullmatch(shown):
        return True
    plain = " ".join(shown.casefold().strip(" .!…").split())
    if plain in _NONE or shown.casefold() in _NONE or _NO_PART.fullmatch(plain):
        return True
    found = [denial for denial in denials(shown) if denial.sure]
    if not found or (found[0].start > 0 and not _POLITE.fullmatch(shown[: found[0].start].casefold().strip(" ,"))):
        return False
    rest = shown.casefold()[max(denial.end for denial in found) :]
    words = [part for part in re.split(r"[,.!;]|\s+(?=(?:or|and|nor|oder|und|ou|ni)\b)", rest) if part.strip()]
    return all(_POLITE.fullmatch(part.strip()) or _LOGOS.fullmatch(part.strip()) for part in words)


def _unlisted(shown: str) -> str:
    """Lines without the marks of a list: bullets before every one, or numbers that count from 1."""
    lines = [line for line in re.split(r"[\r\n]+", shown) if line.strip()]
    if lines and all(map(_BULLETS.match, lines)):
        return "\n".join(_BULLETS.sub("", line, count=1) for line in lines)
    numbers = [match for match in map(_NUMBERS.match, lines) if match]
    if len(lines) > 1 and [int(match[1]) for match in numbers] == list(range(1, len(lines) + 1)):
        return "\n".join(line[match.end() :] for line, match in zip(lines, numbers, strict=True))
    return shown


def _bare(words: str) -> str:
    """The words without the quotation marks around them all; several quotations with nothing but separators between them are joined."""
    found = quotations(words)
    if found and not any(c.isalnum() for c in _outside(words, found)):
        return " ".join(quote.words for quote in found)
    return words


def _outside(words: str, found: list[Quotation]) -> str:
    ends = [0, *(quote.end for quote in found)]
    starts = [*(quote.start for quote in found), len(words)]
    return "".join(words[end:start] for end, start in zip(ends, starts, strict=True))
