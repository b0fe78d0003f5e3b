"""Which things a picture must show, and how many, as people write it: `two dogs`, `mug x2`, `1-2 mugs`, `a dozen eggs`, `no people`. Pure.

One part of a cell (between separators) becomes (class, at least, at most), or is refused where it may mean two things: `2 seater sofa`,
`about five mugs`, `dog|cat`. The class is what is left of the words; nothing is translated or made singular.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from renderfarm.errors import NotUnderstood
from renderfarm.wording.counters import counted
from renderfarm.wording.numbers import ARTICLES, GROUPS, NUMBERS, PLURALS, SINGULARS, number_of
from renderfarm.wording.written import plain

PART_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many things of one class: `low` to `high`, None for any number of more."""

    name: str
    low: int
    high: int | None


_NUMBERED = re.compile(
    r"(?:seat|seater|piece|pack|door|drawer|tier|person|way|burner|wheel|inch|foot|ft|[cm]?m|[cm]?l|oz|k?g|lit(?:re|er))\s+\S", re.I
)
"""What a number before it counts within one thing (a 2 seater sofa, a 6 pack), as often as things."""
_OWN_NUMBER = re.compile(r"(?:^|(?<=\s))[0-9]+(?:\s+|$)")
_BEHIND_COLON = "write each class with its count behind a colon: mug:2; box:1"
_RANGE = re.compile(r"(?P<low>\S+?)\s*(?:-|–|—|\.\.\.?|…|\bto\b|\bbis\b|\bor\b|\boder\b|\bà\b|\bou\b|\ba\b|\bo\b)\s*(?P<high>\S+)", re.I)
_LEAST = (
    r"at least|min(?:imum|\.)?|not (?:less|fewer) than|no (?:less|fewer) than|>=|≥|mindestens|mind\.|au moins|al menos|por lo menos|"
    r"almeno|pelo menos|minstens|co najmniej|minst|mindst|alespoň|не менее|en az"
)
_MOST = (
    r"at most|max(?:imum|\.)?|up to|no more than|not more than|<=|≤|höchstens|maximal|bis zu|au plus|jusqu['’]à|como máximo|hasta|"
    r"al massimo|fino a|no máximo|até|hoogstens|maximaal|"
)
_MOST += r"co najwyżej|högst|højst|nejvýše|не более|en fazla"
_ABOVE = r"more than|over|>|mehr als|plus de|más de|più di|mais de|meer dan|więcej niż|mer än|mere end|více než|более"
_BELOW = r"fewer than|less than|under|<|weniger als|moins de|menos de|meno di|minder dan|mniej niż|färre än|færre end|méně než|менее"
_EXACT = (
    r"exactly|only|just|precisely|genau|nur|exactement|exactamente|esattamente|exatamente|precies|dokładnie|exakt|præcis|přesně|"
    r"ровно|tam|=="
)
_BOUND = re.compile(
    rf"(?:(?P<least>{_LEAST})|(?P<most>{_MOST})|(?P<above>{_ABOVE})|(?P<below>{_BELOW})|(?P<exact>{_EXACT}))(?:\s+|"
    rf"(?<=[<>=≥≤.])\s*)(?P<rest>.+)",
    re.I,
)
_NONE = re.compile(
    r"(?:pas d['’]\s*|(?:no|zero|without(?: any)?|not? any|kein(?:e|en|er)?|ohne|sans|pas de|aucune?|sin|ning[uú]n(?:a)?|senza|"
    r"nessun[ao]?|sem|nenhuma?|geen|zonder|bez|żadn\w+|utan|ing(?:en|et|a)|"
    r"uden|uten|žádn\w+|без|никак\w+)\s+)(?P<name>.+)",
    re.I,
)
_VAGUE = re.compile(
    r"(?:about|around|approximately|approx\.?|circa|ca\.?|roughly|~|some|several|many|a few|few|lots? of|a lot of|various|"
    r"multiple|numerous|plenty of|any|etwa|ungefähr|einige|mehrere|"
    r"viele|ein paar|environ|quelques|plusieurs|beaucoup de|unos|unas|varios|varias|muchos|muchas|algunos|algunas|alcuni|"
    r"alcune|molti|molte|vários|várias|alguns|algumas|enkele|"
    r"meerdere|veel|kilka|wiele|några|flera|många|nogle|flere|mange|několik|mnoho|несколько|много)(?:\s+|(?<=~))(?P<name>.+)",
    re.I,
)
_SIGNED = re.compile(r"(?P<name>[^<>≤≥=]*[^<>≤≥=\s])\s*(?P<number>(?:[<>]=?|≤|≥|==)\s*\S+)")
_BEHIND = re.compile(
    r"(?P<name>.*[^\s(\[=:])(?:(?:\s+[xX]|\s*[×*])\s*(?P<times>\S+)|\s*[(\[]\s*[xX×]?\s*(?P<inner>[^()\[\]]{1,20}?)\s*[xX×]?\s*[)\]]|"
    r"\s*=\s*(?P<equals>\S.*))"
)
_SAID = r"\d{1,3}|" + "|".join(sorted(map(re.escape, NUMBERS), key=len, reverse=True))
_TIMES_FIRST = re.compile(
    r"(?:(?P<count>\d{1,9}(?:\.0+)?)\s*[x×*]|[x×]\s*(?P<after>\d{1,9})|[(\[]\s*(?P<inner>\d{1,9})\s*[x×]?\s*[)\]])\s+(?P<name>\S.*)", re.I
)
_JOINED = re.compile(r"\s+(?:and|und|et|y|e|en|i|och|og|a|и|ve|plus)\s+|\s*&\s+", re.I)
_AND = re.compile(r"\s(?:and|und|et|och|og|и|ve|plus)\s|\s&\s", re.I)
"""What joins two things, or two parts of a name (salt and pepper shaker); the others of `_JOINED` are too common in names."""
_EITHER = re.compile(r"\s+(?:or|nor|oder|ou|lub|albo|eller|nebo|или|veya|ni|o)\s+|(?:または|或者?|또는)", re.I)
_TORN = re.compile(r"(?:with|on|in|of|from|at|or|and|mit|auf|avec|sur|con|met|med)\s|.*\s(?:and|or|und|oder|et|ou|with|mit)$|.*\d\)", re.I)
"""What is left of a sentence, and no name."""
_COUNT_LEFT = re.compile(r"(?<!\w)[x×]\s?\d|\d\s?[x×](?!\w)|[(\[]\s*[x×]?\s*\d+\s*[)\]]|[=/#]\s?\d|[→]", re.I)
_OF = re.compile(r"\s+(?:of|von|de|d['’]|di|van|av|af)\s+", re.I)
_PLURAL = re.compile(r"[^\W\d_]*(?:[^\Wsiuc\d_]s|[^\W\d_]ies|(?:ch|sh|x|ss|z)es|[^\Ws]ces)$|people$|men$|women$|children$", re.I)


