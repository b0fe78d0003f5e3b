"""The engine on Ray: two pools of actors, two units in flight per renderer, pixels through the object store.

An actor that dies is replaced; its units come back as `RenderLost` / `FinishLost`, and only the one that it was working on is blamed. One
that gives no answer for `farm.hang_s` is ended, and so dies. Hosts that are told to go get nothing new, and are left when they hold
nothing. Finishers are added while renderers wait for them and the cluster has a CPU left. The driver holds references only, never pixels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from renderfarm import machine
from renderfarm.errors import FarmLost, Paused, Stopped, StorageAway, UserError
from renderfarm.farm.cluster import WorkerPlan, available_cpus, cluster, draining_hosts, last_line
from renderfarm.farm.pool import Member, Pool
from renderfarm.logs import get_logger
from renderfarm.retry import farm_fault
from renderfarm.run.engine import (
    BYTES_IN_FLIGHT_MAX,
    UNITS_PER_FINISHER,
    CheckedUnit,
    Event,
    FinishLost,
    Opened,
    OpenEngine,
    Rendered,
    RenderLost,
    StoredUnit,
)
from renderfarm.run.health import Seat, images_of
from renderfarm.run.units import Unit
from renderfarm.workers.finish import Checked, Decision
from renderfarm.workers.gpus import claimed
from renderfarm.workers.worker import FinisherWorker, Known, Order, RendererWorker, RenderReply, Trouble

log = get_logger()

UNITS_PER_RENDERER = 2
NOTICES_S = 2.0
"""How often the cluster is asked which hosts are going away; one call to its head."""
BLOCKED_S = 20.0
"""Renderers that wait so long for finishers are a reason for one finisher more, where the cluster has a CPU left."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where a unit's pixels are: the reference in the object store, and the host that holds them."""

    reference: Any
    node: str


@dataclass(frozen=True, slots=True)
class Errand:
    """One call in flight. `order`: calls of one worker run in this order."""

    stage: Literal["render", "check", "store"]
    unit: Unit
    worker: Member
    pixels: Pixels
    rendered: Rendered | None = None
    order: int = 0


def ray_engine(address: str | None) -> OpenEngine:
    """Opens engines on the cluster at this address, or on a private one that ends with the block."""

    @contextmanager
    def open_engine(order: Order, stopped: Callable[[], bool]) -> Iterator[Opened]:
        with _own_gpus(order, address, stopped), cluster(order.job, address) as workers:
            engine = RayEngine(order, workers)
            yield Opened(engine, workers.renderers, engine.start(stopped))

    return open_engine


@contextmanager
def _own_gpus(order: Order, address: str | None, stopped: Callable[[], bool]) -> Iterator[None]:
    """A private cluster sees the GPUs that no other run of this machine has; a joined one keeps its own books."""
    names = machine.gpus() if address is None and order.job.model.device != "cpu" else ()
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with claimed(names, order.job.farm.renderers_most, stopped) as gpus:
        try:
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            yield
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            os.environ.update({} if before is None else {"CUDA_VISIBLE_DEVICES": before})


class RendererActor(RendererWorker):
    """A renderer that knows its host."""

    def started(self) -> Started | UserError:
        """What `ready` says, this host, and the known picture."""
        batch = self.ready()
        return batch if isinstance(batch, UserError) else Started(batch, _here(), self.known())


class FinisherActor(FinisherWorker):
    """A finisher that knows its host."""

    def started(self) -> Started | UserError:
        """What `ready` says, and this host."""
        batch = self.ready()
        return batch if isinstance(batch, UserError) else Started(batch, _here())


@dataclass(frozen=True, slots=True)
class Started:
    """What an actor says once it is ready: how many images it takes together, Ray's name of its host, what it made of the known picture."""

    batch: int
    node: str
    known: Known | None = None


def _here() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


