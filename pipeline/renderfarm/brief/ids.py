"""Ids that are made where a source has none: of what the row says, so that inserting or moving rows changes none of them. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

_WORDS_MAX = 5
_SLUG_CHARS_MAX = 32
_PLACES, _PROBES = 1 << 22, 16
"""32 MiB: room for three million ids."""


def made_id(cells: Mapping[str, Any], id_from: str, place: int) -> str:
    """`a-red-mug-3f9a2c1d0b7e`. `id_from`: "" of the whole row, `prompt` of the prompt alone, `row` of the row's number.

    48 bits: among a million rows with the same words two meet once in 560 times, and are then refused as one id, never mixed up.
    """
    prompt = str(cells.get("prompt") or "")
    if id_from == "row":
        return f"row-{place}"
    said = prompt if id_from == "prompt" else json.dumps({k: cells[k] for k in sorted(cells)}, ensure_ascii=False, default=repr)
    return f"{slug(prompt)}-{digest(said)}".lstrip("-")


class Repeated:
    """Tells made ids apart that are the same, since their rows say the same: the second is `…-2`.

    In memory that does not grow: what is forgotten in a table that is full is refused later, as one id of two rows.
    """

    def __init__(self) -> None:
        self._seen = np.zeros(_PLACES, np.uint64)
        self._counts: dict[str, int] = {}

    def told_apart(self, made: str) -> str:
        """The id, with its number where it was given before."""
        if self._known(int.from_bytes(hashlib.blake2b(made.encode(), digest_size=8).digest(), "little") | 1):
            self._counts[made] = self._counts.get(made, 1) + 1
            return f"{made}-{self._counts[made]}"
        return made

    def _known(self, key: int) -> bool:
        for step in range(_PROBES):
            place = (key + step) % _PLACES
            if int(self._seen[place]) == key:
                return True
            if not self._seen[place]:
                self._seen[place] = key
                return False
        return False


def variant_id(row_id: str, prompt: str) -> str:
    """The id of one of the prompts that a row stands for."""
    return f"{row_id}-{digest(prompt)}"


def digest(text: str) -> str:
    """12 hex digits."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=6).hexdigest()


def slug(text: str) -> str:
    """The first words, fit for a file's name; letters of every script stay."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text[:200]).lower())[:_WORDS_MAX]
    return "-".join(words)[:_SLUG_CHARS_MAX].strip("-_")
