"""The loop under seeded faults: whatever dies, the log ends with exactly the planned images, each once, as if nothing had happened.

A failing seed is in the message; `python -m tests.simulation --seed N` replays it. The long run: `--seeds 10000`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from renderfarm.errors import AcceptedMeanwhile
from renderfarm.log import reading
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.plan import attempt_of
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import PendingAttempt, Unit, UnitQueue, halves
from renderfarm.schema import Record
from tests.simulation.judge import decoding_once, run_seed
from tests.simulation.storage import Faults
from tests.simulation.world import SIGNER, Life, Machines, NoDuplicates, SimEngine, World, sheets_of

CALM = Machines(0.0, 0.0, 0.0)
NO_FAULTS = {"": Faults()}


def calm(seed: int, **more: float) -> World:
    """A world in which nothing goes wrong by itself."""
    return World(seed, machines=CALM, faults=NO_FAULTS, **{"poison": 0.0, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("first", range(0, 16, 8))
def test_every_image_ends_as_it_would_undisturbed(first: int) -> None:
    ends = {life.end for seed in range(first, first + 8) for life in run_seed(seed)}
    assert {"done", "killed"} <= ends


@pytest.mark.parametrize("seed", range(3))
def test_a_ladder_is_climbed_by_rejections_alone_and_ends(seed: int) -> None:
    world = World(seed, rejects=0.7, ladder=({"after": 1, "steps": 30}, {"after": 2, "negative_prompt": "gibberish"}))
    lives = 0
    while world.live(kill_at=None if lives > 3 else 20).end != "done":
        lives += 1
        assert lives < 200
    rejected: Counter[str] = Counter()
    plan = {image.image_id: image for image in world.plan}
    for record in (r for r in reading.records(world.calm()) if r.kind == "attempt"):
        image = plan[record.image_id or ""]
        rung = rejected[image.image_id]
        assert (record.steps, record.negative_prompt) == (30 if rung == 1 else image.steps, "gibberish" if rung == 2 else "")
        rejected[image.image_id] += record.outcome == "rejected"
    state = reading.read_state(world.calm())
    assert {i: (s.standing(3), s.last_attempt) for i, s in state.images()} == world.expected() and max(rejected.values()) == 3


def test_a_seed_replays_exactly() -> None:
    with decoding_once():
        assert [run_seed(seed) for seed in (1, 2)] == [run_seed(seed) for seed in (1, 2)]


def test_an_undisturbed_run_renders_nothing_twice() -> None:
    world = calm(7)
    assert world.live().end == "done"
    assert len(world.rendered) == len(set(world.rendered))


@pytest.mark.parametrize("seed", range(4))
def test_sheets_of_one_drawing_are_drawn_once_and_judged_each(seed: int) -> None:
    world = calm(seed, sheets=5, rejects=0.5)
    assert world.live().end == "done"
    assert len({image.drawing_id for image in world.plan}) < len(world.plan) == len({image.image_id for image in world.plan})
    assert len(world.rendered) == len(set(world.rendered)) > len(world.drawn) == len(set(world.drawn)), "drawn once an attempt"
    state = reading.read_state(world.calm())
    assert {i: (s.standing(3), s.last_attempt) for i, s in state.images()} == world.expected()
    ends = {(image.drawing_id, world.expected()[image.image_id]) for image in world.plan}
    assert len(ends) > len({drawing for drawing, _ in ends}), "one sheet may be accepted where another is not"
    records = [record for record in reading.records(world.calm()) if record.kind == "attempt"]
    assert {(record.image_id, record.drawing_id) for record in records} == {(image.image_id, image.drawing_id) for image in world.plan}


def test_a_drawing_that_kills_its_renderer_fails_with_all_its_sheets_and_a_sheet_that_kills_finishers_alone() -> None:
    world = calm(11, rejects=0.0, poison=0.2, sheets=4)
    assert world.live().end == "done"
    state = reading.read_state(world.calm())
    poisoned = {image.image_id for image in world.plan if world.fate.is_poison(image)}
    assert poisoned and {i for i, s in state.images() if s.failed} == poisoned
    drawings = {image.drawing_id for image in world.plan if world.fate.is_poison(image)}
    for drawing in drawings:  # with its batch, in halves, then alone and two more chances, however many its sheets
        assert 3 <= sum(1 for drawn, _ in world.drawn if drawn == drawing) <= 5
    attempts = [attempt_of(image, 1) for image in sheets_of(world.plan[0], 3)]
    unit = Unit(1, tuple(PendingAttempt(attempt) for attempt in attempts))
    assert halves(unit) == [tuple(replace(work, deaths=1) for work in unit.members)]
    assert halves(unit, sheets=True) == [unit.members[:1], unit.members[1:]]
    assert halves(replace(unit, members=unit.members[:1]), sheets=True) == [(replace(unit.members[0], deaths=1),)]


@pytest.mark.parametrize("seed", range(3))
def test_of_several_the_best_that_passes_is_kept_and_all_are_recorded(seed: int) -> None:
    world = calm(seed, of=3, rejects=0.5)
    assert world.live().end == "done"
    assert len(world.rendered) == len(set(world.rendered)) == 3 * len(world.plan), "three each, and no more"
    records = [record for record in reading.records(world.calm()) if record.kind == "attempt"]
    assert {(record.image_id, record.attempt) for record in records} == set(world.rendered)
    for image in world.plan:
        mine = {record.attempt or 0: record for record in records if record.image_id == image.image_id}
        good = {n: world.fate.verdict(attempt_of(image, n)).score or 0 for n in mine if world.fate.accepted(attempt_of(image, n))}
        accepted = [n for n, record in mine.items() if record.outcome == "accepted"]
        assert accepted == ([max(good, key=lambda n: good[n])] if good else [])
        for n, record in mine.items():
            said = {verdict.check: (verdict.outcome, verdict.reason) for verdict in record.verdicts}.get("best")
            passed = ("accepted", "the best of 3") if n in accepted else ("rejected", "another of 3 is better")
            assert said == (passed if n in good else None)
    state = reading.read_state(world.calm())
    assert {i: (s.standing(3), s.last_attempt) for i, s in state.images()} == world.expected()


def test_attempts_of_one_image_are_never_told_apart_and_fail_as_one() -> None:
    world = calm(11, of=2, rejects=0.0, poison=0.2)
    assert world.live().end == "done"
    state = reading.read_state(world.calm())
    poisoned = {image.image_id for image in world.plan if world.fate.is_poison(image)}
    assert poisoned and {i for i, s in state.images() if s.failed} == poisoned
    assert state.counts(3).failed == len(poisoned) and state.counts(3).accepted == len(world.plan) - len(poisoned)
    image = world.plan[0]
    together = tuple(PendingAttempt.round(image, 1, 0, world.job))
    assert [work.attempt.number for work in together] == [1, 2] and len(PendingAttempt.round(image, 3, 2, world.job)) == 1
    unit = Unit(1, together)
    for sheets in (False, True):
        assert halves(unit, sheets=sheets) == [tuple(replace(work, deaths=1) for work in together)]
    several = Unit(2, (*together, *PendingAttempt.round(world.plan[1], 1, 0, world.job)))
    assert [len(part) for part in halves(several)] == [2, 2]
    source = (work for one in world.plan for work in PendingAttempt.round(one, 1, 0, world.job))
    queue, sizes = UnitQueue(source, 4), []
    while (given := queue.next_unit()) is not None:
        names = [work.attempt.image.image_id for work in given.members]
        assert all(names.count(name) == 2 for name in names)
        sizes.append(len(names))
    assert max(sizes) == 4, "a batch counts drawings"


def test_every_image_is_in_the_units_in_what_waits_or_still_in_the_plan() -> None:
    world = World(4, images=60, sheets=4)
    source = iter([PendingAttempt(attempt_of(image, 1)) for image in world.plan])
    queue, given = UnitQueue(source, 2), list[str]()
    while (unit := queue.next_unit()) is not None:
        given += [work.attempt.image.image_id for work in unit.members]
        waiting = list(queue.images())
        assert queue.waiting().ahead == len(waiting) == len(set(waiting)) and not set(waiting) & set(given)
        behind = len(world.plan) - len(given) - len(waiting)
        assert set(given) | set(waiting) == {image.image_id for image in world.plan[: len(world.plan) - behind]}
    assert sorted(given) == sorted(image.image_id for image in world.plan)


def test_a_second_run_finds_nothing_to_do() -> None:
    world = World(8, machines=CALM, faults=NO_FAULTS)
    assert world.live().end == "done"
    before, world.rendered = dict(world.objects.objects), []
    assert world.live().end == "done"
    assert world.rendered == []
    assert world.objects.objects == before


def test_a_poison_image_fails_alone_and_its_batch_survives() -> None:
    world = calm(11, rejects=0.0, poison=0.1)
    assert world.live().end == "done"
    state = reading.read_state(world.calm())
    poisoned = [image.image_id for image in world.plan if world.fate.is_poison(image)]
    assert poisoned
    assert {i for i, s in state.images() if s.failed} == set(poisoned)
    assert state.counts(3).accepted == len(world.plan) - len(poisoned)
    reasons = {r.reason for r in reading.records(world.calm()) if r.outcome == "failed"}
    assert reasons == {"by the farm: the renderer was lost"}
    for image in poisoned:  # with its batch, in halves, then alone and two more chances
        assert 3 <= sum(1 for rendered, _ in world.rendered if rendered == image) <= 5


def test_after_a_kill_at_most_one_interval_and_the_units_in_flight_are_rendered_again() -> None:
    for seed in range(5):
        world = calm(seed)
        world.live(kill_at=25)
        done = {(r.image_id, r.attempt) for r in reading.records(world.calm()) if r.kind == "attempt"}
        lost = [attempt for attempt in world.rendered if attempt not in done]
        world.rendered = []
        assert world.live().end == "done"
        again = [attempt for attempt in world.rendered if attempt in set(lost)]
        assert not done & set(world.rendered)
        assert len(again) <= world.job.commit.images + 6 * 4


def test_of_two_drivers_exactly_one_goes_on() -> None:
    """Twenty seeds without any other fault: one is done, the other one is fenced."""
    with decoding_once():
        for seed in range(20):
            world = calm(seed, images=20)
            ends = sorted(life.end for life in world.live_twice())
            assert ends == ["done", "fenced"], (seed, ends)


class MetByPeople:
    """A log in which somebody accepted images with other pictures, just before ours were to be committed."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer, self.met = writer, frozenset[str]()

    def append(self, records: Sequence[Record]) -> object:
        accepted = [str(record.image_id) for record in records if record.outcome == "accepted"]
        if accepted and not self.met:
            self.met = frozenset(accepted[:2])
            raise AcceptedMeanwhile("a person accepted them", self.met)
        return self.writer.append(records)


