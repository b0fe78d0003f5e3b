"""Near-duplicates among accepted images: the index that the committer asks, in log order, so that the first one stays.

Two images are near-duplicates where PDQ says so (a form within `max_distance` bits, both of good quality) and the colour thumbnail
confirms it. Where PDQ's quality is too low to trust it, as with half of all flat drawings, the thumbnails alone must agree more closely;
in other rows only where they have structure at all. Neither comparison looks at every image: `hamming` finds the near hashes, and the
thumbnails are sieved by their pooled form, which can only be nearer than they are, so nothing is missed.

Score: (distance / 256) of the nearest confirmed twin, 1 without one; an image fails where it is below (max_distance + 1) / 256. Nothing
here is stored: at resume the committer adds the accepted images again from their records.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.checks.base import Bars, judge, not_run
from pipeline.checks.fingerprint import Fingerprint, Planes, derived_forms, planes, turned
from pipeline.checks.hamming import HammingIndex, distances
from pipeline.checks.settings import DuplicatesSettings
from pipeline.pdq import packed
from pipeline.schema import Verdict

NAME = "duplicates"
OWN_ROW, OTHER_ROW = "the same row", "another row"
STRUCTURE_MIN, STRUCTURE_ALONE_MIN = 0.97, 0.985
"""Least correlation of the two L thumbnails, beside PDQ and without it. Drawn mockups, `scripts/bench/checks.py`: random edits .988 to 1
(flat ones .998), two seeds of one prompt at most .953 in any of eight forms (2,240 pairs), flat ones of any two prompts .955 (4,560)."""
SHIFT_MAX, SPOT_MAX = 14.0, 16.0
"""Colour: largest mean distance in (a, b) over the 8x8 cells, and largest excess of one cell over the median. Edits: 11.9 and 15.3 at most
(brightness, crops); a product in another colour, same pose: excess at least 21 (560 pairs)."""
POOL = 4
FLAT_POWER, FLAT_LIGHT_MAX = 4.0, 3.0
"""A thumbnail whose L varies by less than 2 levels has no structure to correlate: then its mean L must agree within 3 levels."""


@dataclass(frozen=True, slots=True)
class _Twin:
    name: str
    score: float


def bars(settings: DuplicatesSettings, where: str) -> Bars | None:
    """What the score of a twin in OWN_ROW or OTHER_ROW is held against; None where twins there are ignored."""
    on_fail = settings.on_fail if where == OWN_ROW else settings.on_job_twin
    return None if on_fail == "ignore" else Bars.one((settings.max_distance + 1) / 256, on_fail)


class DuplicateIndex:
    """Fingerprints of the accepted images of one job. One process, no lock; 100,000 images take about 100 MB."""

    def __init__(self, settings: DuplicatesSettings) -> None:
        self.settings = settings
        self._hashes = HammingIndex()
        self._pooled = np.zeros((1024, POOL * POOL), np.float32)
        self._trusted = np.zeros(1024, np.bool_)
        self._there = np.zeros(1024, np.bool_)
        self._names: list[str] = []
        self._signatures: list[str] = []
        self._rows: dict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, row_id: str, name: str, found: Fingerprint) -> None:
        """Remembers an accepted image of a row. `name` is what a person is shown when a twin of it turns up."""
        place = len(self._names)
        if place == len(self._trusted):
            self._trusted, self._there, self._pooled = (
                np.concatenate([a, np.zeros_like(a)]) for a in (self._trusted, self._there, self._pooled)
            )
        self._hashes.add(packed([found.pdq])[0])
        self._trusted[place] = found.quality >= self.settings.min_quality
        self._there[place] = True
        self._pooled[place] = _pooled(planes(found.signature)[0])
        self._names.append(name)
        self._signatures.append(found.signature)
        self._rows[row_id].append(place)

    def remove(self, row_id: str, name: str) -> None:
        """Forgets an image that was added but never committed; its place stays, and matches nothing."""
        for place in [place for place in self._rows.get(row_id, ()) if self._names[place] == name]:
            self._rows[row_id].remove(place)
            self._trusted[place] = self._there[place] = False

    def judge(self, row_id: str, found: Fingerprint) -> Verdict:
        """One verdict on a candidate: first against its own row, then against the whole job. Adds nothing."""
        if not self.settings.enabled:
            return not_run(NAME, "switched off")
        own = self.judge_row(row_id, found)
        if own.outcome != "accepted":
            return own
        other = self.judge_job(row_id, found)
        return own if other.outcome == "not_run" else other

    def judge_row(self, row_id: str, found: Fingerprint) -> Verdict:
        """Against the accepted images of the same row."""
        places = np.array(self._rows.get(row_id, ()), np.int64)
        forms = _forms(found)
        twin = self._nearest(places, distances(self._hashes[places], forms), found) or self._same(places, found)
        return self._verdict(twin, bars(self.settings, OWN_ROW), OWN_ROW, "unlike the row's other images")

    def judge_job(self, row_id: str, found: Fingerprint) -> Verdict:
        """Against the accepted images of all other rows."""
        held = bars(self.settings, OTHER_ROW)
        if held is None:
            return not_run(NAME, "twins in other rows are ignored")
        if found.quality < self.settings.min_quality and _flat(planes(found.signature)[0]):
            return not_run(NAME, f"too little detail to compare with other rows (PDQ quality {found.quality})")
        own = self._rows.get(row_id, [])
        places, gaps = self._hashes.search(_forms(found), self.settings.max_distance)
        others = ~np.isin(places, own)
        twin = self._nearest(places[others], gaps[others], found) or self._same(self._sieved(own, found), found)
        return self._verdict(twin, held, OTHER_ROW, "unlike the job's other images")

    def _verdict(self, twin: _Twin | None, held: Bars | None, where: str, passed: str) -> Verdict:
        assert held is not None, "whoever looks has a bar"
        if twin is None:
            return judge(NAME, 1.0, held, "", passed=passed)
        return judge(NAME, twin.score, held, f"near-duplicate of {twin.name} in {where}")

    def _nearest(self, places: npt.NDArray[np.int64], gaps: npt.NDArray[np.int64], found: Fingerprint) -> _Twin | None:
        """The nearest confirmed twin among these places, by their distances (N, 8) to the eight forms; the earliest of equals."""
        if not places.size or found.quality < self.settings.min_quality:
            return None
        close = np.argwhere((gaps <= self.settings.max_distance) & self._trusted[places][:, None])
        close = close[np.lexsort((places[close[:, 0]], gaps[close[:, 0], close[:, 1]]))]
        asked = _turned_planes(found.signature) if close.size else []
        for nth, form in close:
            place = int(places[nth])
            if confirms(asked[form], planes(self._signatures[place])):
                return _Twin(self._names[place], float(gaps[nth, form]) / 256)
        return None

    def _sieved(self, own: list[int], found: Fingerprint) -> npt.NDArray[np.int64]:
        """The images of other rows whose pooled thumbnail is near enough in one of eight forms that the thumbnails may agree."""
        there = self._there[: len(self)].copy()
        there[own] = False
        if found.quality >= self.settings.min_quality:
            there &= ~self._trusted[: len(self)]
        places = np.flatnonzero(there)
        light = planes(found.signature)[0]
        if not places.size or _flat(light):
            return places[:0]
        forms = np.stack([_pooled(np.asarray(form, np.int16)) for form in turned(light)])
        stored = self._pooled[places]
        squared = (stored * stored).sum(axis=1)[:, None] + (forms * forms).sum(axis=1) - 2 * stored @ forms.T
        near: npt.NDArray[np.bool_] = (squared <= 2 - 2 * STRUCTURE_ALONE_MIN + 1e-4).any(axis=1) & stored.any(axis=1)
        return places[near]

    def _same(self, places: npt.NDArray[np.int64], found: Fingerprint) -> _Twin | None:
        """The first twin among pictures with too little detail for PDQ, by the thumbnails alone, in eight forms."""
        asked = _turned_planes(found.signature)
        for place in places:
            if found.quality < self.settings.min_quality or not self._trusted[place]:
                known = planes(self._signatures[place])
                if any(confirms(form, known, STRUCTURE_ALONE_MIN) for form in asked):
                    return _Twin(self._names[place], 0.0)
        return None


def _forms(found: Fingerprint) -> npt.NDArray[np.uint64]:
    """The hashes of the eight forms, uint64 (8, 4)."""
    return packed(list(found.forms)) if found.forms else derived_forms(found.pdq)


def _flat(light: npt.NDArray[np.int16]) -> bool:
    """Whether a thumbnail's L has no structure to correlate."""
    return float(light.astype(np.float64).var()) < FLAT_POWER


