"""What waits to be rendered, cut into units. Pure, no Ray.

A unit is a lease: the attempts that one renderer holds and would lose if it died. Retries and units that came back go first. A unit that
took its renderer down comes back in halves, so that a poison row is soon alone; alone it gets `deaths_max` chances in all.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from renderfarm.job import JobSettings
from renderfarm.plan import BatchKey, attempt_of, batch_key, on_ladder
from renderfarm.schema import Attempt, PlannedImage

BYTES_PER_PIXEL = 3
LOOKAHEAD_BATCHES = 8
"""How far the manifest is read ahead to fill a batch with images that may share it."""


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """One attempt to make. `rejected`: recorded rejections before it; `deaths`: renderers it took down while alone.

    `planned`: the image as it was planned, where a rung of the job's ladder renders this attempt in another way.
    """

    attempt: Attempt
    rejected: int = 0
    deaths: int = 0
    planned: PlannedImage | None = None

    @classmethod
    def of(cls, image: PlannedImage, number: int, rejected: int, job: JobSettings) -> PendingAttempt:
        """The attempt `number` of an image that was rejected so often, on the rung of the ladder where it stands."""
        attempt = on_ladder(attempt_of(image, number), rejected, job)
        return cls(attempt, rejected, planned=image if attempt.image is not image else None)


@dataclass(frozen=True, slots=True)
class Unit:
    """Works that are rendered together, all with one batch key. `losses`: finishers that died over it."""

    number: int
    members: tuple[PendingAttempt, ...]
    losses: int = 0

    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts in batch order."""
        return tuple(work.attempt for work in self.members)

    def pixel_bytes(self) -> int:
        """Bytes of its pixels, uint8 (B, H, W, 3)."""
        return sum(work.attempt.image.width * work.attempt.image.height * BYTES_PER_PIXEL for work in self.members)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Attempts that wait: rejected ones for their next seed, those of lost units, and new ones read ahead from the plan."""

    retries: int = 0
    returned: int = 0
    ahead: int = 0


class UnitQueue:
    """Hands out units: first what came back alone, then retries, then new work from the plan, grouped by batch key."""

    def __init__(self, source: Iterator[PendingAttempt], batch: int, key: Callable[[PlannedImage], BatchKey] = batch_key) -> None:
        self._source = source
        self._key = key
        self._batch = batch
        self._numbers = itertools.count(1)
        self._sealed: deque[tuple[PendingAttempt, ...]] = deque()
        self._retries: dict[BatchKey, deque[PendingAttempt]] = {}
        self._fresh: dict[BatchKey, deque[PendingAttempt]] = {}
        self._fresh_count = 0
        self._dry = False

    def put_retry(self, work: PendingAttempt) -> None:
        """An attempt that goes before everything new, batched with its like."""
        self._retries.setdefault(self._key(work.attempt.image), deque()).append(work)

    def put_back(self, members: tuple[PendingAttempt, ...], *, first: bool = False) -> None:
        """Works of a lost unit, to be handed out together and unmixed; before all others if nothing speaks against them."""
        if first:
            self._sealed.appendleft(members)
        else:
            self._sealed.append(members)

    def waiting(self) -> Backlog:
        """How much waits; the plan behind what was read ahead is not counted."""
        return Backlog(sum(map(len, self._retries.values())), sum(map(len, self._sealed)), self._fresh_count)

    def empty(self) -> bool:
        """Whether nothing waits; reads ahead to know."""
        self._refill()
        return not (self._sealed or self._retries or self._fresh)

    def next_unit(self, share: float = 1.0) -> Unit | None:
        """The next lease, or None when nothing waits; new work fills this share of a batch."""
        if self._sealed:
            return Unit(next(self._numbers), self._sealed.popleft())
        self._refill()
        for pool in (self._retries, self._fresh):
            if pool:
                return Unit(next(self._numbers), self._take(pool, max(1, round(self._batch * share))))
        return None

    def _take(self, pool: dict[BatchKey, deque[PendingAttempt]], count: int) -> tuple[PendingAttempt, ...]:
        """A batch of the oldest key in `pool`; a short batch of retries is filled up with new work of the same key."""
        key = next(iter(pool))
        taken = self._pop(pool, key, count)
        if pool is self._retries and len(taken) < count and key in self._fresh:
            taken += self._pop(self._fresh, key, count - len(taken))
        return tuple(taken)

    def _pop(self, pool: dict[BatchKey, deque[PendingAttempt]], key: BatchKey, count: int) -> list[PendingAttempt]:
        waiting = pool[key]
        taken = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        if not waiting:
            del pool[key]
        if pool is self._fresh:
            self._fresh_count -= len(taken)
        return taken

    def _refill(self) -> None:
        while not self._dry and self._fresh_count < self._batch * LOOKAHEAD_BATCHES:
            work = next(self._source, None)
            if work is None:
                self._dry = True
                return
            self._fresh.setdefault(self._key(work.attempt.image), deque()).append(work)
            self._fresh_count += 1


def halves(unit: Unit) -> list[tuple[PendingAttempt, ...]]:
    """A unit that took its renderer down, as what to try next: two halves, or the one work with one death more."""
    if len(unit.members) == 1:
        return [(replace(unit.members[0], deaths=unit.members[0].deaths + 1),)]
    middle = len(unit.members) // 2
    return [unit.members[:middle], unit.members[middle:]]
