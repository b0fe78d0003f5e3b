"""Whole runs without a model: a session, its loop and the real finisher; only the renderer draws noise in place of what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from renderfarm import keys
from renderfarm.checks.base import Check, Image
from renderfarm.credential import Issuer
from renderfarm.job import load_job
from renderfarm.plan import drawn_once
from renderfarm.resolve import ResolvedJob, resolve_job
from renderfarm.run import session as farm
from renderfarm.run.engine import CheckedUnit, Event, Opened, Rendered, StoredUnit
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import Unit
from renderfarm.schema import PromptRow, RenderInfo, Verdict
from renderfarm.storage import Storage, open_storage
from renderfarm.workers.finish import Checked, Decision, Finisher
from renderfarm.workers.worker import Marking, Order
from tests.outputs import SIDE, picture

INFO = RenderInfo("noise", "1", "0" * 64, "none", "none", "none", "test", "", "0", "0", settings=(("lossy.reuse", "2"),))


class Rejecting:
    """A check that rejects pictures of rows whose prompt says so, and quotes it."""

    name, cost = "strict", 1

    def prepare(self) -> None:
        """Nothing to load."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Rejects what asks for it."""
        return Verdict(self.name, "rejected" if "rejected" in row.prompt else "accepted", f"it does not show {row.prompt!r}")


def make(folder: Path, rows: Sequence[dict[str, object]], **settings: object) -> Path:
    """A folder with a job of these rows and a key set; the job file."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "rows.parquet")
    size = {"width": SIDE, "height": SIDE}
    quiet = {"attempts": 2, "duplicates": {"enabled": False}}
    job = {"name": "drawn", "manifest": "rows.parquet", "output": "out", "keys": "keys", "defaults": size, "checks": quiet, **settings}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    if not (folder / "keys").exists():
        keys.init(folder / "keys")
    return folder / "job.yaml"


def resolved(job: Path, **more: bool) -> ResolvedJob:
    """The job of `make`."""
    return resolve_job(load_job(job), **more)


def render(job: Path, *, limit: int | None = None, begin: Callable[[ResolvedJob], None] = lambda job: None, **more: bool) -> farm.Session:
    """One run over the job. `begin` may write to the output first."""
    found = resolved(job, **more)
    begin(found)
    session = farm.open_session(found)
    farm.run(session, farm.RunOptions(limit), open_engine, StopSignals(), lambda tally: None)
    return session


@contextmanager
def open_engine(order: Order, stopped: Callable[[], bool]) -> Iterator[Opened]:
    """As `run.engine.OpenEngine`."""
    yield Opened(DrawnEngine(order, open_storage(order.job.output.to)), 1, 4)


class DrawnEngine:
    """`run.engine.Engine` that does at once, in this process, whatever it is asked."""

    def __init__(self, order: Order, storage: Storage, checks: Sequence[Check] = (Rejecting(),)) -> None:
        self.key = order.keys.mark_key
        self.finisher = Finisher(order.job, order.plan_digest, storage, checks, Issuer(order.keys), self.key)
        self.drawn: list[str] = []
        self._events: list[Event] = []

    def capacity(self) -> int:
        return 1 - len(self._events)

    def share(self) -> float:
        """As `Engine.share`."""
        return 1.0

    def render(self, unit: Unit) -> None:
        once, places = drawn_once(unit.attempts())
        names = tuple(f"{attempt.image.drawing_id}/{attempt.number}" for attempt in once)
        self.drawn += names
        marking = Marking(unit.attempts(), self.key, places)
        pixels = marking(torch.stack([torch.from_numpy(picture(attempt.seed)) for attempt in once])).numpy()
        info: Any = {name: getattr(INFO, name) for name in INFO.__dataclass_fields__} | {"batch": names}
        self._events.append(Rendered(unit, pixels, RenderInfo(**info), marking.marked, 1, 0.1, {}))

    def check(self, rendered: Rendered) -> None:
        pixels: Any = rendered.pixels
        each = enumerate(rendered.unit.attempts())
        checked = tuple(self.finisher.check(attempt, pixels[at], marked=rendered.marked[at]) for at, attempt in each)
        self._events.append(CheckedUnit(rendered.unit, rendered, checked))

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        pixels: Any = rendered.pixels
        store, info, marked = self.finisher.store, rendered.info, rendered.marked
        finished = tuple(
            store(attempt, pixels[at], info, checked[at], decisions[at], marked=marked[at], started_us=rendered.started_us)
            for at, attempt in enumerate(rendered.unit.attempts())
        )
        self._events.append(StoredUnit(rendered.unit, finished))

    def wait(self, timeout_s: float) -> list[Event]:
        events, self._events = self._events, []
        return events
