"""Whole numbers as people write them: `2`, `2.0`, number words of many languages, with dozens and pairs. `numbers.toml` has them. Pure."""

from __future__ import annotations

import re

from renderfarm.wording.tables import table

_TABLE = table("numbers")


def _by_word(numbers: dict[str, str]) -> dict[str, int]:
    return {word: int(number) for number, words in numbers.items() for word in words.split()}


NUMBERS = {word: at for words in _TABLE["counting"].values() for at, word in enumerate(words.split())} | _by_word(_TABLE["more"])
"""A number word, case-folded, and what it says."""
for _word in ("to", "ni", "ti", "dix", "sei", "en", "once", "fire", "fem", "on"):  # in one language a number, in others a common word
    NUMBERS.pop(_word, None)
for _ten, _tens in _TABLE["tens"].items():
    for _one, _ones in _TABLE["ones"].items():
        NUMBERS |= {f"{_ones}und{_word}": int(_ten) + int(_one) for _word in _tens.split()}
GROUPS = _by_word(_TABLE["groups"])
"""Words that say a number of what follows; a number before them multiplies."""
ARTICLES = frozenset(_TABLE["articles"].split())
PLURALS = frozenset(_TABLE["plural"].split())
"""Things whose name is a plural, and a pair of which is one: glasses."""
SINGULARS = frozenset(_TABLE["singular"].split())
"""Names that only look like plurals: lens."""
_DIGITS = re.compile(r"[+]?(\d{1,9})(?:\.0{1,2}|,0{1,2})?")


def number_of(word: str) -> int | None:
    """What one word or numeral says, or None. `2.0` is two: spreadsheets write whole numbers so."""
    digits = _DIGITS.fullmatch(word)
    return int(digits[1]) if digits else NUMBERS.get(word.casefold())
