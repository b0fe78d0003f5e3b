"""Two of four renderers are sick, in every way that a name exists for: nothing is lost to them, they are put aside, the others work on."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence

import pytest
import structlog

from renderfarm.log.state import ImageState
from renderfarm.run.budget import BudgetStop
from renderfarm.run.health import Seat
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import UnitQueue
from renderfarm.schema import Record
from tests.simulation.sick import SICKNESSES, Renderer, SickEngine
from tests.simulation.storage import Faults
from tests.simulation.world import NoDuplicates, World

IMAGES = 120


@pytest.fixture(autouse=True, scope="module")
def quietly() -> Iterator[None]:
    """Every unit is a line in the log."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def world_of(seed: int, poison: float = 0.0) -> World:
    return World(seed, images=IMAGES, rejects=0.2, poison=poison, faults={"": Faults()})


class Kept:
    """A committer that remembers, and what it remembers of each image; the log itself has tests of its own."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.records += records

    @property
    def state(self) -> Kept:
        """As a log writer has one."""
        return self

    def image(self, image_id: str) -> ImageState:
        mine = [record for record in self.records if record.image_id == image_id]
        outcomes, last = [record.outcome for record in mine], max((record.attempt or 0 for record in mine), default=0)
        return ImageState("accepted" in outcomes, outcomes[-1:] == ["failed"], False, outcomes.count("rejected"), last)

    def ends(self) -> dict[str, tuple[str, int]]:
        """How each image that has a record ended, and after which attempt."""
        found = {record.image_id or "": self.image(record.image_id or "") for record in self.records}
        return {image_id: (state.standing(3), state.last_attempt) for image_id, state in found.items()}


def live(world: World, engine: SickEngine, kept: Kept) -> Loop:
    """One driver's life; what a session does around a loop."""
    queue, tally = UnitQueue(world._open_work(kept), 4), Tally(len(world.plan))  # type: ignore[arg-type]
    engine.queue, stop = queue, BudgetStop(world.job, StopSignals(None, engine.clock))
    loop = Loop(world.job, "plan", queue, engine, kept, NoDuplicates(), stop, tally, stop, clock=engine.clock)
    loop.run()
    return loop


def four(first: str, second: str) -> list[Renderer]:
    return [Renderer(Seat(f"host-{at}", "0"), sickness) for at, sickness in enumerate((first, "", second, ""))]


@pytest.mark.parametrize("seed", range(20))
def test_two_of_four_renderers_are_sick(seed: int) -> None:
    chooser, world = random.Random(seed), world_of(seed)
    first, second = (chooser.choice(("", "late ")) + SICKNESSES[(seed + offset) % len(SICKNESSES)] for offset in (0, chooser.randrange(7)))
    engine = SickEngine(chooser, world.fate, four(first, second))
    live(world, engine, kept := Kept())
    assert kept.ends() == world.expected(), (first, second)
    for one in engine.renderers:
        if one.sickness:
            well = 2 if one.sickness.startswith("late ") else 0
            assert engine.given[one.place] - well <= 3, (one.sickness, "is put aside within three units")
        assert one.idle_s <= 0.01, (first, second, one)


def test_poison_is_not_held_against_the_renderers_that_it_takes_down() -> None:
    for seed in range(5):
        world = world_of(seed, poison=0.1)
        engine = SickEngine(random.Random(seed), world.fate, four("", ""))
        live(world, engine, kept := Kept())
        assert kept.ends() == world.expected()
        assert not any(engine.ward._bad(one.place) for one in engine.renderers)


@pytest.mark.parametrize("sickness", ["full", "dies"])
def test_where_all_fail_the_run_pauses_by_itself_and_no_image_is_failed(sickness: str) -> None:
    world = world_of(3)
    engine = SickEngine(random.Random(3), world.fate, [Renderer(Seat("host", str(at)), sickness) for at in range(4)])
    loop = live(world, engine, kept := Kept())
    assert loop.paused and loop.tally.failed == 0
    assert kept.ends() == {}, "all of them remain"
    live(world, SickEngine(random.Random(3), world.fate, four("", "")), kept)
    assert kept.ends() == world.expected()


def test_a_host_half_of_which_is_sick_is_left() -> None:
    world = world_of(4)
    renderers = [Renderer(Seat(host, str(at)), "full" if (host, at) in (("b", 0), ("b", 1)) else "") for host in "ab" for at in range(4)]
    engine = SickEngine(random.Random(4), world.fate, renderers)
    live(world, engine, kept := Kept())
    assert kept.ends() == world.expected()
    assert [engine.ward.well(Seat("b", str(at))) for at in range(4)] == [False] * 4
    assert all(engine.ward.well(Seat("a", str(at))) for at in range(4))
