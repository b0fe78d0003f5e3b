"""`batch: auto`: the batch size from which more images at a time no longer pay, measured once and remembered.

Remembered in the user's cache by weights digest, size, dtype, memory mode and device, so that a later job of the same
kind does not measure.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from renderfarm.render.batching import out_of_memory

GAIN_MIN = 1.04
"""A batch twice as large is taken when it renders at least this much more per second."""

BATCH_MAX = 64

CPU_BATCH_MAX = 4
"""On a CPU nothing is gained beyond (scripts/bench/render.py), and a larger batch would only delay the first image."""

SLOW_S = 20.0
"""A batch that takes longer is not doubled: measuring on would cost more than it could give."""


def worthwhile_batch(seconds_for: Callable[[int], float], most: int = BATCH_MAX) -> int:
    """Returns the batch size to use, from 1 doubling up to `most`. `seconds_for(n)` renders n images and may run out of
    memory; if it does with one, 1: rendering itself says then what to do."""
    try:
        took = seconds_for(1)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return 1
    best, rate = 1, 1 / took
    while best < most and took < SLOW_S:
        try:
            took = seconds_for(2 * best)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if 2 * best / took < rate * GAIN_MIN:
            break
        best, rate = 2 * best, 2 * best / took
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
