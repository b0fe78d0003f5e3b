"""A small world for the loop: machines on a virtual clock that die and lose pixels, a storage that fails before or after it wrote.

Everything follows from one seed. A life is one driver; it may be killed at any step, and the next life starts from the parts alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.checks.fingerprint import Fingerprint
from pipeline.errors import AlreadyStored, NotStored, StorageAway
from pipeline.farm.engine import CheckedUnit, Event, FinishLost, Rendered, RenderLost, StoredUnit
from pipeline.farm.loop import Loop, Tally
from pipeline.farm.work import Unit, Work, WorkQueue
from pipeline.finish import Checked, Decision, Finished, failed_record
from pipeline.job import JobSettings
from pipeline.plan import Intent, plan_row
from pipeline.provenance.checkpoint import Signer
from pipeline.provenance.writer import LogWriter
from pipeline.retry import next_attempt
from pipeline.schema import Attempt, PlannedImage, PromptRow, Record, RenderInfo, Verdict
from pipeline.storage import Stored

SIGNER = Signer.of("simulation", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
INFO = RenderInfo("sim", "", "0" * 64, "none", "none", "none", "sim", "", "0", "0")
EMPTY_SIGNATURE = ""


class Killed(BaseException):
    """The driver was killed: nothing of it runs any more, not even a finally."""


class FaultyStorage:
    """Objects in memory. With chance `faults` a write fails, before or after it took effect; immutable objects may never change."""

    uri = "memory:"

    def __init__(self, rng: random.Random, faults: float) -> None:
        self.rng, self.faults = rng, faults
        self.objects: dict[str, bytes] = {}
        self.dead = False

    def _step(self) -> None:
        if self.dead:
            raise Killed

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        self._step()
        if self.rng.random() < self.faults:
            raise StorageAway(f"{key}: before it was written")
        if key in self.objects and self.objects[key] != data:
            raise AlreadyStored(key)
        self.objects[key] = data
        if self.rng.random() < self.faults:
            raise StorageAway(f"{key}: after it was written")

    def put(self, key: str, data: bytes, media_type: str = "") -> None:
        self._step()
        if self.rng.random() < self.faults:
            raise StorageAway(key)
        self.objects[key] = data

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        self._step()
        if key not in self.objects:
            raise NotStored(key)
        return self.objects[key]

    def stat(self, key: str) -> Stored | None:
        self._step()
        return Stored(key, len(self.objects[key]), 0.0) if key in self.objects else None

    def list(self, prefix: str) -> Iterator[Stored]:
        self._step()
        yield from [Stored(key, len(data), 0.0) for key, data in sorted(self.objects.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self._step()
        self.objects.pop(key, None)


class Fate:
    """What becomes of each attempt, decided by its identity alone, so that every life and every order agrees."""

    def __init__(self, seed: int, rejects: float, poison: float) -> None:
        self.seed, self.rejects, self.poison = seed, rejects, poison

    def _chance(self, *parts: object) -> float:
        return int(hashlib.sha256(repr((self.seed, *parts)).encode()).hexdigest()[:8], 16) / 2**32

    def is_poison(self, image: PlannedImage) -> bool:
        """Whether rendering this image always kills its renderer."""
        return self._chance("poison", image.image_id) < self.poison

    def accepted(self, attempt: Attempt) -> bool:
        """Whether the checks accept this attempt."""
        return self._chance("check", attempt.image.image_id, attempt.number) >= self.rejects


class SimEngine:
    """`farm.engine.Engine` without machines."""

    def __init__(self, rng: random.Random, fate: Fate, slots: int, deaths: float, kill_at: int | None, storage: FaultyStorage) -> None:
        self.rng, self.fate, self.slots, self.deaths = rng, fate, slots, deaths
        self.kill_at, self.storage = kill_at, storage
        self.now = 0.0
        self.steps = 0
        self.rendered_attempts: list[tuple[str, int]] = []
        self._due: list[tuple[float, int, Event]] = []
        self._count = 0

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    def room(self) -> int:
        return self.slots - len(self._due)

    def _later(self, event: Event, mean_s: float) -> None:
        self._count += 1
        self._due.append((self.now + self.rng.expovariate(1 / mean_s), self._count, event))

    def render(self, unit: Unit) -> None:
        self.rendered_attempts += [(work.attempt.image.image_id, work.attempt.number) for work in unit.works]
        if any(self.fate.is_poison(work.attempt.image) for work in unit.works) or self.rng.random() < self.deaths:
            self._later(RenderLost(unit, "the renderer was lost"), 2.0)
        else:
            self._later(Rendered(unit, object(), INFO, (True,) * len(unit.works), 0, 1.0, {}), 5.0)

    def check(self, rendered: Rendered) -> None:
        unit = rendered.unit
        if self.rng.random() < self.deaths:
            self._later(FinishLost(unit, "the finisher was lost"), 1.0)
            return
        found = Fingerprint("0" * 64, 0, EMPTY_SIGNATURE)
        verdicts = {True: Verdict("sim", "accepted"), False: Verdict("sim", "rejected", "fate")}
        checked = tuple(Checked((verdicts[self.fate.accepted(work.attempt)],), found) for work in unit.works)
        self._later(CheckedUnit(unit, rendered, checked), 1.0)

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        unit = rendered.unit
        if self.rng.random() < self.deaths:
            self._later(FinishLost(unit, "the finisher was lost"), 1.0)
            return
        finished = []
        for work, decision in zip(unit.works, decisions, strict=True):
            record = failed_record(work.attempt, "sim", "plan", decision.reason)
            finished.append(Finished(dataclasses.replace(record, outcome=decision.outcome, verdicts=decision.verdicts, pdq="0" * 64), {}))
        self._later(StoredUnit(unit, tuple(finished)), 1.0)

    def wait(self, timeout_s: float) -> list[Event]:
        self.steps += 1
        if self.kill_at is not None and self.steps >= self.kill_at:
            self.storage.dead = True
            raise Killed
        self._due.sort(key=lambda item: item[:2])
        at, _, event = self._due[0]
        if at > self.now + timeout_s:
            self.now += timeout_s
            return []
        self.now = max(self.now, at)
        self._due.pop(0)
        return [event]


class NoDuplicates:
    """No near-duplicates in this world."""

    def judge(self, image: PlannedImage, checked: Checked) -> tuple[Verdict, ...]:
        return ()

    def keep(self, image_id: str) -> None:
        return

    def forget(self, image_id: str) -> None:
        return


class Never:
    """A run that nobody stops."""

    def draining(self, unit_s: float) -> bool:
        return False

    def abandon(self) -> bool:
        return False


@dataclasses.dataclass
class World:
    """One output and the plan for it; `live` is one driver's life."""

    seed: int
    images: int = 40
    rejects: float = 0.4
    poison: float = 0.03
    deaths: float = 0.05
    faults: float = 0.05
    ladder: tuple[dict[str, object], ...] = ()

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.job = JobSettings.model_validate(
            {
                "name": "sim",
                "manifest": "-",
                "output": "-",
                "checks": {"attempts": 3, "ladder": self.ladder},
                "commit": {"images": 12, "seconds": 30},
            }
        )
        self.storage = FaultyStorage(self.rng, self.faults)
        self.fate = Fate(self.seed, self.rejects, self.poison)
        intent = Intent(self.job, "0" * 64)
        rows = [PromptRow(f"row {n}", "p", steps=5 + n % 3, images=1 + n % 2) for n in range(self.images)]
        self.plan = [image for row in rows for image in plan_row(row, "d", intent)][: self.images]
        self.rendered: list[tuple[str, int]] = []

    def live(self, kill_at: int | None) -> str:
        """One driver from start to its end: `done`, `killed` or `away`."""
        self.storage.dead = False
        engine = SimEngine(self.rng, self.fate, 6, self.deaths, kill_at, self.storage)
        try:
            writer = LogWriter.open(self.storage, self.job.name, SIGNER)
            if writer.state.plan is None:
                writer.append([Record(kind="plan", job="sim", plan_digest="plan", planned=len(self.plan))])
            tally = Tally(len(self.plan))
            Loop(
                self.job, "plan", WorkQueue(self._open_work(writer), 4), engine, writer, NoDuplicates(), Never(), tally, clock=engine.clock
            ).run()
        except Killed:
            return "killed"
        except StorageAway:
            return "away"
        finally:
            self.rendered += engine.rendered_attempts
            self.storage.dead = False
        return "done"

    def _open_work(self, writer: LogWriter) -> Iterator[Work]:
        for image in self.plan:
            state = writer.state.image(image.image_id)
            number = next_attempt(state.rejected, state.failed, state.last_attempt, self.job.checks.attempts)
            if not state.accepted and number is not None:
                yield Work.of(image, number, state.rejected, self.job)

    def expected(self) -> dict[str, tuple[str, int]]:
        """Image id → how it must end (accepted, exhausted, failed) and after which attempt, whatever happens on the way."""
        ends = {}
        for image in self.plan:
            if self.fate.is_poison(image):
                ends[image.image_id] = ("failed", 1)
                continue
            numbers = range(1, self.job.checks.attempts + 1)
            good = next((n for n in numbers if self.fate.accepted(Attempt(image, n, 0))), None)
            ends[image.image_id] = ("accepted", good) if good else ("exhausted", self.job.checks.attempts)
        return ends
