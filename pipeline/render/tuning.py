"""`batch: auto` on a GPU: the batch size from which more images at a time no longer pay, measured once and remembered.

Remembered in the user's cache by weights digest, size, dtype, memory mode and device, so that a later job of the same
kind does not measure.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.render.batching import out_of_memory

GAIN_MIN = 1.04
"""A batch twice as large is taken when it renders at least this much more per second."""

BATCH_MAX = 64


def worthwhile_batch(seconds_for: Callable[[int], float]) -> int:
    """Returns the batch size to use, from 1 doubling up. `seconds_for(n)` renders n images and may run out of
    memory."""
    best, rate = 1, 1 / seconds_for(1)
    while best < BATCH_MAX:
        try:
            larger = 2 * best / seconds_for(2 * best)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if larger < rate * GAIN_MIN:
            break
        best, rate = 2 * best, larger
    return best


def recall(cache: Path, key: str) -> int | None:
    """Returns what was remembered for `key`, or None."""
    try:
        known = json.loads((cache / "batches.json").read_text())
        value = known.get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, int) and 1 <= value <= BATCH_MAX else None


def remember(cache: Path, key: str, batch: int) -> None:
    """Replaces the file at once; a racing writer's entry may be lost and is measured again."""
    try:
        try:
            known = json.loads((cache / "batches.json").read_text())
        except (OSError, ValueError):
            known = {}
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, suffix=".tmp", delete=False) as file:
            json.dump({**known, key: batch}, file, indent=1)
        os.replace(file.name, cache / "batches.json")
    except OSError:
        return  # a cache on a full or read-only disk is no reason to stop
