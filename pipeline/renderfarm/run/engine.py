"""What the loop asks of the machines, as a protocol: render, check and store a unit somewhere, and tell what came of it.

`run.local` implements it with processes of one machine, `farm` on a Ray cluster, and the simulation in the tests on a virtual clock. Pixels
never pass through the loop: it hands on a handle that only the engine can open. Every unit that is started ends in exactly one event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from renderfarm.errors import FarmLost, JobError
from renderfarm.run.units import Unit
from renderfarm.schema import RenderInfo
from renderfarm.workers.finish import Checked, Decision, Finished
from renderfarm.workers.worker import Order


@dataclass(frozen=True, slots=True)
class Rendered:
    """A unit was rendered. `pixels` is the engine's handle; `marked` says per image whether it carries the watermark."""

    unit: Unit
    pixels: object
    info: RenderInfo
    marked: tuple[bool, ...]
    started_us: int
    busy_s: float
    cpu_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class CheckedUnit:
    """The checks have looked at a unit."""

    unit: Unit
    rendered: Rendered
    checked: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class StoredUnit:
    """A unit's pictures lie in the storage; the records are not committed yet."""

    unit: Unit
    finished: tuple[Finished, ...]


@dataclass(frozen=True, slots=True)
class RenderLost:
    """The renderer died over a unit, or refused it with a reason; nothing of it is left. Not `blamed`: it was merely there."""

    unit: Unit
    reason: str
    blamed: bool = True


@dataclass(frozen=True, slots=True)
class FinishLost:
    """A finisher died over a unit, or failed; the pixels may still be there."""

    unit: Unit
    reason: str


Event = Rendered | CheckedUnit | StoredUnit | RenderLost | FinishLost


LASTING_STARTS = {
    "No module named": "install renderfarm and its packages by the same constraints.txt on every node",
    "cannot import name": "install renderfarm and its packages by the same constraints.txt on every node",
    "cannot open shared object file": "install what is missing on that node",
    "driver on your system is too old": "update the GPU's driver on that node, or install a torch for it",
    "no kernel image is available": "install a torch that knows this GPU",
    "Permission denied": "give the worker's user the right to read and write there",
    "Read-only file system": "mount it for writing, or set HOME and XDG_CACHE_HOME to a folder that can be written",
    "No space left on device": "free space there",
    "Disk quota exceeded": "free space there or raise the quota",
}
"""Why workers cannot start, where no further try helps, and what a person does about it."""


def no_worker(what: str, why: str) -> FarmLost | JobError:
    """The end of a run whose workers cannot start: for a person to mend, or passing."""
    remedy = next((remedy for words, remedy in LASTING_STARTS.items() if words in why), None)
    return FarmLost(f"{what}: {why}") if remedy is None else JobError(f"{what}: {why}", "", remedy)


UNITS_PER_FINISHER = 3
BYTES_IN_FLIGHT_MAX = 256 << 20


class Engine(Protocol):
    """The machines. All calls return at once but `wait`."""

    def capacity(self) -> int:
        """How many more units may be started now, by count and by bytes in flight. Raises: FarmLost when no worker is left."""

    def share(self) -> float:
        """How large the next unit should be, of the largest that a renderer takes: 0..1, as the next renderer's GPU takes fewer at once."""

    def render(self, unit: Unit) -> None:
        """Start rendering a unit."""

    def check(self, rendered: Rendered) -> None:
        """Start checking what was rendered."""

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        """Start encoding, signing and storing."""

    def wait(self, timeout_s: float) -> list[Event]:
        """What happened, at least one event or the time is up. Raises: StorageAway, FarmLost."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine whose first workers are ready: how many render, and how many images one of them takes together.

    `priced`: how many of them cost `cost.per_hour` each, where that is another number: the workers of a CPU are one machine.
    """

    engine: Engine
    renderers: int
    batch: int
    priced: int = 0


OpenEngine = Callable[[Order, Callable[[], bool]], AbstractContextManager[Opened]]
"""Opens an engine for the time of a block; the callable says whether to give up waiting for its workers.

Raises: FarmLost, Stopped; UserError when a worker refuses what the job asks of it.
"""
