"""Weights inside a prompt, as the front ends spell them (AUTOMATIC1111, "Attention/emphasis"): `(word:1.3)`, `(word)` for 1.1, `[word]`
for 1/1.1, `BREAK` where a new chunk begins, a backslash before a bracket that is a letter.

diffusers reads all of it as letters. A prompt that must have been meant otherwise (`means_weights`) is refused unless the job says what it
is (`model.prompt_weights`); one where the job says `read` is taken apart here, and encoded in `render.weighted`.
"""

from __future__ import annotations

import re

WEIGHT_MAX = 10.0
EMPHASIS = 1.1
"""Of a pair of brackets without a number."""

_NUMBER = r"[+-]?(?:\d+\.\d*|\.\d+|\d)"
_MEANT = re.compile(rf"\([^()]*[^\W\d_][^()]*:\s*{_NUMBER}\s*\)")
_TIME = re.compile(rf"\([^()]*\d:\s*{_NUMBER}\s*\)")
_BREAK = re.compile(r"(?:^|(?<=[\s,.;]))BREAK(?=[\s,.;]|$)")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|„[^“]*“|«[^»]*»")
_PIECE = re.compile(rf"\\[()\[\]\\]|\(|\[|:\s*({_NUMBER})\s*\)|\)|\]|[^\\()\[\]:]+|:|\\")

Fragments = tuple[tuple[str, float], ...]
"""Words and their weight, in their order."""


def has_syntax(text: str) -> bool:
    """Whether anything in a text is no plain letter to who reads weights."""
    return any(bracket in text for bracket in "()[]\\") or "BREAK" in text


def means_weights(text: str) -> str:
    """The first thing in a text that people write as a weight or a break only; empty if nothing is. Words in quotes are letters."""
    bare = _QUOTED.sub('""', text)
    found = next((match[0] for match in _MEANT.finditer(bare) if not _TIME.fullmatch(match[0])), "")
    broken = "" if bare.isupper() else getattr(_BREAK.search(bare), "group", lambda: "")()
    return found or broken


def pieces(text: str) -> tuple[Fragments, ...]:
    """The text between its breaks, each in weighted fragments; at least one. Brackets that do not close count to the end."""
    return tuple(_fragments(part) for part in re.split(r"\s*\bBREAK\b\s*", text))


def words(text: str) -> str:
    """What is left without weights and breaks."""
    return " ".join("".join(part for part, _ in piece) for piece in pieces(text)).strip()


def _fragments(text: str) -> Fragments:
    found: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []

    def close(bracket: str, factor: float) -> bool:
        if not opened or opened[-1][0] != bracket:
            return False
        _, start = opened.pop()
        found[start:] = [(part, weight * factor) for part, weight in found[start:]]
        return True

    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in ("(", "["):
            opened.append((piece, len(found)))
            continue
        factor = float(match[1]) if match[1] is not None else 1 / EMPHASIS if piece == "]" else EMPHASIS
        if not (piece[-1] in ")]" and piece[0] != "\\" and close("(" if piece[-1] == ")" else "[", factor)):
            found.append((piece[1:] if piece[0] == "\\" and len(piece) == 2 else piece, 1.0))
    for bracket, start in opened:
        factor = EMPHASIS if bracket == "(" else 1 / EMPHASIS
        found[start:] = [(part, weight * factor) for part, weight in found[start:]]
    joined: list[tuple[str, float]] = []
    for part, weight in found:
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + part, weight)
        else:
            joined.append((part, weight))
    return tuple(joined)
