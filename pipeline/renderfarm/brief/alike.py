"""Rows that ask for the same picture, told by sketches in memory that does not grow with the manifest.

A sketch is 64 bits over the prompt's words without case, marks, accents and small words, and over all else that changes the picture. A
table of fixed size keeps the newest row of each place: below a million rows hardly a pair is missed, beyond that more of those far apart.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from renderfarm.manifest.types import Reason
from renderfarm.schema import PromptRow
from renderfarm.sources.types import words

PLACES = 1 << 21
"""32 MiB with the row of each."""
_SMALL = words("a an the of on in at with and ein eine der die das auf mit und un une le la les de sur avec et")


class Alike:
    """Warns of a row that says what one before it said. Made anew for each pass; rows are counted as they come."""

    of_whole_rows = True
    """A row with a fault may ask for anything yet."""

    def __init__(self) -> None:
        self._sketches = np.zeros(PLACES, np.uint64)
        self._ids: dict[int, str] = {}

    def __call__(self, row: PromptRow) -> Iterator[Reason]:
        """The doubt about this row, if there is one."""
        sketch = _sketch(row)
        place = sketch % PLACES
        if int(self._sketches[place]) == sketch:
            first = self._ids.get(place)
            named = f"the row with id {first!r}" if first else "a row before it"
            yield "prompt", f"asks for nearly the same picture as {named}", "remove one of them, or give them seeds"
            return
        self._sketches[place] = sketch
        if len(self._ids) < 100_000 or place in self._ids:
            self._ids[place] = row.id


def _sketch(row: PromptRow) -> int:
    said = (
        _folded(row.prompt), _folded(row.negative_prompt or ""), row.seed, row.width, row.height, row.steps, row.guidance, row.images,
        row.text, row.objects, row.adapter, row.init_image, row.mask_image, row.strength, row.control_image,
    )  # fmt: skip
    return int.from_bytes(hashlib.blake2b(repr(said).encode(), digest_size=8).digest(), "little") | 1


def _folded(text: str) -> str:
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(word for word in re.findall(r"\w+", text.casefold()) if word not in _SMALL)