class RayEngine:
    """`run.engine.Engine` over Ray core. Built inside `cluster`; ends with it."""

    def __init__(self, order: Order, workers: WorkerPlan) -> None:
        import ray

        job, keys = order.job, order.keys
        self._ray = ray
        self._batch = 1
        overlap = UNITS_PER_RENDERER if workers.gpus_each else 1  # on a GPU one unit is decoded and copied while the next denoises
        renderer = ray.remote(RendererActor).options(
            num_cpus=workers.cpus_each,
            num_gpus=workers.gpus_each,
            max_restarts=0,
            max_concurrency=overlap,
            label_selector=job.farm.labels or None,
        )
        finisher = ray.remote(FinisherActor).options(num_cpus=workers.cpus_finisher, max_restarts=0)
        self.renderers = Pool(
            "renderer", lambda: renderer.remote(order.weights, job, keys.mark_key.secret), workers.renderers, room_s=job.farm.room_s
        )
        self.finishers = Pool("finisher", lambda: finisher.remote(job, order.plan_digest, keys), workers.finishers, room_s=job.farm.room_s)
        self._least = job.farm.renderers_least
        self._hang_s, self._may_grow = job.farm.hang_s, job.farm.finishers == "auto"
        self._blocked_since: float | None = None
        self._asked_s = time.monotonic()
        self._flights: dict[Any, Errand] = {}
        self._asked: dict[Any, Member] = {}
        self._sent = 0
        self._away: Paused | UserError | None = None

    def start(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Wait until one worker of each kind is ready; how many images a renderer takes together.

        Raises: FarmLost with the cause, Stopped when `stopped` says so; UserError when a worker refuses what the job asks of it.
        """
        for pool, least in ((self.renderers, self._least), (self.finishers, 1)):
            while sum(worker.ready for worker in pool.able()) < least:
                if stopped():
                    raise Stopped("stopped while the workers were starting: run the same command again")
                done, _ = self._ray.wait(list(pool.starting), num_returns=1, timeout=1.0)
                for reference in done:
                    self._started(pool, reference, first=True)
        return self._batch

    def _started(self, pool: Pool, ref: Any, *, first: bool) -> None:
        from ray.exceptions import RayError

        worker = pool.starting.pop(ref)
        try:
            answer = self._ray.get(ref)
        except RayError as error:
            pool.died(worker, last_line(error))
            return
        if isinstance(answer, UserError):
            if first:
                raise answer
            self._ray.kill(worker.handle)
            pool.died(worker, str(answer))
            return
        worker.batch = answer.batch
        pool.started(worker, answer.node, answer.known)
        self._batch = max(self._batch, answer.batch)

    def capacity(self) -> int:
        """Free slots of the renderers, none while finishers or bytes are behind. Raises: FarmLost when no renderer is left."""
        renderers = self.renderers.able()
        renderers = [worker for worker in renderers if worker.place is None or not self.renderers.ward.waits(worker.place)]
        free = sum(max(0, UNITS_PER_RENDERER - len(worker.owes)) for worker in renderers)
        waiting = sum(flight.stage != "render" for flight in self._flights.values())
        flying = sum(flight.unit.pixel_bytes() for flight in self._flights.values())
        behind = waiting >= UNITS_PER_FINISHER * max(1, len(self.finishers.workers))
        self._grow(behind and free >= UNITS_PER_RENDERER)
        return 0 if behind or flying >= BYTES_IN_FLIGHT_MAX else max(0, free)

    def share(self) -> float:
        return self.renderers.idlest(()).batch / max(1, self._batch)

    def _grow(self, blocked: bool) -> None:
        """One finisher more when a renderer has had nothing to do for a while because finishers are behind."""
        now = time.monotonic()
        self._blocked_since = None if not blocked else self._blocked_since or now
        if self._may_grow and self._blocked_since is not None and now - self._blocked_since > BLOCKED_S:
            self._blocked_since = now
            if not self.finishers.starting and available_cpus() >= 1.0:
                self.finishers.add()
                log.info("finisher.added", finishers=len(self.finishers.workers))

    def render(self, unit: Unit) -> None:
        worker = self.renderers.idlest(images_of(unit))
        if worker.place is not None:
            self.renderers.ward.gave(worker.place, unit)
        pixels, reply = worker.handle.render.options(num_returns=2).remote(unit.attempts())
        self._fly(reply, Errand("render", unit, worker, Pixels(pixels, worker.node)))

    def check(self, rendered: Rendered) -> None:
        worker = self.finishers.idlest(images_of(rendered.unit), near=_pixels(rendered).node)
        reference = worker.handle.check.remote(rendered.unit.attempts(), _pixels(rendered).reference, rendered.marked)
        self._fly(reference, Errand("check", rendered.unit, worker, _pixels(rendered), rendered))

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        worker = self.finishers.idlest(images_of(rendered.unit), near=_pixels(rendered).node)
        reply = RenderReply(rendered.info, rendered.marked, rendered.started_us, rendered.busy_s, rendered.cpu_s)
        pixels = _pixels(rendered).reference
        reference = worker.handle.store.remote(rendered.unit.attempts(), pixels, reply, tuple(checked), tuple(decisions))
        self._fly(reference, Errand("store", rendered.unit, worker, _pixels(rendered), rendered))

    def _fly(self, reference: Any, flight: Errand) -> None:
        self._sent += 1
        self._flights[reference] = replace(flight, order=self._sent)
        self._pool(flight).gives(flight.worker, reference)

    def _pool(self, flight: Errand) -> Pool:
        return self.renderers if flight.stage == "render" else self.finishers

    def wait(self, timeout_s: float) -> list[Event]:
        if self._away is not None:
            raise self._away
        self._end_hung()
        self._heed_notices()
        starting = {ref: pool for pool in (self.renderers, self.finishers) for ref in pool.starting}
        waiting = [*self._flights, *self._asked, *starting]
        if not waiting:
            raise FarmLost("no worker is left")
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if done:
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        events: list[Event] = []
        for reference in done:
            if reference in starting:
                if reference in starting[reference].starting:
                    self._started(starting[reference], reference, first=False)
            elif reference in self._asked:
                events += self._judged(reference)
            else:
                try:
                    events += self._landed(reference)
                except (Paused, UserError) as error:  # what landed with it counts first: the next call raises
                    self._away = error
        return events

    def _hold_or_tell(self, event: RenderLost | CheckedUnit, place: Seat | None) -> list[Event]:
        """Where a renderer may be at fault it is asked for the known picture before the event counts."""
        asked = next((worker for worker in self.renderers.workers if place is not None and worker.place == place and not worker.out), None)
        if asked is None or place is None:
            return [event]
        if self.renderers.ward.hold(place, event):
            reference = asked.handle.known.remote()
            self._asked[reference] = asked
            self.renderers.gives(asked, reference)
        return []

    def _judged(self, reference: Any) -> list[Event]:
        """The known picture came, or its renderer died over it."""
        from ray.exceptions import RayError

        worker = self._asked.pop(reference)
        self.renderers.answered(worker, reference)
        try:
            known: Known | None = self._ray.get(reference)
        except RayError as error:
            self.renderers.died(worker, last_line(error))
            known = None
        assert worker.place is not None
        events = self.renderers.ward.judged(worker.place, known)
        self.renderers.put_aside()
        return events

    def _end_hung(self) -> None:
        """End actors that gave no answer for too long: their calls then fail as those of any dead one."""
        for pool in (self.renderers, self.finishers):
            for worker in pool.hung(self._hang_s):
                log.warning("actor.hung", kind=pool.kind, number=worker.number, seconds=self._hang_s)
                worker.heard_s = pool.clock()
                self._ray.kill(worker.handle)

    def _heed_notices(self) -> None:
        """Workers on hosts that go away are replaced, finish what they hold, and are ended: such a host then has nothing to lose."""
        now = time.monotonic()
        if now - self._asked_s < NOTICES_S:
            return
        self._asked_s = now
        nodes = draining_hosts()
        held = {flight.pixels.node for flight in self._flights.values() if flight.stage != "render"}
        for pool in (self.renderers, self.finishers):
            pool.leave(nodes)
            for worker in pool.left(held):
                log.info("actor.left", kind=pool.kind, number=worker.number)
                self._ray.kill(worker.handle)

    def _landed(self, reference: Any) -> list[Event]:
        """One call's answer as an event, or none yet. Raises: StorageAway when the storage is, UserError where it refuses."""
        from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, RayError

        flight = self._flights.pop(reference)
        pool, blamed = self._pool(flight), self._was_working_on(flight)
        pool.answered(flight.worker, reference)
        try:
            answer = self._ray.get(reference)
        except RayError as error:
            if isinstance(error, ActorDiedError | ActorUnavailableError):
                pool.died(flight.worker, last_line(error))
                flight.worker.blamed = flight.worker.blamed or blamed
                why = farm_fault(f"the {pool.kind} was lost: {_first_line(error)}")
                if flight.stage != "render":
                    return [self._failed(flight, why)]
                return [
                    self.renderers.ward.lost(_place(flight), flight.unit, why) if blamed else RenderLost(flight.unit, why, blamed=False)
                ]
            if isinstance(error, ObjectLostError) or isinstance(_cause(error), ObjectLostError):
                return [RenderLost(flight.unit, farm_fault("the pixels were lost with their host"), blamed=False)]
            answer = Trouble("fault", f"the {pool.kind} was lost: {_first_line(error)}")
        if isinstance(answer, Trouble):
            return self._trouble(flight, answer)
        unit, ward = flight.unit, self.renderers.ward
        if flight.stage == "render":
            reply: RenderReply = answer
            log.debug("unit.rendered", unit=unit.number, node=flight.worker.node, busy_s=round(reply.busy_s, 3))
            ward.paced(_place(flight), unit, reply.busy_s)
            self.renderers.put_aside()
            return [Rendered(unit, flight.pixels, reply.info, reply.marked, reply.started_us, reply.busy_s, reply.cpu_s)]
        assert flight.rendered is not None
        self.finishers.ward.passed(_place(flight), images_of(unit))
        if flight.stage == "check":
            return self._hold_or_tell(*ward.checked(CheckedUnit(unit, flight.rendered, answer)))
        ward.done(unit)
        return [StoredUnit(unit, answer)]

    def _was_working_on(self, flight: Errand) -> bool:
        """Whether it was the oldest call that the worker owed when it died: calls run in order, so the others had not begun."""
        older = any(held.worker is flight.worker and held.order < flight.order for held in self._flights.values())
        return not older and not flight.worker.blamed

    def _trouble(self, flight: Errand, trouble: Trouble) -> list[Event]:
        if trouble.kind in ("away", "refused"):
            raise trouble.error or StorageAway(trouble.reason)
        if flight.stage != "render":
            return [self._failed(flight, trouble.reason)]
        if trouble.kind == "fault":
            return self._hold_or_tell(RenderLost(flight.unit, trouble.reason), flight.worker.place)
        self.renderers.ward.done(flight.unit)
        return [RenderLost(flight.unit, trouble.reason)]

    def _failed(self, flight: Errand, why: str) -> FinishLost:
        """A finisher failed a unit, or died over it."""
        self.finishers.ward.failed(_place(flight), images_of(flight.unit))
        return FinishLost(flight.unit, farm_fault(why))


def _place(flight: Errand) -> Seat:
    """Where a call ran; one that was given to an actor which never became ready ran nowhere."""
    return flight.worker.place or Seat("", str(flight.worker.number))


def _pixels(rendered: Rendered) -> Pixels:
    assert isinstance(rendered.pixels, Pixels)
    return rendered.pixels


def _cause(error: BaseException) -> BaseException | None:
    """What was raised in the worker, where Ray says."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else None


def _first_line(error: BaseException) -> str:
    """The cause of a Ray error in one line; its own text is a page."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"[:300]
