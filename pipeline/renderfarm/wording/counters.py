"""Counted things in Chinese, Japanese and Korean, where a counter stands between number and noun: 两只狗, 犬2匹, 고양이 두 마리. Pure.

Without a counter nothing is counted: 三明治 is a sandwich and no three of anything. Table: `numbers.toml`.
"""

from __future__ import annotations

import re

from renderfarm.wording.tables import table

_TABLE = table("numbers")["counters"]
_VALUES = {word: int(number) for number, words in _TABLE["values"].items() for word in words.split()}
_PAIRS = frozenset(_TABLE["pairs"].split())
_DOZENS = frozenset(_TABLE["dozens"].split())
_NUMBER = r"\d{1,4}|" + "|".join(sorted(_VALUES, key=len, reverse=True))
_COUNTER = "|".join(sorted({*_TABLE["counters"].split(), *_PAIRS, *_DOZENS}, key=len, reverse=True))
_COUNTED = rf"(?P<low>{_NUMBER})(?:\s*[-–~〜～至到から]+\s*(?P<high>{_NUMBER}))?\s*(?P<counter>{_COUNTER})"
_FIRST = re.compile(rf"{_COUNTED}(?:の|의|的)?\s*(?P<name>\D+)")
_LAST = re.compile(rf"(?P<name>\D*?[^\d\s])\s*{_COUNTED}")
_NONE = re.compile(
    rf"(?:{'|'.join(_TABLE['no_before'].split())})(?P<before>.+)|(?P<behind>.+?)(?:は|が|이|가|은|는)?\s*(?:{'|'.join(_TABLE['no_behind'].split())})"
)
_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def counted(part: str) -> tuple[str, int, int] | None:
    """(class, at least, at most) of a part in one of these scripts, or None where it has no counter and no negation."""
    if not _SCRIPT.search(part):
        return None
    if none := _NONE.fullmatch(part):
        return (none["before"] or none["behind"]).strip(), 0, 0
    found = _FIRST.fullmatch(part) or _LAST.fullmatch(part)
    if found is None:
        return None
    low = _value(found["low"])
    high = _value(found["high"]) if found["high"] else low
    times = 2 if found["counter"] in _PAIRS else 12 if found["counter"] in _DOZENS else 1
    name = found["name"].strip()
    return (name[:-1] if len(name) > 1 and name[-1] in "がはを" else name), low * times, high * times


def _value(word: str) -> int:
    return int(word) if word.isdecimal() else _VALUES[word]
