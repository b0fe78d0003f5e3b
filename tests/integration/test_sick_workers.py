"""Real runs on the local engine, two of whose four renderers are sick (tests/sick_worker.py): nothing is lost, the audit passes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from renderfarm import Job, Output
from renderfarm.resolve import resolve_job
from renderfarm.run import session as runs
from renderfarm.run.crew import Crew
from renderfarm.run.engine import Opened
from renderfarm.run.local import LocalEngine
from renderfarm.run.stop import StopSignals
from renderfarm.workers.worker import Order
from tests.integration.conftest import Farm

LONG = pytest.mark.skipif(
    "RENDERFARM_LONG" not in os.environ,
    reason="RENDERFARM_LONG=1 runs it: minutes of two cores; tests/simulation/test_sick.py is the short one",
)


@pytest.mark.parametrize(
    ("sicknesses", "images"),
    [pytest.param(name, images, marks=LONG) for name, images in (("fails black", 12), ("full slow", 40), ("nan hangs", 40))],
)
def test_nothing_is_lost_to_two_sick_renderers_of_four(
    farm: Farm, sicknesses: str, images: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    farm.manifest([{"id": f"row {at}", "prompt": "a mug"} for at in range(images)])
    (tmp_path / "sick").mkdir()
    for name in sicknesses.split():
        (tmp_path / "sick" / name).touch()
    monkeypatch.setenv("SICK", str(tmp_path / "sick"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    checks = {"attempts": 2, "broken": {"enabled": True}, **{name: {"enabled": False} for name in ("duplicates", "copies", "counts")}}
    job = Job.load(farm.job(checks=checks, model={"batch": 2}, farm={"hang_s": 30 if "hangs" in sicknesses else 300}))
    engines: list[LocalEngine] = []

    @contextmanager
    def open_engine(order: Order, stopped: Callable[[], bool]) -> Iterator[Opened]:
        engine = LocalEngine(order, Crew(4, 0, mixed=True), "tests.sick_worker")
        engines.append(engine)
        try:
            yield Opened(engine, 4, engine.start(stopped))
        finally:
            engine.close()

    session = runs.open_session(resolve_job(job.settings))
    result = runs.run(session, runs.RunOptions(), open_engine, StopSignals(), lambda tally: None)
    assert (result.counts.accepted, result.tally.rejected_attempts) == (images, 0), result
    assert Output(tmp_path / "out").audit().ok
    ward = engines[0]._wards["render"]
    found = Counter(why.split()[0] for why in ward.sick.values())
    assert found == {"fails black": {"cannot": 1, "draws": 1}, "full slow": {"takes": 1}, "nan hangs": {"cannot": 1}}[sicknesses]
