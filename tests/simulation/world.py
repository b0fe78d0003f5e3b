"""A small world for the loop: machines on a virtual clock that die, hang and answer late; a storage that misbehaves; killed drivers.

Everything follows from one seed. A life is one driver; it may be killed at any step, drained by a window, or meet a second driver that
works on the same output meanwhile, and the next life starts from the parts alone. Two drivers have a thread each, but only one of them
runs at any time, and the seed says where they change: so a seed replays exactly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm.errors import Fenced, StorageAway
from renderfarm.job import JobSettings
from renderfarm.log import parts
from renderfarm.log.reading import fetch_part, list_parts
from renderfarm.log.writer import Commit, LogWriter
from renderfarm.notes import Signer
from renderfarm.output import JOB_FILE
from renderfarm.pictures import Fingerprint
from renderfarm.plan import Intent, drawn_once, plan_row
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import from_table
from renderfarm.retry import farm_fault, next_attempt
from renderfarm.run.engine import CheckedUnit, Event, FinishLost, Rendered, RenderLost, StoredUnit
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import PendingAttempt, Unit, UnitQueue
from renderfarm.schema import Attempt, PlannedImage, PromptRow, Record, RenderInfo, Verdict
from renderfarm.statements.inbox import Letter
from renderfarm.statements.intake import Inbox
from renderfarm.statements.reviews import ReviewRules
from renderfarm.workers.finish import Checked, Decision, Finished, failed_record
from tests.simulation.storage import Faults, FaultyStorage, Killed
from tests.simulation.storage import World as Objects
from tests.statements import letter, note, person, review_letter

SIGNER = Signer.of("simulation", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
INFO = RenderInfo("sim", "", "0" * 64, "none", "none", "none", "sim", "", "0", "0")
JOB_JSON = json.dumps({"name": "sim", "settings": {"checks": {"attempts": 3}}}).encode()
ADA, BOB = person("Ada"), person("Bob")
PEOPLE = {who.name: who.public_key for who in (ADA, BOB)}
RULES = ReviewRules("sim", 3, "image/png", False)
HANG_S = 60.0
"""When the engine takes a hung worker for dead, as `farm.hang_s` says of real ones."""


class Fate:
    """What becomes of each attempt, decided by its identity alone, so that every life and every order agrees."""

    def __init__(self, seed: int, rejects: float, poison: float) -> None:
        self.seed, self.rejects, self.poison = seed, rejects, poison

    def _chance(self, *parts: object) -> float:
        return int(hashlib.sha256(repr((self.seed, *parts)).encode()).hexdigest()[:8], 16) / 2**32

    def is_poison(self, image: PlannedImage) -> bool:
        """Whether drawing this image always kills its renderer."""
        return self._chance("poison", image.drawing_id) < self.poison

    def accepted(self, attempt: Attempt) -> bool:
        """Whether the checks accept this attempt."""
        return self._chance("check", attempt.image.image_id, attempt.number) >= self.rejects

    def verdict(self, attempt: Attempt) -> Verdict:
        """The same as the check says it, with a score of its own."""
        good = self.accepted(attempt)
        score = round(self._chance("score", attempt.image.image_id, attempt.number), 4)
        return Verdict("sim", "accepted" if good else "rejected", "" if good else "fate", score, 0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Machines:
    """Chances per call: death of the worker, a hang, an answer that takes ten times as long."""

    deaths: float = 0.05
    hangs: float = 0.01
    late: float = 0.05


class SimEngine:
    """`run.engine.Engine` without machines. `pause` is called once a step: a second driver may run there, or this one be killed."""

    def __init__(self, rng: random.Random, fate: Fate, slots: int, machines: Machines, pause: Callable[[], None]) -> None:
        self.rng, self.fate, self.slots, self.machines, self.pause = rng, fate, slots, machines, pause
        self.now = 0.0
        self.rendered_attempts: list[tuple[str, int]] = []
        self.drawn: list[tuple[str, int]] = []
        """Drawings and their attempts, each as often as a unit with it was given out."""
        self.unlucky: Counter[str] = Counter()
        """Images by how often a worker was lost over them alone, by chance."""
        self._due: list[tuple[float, int, Event]] = []
        self._count = 0

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    def spend(self, seconds: float) -> None:
        """Time passes: a slow storage."""
        self.now += seconds

    def capacity(self) -> int:
        return self.slots - len(self._due)

    def _later(self, event: Event, mean_s: float) -> None:
        self._count += 1
        slow = 10.0 if self.rng.random() < self.machines.late else 1.0
        self._due.append((self.now + slow * self.rng.expovariate(1 / mean_s), self._count, event))

    def _lost(self, lost: RenderLost | FinishLost, mean_s: float) -> bool:
        """Whether the worker dies over this call, or hangs until it is taken for dead."""
        hangs, dies = self.rng.random() < self.machines.hangs, self.rng.random() < self.machines.deaths
        if hangs:
            self._count += 1
            self._due.append((self.now + HANG_S, self._count, lost))
        elif dies:
            self._later(lost, mean_s)
        once, _ = drawn_once(lost.unit.attempts())
        images = {work.attempt.image.image_id for work in lost.unit.members}
        if (hangs or dies) and (len(images) == 1 or (isinstance(lost, RenderLost) and len(once) == 1)):
            self.unlucky.update(images)
        return hangs or dies

    def share(self) -> float:
        return 1.0

    def render(self, unit: Unit) -> None:
        self.rendered_attempts += [(work.attempt.image.image_id, work.attempt.number) for work in unit.members]
        self.drawn += [(attempt.image.drawing_id, attempt.number) for attempt in drawn_once(unit.attempts())[0]]
        lost = RenderLost(unit, farm_fault("the renderer was lost"))
        if any(self.fate.is_poison(work.attempt.image) for work in unit.members):
            self._later(lost, 0.4)
        elif not self._lost(lost, 0.4):
            self._later(Rendered(unit, object(), INFO, (True,) * len(unit.members), 0, 1.0, {}), 1.0)

    def check(self, rendered: Rendered) -> None:
        unit = rendered.unit
        if self._lost(FinishLost(unit, "the finisher was lost"), 0.2):
            return
        found = Fingerprint("0" * 64, 0, "")
        checked = tuple(Checked((self.fate.verdict(work.attempt),), found) for work in unit.members)
        self._later(CheckedUnit(unit, rendered, checked), 0.2)

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        unit = rendered.unit
        if self._lost(FinishLost(unit, "the finisher was lost"), 0.2):
            return
        finished = []
        for work, decision in zip(unit.members, decisions, strict=True):
            record = failed_record(work.attempt, "sim", "plan", decision.reason)
            record = dataclasses.replace(record, outcome=decision.outcome, verdicts=decision.verdicts, pdq="0" * 64)
            finished.append(Finished(sealed(dataclasses.replace(record, cause=None)), {}))
        self._later(StoredUnit(unit, tuple(finished)), 0.2)

    def wait(self, timeout_s: float) -> list[Event]:
        self.pause()
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


@dataclasses.dataclass
class Clocked:
    """A committer that notes when each commit was durable, on the driver's own clock."""

    writer: LogWriter
    clock: Callable[[], float]
    times: list[float] = dataclasses.field(default_factory=list)

    def append(self, records: Sequence[Record]) -> Commit:
        done = self.writer.append(records)
        self.times.append(self.clock())
        return done


