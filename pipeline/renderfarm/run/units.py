"""What waits to be rendered, cut into units. Pure, no Ray.

A unit is a lease: the attempts that one renderer holds and would lose if it died. Retries and units that came back go first. A unit that
took its renderer down comes back in halves, so that a poison row is soon alone; alone it gets `deaths_max` chances in all.

Images that share a drawing stay together in one unit, so that it is drawn once; a batch counts drawings. In what follows a *group* is such
images, at the same attempt with the same noise; without layers and formats, each image is a group of its own. A group are also the attempts
of one image of which the best is kept: they are never told apart, so that one decision is made over all of them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from renderfarm.job import JobSettings
from renderfarm.plan import BatchKey, attempt_of, batch_key, drawing_of, on_ladder
from renderfarm.schema import Attempt, PlannedImage

BYTES_PER_PIXEL = 3
GROUP_BYTES_MAX = 64 << 20
"""Of a group's pixels: a drawing with more sheets is drawn again for the rest."""
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

    @classmethod
    def round(cls, image: PlannedImage, number: int, rejected: int, job: JobSettings) -> list[PendingAttempt]:
        """The attempts from `number` on that are rendered together, and the best of them kept: `defaults.of`, or as many as are left."""
        count = max(1, min(job.defaults.of, job.checks.attempts - rejected))
        return [cls.of(image, number + more, rejected, job) for more in range(count)]


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
        return sum(map(_pixel_bytes, self.members))


@dataclass(frozen=True, slots=True)
class Backlog:
    """Attempts that wait: rejected ones for their next seed, those of lost units, and new ones read ahead from the plan."""

    retries: int = 0
    returned: int = 0
    ahead: int = 0


Group = list[PendingAttempt]


def _pixel_bytes(work: PendingAttempt) -> int:
    return work.attempt.image.width * work.attempt.image.height * BYTES_PER_PIXEL


def _group_bytes(group: Group) -> int:
    return _pixel_bytes(group[0]) * len(group)


def _joins(group: Group, work: PendingAttempt) -> bool:
    """Whether an attempt belongs to this group, as its last one was put there: of the same image, or drawn as one."""
    if group[-1].attempt.image.image_id == work.attempt.image.image_id:
        return True
    fits = _group_bytes(group) + _pixel_bytes(work) <= GROUP_BYTES_MAX
    return drawing_of(group[-1].attempt) == drawing_of(work.attempt) and fits


def _drawings(group: Group) -> int:
    """How many drawings a group takes."""
    return len({drawing_of(work.attempt) for work in group})


def _sheets(group: Group) -> bool:
    """Whether a drawing of it is several pictures."""
    return len(group) > _drawings(group)


def by_image(members: Iterable[PendingAttempt]) -> list[tuple[PendingAttempt, ...]]:
    """Works that follow one another and are of one image, together."""
    return [tuple(works) for _, works in itertools.groupby(members, lambda work: work.attempt.image.image_id)]


def _groups(works: Iterable[PendingAttempt]) -> list[Group]:
    """Works that follow one another and belong together."""
    groups: list[Group] = []
    for work in works:
        if groups and _joins(groups[-1], work):
            groups[-1].append(work)
        else:
            groups.append([work])
    return groups


