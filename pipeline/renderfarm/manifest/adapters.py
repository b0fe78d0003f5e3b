"""Several LoRAs in one text, as rows and jobs write them: `lcm, style:0.8`. A weight takes the place of the scale that the job says.

One name alone is spelled as ever, so that the ids of images that have one adapter are what they were.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

WEIGHT_MAX = 4.0
Parts = tuple[tuple[str, float | None], ...]
"""Name and weight of each; None: the job's own scale."""


def parse(text: str) -> Parts:
    """The adapters that a text names. Raises: ValueError in words for one that cannot be understood, or names one twice."""
    parts: dict[str, float | None] = {}
    for entry in text.split(","):
        name, colon, number = (piece.strip() for piece in entry.partition(":"))
        try:
            weight = float(number) if colon else None
        except ValueError:
            weight = math.nan
        if not name or (weight is not None and not abs(weight) <= WEIGHT_MAX):
            raise ValueError(f"{entry.strip()!r} is no adapter with a weight from -4 to 4, such as style:0.8")
        if name in parts:
            raise ValueError(f"{name!r} is named twice")
        parts[name] = weight
    return tuple(parts.items())


def spelled(parts: Iterable[tuple[str, float | None]]) -> str:
    """The one text for these adapters, sorted by name."""
    return ", ".join(name if weight is None else f"{name}:{weight!r}" for name, weight in sorted(parts))


@functools.lru_cache(maxsize=4096)
def chosen(own: str | None, default: str | None, always: tuple[str, ...] = ()) -> str | None:
    """The adapters of a row: its own, else the job's default; and those of every row, whose weight it may change."""
    text = own or default
    if not always and (text is None or not {",", ":"} & set(text)):
        return text
    return spelled({**dict(parse(", ".join(always)) if always else ()), **dict(parse(text) if text else ())}.items())


def identity(text: str | None, digests: Mapping[str, str]) -> str | None:
    """What an image owes to its adapters. `digests`: name → "SHA-256 at scale"."""
    if text is None or text in digests or not {",", ":"} & set(text):
        return text and digests.get(text, text)
    named = ((*digests.get(name, f"{name} at 1.0").split(" at "), weight) for name, weight in parse(text))
    return ", ".join(sorted(f"{digest} at {scale if weight is None else weight}" for digest, scale, weight in named))
