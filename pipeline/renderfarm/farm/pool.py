"""Actors of one kind: who is ready, who is idle, who died and is replaced, who hangs. Knows nothing of what they do.

An actor that died is replaced. A replacement may find no room on the cluster and stay pending: it gets no work while another one is
ready, costs nothing, and asks an autoscaler for a node. Where none is ready for ROOM_S, the run pauses. Actors that die again and again
before they are ready are given up. One whose host was told to go (a spot notice, a node that shuts down) gets no more work while another
is ready; its replacement starts at once, and it is ended when it owes nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from renderfarm.errors import FarmLost
from renderfarm.logs import get_logger

log = get_logger()

FALSE_STARTS_MAX = 3
"""Actors in a row that die before they are ready: then the kind has no room here, or cannot load."""
ROOM_S = 300.0
"""How long a run goes on without one ready actor of a kind: a node that is being started takes minutes."""
NEAR = 2
"""A worker on the host where the pixels lie is preferred until it owes so many calls more than the idlest one."""


@dataclass(eq=False, slots=True)
class Member:
    """One actor and the references that it owes. `heard_s`: when it last answered, or was given work while idle;
    `blamed`: whether a unit was already blamed for its death; `leaving`: its host goes away, and its replacement was started."""

    number: int
    handle: Any
    ready: bool = False
    node: str = ""
    owes: set[Any] = field(default_factory=set)
    heard_s: float = 0.0
    blamed: bool = False
    leaving: bool = False


class Pool:
    """Actors of one kind; replaces the dead."""

    def __init__(self, kind: str, spawn: Callable[[], Any], size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.kind, self.spawn, self.size, self.clock = kind, spawn, size, clock
        self.false_starts, self.why = 0, ""
        self._numbers = itertools.count(1)
        self._none_ready_since: float | None = clock()
        self.workers: list[Member] = []
        self.starting: dict[Any, Member] = {}
        for _ in range(size):
            self.add()

    def add(self) -> None:
        """Start one more."""
        worker = Member(next(self._numbers), self.spawn())
        self.workers.append(worker)
        self.starting[worker.handle.started.remote()] = worker

    def started(self, worker: Member, node: str) -> None:
        """It answered that it is ready."""
        worker.ready, worker.node, worker.heard_s = True, node, self.clock()
        self.false_starts, self._none_ready_since = 0, None

    def able(self) -> list[Member]:
        """Whom to give work: those that are ready, for an actor that finds no room on the cluster may never be; all while none is.

        Those that leave only while nobody else is ready.

        Raises: FarmLost when none is left, or none was ready for ROOM_S.
        """
        if not self.workers:
            raise FarmLost(f"no {self.kind} is left: {FALSE_STARTS_MAX} in a row could not start: {self.why}")
        ready = [worker for worker in self.workers if worker.ready]
        if not ready and self._none_ready_since is not None and self.clock() - self._none_ready_since > ROOM_S:
            raise FarmLost(f"no {self.kind} found room on the cluster within {ROOM_S:.0f} s: run again when there is room")
        return [worker for worker in ready if not worker.leaving] or ready or self.workers

    def idlest(self, near: str = "") -> Member:
        """The worker that owes least, those on host `near` first. Raises: FarmLost."""
        return min(self.able(), key=lambda w: (len(w.owes) - (NEAR if near and w.node == near else 0), w.number))

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
        self.starting = {ref: other for ref, other in self.starting.items() if other is not worker}
        self.false_starts = 0 if worker.ready else self.false_starts + 1
        self.why = why
        log.warning("actor.died", kind=self.kind, number=worker.number, ready=worker.ready, reason=why or None)
        if not any(other.ready for other in self.workers) and self._none_ready_since is None:
            self._none_ready_since = self.clock()
        if self.false_starts < FALSE_STARTS_MAX and not worker.leaving:
            self.add()

    def leave(self, nodes: Collection[str]) -> None:
        """These hosts go away soon: their workers are replaced now."""
        for worker in [worker for worker in self.workers if worker.node in nodes and not worker.leaving]:
            worker.leaving = True
            log.info("actor.leaving", kind=self.kind, number=worker.number, node=worker.node)
            self.add()

    def left(self, held: Collection[str]) -> list[Member]:
        """Workers that leave, owe nothing, and whose place another took: forgotten here, for the caller to end.

        `held`: hosts that still hold what others need; a host without workers may go at once.
        """
        if not any(worker.ready and not worker.leaving for worker in self.workers):
            return []
        gone = [worker for worker in self.workers if worker.leaving and not worker.owes and worker.node not in held]
        self.workers = [worker for worker in self.workers if worker not in gone]
        return gone
