"""One part of a cell of `objects` in plain form: without what people write around things and numbers, and what is none of both. Pure.

Marks of a list, quotation marks, full-width signs, arrows (`mug -> 2`), units (`2 pcs mug`), numbers that are said twice (`two (2) mugs`)
and numbers of several words (`thirty two cups`) get the form that `objects` reads.
"""

from __future__ import annotations

import re
import unicodedata

from renderfarm.errors import NotUnderstood
from renderfarm.wording.numbers import number_of

_MONTH = (
    r"(?:jan|feb|fev|fév|mar|mär|mrz|apr|avr|abr|may|mai|mag|maj|jun|jui|giu|jul|lug|aug|aoû|ago|sep|set|oct|okt|ott|out|nov|dec|dez|déc|dic)"
    r"[a-zé]*\.?"
)
_DATE = re.compile(
    rf"\d{{1,4}}[-./]\d{{1,2}}(?:[-./]\d{{1,4}})?|\d{{1,2}}\.?[ -]{_MONTH}(?:[ -]\d{{1,4}})?|{_MONTH}[ -]\d{{1,4}}|\d{{1,2}}月\d{{1,2}}日",
    re.I,
)
_FRACTION = re.compile(
    r"[-−]\d|\d+\s*[/⁄]\s*\d+\s+\S"
    r"|(?:one|two|three|half|ein|zwei|drei)[ -](?:half|halves|thirds?|quarters?|fourths?|drittel|viertel)\b",
    re.I,
)
_BULLET = re.compile(r"[•·*–—-]\s+(?=\S)")
_QUOTED = re.compile(r"""(?:"([^"]+)"|“([^“”]+)”|„([^„“”]+)[“”]|«\s*([^«»]+?)\s*»|'([^']+)')""")
_ARROW = re.compile(r"\s*(?:->|=>|→|⇒)\s*(?=\S)|(?<=[^\W\d])\s+[-–—]\s+(?=\d+$)")
_BRACED = re.compile(r"\{\s*([^{}]{1,20})\s*\}")
_BLANKLESS_TIMES = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])\s*[xX×*]\s*(?=\d+$)")
_QUANTITY = re.compile(
    r"(?:qty|quantity|number of|no\. of|nr\.? of|anzahl|nombre de|cantidad de|numero di|número de|quantidade de|aantal|liczba)\b"
    r"\s*[:.]?\s*",
    re.I,
)
_UNIT = re.compile(r"(?<=\d)\s*(?:pcs?|stk|stück|szt|uds?|pz|stuks|units)\b\.?\s+(?:(?:of|von|de|di|van)\s+)?(?=\S)", re.I)
_TWICE = re.compile(r"(\S+) \((\S+)\)(?= \S)")
_OR_MORE = r"(?:or|oder|ou|o|of|lub) (?P<way{at}>more|less|fewer|mehr|weniger|plus|moins|más|menos|più|meno|mais|meer|minder)"
_MORE = re.compile(
    rf"(?P<number>\S+) {_OR_MORE.format(at='')} (?P<name>\S.*)|(?P<number2>\S+) (?P<name2>\S.*) {_OR_MORE.format(at='2')}", re.I
)
_LEAST = frozenset(["more", "mehr", "plus", "más", "più", "mais", "meer"])
_EXACTLY = re.compile(r"(?P<part>\S+ .+) (?:exactly|only|genau|exact|exactement|exactamente|esattamente|precies)", re.I)
_SEVERAL_WORDS = re.compile(
    r"(?:(?:an?|one|ein|eine)\s+(?P<many>hundred|hundert|thousand|tausend)|(?P<tens>[^\W\d_]+)[ -](?P<ones>[^\W\d_]+))(?= \S)", re.I
)


def plain(part: str) -> str:
    """The part as `objects` reads it. Raises: NotUnderstood for a date, a fraction, a number below zero."""
    part = " ".join(unicodedata.normalize("NFKC", part).split())
    if bullet := _BULLET.match(part):
        part = part[bullet.end() :]
    if quoted := _QUOTED.fullmatch(part):
        part = next(inner for inner in quoted.groups() if inner).strip()
    if _DATE.fullmatch(part):
        raise NotUnderstood(
            f"{part!r} is a date, or no thing at all", "write mug:2; where a spreadsheet made a date of 1-2, format the cells as text"
        )
    if _FRACTION.match(part):
        raise NotUnderstood(f"{part!r} says no whole number of things", "write each class with its count behind a colon: mug:2; box:1")
    part = _BRACED.sub(r"(\1)", _ARROW.sub("=", _BLANKLESS_TIMES.sub(" x", part)))
    part = _UNIT.sub(" ", _QUANTITY.sub("", part, count=1), count=1)
    part = re.sub(r"(?<=[^\W\d_]{2})\.$", "", part)
    part = _said_once(_in_digits(part))
    if more := _MORE.fullmatch(part):
        number, name = more["number"] or more["number2"], more["name"] or more["name2"]
        if number_of(number) is not None:
            least = (more["way"] or more["way2"]).casefold() in _LEAST
            return f"{'at least' if least else 'at most'} {number} {name}"
    if exactly := _EXACTLY.fullmatch(part):
        return f"exactly {exactly['part']}"
    return part


def _said_once(part: str) -> str:
    """`two (2) mugs` as `2 mugs`. Raises: NotUnderstood for two numbers."""
    twice = _TWICE.match(part)
    if twice is None:
        return part
    one, other = number_of(twice[1]), number_of(twice[2])
    if one is None or other is None:
        return part
    if one != other:
        raise NotUnderstood(f"{part!r} says two numbers", "keep one of them")
    return f"{one}{part[twice.end() :]}"


def _in_digits(part: str) -> str:
    """`thirty two cups` as `32 cups`, `a hundred ants` as `100 ants`."""
    said = _SEVERAL_WORDS.match(part)
    if said is None:
        return part
    if said["many"]:
        return f"{number_of(said['many'])}{part[said.end() :]}"
    tens, ones = number_of(said["tens"]), number_of(said["ones"])
    if tens is None or ones is None or tens not in range(20, 100, 10) or not 0 < ones < 10:
        return part
    return f"{tens + ones}{part[said.end() :]}"
