"""The loop under seeded faults: whatever dies, the log ends with exactly the planned images, each once, as if nothing had happened.

A failing seed is in the test's name; `World(seed).live(...)` replays it exactly.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pipeline.provenance import reading
from pipeline.provenance.checkpoint import Signer
from pipeline.provenance.writer import LogWriter
from tests.simulation.world import SIGNER, World

LIVES_MAX = 200


def live_to_the_end(world: World) -> list[str]:
    """Driver after driver, the early ones killed at random steps, until one ends by itself."""
    lives: list[str] = []
    chooser = random.Random(world.seed + 1)
    while "done" not in lives and len(lives) < LIVES_MAX:
        lives.append(world.live(chooser.randint(1, 60) if len(lives) < 6 else None))
        assert_conserved(world)
    return lives


def assert_conserved(world: World) -> None:
    """The law holds at every commit, and no attempt is recorded twice."""
    world.storage.faults = 0.0
    state = reading.read_state(world.storage)
    world.storage.faults = 0.05
    if state.plan is None:
        return
    counts = state.counts(world.job.checks.attempts)
    assert counts.planned == counts.accepted + counts.exhausted + counts.failed + counts.remaining == len(world.plan)
    seen = [(r.image_id, r.attempt) for r in reading.records(world.storage) if r.kind == "attempt"]
    assert len(seen) == len(set(seen))
    assert not state.twice


@pytest.mark.parametrize("seed", range(12))
def test_every_image_ends_as_it_would_undisturbed(seed: int) -> None:
    world = World(seed)
    lives = live_to_the_end(world)
    assert lives[-1] == "done", lives
    state = reading.read_state(world.storage)
    limit = world.job.checks.attempts
    ends = {image_id: (found.standing(limit), found.last_attempt) for image_id, found in state.images()}
    assert ends == world.expected()


@pytest.mark.parametrize("seed", range(3))
def test_a_ladder_is_climbed_by_rejections_alone_and_ends(seed: int) -> None:
    world = World(seed, rejects=0.7, ladder=({"after": 1, "steps": 30}, {"after": 2, "negative_prompt": "gibberish"}))
    assert live_to_the_end(world)[-1] == "done"
    rejected: Counter[str] = Counter()
    plan = {image.image_id: image for image in world.plan}
    for record in (r for r in reading.records(world.storage) if r.kind == "attempt"):
        image = plan[record.image_id or ""]
        rung = rejected[image.image_id]
        assert (record.steps, record.negative_prompt) == (30 if rung == 1 else image.steps, "gibberish" if rung == 2 else "")
        rejected[image.image_id] += record.outcome == "rejected"
    state = reading.read_state(world.storage)
    assert {i: (s.standing(3), s.last_attempt) for i, s in state.images()} == world.expected() and max(rejected.values()) == 3


def test_an_undisturbed_run_renders_nothing_twice() -> None:
    world = World(7, deaths=0.0, faults=0.0, poison=0.0)
    assert world.live(None) == "done"
    assert len(world.rendered) == len(set(world.rendered))


def test_a_second_run_finds_nothing_to_do() -> None:
    world = World(8, deaths=0.0, faults=0.0)
    assert world.live(None) == "done"
    before, world.rendered = dict(world.storage.objects), []
    assert world.live(None) == "done"
    assert world.rendered == []
    assert world.storage.objects == before


def test_a_poison_image_fails_alone_and_its_batch_survives() -> None:
    world = World(11, rejects=0.0, deaths=0.0, faults=0.0, poison=0.1)
    assert world.live(None) == "done"
    state = reading.read_state(world.storage)
    poisoned = [image.image_id for image in world.plan if world.fate.is_poison(image)]
    assert poisoned
    assert {i for i, s in state.images() if s.failed} == set(poisoned)
    assert state.counts(3).accepted == len(world.plan) - len(poisoned)
    reasons = {r.reason for r in reading.records(world.storage) if r.outcome == "failed"}
    assert reasons == {"the renderer was lost"}


def test_after_a_kill_at_most_one_interval_and_the_units_in_flight_are_rendered_again() -> None:
    for seed in range(5):
        world = World(seed, deaths=0.0, faults=0.0, poison=0.0)
        world.live(25)
        done = {(r.image_id, r.attempt) for r in reading.records(world.storage) if r.kind == "attempt"}
        lost = [attempt for attempt in world.rendered if attempt not in done]
        world.rendered = []
        assert world.live(None) == "done"
        again = [attempt for attempt in world.rendered if attempt in set(lost)]
        assert not done & set(world.rendered)
        assert len(again) <= world.job.commit.images + 6 * 4


def test_the_log_of_another_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pipeline.errors import LogDamaged

    world = World(3, deaths=0.0, faults=0.0)
    world.live(None)
    LogWriter.open(world.storage, "sim", SIGNER)
    with pytest.raises(LogDamaged):
        LogWriter.open(world.storage, "sim", Signer.of("simulation", Ed25519PrivateKey.generate()))
