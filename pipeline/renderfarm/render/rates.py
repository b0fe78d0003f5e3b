"""How long an image takes on a device, remembered for `renderfarm plan`: by weights, size and steps, in the user's cache.

What is measured is a renderer's own time, from the start of a unit (or the end of the one before, when two overlap) to its end, marking
included. The first unit of a kind warms up; it counts only until there is a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from renderfarm.cache import cache_folder, remember
from renderfarm.cache import recall as cached

FILE = "rates.json"
WRITE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds that one renderer takes for one image, and the device on which that was measured."""

    image_s: float
    device: str


class Speed:
    """Measures one renderer; safe to use from two threads."""

    def __init__(self, digest: str, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.digest, self.device = digest, device
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._sums: dict[str, tuple[int, int, float]] = {}
        self._written_at: dict[str, float] = {}

    def note(self, width: int, height: int, steps: int, images: int, started: float) -> None:
        """Counts a unit that was begun at `started` and ends now."""
        with self._lock:
            now = self._clock()
            spent = now - max(started, self._until)
            self._until = now
            key = _key(self.digest, width, height, steps)
            units, counted, seconds = self._sums.get(key, (0, 0, 0.0))
            counted, seconds = (images, spent) if units <= 1 else (counted + images, seconds + spent)
            self._sums[key] = (units + 1, counted, seconds)
            if units <= 1 or now - self._written_at[key] >= WRITE_EVERY_S:
                self._written_at[key] = now
                remember(cache_folder() / FILE, {key: {"image_s": round(seconds / counted, 6), "device": self.device}})


def recall(cache: Path, digest: str, width: int, height: int, steps: int) -> Rate | None:
    """Returns what was measured for these weights at this size; another number of steps is scaled from the nearest."""
    rates: list[tuple[int, Rate]] = []
    for key, rate in _read(cache).items():
        start, _, measured = key.rpartition(" ")
        if start == _key(digest, width, height, 0).rpartition(" ")[0] and measured.isdigit() and int(measured) > 0:
            rates.append((int(measured), rate))
    if not rates:
        return None
    nearest, rate = min(rates, key=lambda entry: abs(entry[0] - steps))
    return Rate(rate.image_s * steps / nearest, rate.device)


def _key(digest: str, width: int, height: int, steps: int) -> str:
    return f"{digest} {width}x{height} {steps}"


def _read(cache: Path) -> dict[str, Rate]:
    """Returns what the cache remembers; one that is damaged remembers nothing."""
    try:
        return {key: Rate(float(value["image_s"]), str(value["device"])) for key, value in cached(cache / FILE).items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}