class Turns:
    """Two drivers, one at a time: `change` hands over to the other one if it still runs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.running = [True, True]
        self._go = [threading.Semaphore(1), threading.Semaphore(0)]

    def wait(self, me: int) -> None:
        """Until it is my turn."""
        self._go[me].acquire()

    def change(self, me: int) -> None:
        """Perhaps the other's turn."""
        if self.running[1 - me] and self.rng.random() < 0.4:
            self._go[1 - me].release()
            self._go[me].acquire()

    def end(self, me: int) -> None:
        """I am done: the other's turn for good."""
        self.running[me] = False
        if self.running[1 - me]:
            self._go[1 - me].release()


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """How one driver ended: `done`, `killed`, `away`, `fenced` or `paused`; when its commits were durable; the window's end."""

    end: str
    commits: tuple[float, ...] = ()
    closed_at: float | None = None
    spoken: tuple[float, ...] = ()
    """When statements of people that it took in were durable."""


def sheets_of(image: PlannedImage, count: int) -> list[PlannedImage]:
    """So many images that are made of one drawing; one is the drawing itself."""
    names = [hashlib.sha256(f"{image.drawing_id} sheet {n}".encode()).hexdigest()[:32] for n in range(1, count)]
    return [image, *(dataclasses.replace(image, image_id=name) for name in names)]


