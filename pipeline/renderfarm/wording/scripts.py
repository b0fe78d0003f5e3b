"""Which scripts a text is written in, and which of them the installed text reader can read. Pure.

Names are those with which Unicode's own names of letters begin (The Unicode Standard, section 4.8): `CYRILLIC SMALL LETTER A` is Cyrillic.
"""

from __future__ import annotations

import functools
import unicodedata

READ = frozenset({"Latin", "Chinese", "Japanese"})
"""What the models of RapidOCR's wheel read (PP-OCRv6, its list of languages). They know Greek letters of formulas, and read no Greek."""

_NAMES = {
    **dict.fromkeys(("CJK", "IDEOGRAPHIC"), "Chinese"),
    **dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH"), "Japanese"),
    "HANGUL": "Korean",
    **dict.fromkeys(
        ("FULLWIDTH", "FEMININE", "MASCULINE", "MICRO", "MODIFIER", "SUPERSCRIPT", "MATHEMATICAL", "CIRCLED", "SQUARED"), "Latin"
    ),
    **dict.fromkeys(("PARENTHESIZED", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "OHM", "KELVIN", "ANGSTROM", "NUMERO"), "Latin"),
}
"""Names of letters that begin otherwise than their script."""


@functools.lru_cache(maxsize=8192)
def script_of(letter: str) -> str | None:
    """The script of one letter, capitalised; None for digits, marks and punctuation, which belong to no script of their own."""
    if not letter.isalpha():
        return None
    first = unicodedata.name(letter, "unknown").split(" ", 1)[0]
    return _NAMES.get(first, first.capitalize())


def scripts_of(text: str) -> tuple[str, ...]:
    """The scripts of a text's letters, in the order in which they come."""
    return tuple(dict.fromkeys(script for letter in text if (script := script_of(letter)) is not None))


def unread(text: str) -> tuple[str, ...]:
    """The scripts of a text that the reader's own models do not read."""
    return tuple(script for script in scripts_of(text) if script not in READ)