def wanted(part: str) -> tuple[Wanted, ...]:
    """What one part of a cell asks for. Two things are told apart where both are counted: `two dogs and a cat`.

    Raises: NotUnderstood.
    """
    if len(part) > PART_CHARS_MAX:
        raise NotUnderstood(f"{part[:40]!r}… is {len(part)} characters long", "name each thing in a word or two")
    part = plain(part)
    if "|" in part or re.search(r"[^\W\d_]/[^\W\d_]", part):
        names = [name.strip() for name in re.split(r"[|/]", part) if name.strip()]
        raise NotUnderstood(
            f"{part!r} may be two things or one of them", f"write {'; '.join(names)} for both, or leave out what may be missing"
        )
    if (none := _NONE.fullmatch(part)) and _EITHER.search(none["name"]) and not _BOUND.fullmatch(part):
        return tuple(Wanted(name, 0, 0) for name in _EITHER.split(none["name"]))
    if (either := _EITHER.search(part)) and not _interval(part.split(" ")[0] + either.group() + part[either.end() :].split(" ")[0]):
        what, names = f"{part!r} may be one thing or the other", _EITHER.split(part)
        raise NotUnderstood(what, f"write {'; '.join(names)} for both, or leave out what may be missing")
    pieces = [piece for joined in _JOINED.split(part) for piece in joined.split(" + ")]
    if len(pieces) > 1 and (all(_begins_counted(piece) for piece in pieces) or " + " in part):
        return tuple(_settled(_one(piece), piece) for piece in pieces)
    if len(pieces) > 1 and ":" not in part and _AND.search(part):
        raise NotUnderstood(f"{part!r} may be one thing or two", f"write {'; '.join(pieces)} for two, {part}:1 for one")
    return (_settled(_one(part), part),)


def _settled(one: Wanted, part: str) -> Wanted:
    """The same. Raises: NotUnderstood where the class still holds what looks like a count: `mug x2 box`, `dogs three cats`."""
    words = one.name.split(" ")
    later = any((number_of(word) or 0) > 1 and not word[0].isdigit() for word in words[1:])
    if _TORN.match(one.name):
        raise NotUnderstood(f"{part!r} names no thing", _BEHIND_COLON)
    if ":" not in part and (later or _COUNT_LEFT.search(one.name)):
        raise NotUnderstood(f"in {part!r} a number may be a count or part of a name", _BEHIND_COLON)
    return one


def _begins_counted(piece: str) -> bool:
    first = piece.split(" ", 1)
    return len(first) == 2 and (number_of(first[0]) is not None or first[0].casefold() in GROUPS or bool(_NONE.fullmatch(piece)))