def job_of(images: int, ladder: Sequence[Mapping[str, object]] = (), of: int = 1) -> JobSettings:
    """The job of a world."""
    checks = {"attempts": 3, "ladder": list(ladder)}
    commit = {"images": images, "interval_s": 30}
    rest = {"checks": checks, "commit": commit, "defaults": {"of": of}}
    return JobSettings.model_validate({"name": "sim", "manifest": "-", "output": "-", **rest})


@dataclasses.dataclass
class World:
    """One output and the plan for it; `live` is one driver's life."""

    seed: int
    images: int = 40
    rejects: float = 0.4
    poison: float = 0.03
    machines: Machines = dataclasses.field(default_factory=Machines)
    faults: dict[str, Faults] = dataclasses.field(
        default_factory=lambda: {"": Faults(0.02, 0.02), "provenance/parts/": Faults(0.05, 0.05, 0.03)}
    )
    commit_images: int = 12
    ladder: tuple[dict[str, object], ...] = ()
    sheets: int = 1
    """The most images that are made of one drawing; how many of each, the seed says."""

    of: int = 1
    """Attempts of an image of which the best is kept."""

    talk: float = 0.0
    """Chance that somebody says something, per step of a driver."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.job = job_of(self.commit_images, self.ladder, self.of)
        self.objects = Objects()
        self.talker = random.Random(self.seed + 99)
        self.said: dict[str, Letter] = {}
        self.fate = Fate(self.seed, self.rejects, self.poison)
        intent = Intent(self.job, "0" * 64)
        rows = [PromptRow(f"row {n}", "p", steps=5 + n % 3, images=1 + n % 2) for n in range(self.images)]
        planned = [image for row in rows for image in plan_row(row, "d", intent, hashlib.sha256(row.id.encode()).hexdigest()[:32])]
        chooser = random.Random(self.seed + 5)
        self.plan = [sheet for image in planned for sheet in sheets_of(image, chooser.randint(1, self.sheets))][: self.images]
        self.rendered: list[tuple[str, int]] = []
        self.drawn: list[tuple[str, int]] = []
        self.unlucky: Counter[str] = Counter()
        self.objects.objects[JOB_FILE] = JOB_JSON

    def calm(self) -> FaultyStorage:
        """The objects without faults, for judging."""
        return FaultyStorage(self.objects, random.Random(0), {"": Faults()})

    def live(self, kill_at: int | None = None, window_s: float | None = None, requests: int | None = None) -> Life:
        """One driver from start to its end, killed at that step or after so many requests that write, or with so much time."""
        return self._live(kill_at, window_s, lambda: None, requests)

    def live_twice(self) -> tuple[Life, Life]:
        """Two drivers at once, on one output."""
        turns, lives = Turns(self.rng), [Life("")] * 2

        def run(me: int) -> None:
            turns.wait(me)
            try:
                lives[me] = self._live(None, None, lambda: turns.change(me))
            finally:
                turns.end(me)

        threads = [threading.Thread(target=run, args=(me,)) for me in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return lives[0], lives[1]

    def _live(self, kill_at: int | None, window_s: float | None, change: Callable[[], None], requests: int | None = None) -> Life:
        steps = 0

        def pause() -> None:
            nonlocal steps
            steps += 1
            change()
            if self.talker.random() < self.talk:
                self._speak()
            if kill_at is not None and steps >= kill_at:
                storage.dead = True
                raise Killed

        engine = SimEngine(self.rng, self.fate, 6, self.machines, pause)

        def spend(seconds: float) -> None:
            change()
            engine.spend(seconds)

        storage = FaultyStorage(self.objects, self.rng, self.faults, spend)
        storage.lives_for = requests
        stop = StopSignals(window_s, engine.clock)
        commits: Clocked | None = None
        spoken: Clocked | None = None
        try:
            writer = LogWriter.open(storage, self.job.name, SIGNER, snapshot_parts=3)
            if writer.state.plan is None:
                digest = hashlib.sha256(JOB_JSON).hexdigest()
                plan = Record(kind="plan", job="sim", plan_digest="plan", settings_digest=digest, planned=len(self.plan))
                writer.append([plan])
            commits, spoken = Clocked(writer, engine.clock), Clocked(writer, engine.clock)
            inbox = Inbox(storage, writer, PEOPLE, RULES, spoken, engine.clock)
            inbox.closed = lambda: stop.draining(0.0)
            inbox.listen()
            queue, tally = UnitQueue(self._open_work(writer), 4), Tally(len(self.plan))
            loop = Loop(self.job, "plan", queue, engine, commits, NoDuplicates(), stop, tally, clock=engine.clock, hear=inbox.hear)
            loop.run()
            inbox.listen()
            end = "paused" if loop.paused else "done"
        except Killed:
            end = "killed"
        except StorageAway:
            end = "away"
        except Fenced:
            end = "fenced"
        finally:
            self.rendered += engine.rendered_attempts
            self.drawn += engine.drawn
            self.unlucky += engine.unlucky
        return Life(end, tuple(commits.times) if commits else (), window_s, tuple(spoken.times) if spoken else ())

    def _speak(self) -> None:
        """Somebody says something about an attempt of the log; the network may deliver it a second time, much later."""
        rng, calm = self.talker, self.calm()
        numbers = list_parts(calm).numbers
        if not numbers:
            return
        file = fetch_part(calm, number := rng.choice(numbers))
        assert file is not None
        part = parts.read_part(file, number).table
        (record,) = from_table(part.slice(rng.randrange(part.num_rows), 1))
        if record.kind != "attempt":
            return
        at, who = len(self.said) + rng.randint(0, 3), rng.choice((ADA, BOB))
        if record.outcome == "failed" or rng.random() < 0.4:
            words = rng.choice((None, "well done"))
            salt = record.salt or "0f" * 16
            one = letter(note(rng.choice(("approval", "mood")), who, (record,), "sim", at, words, salt), words, salt)
        else:
            one = review_letter(who, record, rng.choice(("rejected", "rejected", "accepted")), at)
        one = dataclasses.replace(one, parts=rng.choice(((number,), ())))
        self.said[one.key] = one
        self.objects.objects.setdefault(one.key, one.to_bytes())
        if rng.random() < 0.3:
            self.objects.under_way.append((self.objects.requests + rng.randint(1, 30), one.key, one.to_bytes()))

    def _open_work(self, writer: LogWriter) -> Iterator[PendingAttempt]:
        for image in self.plan:
            state = writer.state.image(image.image_id)
            number = next_attempt(state.rejected, state.failed, state.last_attempt, self.job.checks.attempts)
            if not state.accepted and number is not None:
                yield from PendingAttempt.round(image, number, state.rejected, self.job)

    def expected(self) -> dict[str, tuple[str, int]]:
        """Image id → how it must end (accepted, exhausted, failed) and after which attempt, whatever happens on the way."""
        ends = {}
        for image in self.plan:
            if self.fate.is_poison(image):
                ends[image.image_id] = ("failed", 1)
                continue
            last, limit, good = 0, self.job.checks.attempts, False
            while not good and last < limit:
                together = range(last + 1, min(last + self.of, limit) + 1)
                last, good = together[-1], any(self.fate.accepted(Attempt(image, n, 0)) for n in together)
            ends[image.image_id] = ("accepted" if good else "exhausted", last)
        return ends
