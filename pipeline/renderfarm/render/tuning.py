"""`batch: auto`: the batch size from which more images at a time no longer pay, measured once and remembered.

Remembered in the user's cache by weights digest, size, dtype, memory mode and device, so that a later job of the same
kind does not measure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from renderfarm import cache
from renderfarm.render.batching import out_of_memory

FILE = "batches.json"
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


def recall(folder: Path, key: str) -> int | None:
    """Returns what was remembered for `key`, or None."""
    value = cache.recall(folder / FILE).get(key)
    return value if isinstance(value, int) and 1 <= value <= BATCH_MAX else None


def remember(folder: Path, key: str, batch: int) -> None:
    """Remembers a batch size for `key`."""
    cache.remember(folder / FILE, {key: batch})