def _one(part: str) -> Wanted:
    name, colon, number = part.rpartition(":")
    if colon:
        return _stated(name.strip(), number.strip(), part)
    if spoken := counted(part):
        return Wanted(*spoken)
    bound = _BOUND.fullmatch(part)
    if bound and (_interval(bound["rest"].split(" ")[0]) or bound["rest"].split(" ")[0].casefold() in GROUPS):
        return _bounded(bound, part)
    if none := _NONE.fullmatch(part):
        return Wanted(none["name"], 0, 0)
    if vague := _VAGUE.fullmatch(part):
        name = " ".join(word for at, word in enumerate(vague["name"].split(" ")) if at or number_of(word) is None)
        raise NotUnderstood(f"{part!r} says no number", f"write at least 3 {name}, 2-4 {name}, or leave it out")
    if times := _TIMES_FIRST.fullmatch(part):
        return _exactly(times["name"], times["count"] or times["after"] or times["inner"], part)
    if signed := _SIGNED.fullmatch(part):
        return _stated(signed["name"], signed["number"], part)
    if behind := _BEHIND.fullmatch(part):
        number = behind["times"] or behind["inner"] or behind["equals"]
        if behind["equals"] or _interval(number) is not None or _BOUND.fullmatch(number):
            return _stated(behind["name"].strip(), number.strip(), part)
    return _before(part)


def _stated(name: str, number: str, part: str) -> Wanted:
    """`mug:2`, `mug (2)`, `mug:at least 2`. An empty name is left to who examines rows."""
    found = _interval(number)
    if found is None and (bound := _BOUND.fullmatch(number)):
        found = _limits(bound, number_of(bound["rest"].strip()))
    if found is None and number.casefold() in ("no", "none"):
        found = (0, 0)
    if found is None:
        raise NotUnderstood(f"{number!r} is no whole number", "write digits only, for example 24")
    return Wanted(name, *found)


def _interval(number: str) -> tuple[int, int | None] | None:
    """`2`, `2.0`, `two`, `2+`, `1-2`, `1 to 2` as (at least, at most), or None."""
    exact = number_of(number)
    if exact is not None:
        return exact, exact
    if number.endswith("+") and (least := number_of(number[:-1].strip())) is not None:
        return least, None
    if both := _RANGE.fullmatch(number):
        low, high = number_of(both["low"]), number_of(both["high"])
        if low is not None and high is not None and low <= high:
            return low, high
    return None


def _limits(bound: re.Match[str], number: int | None) -> tuple[int, int | None] | None:
    if number is None:
        return None
    if bound["least"]:
        return number, None
    if bound["most"]:
        return 0, number
    if bound["above"]:
        return number + 1, None
    if bound["below"]:
        return (0, number - 1) if number else None
    return number, number


def _bounded(bound: re.Match[str], part: str) -> Wanted:
    """`at least 2 mugs`."""
    inner = _before(bound["rest"])
    if inner.low != inner.high:
        raise NotUnderstood(f"{part!r} says two bounds", "write 1-2 mugs, or at least 2 mugs")
    limits = _limits(bound, inner.low)
    if limits is None:
        raise NotUnderstood(f"{part!r} leaves no number", "write no mugs for none")
    return Wanted(inner.name, *limits)


def _exactly(name: str, number: str, part: str) -> Wanted:
    count = number_of(number)
    if count is None:
        raise NotUnderstood(f"{number!r} is no whole number", "write digits only, for example 24")
    _refuse_numbered(part, number, name, counted=True)
    return Wanted(name, count, count)


def _before(part: str) -> Wanted:
    """`2 mugs`, `two dogs`, `1-2 mugs`, `a pair of shoes`, `half a dozen eggs`, `mug`, `mugs`."""
    words = part.split(" ")
    if len(words) > 1 and (grouped := _grouped(part)) is not None:
        return grouped
    for taken in (3, 1):  # `1 to 2 mugs`, `1-2 mugs`
        head, name = " ".join(words[:taken]), " ".join(words[taken:])
        found = _interval(head) if name else None
        if found is not None and (taken == 1 or found[0] != found[1]):
            _refuse_numbered(part, head, name, counted=True)
            return Wanted(name, *found)
    if len(words) > 1 and re.fullmatch(r"\d[\d.,]*", words[0]):
        raise NotUnderstood(f"{words[0]!r} is no whole number", "write digits only, for example 24")
    if not any(char.isalpha() for char in part):
        raise NotUnderstood(f"{part!r} names no thing", f"say what is counted: mug:{words[0]}")
    _refuse_numbered(part, "1", part, counted=False)
    bare = [word.casefold().strip("()[]") for word in words]
    if any(word in GROUPS for word in bare[1:]) or (len(words) == 1 and number_of(part) is not None) or re.search(r"[(\[][^)\]]*\d", part):
        raise NotUnderstood(f"in {part!r} a number may be a count or part of a name", _BEHIND_COLON)
    last = words[-1].casefold()
    if _PLURAL.search(last) and last not in PLURALS and last not in SINGULARS:
        return Wanted(part, 2, None)  # `mugs`: more than one
    return Wanted(part, 1, 1)


