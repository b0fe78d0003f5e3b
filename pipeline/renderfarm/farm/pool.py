"""Actors of one kind: who is ready, who is idle, who died and is replaced, who hangs. Knows nothing of what they do.

An actor that died is replaced. A replacement may find no room on the cluster and stay pending: it gets no work while another one is
ready, costs nothing, and asks an autoscaler for a node. Where none is ready for ROOM_S, the run pauses. Actors that die again and again
before they are ready are given up. One whose host was told to go (a spot notice, a node that shuts down) gets no more work while another
is ready; its replacement starts at once, and it is ended when it owes nothing. One that is sick (`run.health`) gets no more work at all,
and stays where it is: so nothing else starts on its GPU, and its replacement looks for another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from renderfarm.errors import FarmLost
from renderfarm.logs import get_logger
from renderfarm.run.engine import no_worker
from renderfarm.run.health import EXPECTED_S, Seat, Ward
from renderfarm.workers.worker import Known

log = get_logger()

FALSE_STARTS_MAX = 3
"""Actors in a row that die before they are ready: then the kind has no room here, or cannot load."""
ROOM_S = 300.0
"""How long a run goes on without one ready actor of a kind, unless `farm.room_s` says otherwise: a node that is started takes minutes."""
NEAR = 2
"""A worker on the host where the pixels lie is preferred until it owes so many calls more than the idlest one."""


@dataclass(eq=False, slots=True)
class Member:
    """One actor and the references that it owes. `heard_s`: when it last answered, or was given work while idle;
    `blamed`: whether a unit was already blamed for its death; `leaving`: its host goes away, and its replacement was started; `out`: it is
    sick, and so was its; `batch`: images that it takes together."""

    number: int
    handle: Any
    ready: bool = False
    node: str = ""
    owes: set[Any] = field(default_factory=set)
    heard_s: float = 0.0
    blamed: bool = False
    leaving: bool = False
    out: bool = False
    place: Seat | None = None
    batch: int = 1


class Pool:
    """Actors of one kind; replaces the dead. `ward` says who is well."""

    def __init__(
        self, kind: str, spawn: Callable[[], Any], size: int, clock: Callable[[], float] = time.monotonic, room_s: float = ROOM_S
    ) -> None:
        """`room_s`: how long none may be ready."""
        self.kind, self.spawn, self.size, self.clock, self.room_s = kind, spawn, size, clock, room_s
        self.false_starts, self.why = 0, ""
        self.ward = Ward(kind)
        self._numbers = itertools.count(1)
        self._none_ready_since: float | None = clock()
        self.workers: list[Member] = []
        self.starting: dict[Any, Member] = {}
        for _ in range(size):
            self.add()
        self.ward.expected.update(worker.number for worker in self.workers)
        self._begun = clock()

    def add(self) -> None:
        """Start one more."""
        worker = Member(next(self._numbers), self.spawn())
        self.workers.append(worker)
        self.starting[worker.handle.started.remote()] = worker

    def started(self, worker: Member, node: str, known: Known | None = None) -> None:
        """It answered that it is ready, and what it made of the known picture."""
        worker.ready, worker.node, worker.heard_s = True, node, self.clock()
        worker.place = Seat(node, (known.device if known is not None else "") or str(worker.number))
        self.false_starts = 0
        self.ward.expected.discard(worker.number)
        self.ward.came(worker.place, known)
        self.put_aside()
        if not worker.out:
            self._none_ready_since = None

    def put_aside(self) -> None:
        """Those that are sick get nothing more, and others are started for them."""
        for worker in [worker for worker in self.workers if worker.place in self.ward.sick and not worker.out]:
            worker.out, self.why = True, self.ward.why()
            self.add()
        if self._none_ready_since is None and not any(worker.ready and not worker.out for worker in self.workers):
            self._none_ready_since = self.clock()

    def able(self) -> list[Member]:
        """Whom to give work: those that are ready, for an actor that finds no room on the cluster may never be; all while none is.

        Those that leave only while nobody else is ready.

        Raises: FarmLost when none is left, or none was ready for ROOM_S.
        """
        if not self.workers:
            raise no_worker(f"no {self.kind} is left: {FALSE_STARTS_MAX} in a row could not start", self.why)
        if self.clock() - self._begun > EXPECTED_S:
            self.ward.expected.clear()
        ready = [worker for worker in self.workers if worker.ready and not worker.out]
        if not ready and self._none_ready_since is not None and self.clock() - self._none_ready_since > self.room_s:
            sick = f"; those that did are put aside: {self.ward.why()}" if self.ward.sick else ": run again when there is room"
            raise FarmLost(f"no {self.kind} found room on the cluster within {self.room_s:.0f} s{sick}")
        well = [worker for worker in ready if worker.place is not None and self.ward.well(worker.place)] or ready
        return [worker for worker in well if not worker.leaving] or well or [worker for worker in self.workers if not worker.out]

    def idlest(self, images: Sequence[str], near: str = "") -> Member:
        """The worker that owes least of those that may have these images, those on host `near` first. Raises: FarmLost."""
        able = self.able()
        fitting = [worker for worker in able if worker.place is None or self.ward.fits(worker.place, images)]
        return min(fitting or able, key=lambda w: (len(w.owes) - (NEAR if near and w.node == near else 0), w.number))

    def gives(self, worker: Member, reference: Any) -> None:
        """It owes one call more."""
        if not worker.owes:
            worker.heard_s = self.clock()
        worker.owes.add(reference)

    def answered(self, worker: Member, reference: Any) -> None:
        """It owes one call less."""
        worker.owes.discard(reference)
        worker.heard_s = self.clock()

    def hung(self, after_s: float) -> list[Member]:
        """Ready workers that owe an answer and gave none for so long."""
        now = self.clock()
        return [worker for worker in self.workers if worker.ready and worker.owes and now - worker.heard_s > after_s]

    def died(self, worker: Member, why: str = "") -> None:
        """Drop a dead actor, and start another unless actors of this kind keep dying before they are ready."""
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self.ward.expected.discard(worker.number)
        if worker.place is not None:
            self.ward.went(worker.place)
        self.starting = {ref: other for ref, other in self.starting.items() if other is not worker}
        self.false_starts = 0 if worker.ready else self.false_starts + 1
        self.why = why
        log.warning("actor.died", kind=self.kind, number=worker.number, ready=worker.ready, reason=why or None)
        self.put_aside()
        if self.false_starts < FALSE_STARTS_MAX and not worker.leaving and not worker.out:
            self.add()

    def leave(self, nodes: Collection[str]) -> None:
        """These hosts go away soon: their workers are replaced now."""
        for worker in [worker for worker in self.workers if worker.node in nodes and not worker.leaving and not worker.out]:
            worker.leaving = True
            log.info("actor.leaving", kind=self.kind, number=worker.number, node=worker.node)
            self.add()

    def left(self, held: Collection[str]) -> list[Member]:
        """Workers that leave, owe nothing, and whose place another took: forgotten here, for the caller to end.

        `held`: hosts that still hold what others need; a host without workers may go at once.
        """
        if not any(worker.ready and not worker.leaving and not worker.out for worker in self.workers):
            return []
        gone = [worker for worker in self.workers if worker.leaving and not worker.owes and worker.node not in held]
        self.workers = [worker for worker in self.workers if worker not in gone]
        return gone