class UnitQueue:
    """Hands out units: first what came back alone, then retries, then new work from the plan, grouped by batch key.

    `batch`: drawings in a unit.
    """

    def __init__(self, source: Iterator[PendingAttempt], batch: int, key: Callable[[PlannedImage], BatchKey] = batch_key) -> None:
        self._source = source
        self._ahead: Group = []
        self._key = key
        self._batch = batch
        self._numbers = itertools.count(1)
        self._sealed: deque[tuple[PendingAttempt, ...]] = deque()
        self._retries: dict[BatchKey, deque[Group]] = {}
        self._fresh: dict[BatchKey, deque[Group]] = {}
        self._fresh_groups = 0
        self._dry = False

    def put_retry(self, work: PendingAttempt) -> None:
        """An attempt that goes before everything new, batched with its like; with the one before it, if they are drawn as one."""
        waiting = self._retries.setdefault(self._key(work.attempt.image), deque())
        if waiting and _joins(waiting[-1], work):
            waiting[-1].append(work)
        else:
            waiting.append([work])

    def put_back(self, members: tuple[PendingAttempt, ...], *, first: bool = False) -> None:
        """Works of a lost unit, to be handed out together and unmixed; before all others if nothing speaks against them."""
        if first:
            self._sealed.appendleft(members)
        else:
            self._sealed.append(members)

    def waiting(self) -> Backlog:
        """How much waits; the plan behind what was read ahead is not counted."""
        retries, ahead = (sum(len(group) for groups in pool.values() for group in groups) for pool in (self._retries, self._fresh))
        return Backlog(retries, sum(map(len, self._sealed)), ahead + len(self._ahead))

    def images(self) -> Iterator[str]:
        """The images that wait here, read ahead or come back; the plan behind what was read ahead is not looked at."""
        waiting = (group for pool in (self._retries, self._fresh) for groups in pool.values() for group in groups)
        return (work.attempt.image.image_id for works in (*self._sealed, *waiting, self._ahead) for work in works)

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
                groups = self._take(pool, max(1, round(self._batch * share)))
                return Unit(next(self._numbers), tuple(work for group in groups for work in group))
        return None

    def _take(self, pool: dict[BatchKey, deque[Group]], count: int) -> list[Group]:
        """So many of the oldest key in `pool`; a short batch of retries is filled up with new work of the same key."""
        key = next(iter(pool))
        taken = self._pop(pool, key, [], count)
        if pool is self._retries and key in self._fresh:
            taken = self._pop(self._fresh, key, taken, count)
        return taken

    def _pop(self, pool: dict[BatchKey, deque[Group]], key: BatchKey, taken: list[Group], count: int) -> list[Group]:
        """`taken`, and behind it groups from `pool` until they are `count` drawings. Several sheets of one may fill a unit before that."""
        waiting, size, several = pool[key], sum(map(_group_bytes, taken)), any(map(_sheets, taken))
        drawings = sum(map(_drawings, taken))
        while waiting and drawings < count:
            size, several = size + _group_bytes(waiting[0]), several or _sheets(waiting[0])
            if taken and several and size > GROUP_BYTES_MAX:  # single pictures are the batch's to limit
                break
            taken.append(waiting.popleft())
            drawings += _drawings(taken[-1])
            self._fresh_groups -= pool is self._fresh
        if not waiting:
            del pool[key]
        return taken

    def _refill(self) -> None:
        while not self._dry and self._fresh_groups < self._batch * LOOKAHEAD_BATCHES:
            group = self._next_group()
            if not group:
                self._dry = True
                return
            self._fresh.setdefault(self._key(group[0].attempt.image), deque()).append(group)
            self._fresh_groups += 1

    def _next_group(self) -> Group:
        """The next works of the plan that are drawn as one; the work behind them, which says where they end, is kept. Empty at the end."""
        group, self._ahead = self._ahead, []
        for work in self._source:
            if group and not _joins(group, work):
                self._ahead = [work]
                break
            group.append(work)
        return group


def halves(unit: Unit, *, sheets: bool = False) -> list[tuple[PendingAttempt, ...]]:
    """A unit that took its worker down, as what to try next: two halves, or the one drawing with one death more.

    `sheets`: it was no renderer, so a drawing's sheets are told apart, too; never the attempts of one image.
    """
    groups = _groups(unit.members)
    if sheets and len(groups) == 1:
        groups = [list(works) for works in by_image(unit.members)]
    if len(groups) == 1:
        return [tuple(replace(work, deaths=work.deaths + 1) for work in unit.members)]
    middle = len(groups) // 2
    return [tuple(work for group in part for work in group) for part in (groups[:middle], groups[middle:])]
