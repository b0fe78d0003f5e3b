"""Which workers are well: who may have which unit, whose failures speak against an image, and who gets nothing any more. Pure, no clock.

A sick worker answers errors fast, so it is always the idlest, and would eat the queue. Against that:

    known picture   a renderer draws one small picture before it gets work, and again after each error and each picture that looks broken;
                    what the error or the picture means is decided by that: a renderer that cannot draw it, or draws it otherwise
                    than before or than most of its kind, is sick, and nothing that it did is held against an image
    strikes         a unit that fails is one, whatever the known picture says; a unit that passes the checks takes them all back, and an
                    image that fails with CONVICTED workers takes its own back. With STRIKES_MAX a worker gets nothing while another is
                    there
    pace            a renderer that takes SLOW_TIMES as long as others of its kind, twice in a row, is sick
    hosts           one half of whose workers are put aside, at least two, is put aside

An image never goes back to a worker that failed it while another is there. Only the failure of a worker in good standing, or of all that
are there, is blamed on the image. A place is a worker's GPU (or its number, without one), so that its successor inherits what it did.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from renderfarm.logs import get_logger
from renderfarm.retry import farm_fault
from renderfarm.run.engine import CheckedUnit, Event, RenderLost
from renderfarm.run.units import Unit
from renderfarm.workers.finish import Checked
from renderfarm.workers.worker import Known

log = get_logger()

STRIKES_MAX = 3
CONVICTED = 3
"""Workers that an image fails with before it is the image's fault, and no strike against any of them."""
SLOW_TIMES, SLOW_UNITS, SLOW_LEAST_S = 4.0, 2, 2.0
"""A noisy neighbour doubles a unit's time; a GPU that fell back to another clock or lost its lanes takes ten times as long. Units that take
less than SLOW_LEAST_S are too short to tell."""
FLAT_SPAN = 8
"""The known picture spans more levels than this, whatever the weights."""
EXPECTED_S = 300.0
"""How long at most a worker that is being started is waited for."""
APART = 6.0
"""Mean difference in grey levels of two known pictures: rounding of other kernels stays under 1 (measured: 1 level between batches)."""


class Seat(NamedTuple):
    """Where a worker works: its host, and there its GPU or its number."""

    host: str
    device: str


def looks_broken(checked: Iterable[Checked]) -> bool:
    """Whether a picture is black, flat, burnt out or noise, which renderers make more often than prompts do."""
    return any(verdict.check == "broken" and verdict.outcome == "rejected" for one in checked for verdict in one.verdicts)


