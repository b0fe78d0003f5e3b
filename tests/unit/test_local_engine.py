"""The local engine with real processes that render nothing (tests/fake_worker.py): every unit ends in one event, whatever dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderfarm.errors import FarmLost, JobError, Stopped, StorageAway
from renderfarm.job import JobSettings
from renderfarm.run.crew import Crew, plan_crew
from renderfarm.run.engine import CheckedUnit, Event, FinishLost, Rendered, RenderLost, StoredUnit
from renderfarm.run.local import LocalEngine
from renderfarm.run.units import PendingAttempt, Unit
from renderfarm.workers.finish import Decision
from renderfarm.workers.worker import Order
from tests.standins import attempt

BOTH = Crew(2, 0, mixed=True)
WAIT_S = 60.0


def settings(**changes: object) -> JobSettings:
    return JobSettings.model_validate({"name": "a", "manifest": "-", "output": "-", **changes})


def order(**changes: object) -> Order:
    return Order(settings(**changes), "plan", None, None)  # type: ignore[arg-type]  # nothing of these reaches a fake worker


HANG_S = settings().farm.hang_s


class Clock:
    """The real one, and ahead of it where a test says so."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[LocalEngine]:
    """Two workers, or as the test's `crew` and `job` marks say."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("FAKE_WORKER", str(tmp_path))
    wanted, crew, *gpus = getattr(request, "param", (order(), BOTH))
    made = LocalEngine(wanted, crew, "tests.fake_worker", *gpus, clock=clock)
    yield made
    made.close()


def unit(number: int, *prompts: str) -> Unit:
    return Unit(number, tuple(PendingAttempt(attempt(f"{number}-{at}", prompt=prompt)) for at, prompt in enumerate(prompts)))


def events(engine: LocalEngine, count: int = 1) -> list[Event]:
    """The next events; the engine is asked until they are there."""
    found: list[Event] = []
    deadline = time.monotonic() + WAIT_S
    while len(found) < count and time.monotonic() < deadline:
        found += engine.wait(1.0)
    return found


def rendered(engine: LocalEngine, one: Unit) -> Rendered:
    engine.render(one)
    (event,) = events(engine)
    assert isinstance(event, Rendered) and event.unit is one
    return event


ACCEPTED = Decision("accepted", "", (), True)


def test_a_unit_goes_from_rendering_to_storing_and_its_images_stay_in_order(engine: LocalEngine) -> None:
    assert engine.start() == 4
    assert engine.capacity() == 2
    made = rendered(engine, unit(1, "a", "b", "c"))
    engine.check(made)
    (checked,) = events(engine)
    assert isinstance(checked, CheckedUnit)
    assert [one.verdicts[0].reason for one in checked.checked] == ["1-0", "1-1", "1-2"]
    engine.store(made, checked.checked, [ACCEPTED] * 3)
    (stored,) = events(engine)
    assert isinstance(stored, StoredUnit)
    assert [one.record.image_id for one in stored.finished] == ["1-0", "1-1", "1-2"]
    assert engine.capacity() == 2


def test_storing_goes_before_checking_and_checking_before_rendering(engine: LocalEngine) -> None:
    engine.start()
    first, second = rendered(engine, unit(1, "a")), rendered(engine, unit(2, "a", "b", "c", "d"))
    engine.check(second)
    engine.render(unit(3, "a"))
    engine.store(first, [c.checked[0] for c in _check(engine, first)], [ACCEPTED])
    kinds = [type(event) for event in events(engine, 3)]
    assert kinds.index(StoredUnit) < kinds.index(Rendered) and kinds.index(CheckedUnit) < kinds.index(Rendered)


def _check(engine: LocalEngine, made: Rendered) -> list[CheckedUnit]:
    from renderfarm.pictures import Fingerprint
    from renderfarm.schema import Verdict
    from renderfarm.workers.finish import Checked

    verdicts = (Verdict("seen", "accepted", made.unit.attempts()[0].image.image_id),)
    return [CheckedUnit(made.unit, made, (Checked(verdicts, Fingerprint("0" * 64, 0, "")),))]


def test_a_worker_that_dies_over_a_unit_is_blamed_and_replaced(engine: LocalEngine) -> None:
    engine.start()
    engine.render(unit(1, "die"))
    (lost,) = events(engine)
    assert isinstance(lost, RenderLost) and lost.blamed and "exit 9" in lost.reason
    for number in (2, 3, 4):  # both places work again
        assert rendered(engine, unit(number, "a")).unit.number == number


def test_pixels_survive_the_death_of_the_worker_that_checks_them(engine: LocalEngine) -> None:
    engine.start()
    made = rendered(engine, unit(1, "die checking", "b"))
    engine.check(made)
    (lost,) = events(engine)
    assert isinstance(lost, FinishLost) and lost.unit is made.unit
    engine.check(made)
    (checked,) = events(engine)
    assert isinstance(checked, CheckedUnit) and len(checked.checked) == 2


def test_a_unit_that_fails_is_lost_with_its_reason_and_nobody_dies(engine: LocalEngine) -> None:
    engine.start()
    engine.render(unit(1, "fail"))
    (lost,) = events(engine)
    assert isinstance(lost, RenderLost) and lost.reason == "it fails"


def test_a_storage_that_is_away_pauses_the_run(engine: LocalEngine) -> None:
    engine.start()
    made = rendered(engine, unit(1, "away"))
    engine.store(made, _check(engine, made)[0].checked, [ACCEPTED])
    with pytest.raises(StorageAway):
        events(engine)


@pytest.mark.parametrize("engine", [(order(), Crew(1, 1, mixed=False))], indirect=True)
def test_a_worker_that_gives_no_answer_is_ended(engine: LocalEngine, clock: Clock) -> None:
    engine.start()
    engine.render(unit(1, "hang"))
    clock.ahead_s += HANG_S
    (lost,) = events(engine)
    assert isinstance(lost, RenderLost) and "exit -9" in lost.reason


@pytest.mark.parametrize("engine", [(order(provider="hang"), Crew(1, 0, mixed=True))], indirect=True)
def test_a_worker_that_is_never_ready_is_ended(engine: LocalEngine, clock: Clock) -> None:
    def stopped() -> bool:
        clock.ahead_s += HANG_S
        return clock.ahead_s > 20 * HANG_S

    with pytest.raises(FarmLost, match="exit -9"):
        engine.start(stopped)


@pytest.mark.parametrize("engine", [(order(), Crew(2, 1, mixed=False), ("GPU-a", "MIG-b"))], indirect=True)
def test_each_renderer_sees_the_gpu_that_it_was_given_by_its_name(engine: LocalEngine) -> None:
    engine.start()
    seen, deadline = set[str](), time.monotonic() + WAIT_S
    while len(seen) < 2 and time.monotonic() < deadline:
        for number in (1, 2, 3):
            engine.render(unit(number, "a"))
        seen |= {event.info.device for event in events(engine, 3) if isinstance(event, Rendered)}
    assert seen == {"GPU-a", "MIG-b"}


@pytest.mark.parametrize("engine", [(order(), Crew(1, 1, mixed=False), ("GPU-a", "MIG-b"))], indirect=True)
def test_a_renderer_that_is_alone_sees_every_gpu(engine: LocalEngine) -> None:
    """Its text encoders may be on another (`model.encoders: cuda:1`)."""
    engine.start()
    assert rendered(engine, unit(1, "a")).info.device == os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("engine", [(order(), Crew(1, 0, mixed=True))], indirect=True)
def test_without_a_worker_there_is_no_capacity_but_an_error_with_the_refusals_words(engine: LocalEngine) -> None:
    """Or a run would end as if nothing were left to do."""
    engine.start()
    engine.render(unit(1, "die, refuse"))
    assert isinstance(events(engine)[0], RenderLost)
    with pytest.raises(FarmLost, match="not with this worker"):
        events(engine)
    with pytest.raises(FarmLost, match="not with this worker"):
        engine.capacity()


@pytest.mark.parametrize("engine", [(order(), Crew(1, 0, mixed=True))], indirect=True)
def test_a_worker_that_is_alone_gets_ready_for_both(engine: LocalEngine) -> None:
    """As on a machine with one core."""
    deadline = time.monotonic() + WAIT_S
    assert engine.start(lambda: time.monotonic() > deadline) == 4
    made = rendered(engine, unit(1, "a"))
    engine.check(made)
    assert isinstance(events(engine)[0], CheckedUnit)


@pytest.mark.parametrize("engine", [(order(provider="refuse"), BOTH)], indirect=True)
def test_a_worker_that_refuses_the_job_ends_the_start_with_its_words(engine: LocalEngine) -> None:
    with pytest.raises(JobError, match="not with this worker"):
        engine.start()


@pytest.mark.parametrize("engine", [(order(provider="no finisher"), BOTH)], indirect=True)
def test_a_kind_of_worker_that_cannot_start_ends_the_start_though_others_can(engine: LocalEngine) -> None:
    with pytest.raises(FarmLost, match=r"no worker can finish.*the bucket is away"):
        engine.start()


def test_the_workers_of_a_cpu_are_priced_as_one() -> None:
    assert (Crew(8, 0, mixed=True).priced, Crew(2, 14, mixed=False).priced) == (1, 2)


def test_a_start_can_be_stopped(engine: LocalEngine) -> None:
    with pytest.raises(Stopped):
        engine.start(lambda: True)


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    engine = LocalEngine(order(), Crew(1, 0, mixed=True), "renderfarm.no_such_module")
    with pytest.raises(JobError, match="No module named"):  # for a person to mend
        engine.start()
    engine.close()


def test_nothing_is_left_when_an_engine_is_closed(engine: LocalEngine) -> None:
    engine.start()
    children = [worker.child.process for worker in engine._workers]
    engine.close()
    assert all(child.poll() is not None for child in children)


@pytest.mark.parametrize(
    ("farm", "device", "gpus", "cpus", "free", "crew"),
    [
        ({}, "auto", 0, 2, None, Crew(2, 0, True)),
        ({}, "auto", 0, 8, 8 << 30, Crew(2, 1, True)),  # three quarters hold two renderers of 2.7 GB each, and a finisher of .7 GB
        ({}, "auto", 0, 8, 1 << 30, Crew(1, 0, True)),
        ({"finishers": 7}, "auto", 0, 8, 1 << 30, Crew(1, 7, True)),
        ({}, "auto", 1, 16, 8 << 30, Crew(1, 8, False)),
        ({"renderers": 1, "finishers": 1}, "auto", 0, 8, None, Crew(1, 1, True)),
        ({}, "auto", 1, 16, None, Crew(1, 15, False)),
        ({}, "auto", 1, 1, None, Crew(1, 1, False)),
        ({}, "cpu", 1, 2, None, Crew(2, 0, True)),
        ({"finishers": 3}, "auto", 2, 16, None, Crew(2, 3, False)),
        ({"finishers": 0}, "auto", 2, 16, None, Crew(2, 1, False)),
        ({"finishers": 0}, "cpu", 2, 1, None, Crew(1, 0, True)),
    ],
)
def test_how_many_workers_there_are(farm: dict[str, int], device: str, gpus: int, cpus: int, free: int | None, crew: Crew) -> None:
    assert plan_crew(settings(farm=farm, model={"device": device}), gpus, cpus, 2 << 30, free) == crew
