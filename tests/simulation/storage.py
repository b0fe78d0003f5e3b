"""A storage in memory that misbehaves by a seed, per prefix: it fails before or after it wrote, is slow, executes abandoned writes late."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from renderfarm.errors import AlreadyStored, NotStored, StorageAway
from renderfarm.storage import Stored

PARTS = "provenance/parts/"


class Killed(BaseException):
    """The driver was killed: nothing of it runs any more, not even a finally."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances per request. `late`: a write whose answer is lost takes effect only after more requests. `delay_s`: the longest one."""

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    delay_s: float = 0.0


class World:
    """The objects, which outlive every driver, and the requests that are still under way in the network."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.under_way: list[tuple[int, str, bytes]] = []
        self.requests = 0
        self.changed: list[str] = []
        """Immutable keys whose bytes changed: must stay empty."""

    def tick(self) -> None:
        """One request more; late writes whose time has come are executed, put-if-absent as they were sent."""
        self.requests += 1
        due = [entry for entry in self.under_way if entry[0] <= self.requests]
        self.under_way = [entry for entry in self.under_way if entry[0] > self.requests]
        for _, key, data in due:
            self.objects.setdefault(key, data)


class FaultyStorage:
    """One driver's view of the world. Implements `renderfarm.storage.Storage`."""

    uri = "memory:"

    def __init__(
        self, world: World, rng: random.Random, faults: Mapping[str, Faults], spend: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.world, self.rng, self.faults, self.spend = world, rng, faults, spend
        self.dead = False
        self.lives_for: int | None = None
        """So many requests that write, then its driver is killed."""

    def _begin(self, key: str) -> Faults:
        if self.lives_for is not None:
            self.lives_for -= 1
            self.dead = self.dead or self.lives_for <= 0
        if self.dead:
            raise Killed
        self.world.tick()
        prefix = max((prefix for prefix in self.faults if key.startswith(prefix)), key=len)
        found = self.faults[prefix]
        if found.delay_s:
            self.spend(self.rng.uniform(0, found.delay_s))
        if self.dead:
            raise Killed
        return found

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        faults = self._begin(key)
        if self.rng.random() < faults.before:
            raise StorageAway(f"{key}: before it was written")
        if self.rng.random() < faults.late:
            self.world.under_way.append((self.world.requests + self.rng.randint(1, 12), key, data))
            raise StorageAway(f"{key}: no answer")
        if key in self.world.objects and self.world.objects[key] != data:
            raise AlreadyStored(key)
        self.world.objects[key] = data
        if self.rng.random() < faults.after:
            raise StorageAway(f"{key}: after it was written")

    def put(self, key: str, data: bytes, media_type: str = "") -> None:
        if self.rng.random() < self._begin(key).before:
            raise StorageAway(key)
        if key.startswith(PARTS) and key in self.world.objects:
            self.world.changed.append(key)
        self.world.objects[key] = data

    def _look(self) -> None:
        """Readers may run in threads of their own: they draw nothing, so that a seed replays exactly."""
        if self.dead:
            raise Killed

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        self._look()
        if key not in self.world.objects:
            raise NotStored(key)
        return self.world.objects[key]

    def stat(self, key: str) -> Stored | None:
        self._look()
        return Stored(key, len(self.world.objects[key]), 0.0) if key in self.world.objects else None

    def list(self, prefix: str) -> Iterator[Stored]:
        self._look()
        yield from [Stored(key, len(data), 0.0) for key, data in sorted(self.world.objects.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self._begin(key)
        if key.startswith(PARTS):
            self.world.changed.append(key)
        self.world.objects.pop(key, None)
