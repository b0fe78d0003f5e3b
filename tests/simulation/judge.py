"""One seed from its first driver to the last, and what must hold: after every life, and at the end.

after every life   planned = accepted + exhausted + failed + remaining; no attempt recorded twice; no immutable object changed
a window           no commit is durable after its end
two drivers        both say that they are done only where one of them had nothing to write
statements         each one that was said is in the log once, or waits for what its reason says; none is there twice
at the end         each image ended as it would have undisturbed, or failed after so many chance deaths alone; the audit passes
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections import Counter
from collections.abc import Iterator

from renderfarm.audit.audit import audit
from renderfarm.keys import Trust
from renderfarm.log import parts
from renderfarm.log.reading import list_parts, records
from renderfarm.log.state import LogState
from renderfarm.log.writer import LogWriter
from renderfarm.output import PARTS, part_key
from renderfarm.schema import REVIEW
from renderfarm.statements.inbox import keys
from renderfarm.statements.intake import Inbox
from tests.simulation.storage import Faults
from tests.simulation.world import PEOPLE, RULES, SIGNER, Life, Machines, World

LIVES_MAX = 200
SMALL = 12
"""Images of a world in the long run: thousands of small worlds find more than a few large ones."""
KINDS = ("kills", "kills", "two drivers", "window")


class Broken(AssertionError):
    """What did not hold, and the seed that replays it."""


@contextlib.contextmanager
def decoding_once() -> Iterator[None]:
    """Each part's bytes are decoded once in this block. Decoding is pure, so no answer changes; it is what a simulation spends most on."""
    plain = parts.read_part
    parts.read_part = functools.lru_cache(256)(plain)
    try:
        yield
    finally:
        parts.read_part = plain


def world_of(seed: int, images: int = SMALL) -> World:
    """The world of a seed, faults and all."""
    rng = random.Random(seed * 7 + 3)
    machines = Machines(rng.choice([0.0, 0.02, 0.1]), rng.choice([0.0, 0.02]), rng.choice([0.0, 0.1]))
    slow = rng.choice([0.0, 1.0])
    faults = {
        "": Faults(rng.choice([0.0, 0.02]), 0.0, 0.0, slow),
        PARTS: Faults(rng.choice([0.0, 0.1]), rng.choice([0.0, 0.1]), rng.choice([0.0, 0.1]), slow),
    }
    return World(seed, images, machines=machines, faults=faults, commit_images=rng.choice([4, 8, 16]), sheets=rng.choice([1, 1, 3, 6]),
                 talk=rng.choice([0.0, 0.05, 0.3]), of=rng.choice([1, 1, 2, 3]))  # fmt: skip


def run_seed(seed: int, images: int = SMALL) -> list[Life]:
    """Driver after driver until one ends by itself. Raises: Broken."""
    world, kind, chooser = world_of(seed, images), KINDS[seed % len(KINDS)], random.Random(seed + 1)
    lives: list[Life] = []
    while not lives or lives[-1].end != "done":
        if len(lives) > LIVES_MAX:
            raise Broken(f"seed {seed}: no end after {LIVES_MAX} lives")
        if kind == "two drivers" and len(lives) < 4:
            first, second = world.live_twice()
            _require(seed, not (first.end == second.end == "done" and first.commits and second.commits), "two drivers went on")
            lives += [second, first] if first.end == "done" else [first, second]
        elif kind == "window" and len(lives) < 3:
            lives.append(world.live(window_s=chooser.uniform(11, 40)))
        else:
            dies = kind == "kills" and len(lives) < 4
            step = chooser.randint(1, 30) if dies else None
            lives.append(world.live(requests=chooser.randint(3, 60)) if dies and chooser.random() < 0.5 else world.live(step))
        _judge_life(seed, world, lives[-1])
    _judge_end(seed, world)
    return lives


def _require(seed: int, holds: bool, what: object) -> None:
    if not holds:
        raise Broken(f"seed {seed}: {what}")


def _judge_life(seed: int, world: World, life: Life) -> None:
    _require(seed, not world.objects.changed, f"immutable objects changed: {world.objects.changed}")
    if life.closed_at is not None:
        _require(seed, all(at <= life.closed_at for at in (*life.commits, *life.spoken)), f"committed after {life.closed_at}: {life}")
    state, seen = LogState(), []
    storage = world.calm()
    for number in list_parts(storage).numbers:
        table = parts.read_part(storage.get(part_key(number)), number).table
        state.fold(table)
        rows = zip(*(table.column(name).to_pylist() for name in ("kind", "image_id", "attempt")), strict=True)
        seen += [(image, attempt) for kind, image, attempt in rows if kind == "attempt"]
    _require(seed, len(seen) == len(set(seen)) and not state.twice, "recorded twice")
    if state.plan is not None:
        counts = state.counts(world.job.checks.attempts)
        total = counts.accepted + counts.exhausted + counts.failed + counts.remaining
        _require(seed, counts.planned == total == len(world.plan), counts)


def _judge_statements(seed: int, world: World) -> None:
    """The next holder takes in what came last. Reviews that would move a picture stay: no picture is ever stored in this world."""
    storage = world.calm()
    world.objects.under_way.clear()
    writer = LogWriter.open(storage, world.job.name, SIGNER)
    inbox = Inbox(storage, writer, PEOPLE, RULES)
    inbox.take()
    logged = Counter(record.signed for record in records(storage) if record.kind == "statement")
    _require(seed, set(logged.values()) <= {1}, f"recorded twice: {logged.most_common(1)}")
    left = set(keys(storage))
    for key, one in world.said.items():
        _require(seed, (one.signed in logged) != (key in left), f"{key} is lost, or in the log and still waits")
        excused = one.statement.kind == REVIEW and inbox.troubles.get(key, "").startswith("no picture of this attempt was kept")
        again = key in inbox.waiting and all(writer.state.image(subject.image_id).failed for subject in one.statement.subjects)
        excused = excused or again  # the farm failed the image, so the next run opens it again, and then its review is heard
        _require(seed, key not in left or excused, f"{key} waits: {inbox.troubles.get(key)}")


def _judge_end(seed: int, world: World) -> None:
    _judge_statements(seed, world)
    state = LogState()
    storage = world.calm()
    for number in list_parts(storage).numbers:
        state.fold(parts.read_part(storage.get(part_key(number)), number).table)
    limit, wanted = world.job.checks.attempts, world.expected()
    for image_id, found in state.images():
        end = (found.standing(limit), found.last_attempt)
        unlucky = end[0] == "failed" and world.unlucky[image_id] >= world.job.farm.deaths_max
        _require(seed, end == wanted[image_id] or unlucky, f"image {image_id} ended {end} instead of {wanted[image_id]}")
    _require(seed, len(state) == len(world.plan), f"{len(state)} images of {len(world.plan)} have an end")
    report = audit(storage, Trust({SIGNER.name: SIGNER.public_key}, b"", (), person_keys=PEOPLE))
    _require(seed, report.ok, [str(finding) for finding in report.findings])
