"""Renderers on a virtual clock, some of them sick in a named way; who is well is judged by `renderfarm.run.health`, as in both engines.

fails     every unit fails at once, and so does the known picture (a driver that is gone)
full      every unit fails at once, the known picture is drawn (a neighbour holds the memory)
hangs     it never answers, is ended after HANG_S, and its successor does the same
dies      the process ends over every unit; its successor draws the known picture and does the same
black     pictures are black, and so is the known one
nan       pixels are not finite
slow      right, and ten times as slow
late …    the same, but the first LATE units are rendered as they should
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence

from renderfarm.pictures import Fingerprint
from renderfarm.records.canonical import claim_digest
from renderfarm.run.engine import CheckedUnit, Event, FinishLost, Rendered, RenderLost, StoredUnit
from renderfarm.run.health import Seat, Ward, images_of
from renderfarm.run.units import Unit, UnitQueue
from renderfarm.schema import Verdict
from renderfarm.workers.finish import Checked, Decision, Finished, failed_record
from renderfarm.workers.worker import Known
from tests.simulation.world import INFO, Fate

HANG_S, START_S, UNIT_S, FAST_S, KNOWN_S = 60.0, 5.0, 3.0, 0.1, 0.2
LATE = 2
SICKNESSES = ("fails", "full", "hangs", "dies", "black", "nan", "slow")
WELL = Known("as always", bytes(range(256)), 255, "sim")


@dataclasses.dataclass
class Renderer:
    """One place. `units`: how many it was given; `busy`: the unit it has, or "starting" or "known"."""

    place: Seat
    sickness: str = ""
    busy: object = "starting"
    units: int = 0
    idle_s: float = 0.0

    def ill(self) -> str:
        """What ails it now."""
        late = self.sickness.startswith("late ")
        return "" if late and self.units <= LATE else self.sickness.removeprefix("late ")

    def known(self) -> Known:
        """What it makes of the known picture."""
        ill = self.ill()
        if ill in ("fails", "nan"):
            return Known(trouble=ill)
        return dataclasses.replace(WELL, digest="black", levels=bytes(256), span=0) if ill == "black" else WELL


class SickEngine:
    """`run.engine.Engine` over such renderers; checking and storing always succeed."""

    def __init__(self, rng: random.Random, fate: Fate, renderers: Sequence[Renderer]) -> None:
        self.rng, self.fate, self.renderers = rng, fate, list(renderers)
        self.ward, self.now = Ward("renderer"), 0.0
        self.queue: UnitQueue | None = None
        self.given: Counter[Seat] = Counter()
        self._due: list[tuple[float, int, Event | tuple[str, Renderer]]] = []
        self._waiting: list[Unit] = []
        self._rendered: dict[int, str] = {}
        for renderer in renderers:
            self.ward.expected.add(renderer.place)
            self._later(("started", renderer), START_S)

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    def _later(self, event: Event | tuple[str, Renderer], after_s: float) -> None:
        self._due.append((self.now + after_s * self.rng.uniform(0.8, 1.2), len(self._due) + self.rng.randrange(1 << 30), event))

    def _able(self) -> list[Renderer]:
        return [one for one in self.renderers if self.ward.well(one.place) and not self.ward.waits(one.place)]

    def capacity(self) -> int:
        return sum(one.busy is None for one in self._able())

    def share(self) -> float:
        return 1.0

    def render(self, unit: Unit) -> None:
        self._waiting.append(unit)
        self._dispatch()

    def _dispatch(self) -> None:
        for unit in list(self._waiting):
            takes = [one for one in self._able() if one.busy is None and self.ward.fits(one.place, images_of(unit))]
            if takes:
                self._waiting.remove(unit)
                self._give(takes[0], unit)

    def _give(self, one: Renderer, unit: Unit) -> None:
        one.busy, one.units = unit, one.units + 1
        self.given[one.place] += 1
        self.ward.gave(one.place, unit)
        ill = one.ill()
        poisoned = any(self.fate.is_poison(work.attempt.image) for work in unit.members)
        full_s = UNIT_S * len(unit.members) / 4
        takes_s = {"fails": FAST_S, "full": FAST_S, "hangs": HANG_S, "dies": full_s / 2, "slow": 10 * full_s}.get(ill, full_s)
        self._later(("dies" if poisoned and ill in ("", "black", "slow") else ill, one), takes_s)

    def check(self, rendered: Rendered) -> None:
        ill = self._rendered.pop(rendered.unit.number)
        found = Fingerprint("0" * 64, 0, "")
        black = Verdict("broken", "rejected", "the picture is black")
        verdicts = {True: Verdict("sim", "accepted"), False: Verdict("sim", "rejected", "fate")}
        checked = [black if ill == "black" else verdicts[self.fate.accepted(work.attempt)] for work in rendered.unit.members]
        self._later(CheckedUnit(rendered.unit, rendered, tuple(Checked((verdict,), found) for verdict in checked)), FAST_S)

    def store(self, rendered: Rendered, checked: Sequence[Checked], decisions: Sequence[Decision]) -> None:
        finished = []
        for work, decision in zip(rendered.unit.members, decisions, strict=True):
            record = dataclasses.replace(failed_record(work.attempt, "sim", "plan", decision.reason), outcome=decision.outcome)
            record = dataclasses.replace(record, verdicts=decision.verdicts, pdq="0" * 64)
            finished.append(Finished(dataclasses.replace(record, claim_digest=claim_digest(record)), {}))
        self._later(StoredUnit(rendered.unit, tuple(finished)), FAST_S)

    def wait(self, timeout_s: float) -> list[Event]:
        self._due.sort(key=lambda item: item[:2])
        if not self._due or self._due[0][0] > self.now + timeout_s:
            self._pass(timeout_s)
            return []
        at, _, event = self._due.pop(0)
        self._pass(at - self.now)
        events = self._heard(*event) if isinstance(event, tuple) else self._judge(event)
        self._dispatch()
        return events

    def _pass(self, seconds: float) -> None:
        """Time passes; a renderer that is well, has nothing to do and could have is idle."""
        assert self.queue is not None
        for one in self.renderers:
            if not one.sickness and one.busy is None and not self.queue.empty():
                one.idle_s += max(0.0, seconds)
        self.now += max(0.0, seconds)

    def _heard(self, said: str, one: Renderer) -> list[Event]:
        if said == "started":
            one.busy = None
            self.ward.came(one.place, one.known())
            return []
        if said == "known":
            return self.ward.judged(one.place, one.known())
        unit, one.busy = one.busy, None
        assert isinstance(unit, Unit)
        if said in ("hangs", "dies"):
            lost = self.ward.lost(one.place, unit, "the renderer was lost")
            self.ward.went(one.place)
            one.busy = "starting"
            self._later(("started", one), START_S)
            return [lost]
        if said in ("fails", "full", "nan"):
            return self._hold(one, RenderLost(unit, said))
        self._rendered[unit.number] = said
        self.ward.paced(one.place, unit, UNIT_S * len(unit.members) / 4 * (10.0 if said == "slow" else 1.0))
        return [Rendered(unit, object(), INFO, (True,) * len(unit.members), 0, 1.0, {})]

    def _judge(self, event: Event) -> list[Event]:
        if not isinstance(event, CheckedUnit):
            if isinstance(event, StoredUnit):
                self.ward.done(event.unit)
            assert not isinstance(event, FinishLost)
            return [event]
        told, place = self.ward.checked(event)
        return [told] if place is None else self._hold(next(one for one in self.renderers if one.place == place), told)

    def _hold(self, one: Renderer, event: RenderLost | CheckedUnit) -> list[Event]:
        if self.ward.hold(one.place, event):
            self._later(("known", one), KNOWN_S)
        return []
