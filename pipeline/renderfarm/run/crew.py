"""Who works on one machine, and what each holds: how many workers it takes, one worker's process, and units on their way."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

from renderfarm.job import JobSettings
from renderfarm.job.settings import RenderersSettings
from renderfarm.processes import Child
from renderfarm.run.engine import Rendered
from renderfarm.run.health import Seat, images_of
from renderfarm.run.units import Unit
from renderfarm.workers.process import Kind

FALSE_STARTS_MAX = 3
"""Workers in a row that die before they are ready: then they cannot load."""
HERE = platform.node()
MEMORY_SHARE = 0.75
"""Of the free memory, for workers; the rest is for pictures under way and for others."""
WORKER_BYTES = 700_000_000
"""What a worker takes beside its weights. Measured with the starter weights on a CPU, memory that it shares with nobody: 640 MB where
it renders and checks, 330 MB where it only checks."""
BYTES_PER_WEIGHT = 4
"""float32, as a CPU holds them."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers of one machine: those that may render, those that only check and store, and whether renderers do both."""

    renderers: int
    finishers: int
    mixed: bool

    @property
    def priced(self) -> int:
        """Renderers that cost `cost.per_hour` each: a machine without a GPU counts as one."""
        return 1 if self.mixed else self.renderers


def plan_crew(job: JobSettings, gpus: int, cpus: int, weights_bytes: int, free_bytes: int | None) -> Crew:
    """One renderer a GPU, the other cores finish; on a CPU as many workers as cores, of which as many render as memory holds weights."""
    wanted, finishers = job.farm.renderers_most, job.farm.finishers
    on_gpus = bool(gpus) and job.model.device != "cpu"
    room = cpus * (weights_bytes + WORKER_BYTES) if free_bytes is None else int(free_bytes * MEMORY_SHARE)
    each = WORKER_BYTES if on_gpus else weights_bytes + WORKER_BYTES
    fitting = gpus if on_gpus else max(1, min(cpus, room // each))
    renderers = min(wanted, fitting) if isinstance(job.farm.renderers, RenderersSettings) and wanted else wanted or fitting
    beside = max(0, min(cpus - renderers, (room - renderers * each) // WORKER_BYTES))
    return Crew(renderers, max(int(on_gpus), finishers if isinstance(finishers, int) else beside), mixed=not on_gpus)


@dataclass(eq=False, slots=True)
class Worker:
    """One process. `kinds`: what it may do, of which it is `ready` for some and still `awaits` others; `overlap`: tasks at a time;
    `heard_s`: when it last answered, or was given work while idle. A task without a call is the known picture."""

    number: int
    place: Seat
    child: Child
    kinds: tuple[Kind, ...]
    overlap: int
    heard_s: float
    environment: dict[str, str]
    first: tuple[Kind, ...]
    awaits: list[Kind]
    ready: list[Kind] = field(default_factory=list)
    tasks: dict[int, Call | None] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Flight:
    """A unit on its way. `answers`: those of the stage that it is in, by image; `lost`: its calls count no more."""

    unit: Unit
    rendered: Rendered | None = None
    answers: dict[int, Any] = field(default_factory=dict)
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One task of a flight: the unit's rendering, or the checking or storing of its image `at`."""

    flight: Flight
    kind: Kind
    method: str
    arguments: tuple[Any, ...]
    at: int = 0

    def images(self) -> list[str]:
        """The ids of the images that it is about."""
        every = images_of(self.flight.unit)
        return every if self.kind == "render" else every[self.at : self.at + 1]
