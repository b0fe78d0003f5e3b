"""Where quotation marks stand in a prompt, across styles and languages. Pure; what they mean is judged in `lettering`.

A straight or curly single mark is also an apostrophe, and a straight double one also means inches. So such a mark opens only at the start
of a word and closes only at the end of one: `'Mama's Kitchen'` is one quotation, `the cats' and the dogs' beds` and `a 24" x 36" frame`
are none. Where a script has no blanks between words, any place will do. Marks of different styles may close each other: `“OPEN"`.
One pass; from each mark that opens, at most `TRIES_MAX` marks and `LONG_MAX` characters are looked at.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

LONG_MAX = 4000
"""Characters within one quotation: pages of lettering are asked for, books are not."""
SINGLE_MAX = 400
TRIES_MAX = 32

_DOUBLES = '"“”„‟″'
_SINGLES = "'‘’‚`´"
_CLOSERS = {
    "“": '”"″“',
    "„": '“”"‟',
    "‟": '”"',
    "”": '”"',
    '"': '"”“″',
    "«": "»",
    "»": "«»",
    "‹": "›",
    "›": "‹›",
    "「": "」",
    "『": "』",
    "《": "》",
    "〈": "〉",
    "＂": "＂",
    "〝": "〞〟",
    "'": "'’´",
    "‘": "’'",
    "’": "’'",
    "‚": "‘’'",
    "`": "'´`’",
    "´": "´'`",
}
_MARKS = re.compile(f"[{re.escape(''.join(_CLOSERS))}]")
_ANY_CLOSER = {opener: re.compile(f"[{re.escape(closers)}]") for opener, closers in _CLOSERS.items()}
_AMBIGUOUS = frozenset("\"'`´’”»›")
"""Marks that open, close, and mean something else: these must stand at a word's start or end."""
BLANKLESS = "\u0e00-\u0eff\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
"""Letters and punctuation of scripts that do not part words (Thai, Lao, Chinese, Japanese), or hang particles on them (Korean)."""
_BLANKLESS = re.compile(f"[{BLANKLESS}]")
_BEFORE_OPENING = frozenset(" \t\r\n\u00a0\u202f\u2009([{<:;,./=|+–—-*_" + _DOUBLES + _SINGLES + "«»‹›「『")
_AFTER_CLOSING = frozenset(" \t\r\n\u00a0\u202f\u2009)]}>.,;:!?…/|+–—-*_" + _DOUBLES + _SINGLES + "«»‹›」』")
_ELIDED = re.compile(r"['‘’`´](?:\d0s\b|tis\b|twas\b|til\b|em\b|cause\b|round\b|n['‘’`´]?(?=\s|$))", re.IGNORECASE)
_AND_SHORT = re.compile(r"(?<=\w)\s?['‘’`´]n\b['‘’`´]?(?=\s?\w)", re.IGNORECASE)
_DOUBLED = (re.compile(r'""([^"\n]{1,400})""'), re.compile(r"(?<!\w)''([^'\n]{1,400})''(?!\w)"), re.compile(r"``([^`'\n]{1,400})(?:''|``)"))
_TWICE = re.compile(r"(?<=\S)''(?!\w)|(?<!\w)''(?=\S)")
_OTHER = {**dict.fromkeys('"“„‟', re.compile("['’]")), **dict.fromkeys("'‘‚`´", re.compile('["”]'))}
"""What closes a quotation in another size of marks, where its own does not come: `"OPEN'`."""


@dataclass(frozen=True, slots=True)
class Quotation:
    """One quotation: characters `start` to `end` of the tidied prompt with its marks, and the words between them.

    `closed` is False where the closing mark is missing, and the words go on to the prompt's end.
    """

    start: int
    end: int
    words: str
    mark: str
    closed: bool = True


def tidied(prompt: str) -> str:
    """The prompt as a person reads it: HTML entities resolved, `\\"` without its stroke, doubled marks (`""OPEN""`) single."""
    for _ in range(2):  # `&amp;quot;` was escaped twice
        if "&" in prompt:
            prompt = html.unescape(prompt)
    if "\\" in prompt:
        prompt = prompt.replace('\\"', '"').replace("\\'", "'")
    prompt = prompt.replace("″", '"').replace("′", "'")
    if any(mark in prompt for mark in ('""', "''", "``")):
        for doubled in _DOUBLED:
            prompt = doubled.sub(r'"\1"', prompt)
        prompt = _TWICE.sub('"', prompt)
    return prompt


