"""Pools of actors without Ray: handles that answer nothing, a clock that is set by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from renderfarm.farm.cluster import FarmLost, plan_workers
from renderfarm.farm.pool import FALSE_STARTS_MAX, ROOM_S, Member, Pool
from renderfarm.job import JobSettings
from renderfarm.run.health import Seat
from renderfarm.workers.worker import Known


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def pool_of(size: int, clock: Clock) -> Pool:
    """A pool whose actors are names."""
    return Pool("renderer", lambda: SimpleNamespace(started=SimpleNamespace(remote=object)), size, clock)


def ready(pool: Pool, *nodes: str) -> list[Member]:
    """The first workers answer that they are ready, on these hosts."""
    for (ref, worker), node in zip(list(pool.starting.items()), nodes, strict=False):
        del pool.starting[ref]
        pool.started(worker, node)
    return [worker for worker in pool.workers if worker.ready]


def test_work_goes_to_ready_workers_and_a_pending_replacement_gets_none() -> None:
    pool = pool_of(2, Clock())
    first, second = ready(pool, "a", "b")
    pool.died(first)
    assert len(pool.workers) == 2
    assert pool.able() == [second]


def test_where_no_worker_finds_room_the_run_pauses_in_the_end() -> None:
    clock = Clock()
    pool = pool_of(1, clock)
    (only,) = ready(pool, "a")
    clock.now = 1000.0
    pool.died(only)
    clock.now += ROOM_S - 1
    assert [worker.ready for worker in pool.able()] == [False]
    clock.now += 2
    with pytest.raises(FarmLost, match="no renderer found room"):
        pool.able()


def test_a_kind_that_cannot_start_is_given_up() -> None:
    pool = pool_of(1, Clock())
    for _ in range(FALSE_STARTS_MAX):
        pool.died(pool.workers[0], "no such file")
    with pytest.raises(FarmLost, match="could not start: no such file"):
        pool.able()


def test_a_worker_hangs_when_it_owes_an_answer_for_too_long() -> None:
    clock = Clock()
    pool = pool_of(2, clock)
    busy, _ = ready(pool, "a", "a")
    clock.now = 100.0
    pool.gives(busy, "one")
    clock.now = 150.0
    assert pool.hung(60.0) == []
    clock.now = 161.0
    assert pool.hung(60.0) == [busy]
    pool.gives(busy, "two")
    pool.answered(busy, "one")
    assert pool.hung(60.0) == []


def test_the_pixels_host_is_preferred_until_it_is_two_calls_behind() -> None:
    pool = pool_of(2, Clock())
    here, there = ready(pool, "here", "there")
    assert pool.idlest(["image"], near="there") is there
    pool.gives(there, 1)
    assert pool.idlest(["image"], near="there") is there
    for call in range(2, 4):
        pool.gives(there, call)
    assert pool.idlest(["image"], near="there") is here


@pytest.mark.parametrize(
    ("gpus", "cpus", "renderers", "finishers"), [(0, 2, 1, 1), (0, 8, 1, 7), (1, 16, 1, 15), (8, 8, 8, 4), (8, 64, 8, 56), (4, 2, 4, 2)]
)
def test_workers_fit_the_host(gpus: int, cpus: int, renderers: int, finishers: int) -> None:
    room = plan_workers(JobSettings.model_validate({"name": "a", "manifest": "-", "output": "-"}), gpus, cpus)
    assert (room.renderers, room.finishers) == (renderers, finishers)
    assert room.renderers * room.cpus_each + room.finishers * room.cpus_finisher <= cpus
    assert room.renderers * room.gpus_each <= gpus


def test_workers_of_a_host_that_goes_away_are_replaced_at_once_and_ended_when_they_owe_nothing() -> None:
    pool = pool_of(2, Clock())
    first, second = ready(pool, "a", "b")
    pool.gives(first, "unit")
    pool.leave({"a"})
    pool.leave({"a"})
    assert len(pool.workers) == 3, "one replacement, however often the notice is heard"
    assert pool.able() == [second]
    assert pool.left(()) == [], "it still owes an answer"
    pool.answered(first, "unit")
    assert pool.left({"a"}) == [], "its host still holds pixels"
    assert pool.left(()) == [first]
    assert first not in pool.workers


def test_where_every_host_goes_away_its_workers_go_on_until_another_is_ready() -> None:
    pool = pool_of(1, Clock())
    (only,) = ready(pool, "a")
    pool.leave({"a"})
    assert pool.able() == [only]
    assert pool.left(()) == []
    ready(pool, "c")
    assert pool.able() != [only]
    assert pool.left(()) == [only]


def test_a_worker_that_dies_while_it_leaves_is_not_replaced_twice() -> None:
    pool = pool_of(1, Clock())
    (only,) = ready(pool, "a")
    pool.leave({"a"})
    pool.died(only)
    assert len(pool.workers) == 1


KNOWN = Known("right", bytes(range(256)), 255, "H200", "GPU-1")


def test_a_sick_actor_keeps_its_gpu_and_another_is_started_for_it() -> None:
    pool = pool_of(2, Clock())
    first, second = list(pool.workers)
    pool.starting.clear()
    pool.started(first, "a", KNOWN)
    pool.started(second, "b", replace(KNOWN, span=0, device="GPU-2"))
    assert first.place == Seat("a", "GPU-1")
    assert pool.able() == [first] and second in pool.workers and second.out
    assert len(pool.workers) == 3, "one more looks for another GPU"
    pool.died(second)
    (third,) = [worker for worker in pool.workers if worker is not first]
    pool.started(third, "b", replace(KNOWN, device="GPU-2"))
    assert third.out and pool.able() == [first], "the same GPU again"


def test_an_image_goes_to_another_worker_than_the_one_that_failed_it() -> None:
    pool = pool_of(2, Clock())
    first, second = ready(pool, "a", "b")
    assert first.place is not None
    pool.ward.failed(first.place, ["x"])
    assert pool.idlest(["x"]) is second and pool.idlest(["y"]) is first
    for number in range(5):
        pool.gives(second, number)
    assert pool.idlest(["x"]) is second


def test_where_all_are_sick_the_run_pauses_and_says_why() -> None:
    clock = Clock()
    pool = pool_of(1, clock)
    pool.started(pool.workers[0], "a", replace(KNOWN, trouble="Xid 79: fell off the bus"))
    pool.starting.clear()
    clock.now = ROOM_S + 1
    with pytest.raises(FarmLost, match="a GPU-1: Xid 79"):
        pool.able()


@pytest.mark.parametrize(
    ("renderers", "device", "gpus", "wanted", "each"),
    [
        ({"min": 0, "max": 8}, "auto", 0, 8, 1.0),  # an autoscaler from zero: eight GPUs are asked for before one is there
        ({"min": 0, "max": 2}, "auto", 8, 2, 1.0),
        ({"max": 3}, "cpu", 0, 3, 0.0),
        (4, "cuda", 0, 4, 1.0),
        ("auto", "cuda", 0, 1, 1.0),
        ("auto", "auto", 0, 1, 0.0),
        (2, "auto", 0, 2, 0.0),
    ],
)
def test_a_cluster_is_asked_for_what_the_job_needs(renderers: object, device: str, gpus: int, wanted: int, each: float) -> None:
    settings = {"name": "a", "manifest": "-", "output": "-", "farm": {"renderers": renderers}, "model": {"device": device}}
    found = plan_workers(JobSettings.model_validate(settings), gpus, 16)
    assert (found.renderers, found.gpus_each) == (wanted, each)


def test_how_many_renderers_a_run_begins_with() -> None:
    def farm(renderers: object) -> tuple[int | None, int]:
        made = JobSettings.model_validate({"name": "a", "manifest": "-", "output": "-", "farm": {"renderers": renderers}}).farm
        return made.renderers_most, made.renderers_least

    assert [farm(each) for each in ("auto", 3, {"max": 8}, {"min": 2, "max": 8})] == [(None, 1), (3, 1), (8, 1), (8, 2)]
    with pytest.raises(ValueError, match="min is above max"):
        farm({"min": 3, "max": 2})


def test_patience_for_room_is_the_jobs() -> None:
    clock = Clock()
    pool = Pool("renderer", lambda: SimpleNamespace(started=SimpleNamespace(remote=object)), 1, clock, room_s=1200.0)
    clock.now = 1199.0
    assert len(pool.able()) == 1
    clock.now = 1201.0
    with pytest.raises(FarmLost, match="within 1200 s"):
        pool.able()
