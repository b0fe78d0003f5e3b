"""The engine on Ray: two pools of actors, two units in flight per renderer, pixels through the object store.

An actor that dies is replaced; its units come back as `RenderLost` / `FinishLost`. A kind that cannot be started again and again is given
up: when none is left, the run pauses with FarmLost. The driver holds references only, never pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from pipeline.errors import StorageAway, UserError
from pipeline.farm.actors import FinisherWorker, RendererWorker, RenderReply, Trouble
from pipeline.farm.cluster import FarmLost, Room
from pipeline.farm.engine import CheckedUnit, Event, FinishLost, Rendered, RenderLost, StoredUnit
from pipeline.farm.work import Unit
from pipeline.finish import Checked, Decision
from pipeline.job import JobSettings
from pipeline.keys import KeySet
from pipeline.models import Resolved

log = structlog.get_logger("renderfarm")

UNITS_PER_RENDERER = 2
UNITS_PER_FINISHER = 3
BYTES_IN_FLIGHT_MAX = 256 << 20
FALSE_STARTS_MAX = 3
"""Actors in a row that die before they are ready: then the kind has no room here, or cannot load."""


@dataclass(eq=False, slots=True)
class Worker:
    """One actor and the references that it owes."""

    number: int
    handle: Any
    ready: bool = False
    owes: set[Any] = field(default_factory=set)


class Pool:
    """Actors of one kind; replaces the dead."""

    def __init__(self, kind: str, spawn: Callable[[], Any], size: int) -> None:
        self.kind, self.spawn, self.size = kind, spawn, size
        self.false_starts = 0
        self._numbers = itertools.count(1)
        self.workers: list[Worker] = []
        self.starting: dict[Any, Worker] = {}
        for _ in range(size):
            self._add()

    def _add(self) -> None:
        worker = Worker(next(self._numbers), self.spawn())
        self.workers.append(worker)
        self.starting[worker.handle.ready.remote()] = worker

    def able(self) -> list[Worker]:
        """Whom to give work: those that are ready, for an actor that finds no room on the cluster may never be; all while none is.

        Raises: FarmLost when none is left.
        """
        if not self.workers:
            raise FarmLost(f"no {self.kind} is left: none could be started {FALSE_STARTS_MAX} times in a row")
        return [worker for worker in self.workers if worker.ready] or self.workers

    def idlest(self) -> Worker:
        """The worker that owes least. Raises: FarmLost when none is left."""
        return min(self.able(), key=lambda worker: (len(worker.owes), worker.number))

    def died(self, worker: Worker) -> None:
        """Drop a dead actor, and start another unless actors of this kind keep dying before they are ready."""
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self.starting = {ref: other for ref, other in self.starting.items() if other is not worker}
        self.false_starts = 0 if worker.ready else self.false_starts + 1
        log.warning("actor.died", kind=self.kind, number=worker.number, ready=worker.ready)
        if self.false_starts < FALSE_STARTS_MAX:
            self._add()


@dataclass(frozen=True, slots=True)
class Flight:
    """One call in flight."""

    stage: Literal["render", "check", "store"]
    unit: Unit
    worker: Worker
    pixels: Any
    rendered: Rendered | None = None


class RayEngine:
    """`farm.engine.Engine` over Ray core. Built inside `cluster`; ends with it."""

    def __init__(self, job: JobSettings, plan_digest: str, weights: Resolved, keys: KeySet, room: Room) -> None:
        import ray

        self._ray = ray
        self._batch = 1
        overlap = UNITS_PER_RENDERER if room.gpus_each else 1  # on a GPU one unit is decoded and copied while the next denoises
        renderer = ray.remote(RendererWorker).options(
            num_cpus=room.cpus_each, num_gpus=room.gpus_each, max_restarts=0, max_concurrency=overlap
        )
        finisher = ray.remote(FinisherWorker).options(num_cpus=1, max_restarts=0)
        self.renderers = Pool("renderer", lambda: renderer.remote(weights, job, keys.mark_key.secret), room.renderers)
        self.finishers = Pool("finisher", lambda: finisher.remote(job, plan_digest, keys), room.finishers)
        self._flights: dict[Any, Flight] = {}
        self._away: StorageAway | None = None

    def start(self) -> int:
        """Wait until one worker of each kind is ready; how many images a renderer takes together.

        Raises: FarmLost with the cause, WeightsError.
        """
        for pool in (self.renderers, self.finishers):
            while not any(worker.ready for worker in pool.workers):
                self._await_ready(pool, first=True)
        return self._batch

    def _await_ready(self, pool: Pool, *, first: bool) -> None:
        done, _ = self._ray.wait(list(pool.starting), num_returns=1, timeout=300)
        if not done:
            raise FarmLost(f"no {pool.kind} was ready within five minutes: the cluster has no room for it")
        self._started(pool, done[0], raise_cause=first)

    def _started(self, pool: Pool, ref: Any, *, raise_cause: bool) -> None:
        from ray.exceptions import RayError

        worker = pool.starting.pop(ref)
        try:
            answer = self._ray.get(ref)
            worker.ready, pool.false_starts = True, 0
            self._batch = max(self._batch, int(answer))
        except RayError as error:
            cause = getattr(error, "cause", None)
            pool.died(worker)
            if raise_cause and isinstance(cause, UserError):
                raise cause from error
            if raise_cause and (cause is not None or pool.false_starts >= FALSE_STARTS_MAX):
                raise FarmLost(f"the {pool.kind} could not start: {_first_line(error)}") from error

    def room(self) -> int:
        """Free slots of the renderers, none while finishers or bytes are behind. Raises: FarmLost when no renderer is left."""
        renderers = self.renderers.able()
        waiting = sum(flight.stage != "render" for flight in self._flights.values())
        flying = sum(flight.unit.pixel_bytes() for flight in self._flights.values())
        if waiting >= UNITS_PER_FINISHER * max(1, len(self.finishers.workers)) or flying >= BYTES_IN_FLIGHT_MAX:
            return 0
        return max(0, UNITS_PER_RENDERER * len(renderers) - sum(len(worker.owes) for worker in renderers))

    def render(self, unit: Unit) -> None:
        worker = self.renderers.idlest()
        pixels, reply = worker.handle.render.options(num_returns=2).remote(unit.attempts())
        self._fly(reply, Flight("render", unit, worker, pixels))

    def check(self, rendered: Rendered) -> None:
        worker = self.finishers.idlest()
        reference = worker.handle.check.remote(rendered.unit.attempts(), rendered.pixels, rendered.marked)
        self._fly(reference, Flight("check", rendered.unit, worker, rendered.pixels, rendered))

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        worker = self.finishers.idlest()
        reply = RenderReply(rendered.info, rendered.marked, rendered.started_us, rendered.busy_s, rendered.cpu_s)
        reference = worker.handle.store.remote(rendered.unit.attempts(), rendered.pixels, reply, tuple(checked), tuple(decisions))
        self._fly(reference, Flight("store", rendered.unit, worker, rendered.pixels, rendered))

    def _fly(self, reference: Any, flight: Flight) -> None:
        self._flights[reference] = flight
        flight.worker.owes.add(reference)

    def wait(self, timeout_s: float) -> list[Event]:
        if self._away is not None:
            raise self._away
        starting = {ref: pool for pool in (self.renderers, self.finishers) for ref in pool.starting}
        waiting = [*self._flights, *starting]
        if not waiting:
            raise FarmLost("no worker is left")
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if done:
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        events: list[Event] = []
        for reference in done:
            if reference in starting:
                if reference in starting[reference].starting:
                    self._started(starting[reference], reference, raise_cause=False)
            else:
                try:
                    events.append(self._landed(reference))
                except StorageAway as error:  # what landed with it counts first: the next call raises
                    self._away = error
        return events

    def _landed(self, reference: Any) -> Event:
        """One call's answer as an event. Raises: StorageAway when the storage is, FarmLost when no worker is left."""
        from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

        flight = self._flights.pop(reference)
        flight.worker.owes.discard(reference)
        try:
            answer = self._ray.get(reference)
        except RayError as error:
            if isinstance(error, ActorDiedError | ActorUnavailableError):
                (self.renderers if flight.stage == "render" else self.finishers).died(flight.worker)
            answer = Trouble("failed", f"the {'renderer' if flight.stage == 'render' else 'finisher'} was lost: {_first_line(error)}")
        if isinstance(answer, Trouble):
            return self._trouble(flight, answer)
        unit = flight.unit
        if flight.stage == "render":
            reply: RenderReply = answer
            return Rendered(unit, flight.pixels, reply.info, reply.marked, reply.started_us, reply.busy_s, reply.cpu_s)
        assert flight.rendered is not None
        if flight.stage == "check":
            return CheckedUnit(unit, flight.rendered, answer)
        return StoredUnit(unit, answer)

    def _trouble(self, flight: Flight, trouble: Trouble) -> Event:
        if trouble.kind == "away":
            raise StorageAway(trouble.reason)
        if flight.stage == "render":
            return RenderLost(flight.unit, trouble.reason)
        return FinishLost(flight.unit, trouble.reason)


def _first_line(error: BaseException) -> str:
    """The cause of a Ray error in one line; its own text is a page."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"[:300]