def _grouped(part: str) -> Wanted | None:
    """`a dozen eggs`, `two pairs of shoes`, `a couple of mugs`."""
    words = part.split(" ")
    at = next((at for at in range(min(3, len(words) - 1)) if words[at].casefold() in GROUPS), None)
    if at is None:
        return None
    before = [word.casefold() for word in words[:at]]
    half = bool(_HALVES.intersection(before))
    times = 1
    for word in before:
        number = number_of(word)
        if number is None and word not in _HALVES:
            return None
        times *= number if number is not None else 1
    if not before and words[at].casefold() in _MANY:
        raise NotUnderstood(f"{part!r} says no number", f"write at least 24 {' '.join(words[at + 2 :])}, or leave it out")
    name = _OF.sub(" ", " " + " ".join(words[at + 1 :]), count=1).strip() if words[at + 1].casefold() in _OFS else " ".join(words[at + 1 :])
    name = re.sub(r"^d['’]", "", name)
    if not name:
        return None
    group = words[at].casefold()
    if group.startswith(("pair", "paar", "paire", "par", "paio", "pár", "para")) and name.split(" ")[-1].casefold() in PLURALS:
        return Wanted(name, times, times)
    count = times * GROUPS[group]
    if half:
        count //= 2
    return Wanted(name, count, count)


_HALVES = frozenset({"half", "halbes", "halbe", "demi", "media", "medio", "mezza", "mezzo", "meia", "half-a"})
_MANY = frozenset({"dozens", "docenas", "dúzias"})
"""Groups that say no number by themselves."""
_OFS = frozenset({"of", "von", "de", "di", "van", "av", "af"})


def _refuse_numbered(part: str, number: str, name: str, counted: bool) -> None:
    """Raises: NotUnderstood where a number may count things or be part of a name."""
    inner = _OWN_NUMBER.search(name)
    if not inner and not (counted and _NUMBERED.match(name)):
        return
    remedy = _BEHIND_COLON
    if not (counted and inner):  # there is one number only
        count, rest = (inner.group().strip(), name.replace(inner.group(), "").strip()) if inner else (number, name)
        remedy = f"write {part}:1, or {rest or 'mug'}:{count}"
    raise NotUnderstood(f"in {part!r} a number may be a count or part of a name", remedy)


def contradicted(prompt: str, name: str, low: int, high: int | None) -> int | None:
    """How many things of a class a prompt speaks of, where that is another number than is wanted; None where it agrees or says nothing.

    A prompt that counts them in several places (`two red mugs and a blue mug`) may mean any of these numbers, or their sum.
    """
    spoken = _spoken(name)
    if spoken is None:
        return None
    counts: list[int] = []
    weighty: list[int] = []
    for match in spoken.finditer(prompt[:10_000]):
        number = number_of(match["number"])
        if number is not None:
            counts.append(number)
            if match["number"].casefold() not in ARTICLES:
                weighty.append(number)
    possible = {*counts, sum(counts)}
    if not weighty or any(low <= number and (high is None or number <= high) for number in possible):
        return None
    return weighty[0]


_IRREGULAR = {
    "person": "people",
    "people": "person",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "mouse": "mice",
    "goose": "geese",
    "tooth": "teeth",
}


@functools.lru_cache(maxsize=4096)
def _spoken(name: str) -> re.Pattern[str] | None:
    """Finds a number of a class, with up to three words between that are none; None where there is nothing to look for."""
    noun = _noun(name)
    word = rf"(?!(?:{_SAID})[ -])[^\W\d_]+[ -]"
    return None if noun is None else re.compile(rf"(?<![\w.,-])(?P<number>{_SAID})\s+(?:{word}){{0,3}}?{noun}(?![\w-])", re.IGNORECASE)


def _noun(name: str) -> str | None:
    """A regular expression for a class's name, singular or plural; None where there is nothing to look for."""
    words = name.casefold().split()
    if not words or not words[-1].isalpha():
        return None
    last = words[-1]
    stem = re.sub(r"(?<=[^s])(?:ies|es|s|y)$", "", last) if len(last) > 3 else last
    forms = [re.escape(stem) + r"(?:s|es|ies|y|e|n|en|er|i)?", re.escape(last)]
    forms += [re.escape(other) for one, other in _IRREGULAR.items() if last in (one, other)]
    return r"\s+".join([*map(re.escape, words[:-1]), f"(?:{'|'.join(forms)})"])