def apart(first: bytes, second: bytes) -> float:
    """Mean difference of two known pictures, in grey levels."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / max(1, len(first)) if len(first) == len(second) else 255.0


class Ward:
    """Workers of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sick: dict[Seat, str] = {}
        """Who gets nothing any more, and why."""
        self.expected: set[object] = set()
        """Workers that are being started: an image that failed with all who are ready waits for them."""
        self._here: set[Seat] = set()
        self._proven: set[Seat] = set()
        self._known: dict[Seat, Known] = {}
        self._strikes: defaultdict[Seat, list[frozenset[str]]] = defaultdict(list)
        self._failed: defaultdict[str, set[Seat]] = defaultdict(set)
        self._paces: defaultdict[Seat, dict[tuple[int, ...], float]] = defaultdict(dict)
        self._times: defaultdict[Seat, deque[float]] = defaultdict(lambda: deque(maxlen=SLOW_UNITS))
        self._given: dict[int, Seat] = {}
        self._held: defaultdict[Seat, list[RenderLost | CheckedUnit]] = defaultdict(list)

    # --- who is there ---

    def came(self, place: Seat, known: Known | None = None) -> bool:
        """A worker is ready, and made this of the known picture; whether it is well."""
        self._here.add(place)
        self.expected.discard(place)
        if known is not None:
            self._look(place, known)
        return place not in self.sick

    def went(self, place: Seat) -> None:
        """Nobody works there now; what is known of the place stays."""
        for places in (self._here, self._proven, self.expected):
            places.discard(place)

    def well(self, place: Seat) -> bool:
        """Whether a worker there may have work."""
        if place not in self._here or place in self.sick:
            return False
        others = [other for other in self._here if other != place and not self._bad(other)]
        if len(self._strikes[place]) >= STRIKES_MAX and (others or self.expected):
            return False
        return not (self._host_bad(place.host) and any(other.host != place.host for other in others))

    def fits(self, place: Seat, images: Collection[str]) -> bool:
        """Whether a worker there may have these images: it is well, and failed none of them, or no other is there that did not."""
        return self.well(place) and (not self._tried(place, images) or self._all_tried(images))

    def _bad(self, place: Seat) -> bool:
        return place in self.sick or len(self._strikes[place]) >= STRIKES_MAX

    def _host_bad(self, host: str) -> bool:
        places = [place for place in {*self._here, *self.sick} if place.host == host]
        bad = sum(map(self._bad, places))
        return bad >= 2 and 2 * bad >= len(places)

    def _tried(self, place: Seat, images: Collection[str]) -> bool:
        return any(place in self._failed[image] for image in images if image in self._failed)

    def _all_tried(self, images: Collection[str]) -> bool:
        return not self.expected and all(self._tried(place, images) for place in self._here if self.well(place))

    # --- what became of a unit ---

    def gave(self, place: Seat, unit: Unit) -> None:
        """A worker there has this unit."""
        self._given[unit.number] = place

    def done(self, unit: Unit) -> None:
        """The unit is stored or lost."""
        self._given.pop(unit.number, None)

    def failed(self, place: Seat, images: Collection[str]) -> bool:
        """A worker there failed these images; whether that speaks against them."""
        good = place in self._proven and not self._strikes[place] and place not in self.sick
        self._strike(place, images)
        for image in images:
            self._failed[image].add(place)
        convicted = self._all_tried(images) or any(len(self._failed[image]) >= CONVICTED for image in images)
        for other in {other for image in images for other in self._failed[image]} if convicted else ():
            self._strikes[other] = [strike for strike in self._strikes[other] if not strike.intersection(images)]
        return good or self._all_tried(images)

    def _strike(self, place: Seat, images: Collection[str]) -> None:
        if not self._tried(place, images):
            self._strikes[place].append(frozenset(images))
            if len(self._strikes[place]) == STRIKES_MAX:
                log.warning("worker.struck", kind=self.kind, host=place.host, device=place.device, units=STRIKES_MAX)

    def passed(self, place: Seat, images: Collection[str]) -> None:
        """What a worker there made of these images is as it should be."""
        self._strikes.pop(place, None)
        self._proven.add(place)
        for image in images:
            self._failed.pop(image, None)

    def lost(self, place: Seat, unit: Unit, reason: str) -> RenderLost:
        """A worker there died, or was ended, over this unit."""
        self.done(unit)
        return RenderLost(unit, farm_fault(reason), blamed=self.failed(place, images_of(unit)))

    def paced(self, place: Seat, unit: Unit, busy_s: float) -> None:
        """How long a unit took there; whoever is much slower than others of its kind, with units of the same shape, is sick."""
        shape = shape_of(unit)
        others = [paces[shape] for other, paces in self._paces.items() if other != place and shape in paces and self._alike(place, other)]
        self._paces[place][shape] = busy_s
        if not others:
            return
        times = self._times[place]
        times.append(busy_s / max(statistics.median(others), SLOW_LEAST_S / SLOW_TIMES))
        if len(times) == SLOW_UNITS and min(times) > SLOW_TIMES and any(self.well(other) for other in self._here if other != place):
            self._put_aside(place, f"takes {min(times):.0f} times as long as others of its kind")

    def _alike(self, place: Seat, other: Seat) -> bool:
        """Whether two renderers are the same kind of machine, as far as they said."""
        kinds = [known.kind if (known := self._known.get(each)) is not None else "" for each in (place, other)]
        return kinds[0] == kinds[1]

    # --- what is not clear until a known picture was drawn ---

    def hold(self, place: Seat, event: RenderLost | CheckedUnit) -> bool:
        """Keep an event until `judged`; whether the worker has to be asked for the known picture now."""
        self._held[place].append(event)
        return len(self._held[place]) == 1

    def waits(self, place: Seat) -> bool:
        """Whether a known picture is awaited from there."""
        return place in self._held

    def checked(self, event: CheckedUnit) -> tuple[CheckedUnit | RenderLost, Seat | None]:
        """What the checks say of a unit, and whom to ask for the known picture before that is believed; None: nobody."""
        place = self._given.get(event.unit.number)
        if place is None:
            return event, None
        if not looks_broken(event.checked):
            self.passed(place, images_of(event.unit))
            return event, None
        if place in self.sick:
            return self._taken(place, event, self.sick[place]), None
        return event, place if place in self._here else None

    def judged(self, place: Seat, known: Known | None) -> list[Event]:
        """The worker drew the known picture, or could not, or died meanwhile (None): what was held, as it is to be taken now."""
        if known is not None:
            self._look(place, known)
        why = "the renderer was lost before it could be judged" if known is None else self.sick.get(place, "")
        return [self._taken(place, event, why) for event in self._held.pop(place, [])]

    def _taken(self, place: Seat, event: RenderLost | CheckedUnit, why: str) -> RenderLost | CheckedUnit:
        images = images_of(event.unit)
        if why:
            self.done(event.unit)
            return RenderLost(event.unit, farm_fault(why), blamed=False)
        if isinstance(event, CheckedUnit):
            self._strike(place, images)
            return event
        self.done(event.unit)
        return replace(event, reason=farm_fault(event.reason), blamed=self.failed(place, images))

    def _look(self, place: Seat, known: Known) -> None:
        """Compare a known picture with what the worker drew before, and with what most of its kind draw."""
        before = self._known.get(place)
        self._known[place] = known if not known.trouble and (before is None or before.kind != known.kind) else before or known
        if known.trouble:
            self._put_aside(place, known.trouble)
        elif known.span <= FLAT_SPAN:
            self._put_aside(place, "draws the known picture black or flat")
        elif before is not None and before.kind == known.kind and apart(before.levels, known.levels) > APART:
            self._put_aside(place, f"draws the known picture otherwise than before ({before.digest[:12]}, now {known.digest[:12]})")
        else:
            self._proven.add(place)
            self._outvote(known.kind)

    def _outvote(self, kind: str) -> None:
        """Where most of a kind draw the known picture alike, those that do not are sick."""
        drawn = {place: known for place, known in self._known.items() if known.kind == kind and place not in self.sick}
        alike = {place: sum(apart(mine.levels, other.levels) <= APART for other in drawn.values()) for place, mine in drawn.items()}
        for place, count in alike.items():
            if count < max(alike.values()) and 2 * max(alike.values()) > len(drawn):
                self._put_aside(place, f"draws the known picture otherwise than most of its kind ({drawn[place].digest[:12]})")

    def _put_aside(self, place: Seat, why: str) -> None:
        if place not in self.sick:
            self.sick[place] = why
            log.error("worker.sick", kind=self.kind, host=place.host, device=place.device, reason=why)

    def why(self) -> str:
        """Why those that are put aside are."""
        return "; ".join(f"{place.host} {place.device}: {why}" for place, why in sorted(self.sick.items()))


def images_of(unit: Unit) -> list[str]:
    """The ids of a unit's images."""
    return [attempt.image.image_id for attempt in unit.attempts()]


def shape_of(unit: Unit) -> tuple[int, ...]:
    """What a unit's time depends on: its number of images, and the size and steps of the first, which all share."""
    image = unit.members[0].attempt.image
    return len(unit.members), image.width, image.height, image.steps