def test_what_a_person_accepted_meanwhile_ends_no_run_and_is_not_accepted_again() -> None:
    world = calm(11, images=12)
    writer = LogWriter.open(world.calm(), world.job.name, SIGNER)
    engine, tally, met = SimEngine(world.rng, world.fate, 6, world.machines, lambda: None), Tally(len(world.plan)), MetByPeople(writer)
    queue = UnitQueue(world._open_work(writer), 4)
    Loop(world.job, "plan", queue, engine, met, NoDuplicates(), StopSignals(), tally, clock=engine.clock).run()
    accepted = {image_id for image_id, state in writer.state.images() if state.accepted}
    assert met.met and not met.met & accepted and len(accepted | met.met) == tally.accepted


def test_a_window_is_drained_before_its_end() -> None:
    """Twenty seeded windows over a slow storage: no commit after the end, nothing lost that had time to land, the rest goes on."""
    with decoding_once():
        for seed in range(20):
            world = World(seed, images=20, machines=Machines(0.0, 0.0, 0.1), faults={"": Faults(delay_s=2.0)}, poison=0.0)
            first = world.live(window_s=11 + seed)
            assert first.closed_at is not None and all(at <= first.closed_at for at in first.commits), (seed, first)
            assert first.end in ("paused", "done"), (seed, first)
            last: Life = first if first.end == "done" else world.live()
            assert last.end == "done", (seed, last)


def test_a_window_that_stops_the_run_says_that_it_is_paused() -> None:
    ends = {calm(seed).live(window_s=12.0).end for seed in range(6)}
    assert "paused" in ends


def test_the_log_of_another_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from renderfarm.errors import LogDamaged

    world = calm(3)
    world.live()
    LogWriter.open(world.calm(), "sim", SIGNER)
    with pytest.raises(LogDamaged):
        LogWriter.open(world.calm(), "sim", Signer.of("simulation", Ed25519PrivateKey.generate()))
