"""The engine of one machine: processes of our own and pipes, no cluster.

On a CPU every worker renders, checks and stores, whatever waits: storing first and rendering last, so that pixels leave memory soon.
On GPUs one worker each renders, and the others check and store. A worker that dies, or gives no answer for `farm.hang_s`, is
replaced, and what it had comes back as `RenderLost` / `FinishLost`; pixels lie with the driver, so only what was being rendered is lost.
Who is well, and may have what, is `run.health`'s to say. A worker ends when its pipe closes: a killed driver leaves none behind.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from renderfarm import processes
from renderfarm.errors import FarmLost, Paused, Stopped, StorageAway, UserError
from renderfarm.logs import get_logger
from renderfarm.retry import farm_fault
from renderfarm.run.crew import FALSE_STARTS_MAX, HERE, Call, Crew, Flight, Worker
from renderfarm.run.engine import (
    BYTES_IN_FLIGHT_MAX,
    UNITS_PER_FINISHER,
    CheckedUnit,
    Event,
    FinishLost,
    Rendered,
    RenderLost,
    StoredUnit,
    no_worker,
)
from renderfarm.run.health import EXPECTED_S, Seat, Ward
from renderfarm.run.units import Unit
from renderfarm.workers import process
from renderfarm.workers.finish import Checked, Decision
from renderfarm.workers.process import Begin, Done, Kind, Ready, Task
from renderfarm.workers.worker import Known, Order, RenderReply, Trouble

log = get_logger()


class LocalEngine:
    """`run.engine.Engine` over processes of this machine. Close it in any case."""

    def __init__(
        self,
        order: Order,
        crew: Crew,
        module: str = process.__name__,
        gpus: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gpus`: one for each renderer, as CUDA_VISIBLE_DEVICES names it; one that is alone sees all: its encoders may be elsewhere."""
        self._order, self._module, self._clock = order, module, clock
        self._numbers, self._task_numbers = itertools.count(1), itertools.count(1)
        self._workers: list[Worker] = []
        self._renders: deque[Call] = deque()
        self._finishes: deque[Call] = deque()
        self._flights: dict[int, Flight] = {}
        self._events: list[Event] = []
        self._batch, self._false_starts, self._why = 0, 0, ""
        self._refusal: UserError | None = None
        self._away: Paused | UserError | None = None
        self._wards: dict[Kind, Ward] = {"render": Ward("renderer"), "finish": Ward("finisher")}
        both: tuple[Kind, ...] = ("render", "finish")
        for at in range(crew.renderers):
            pinned = {"CUDA_VISIBLE_DEVICES": gpus[at]} if not crew.mixed and crew.renderers > 1 and at < len(gpus) else {}
            alone = crew.renderers + crew.finishers == 1
            if crew.mixed and (at or alone):  # the first renders soon, the second waits for its pictures, and learns to render meanwhile
                self._spawn(Seat(HERE, str(at)), both, ("finish", "render"), pinned)
            else:
                self._spawn(Seat(HERE, str(at)), both if crew.mixed else ("render",), ("render",), pinned)
        self._begun = time.monotonic()
        self._wards["render"].expected.update(worker.place for worker in self._workers)
        for at in range(crew.renderers, crew.renderers + crew.finishers):
            self._spawn(Seat(HERE, str(at)), ("finish",), ("finish",), {})

    def _spawn(self, place: Seat, kinds: tuple[Kind, ...], first: tuple[Kind, ...], environment: dict[str, str]) -> None:
        """Start one more worker."""
        overlap = 2 if kinds == ("render",) else 1  # on a GPU one unit is decoded and copied while the next denoises
        child = processes.start(self._module, environment)
        if "finish" in kinds:
            self._wards["finish"].came(place)
        worker = Worker(next(self._numbers), place, child, kinds, overlap, self._clock(), environment, first, list(first))
        self._workers.append(worker)
        with suppress(OSError):  # one that died at once is seen by `wait`
            child.pipe.send(Begin(self._order, first, overlap))

    def start(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Wait until one worker renders and one finishes; how many images a renderer takes together.

        Raises: FarmLost with the cause, Stopped when `stopped` says so; UserError when a worker refuses what the job asks of it.
        """
        while not all(any(kind in worker.ready for worker in self._workers) for kind in ("render", "finish")):
            if stopped():
                raise Stopped("stopped while the workers were starting: run the same command again")
            self._listen(0.5)
            self._end_hung()
            if self._refusal is not None:
                raise self._refusal
            for kind in ("render", "finish"):
                if not any(kind in worker.ready or kind in worker.awaits for worker in self._workers):
                    raise no_worker(f"no worker can {kind}: {FALSE_STARTS_MAX} in a row could not start", self._why)
        return max(1, self._batch)

    def capacity(self) -> int:
        """A unit to render for each renderer, and one more on a GPU; none while finishing or bytes are behind. Raises: FarmLost.

        What waits for another renderer, because it failed with this one, leaves this one its place.
        """
        renderers = [worker for worker in self._workers if "render" in worker.kinds]
        if not (renderers or self._events or self._flights):
            raise self._away or no_worker("no worker is left that can render", self._why)
        rendering = sum(flight.rendered is None for flight in self._flights.values())
        behind = len(self._flights) - rendering >= UNITS_PER_FINISHER * len(self._workers)
        flying = sum(flight.unit.pixel_bytes() for flight in self._flights.values())
        if behind or flying >= BYTES_IN_FLIGHT_MAX:
            return 0
        ward, free = self._wards["render"], dict[Worker, int]()
        for worker in self._workers:
            if "render" in worker.awaits or ("render" in worker.kinds and ward.well(worker.place) and not ward.waits(worker.place)):
                free[worker] = worker.overlap - sum(call is not None and call.kind == "render" for call in worker.tasks.values())
        for call in self._renders:
            takes = (worker for worker, count in free.items() if count > 0 and ("render" in worker.awaits or self._fits(worker, call)))
            for taker in itertools.islice(takes, 1):
                free[taker] -= 1
        return sum(count for count in free.values() if count > 0)

    def share(self) -> float:
        return 1.0

    def render(self, unit: Unit) -> None:
        flight = self._flights[unit.number] = Flight(unit)
        self._renders.append(Call(flight, "render", "render", (unit.attempts(),)))
        self._dispatch()

    def check(self, rendered: Rendered) -> None:
        flight = self._flights[rendered.unit.number] = Flight(rendered.unit, rendered)
        for at, attempt in enumerate(rendered.unit.attempts()):
            pixels = rendered.pixels[at : at + 1]  # type: ignore[index]  # the handle of this engine is the array itself
            self._finishes.append(Call(flight, "finish", "check", ((attempt,), pixels, rendered.marked[at : at + 1]), at))
        self._dispatch()

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        flight = self._flights[rendered.unit.number] = Flight(rendered.unit, rendered)
        calls = []
        for at, attempt in enumerate(rendered.unit.attempts()):
            reply = RenderReply(rendered.info, rendered.marked[at : at + 1], rendered.started_us, rendered.busy_s, rendered.cpu_s)
            pixels = rendered.pixels[at : at + 1]  # type: ignore[index]
            arguments = ((attempt,), pixels, reply, (checked[at],), (decisions[at],))
            calls.append(Call(flight, "finish", "store", arguments, at))
        self._finishes.extendleft(reversed(calls))
        self._dispatch()

    def _dispatch(self) -> None:
        """Give what waits to workers that are idle, finishing first; to those that must get ready for it only if nobody else is idle."""
        for worker in self._workers:
            self._give(worker, worker.ready)
        for worker in self._workers:
            if worker.ready and not worker.awaits:
                self._give(worker, worker.kinds)

    def _give(self, worker: Worker, kinds: Sequence[Kind]) -> None:
        while len(worker.tasks) < worker.overlap and (call := self._next_call(worker, kinds)) is not None:
            if call.kind == "render":
                self._wards["render"].gave(worker.place, call.flight.unit)
            self._send(worker, call, Task(next(self._task_numbers), call.kind, call.method, call.arguments))

    def _send(self, worker: Worker, call: Call | None, task: Task) -> None:
        if not worker.tasks:
            worker.heard_s = self._clock()
        worker.tasks[task.number] = call
        with suppress(OSError):  # one that died is seen by `wait`
            worker.child.pipe.send(task)

    def _ask(self, worker: Worker) -> None:
        """For the known picture."""
        self._send(worker, None, Task(next(self._task_numbers), "render", "known", ()))

    def _next_call(self, worker: Worker, kinds: Sequence[Kind]) -> Call | None:
        for kind, waiting in (("finish", self._finishes), ("render", self._renders)):
            for call in [*waiting] if kind in kinds else ():
                if call.flight.lost:
                    waiting.remove(call)
                elif self._fits(worker, call):
                    waiting.remove(call)
                    return call
        return None

    def _fits(self, worker: Worker, call: Call) -> bool:
        """Whether this worker may do it."""
        ward = self._wards[call.kind]
        return not ward.waits(worker.place) and ward.fits(worker.place, call.images())

    def wait(self, timeout_s: float) -> list[Event]:
        deadline = time.monotonic() + timeout_s
        while not self._events:
            if self._away is not None:
                raise self._away
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            self._listen(left_s)
            self._end_hung()
        events, self._events = self._events, []
        return events

    def _listen(self, timeout_s: float) -> None:
        """Take in what workers say, and what their ends say. Raises: FarmLost when none is left."""
        if not self._workers:
            raise no_worker("no worker is left", self._why)
        heard = connection.wait([worker.child.pipe for worker in self._workers], timeout_s)
        for worker in [worker for worker in self._workers if worker.child.pipe in heard]:
            try:
                answer: Done | Ready = worker.child.pipe.recv()
            except (EOFError, OSError):
                self._died(worker)
            else:
                worker.heard_s = self._clock()
                if isinstance(answer, Ready):
                    self._started(worker, answer)
                else:
                    self._answered(worker, answer)
        self._dispatch()

    def _answered(self, worker: Worker, answer: Done) -> None:
        call = worker.tasks.pop(answer.number)
        if call is None:
            self._judged(worker, answer.value)
            return
        if isinstance(answer.value, UserError):  # it was ready for another kind of work when it started
            self._refused(worker, call, answer.value)
            return
        if call.kind not in worker.ready:
            worker.ready.append(call.kind)
        if not call.flight.lost:
            self._landed(worker, call, answer.value)

    def _judged(self, worker: Worker, known: Known) -> None:
        """The known picture came: before work, or after something that may be the worker's fault."""
        ward = self._wards["render"]
        if "render" in worker.awaits:
            ward.came(worker.place, known)
            self._is_ready(worker, "render")
        for event in ward.judged(worker.place, known):
            self._tell(event)
        self._put_aside()

    def _tell(self, event: Event) -> None:
        """An event, and the end of its unit's flight where it is one."""
        if isinstance(event, RenderLost | FinishLost):
            self._flights.pop(event.unit.number, None)
        self._events.append(event)

    def _put_aside(self) -> None:
        """Renderers that are sick do nothing more, or only check and store."""
        sick = self._wards["render"].sick
        for worker in [worker for worker in self._workers if worker.place in sick and "render" in worker.kinds]:
            worker.kinds = tuple(kind for kind in worker.kinds if kind != "render")
            worker.ready = [kind for kind in worker.ready if kind != "render"]
            if not worker.kinds and not worker.tasks:
                worker.child.process.kill()
        if sick and not any("render" in other.kinds for other in self._workers):
            self._why = self._wards["render"].why()
            while self._renders:
                call = self._renders.popleft()
                self._lose(call.flight, RenderLost(call.flight.unit, farm_fault(self._why), blamed=False))

    def _started(self, worker: Worker, said: Ready) -> None:
        if isinstance(said.batch, UserError):
            self._refusal = self._refusal or said.batch
            worker.child.process.kill()
            return
        self._batch = max(self._batch, said.batch)
        if said.kind == "render":
            self._ask(worker)
        else:
            self._is_ready(worker, said.kind)

    def _is_ready(self, worker: Worker, kind: Kind) -> None:
        worker.awaits.remove(kind)
        log.debug("worker.ready", number=worker.number, kind=kind)
        if kind not in worker.ready:  # a task of this kind may have been faster
            worker.ready.append(kind)
        self._false_starts = self._false_starts if worker.awaits else 0

    def _refused(self, worker: Worker, call: Call, refusal: UserError) -> None:
        """Others go on with this kind of work, if there are any."""
        log.warning("worker.refused", number=worker.number, kind=call.kind, reason=str(refusal))
        worker.kinds = tuple(kind for kind in worker.kinds if kind != call.kind)
        worker.ready = [kind for kind in worker.ready if kind != call.kind]
        if not any(call.kind in other.kinds for other in self._workers):
            self._away = FarmLost(f"no worker is left that can {call.kind}: {refusal}")
        elif not call.flight.lost:
            (self._renders if call.kind == "render" else self._finishes).appendleft(call)

    def _landed(self, worker: Worker, call: Call, value: Any) -> None:
        """One answer of a flight; its event once all of a stage are there."""
        flight, unit = call.flight, call.flight.unit
        if call.kind == "render":
            pixels, reply = value
            if isinstance(reply, Trouble):
                self._trouble(worker, call, reply)
                return
            log.debug("unit.rendered", unit=unit.number, busy_s=round(reply.busy_s, 3))
            self._events.append(Rendered(unit, pixels, reply.info, reply.marked, reply.started_us, reply.busy_s, reply.cpu_s))
            self._wards["render"].paced(worker.place, unit, reply.busy_s)
            self._put_aside()
            return
        if isinstance(value, Trouble):
            self._trouble(worker, call, value)
            return
        self._wards["finish"].passed(worker.place, call.images())
        flight.answers[call.at] = value[0]
        if len(flight.answers) < len(unit.members):
            return
        answers, rendered = tuple(flight.answers[at] for at in range(len(unit.members))), flight.rendered
        assert rendered is not None
        if call.method == "check":
            self._hold_or_tell(*self._wards["render"].checked(CheckedUnit(unit, rendered, answers)))
        else:
            del self._flights[unit.number]
            self._wards["render"].done(unit)
            self._events.append(StoredUnit(unit, answers))

    def _hold_or_tell(self, event: RenderLost | CheckedUnit, place: Seat | None) -> None:
        """Where a renderer may be at fault it is asked for the known picture before the event counts."""
        asked = next((worker for worker in self._workers if worker.place == place and "render" in worker.kinds), None)
        if asked is None or place is None:
            self._tell(event)
        elif self._wards["render"].hold(place, event):
            self._ask(asked)

    def _trouble(self, worker: Worker, call: Call, trouble: Trouble) -> None:
        unit = call.flight.unit
        if trouble.kind in ("away", "refused"):
            self._away = trouble.error or StorageAway(trouble.reason)
        elif call.kind == "finish":
            self._wards["finish"].failed(worker.place, call.images())
            self._lose(call.flight, FinishLost(unit, farm_fault(trouble.reason)))
        elif trouble.kind == "fault":
            self._hold_or_tell(RenderLost(unit, trouble.reason), worker.place)
        else:
            self._wards["render"].done(unit)
            self._lose(call.flight, RenderLost(unit, trouble.reason))

    def _lose(self, flight: Flight, event: Event) -> None:
        flight.lost = True
        self._tell(event)

    def _end_hung(self) -> None:
        """End workers that owe an answer, to a task or that they are ready, and gave none for too long."""
        if time.monotonic() - self._begun > EXPECTED_S:
            self._wards["render"].expected.clear()
        for worker in self._workers:
            if (worker.tasks or worker.awaits) and self._clock() - worker.heard_s > self._order.job.farm.hang_s:
                log.warning("worker.hung", number=worker.number, seconds=self._order.job.farm.hang_s)
                worker.child.process.kill()
                worker.heard_s = self._clock()

    def _died(self, worker: Worker) -> None:
        """Its units come back, of which only the oldest is blamed for its death; another takes its place."""
        self._workers.remove(worker)
        ended = worker.child.end()
        self._why = str(self._refusal or ended)
        log.warning("worker.died", number=worker.number, ready=bool(worker.ready), reason=ended)
        why, ward = farm_fault(f"the worker was lost: {ended}"), self._wards["render"]
        if None in worker.tasks.values() and "render" not in worker.awaits:
            for event in ward.judged(worker.place, None):
                self._tell(event)
        for order, call in enumerate(call for call in worker.tasks.values() if call is not None and not call.flight.lost):
            unit = call.flight.unit
            if call.kind == "finish":
                self._wards["finish"].failed(worker.place, call.images())
                self._lose(call.flight, FinishLost(unit, why))
            else:
                self._lose(call.flight, RenderLost(unit, why, blamed=False) if order else ward.lost(worker.place, unit, why))
        ward.went(worker.place)
        self._put_aside()
        kinds = tuple(kind for kind in worker.kinds if kind != "render" or worker.place not in ward.sick)
        first = tuple(kind for kind in worker.first if kind in kinds) or kinds
        self._false_starts = self._false_starts + 1 if worker.awaits else 0
        if kinds and self._false_starts < FALSE_STARTS_MAX and self._refusal is None:
            self._spawn(worker.place, kinds, first, worker.environment)
            return
        self._wards["finish"].went(worker.place)
        if self._workers and not all(any(kind in other.kinds for other in self._workers) for kind in worker.kinds):
            self._away = no_worker(f"no worker is left that can {' or '.join(worker.kinds)}", self._why)

    def close(self) -> None:
        """End all workers; what they were doing is lost."""
        for worker in self._workers:  # all are told before the first is waited for
            worker.child.pipe.close()
        for worker in self._workers:
            worker.child.end()
        self._workers.clear()