def quotations(text: str) -> list[Quotation]:
    """The quotations of a tidied prompt, in order. One inside another belongs to the outer one."""
    if _MARKS.search(text) is None:
        return []
    apostrophes = {at for match in _AND_SHORT.finditer(text) for at in range(*match.span()) if text[at] in _SINGLES}
    apostrophes |= {match.start() for match in _ELIDED.finditer(text)}
    found: list[Quotation] = []
    at = 0
    while (mark := _MARKS.search(text, at)) is not None:
        start = mark.start()
        at = start + 1
        if start in apostrophes or not _opens(text, start):
            continue
        close = _closing(text, start, apostrophes) or _closing_otherwise(text, start, apostrophes)
        if close is not None:
            if any(c.isalnum() for c in text[start + 1 : close]):
                found.append(Quotation(start, close + 1, text[start + 1 : close].strip(), text[start]))
            at = close + 1
        elif text[start] in '"“„' and len(text) - start <= LONG_MAX and not _DOUBLE.search(text, start + 1):
            words = text[start + 1 :].strip()
            if any(c.isalnum() for c in words):
                found.append(Quotation(start, len(text), words, text[start], closed=False))
    return found


_DOUBLE = re.compile(f"[{_DOUBLES}]")


def _opens(text: str, at: int) -> bool:
    """Whether the mark at this place may open a quotation."""
    mark, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if not after:
        return False
    if mark not in _AMBIGUOUS:
        return True
    if mark in "»›":
        return not after.isspace() and (not before or before in _BEFORE_OPENING)
    if after.isspace() and before not in (":", ""):
        return False
    if not before or before in _BEFORE_OPENING or _BLANKLESS.match(before):
        return True
    return mark == '"' and before.isalpha() and after.isalnum()  # says"OPEN"


def _closes(text: str, at: int) -> bool:
    """Whether the mark at this place may close one."""
    mark, before, after = text[at], text[at - 1], text[at + 1 : at + 2]
    if mark not in _AMBIGUOUS and mark not in "‘“":
        return True
    if before.isspace() and mark not in "”»›":
        return False
    return not after or after in _AFTER_CLOSING or bool(_BLANKLESS.match(after)) or (mark in '"”»' and after.isalpha())


def _closing(text: str, start: int, apostrophes: set[int]) -> int | None:
    """The place of the mark that closes the quotation which begins here, or None."""
    mark = text[start]
    closers = _ANY_CLOSER[mark]
    stop = min(len(text), start + (SINGLE_MAX if mark in _SINGLES else LONG_MAX))
    at = start + 1
    for _ in range(TRIES_MAX):
        match = closers.search(text, at, stop)
        if match is None:
            return None
        close = match.start()
        at = close + 1
        if close in apostrophes:
            continue
        if _closes(text, close):
            further = _further(text, close, closers, stop)
            if further is None:
                return close
            at = further
        elif mark == '"' and text[close] == '"' and _opens(text, close):
            return None  # the first mark stood alone
    return None


def _closing_otherwise(text: str, start: int, apostrophes: set[int]) -> int | None:
    """The same for a mark of the other size, in the same sentence; not where a mark of its own size follows, which it may belong to."""
    closers = _OTHER.get(text[start])
    match = closers and closers.search(text, start + 2, start + 80)
    if not match or match.start() in apostrophes or not _closes(text, match.start()) or _opens(text, match.start()):
        return None
    inside = text[start + 1 : match.start()]
    return None if any(mark in inside for mark in _DOUBLES + _SINGLES + ".\n") else match.start()


def _further(text: str, close: int, closers: re.Pattern[str], stop: int) -> int | None:
    """A later mark that closes better: this one is inches (`"a 24" monitor"`) or a possessive (`'Girls' Night'`)."""
    match = closers.search(text, close + 1, stop)
    if match is None or not _closes(text, match.start()) or _opens(text, match.start()):
        return None
    between, before = text[close + 1 : match.start()], text[close - 1]
    if text[close] in '"”″':
        return match.start() if before.isdigit() and between[:1] == " " and not text[match.start() - 1].isdigit() else None
    words = between.split()
    possessive = before in "sS" and between[:1] == " " and 0 < len(words) <= 4 and all(word[0].isupper() or word == "&" for word in words)
    return match.start() if possessive and "\n" not in between else None