def _pooled(light: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """L (16, 16) less its mean, of unit length, projected on 4x4 cells: float32 (16). Zeros without structure. Two pooled ones are at
    most as far apart as the thumbnails, whose squared distance is 2 - 2 x correlation."""
    if _flat(light):
        return np.zeros(POOL * POOL, np.float32)
    centred = light.astype(np.float64) - light.mean()
    cells = (centred / np.linalg.norm(centred)).reshape(POOL, 16 // POOL, POOL, 16 // POOL).sum(axis=(1, 3)) / (16 // POOL)
    return np.asarray(cells.ravel(), np.float32)


def _turned_planes(text: str) -> list[Planes]:
    light, colour = planes(text)
    return [(np.asarray(a, np.int16), np.asarray(b, np.int16)) for a, b in zip(turned(light), turned(colour), strict=True)]


def confirms(asked: Planes, known: Planes, structure_min: float = STRUCTURE_MIN) -> bool:
    """Whether two thumbnails in the same orientation agree in local structure and in colour."""
    cells = np.linalg.norm((asked[1] - known[1]).astype(np.float64), axis=-1)
    if cells.mean() > SHIFT_MAX or cells.max() - np.median(cells) > SPOT_MAX:
        return False
    a, b = asked[0].astype(np.float64).ravel(), known[0].astype(np.float64).ravel()
    shift = abs(float(a.mean() - b.mean()))
    a, b = a - a.mean(), b - b.mean()
    if min(a @ a, b @ b) / a.size < FLAT_POWER:
        return shift <= FLAT_LIGHT_MAX and float(np.abs(a - b).max()) <= FLAT_LIGHT_MAX * 4
    return float(a @ b) / float(np.sqrt((a @ a) * (b @ b))) >= structure_min
