"""Near-duplicates among the accepted images of a job. They are asked for in log order, so that the first of two twins stays.

Two images are near-duplicates where PDQ (a hash of the luminance) says so and a colour thumbnail confirms it. PDQ says so within
`max_distance` bits, in any of the eight forms that mirroring and turning give, if both hashes are of good quality. Where one is not, as for
half of all flat drawings, the thumbnails alone must agree more closely; in other rows only where they have structure at all.

A variant of one seed, such as a quantised, cached or compiled model draws, is farther away: within `variant_distance` bits, upright only,
where both thumbnails have structure all over and agree in it. In a picture that is flat in parts that much agrees by chance.

Neither comparison looks at every image: `pictures.hamming` finds the near hashes, and a smaller form of the thumbnails leaves out most.
Two small forms are never further apart than their thumbnails, so nothing is missed.

Score: (distance / 256) of the nearest confirmed twin, 1 without one; an image fails where it is below (d + 1) / 256, with the larger of the
two distances as d. Nothing here is stored: a resumed run adds the accepted images again from their records.
"""

from __future__ import annotations

import base64
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderfarm.checks.base import Bars, judge, not_run
from renderfarm.job.checks import DuplicatesSettings
from renderfarm.logs import get_logger
from renderfarm.pictures import pdq
from renderfarm.pictures.fingerprints import SIGNATURE_BYTES, Fingerprint, Planes, forms_of_signature, planes_of, planes_of_bytes
from renderfarm.pictures.hamming import HammingIndex, distances
from renderfarm.schema import Verdict

log = get_logger()
NAME = "duplicates"
OWN_ROW, OTHER_ROW = "the same row", "another row"
STRUCTURE_MIN, STRUCTURE_ALONE_MIN = 0.97, 0.985
"""Least correlation of the two L thumbnails, beside PDQ and without it. Drawn mockups, `scripts/bench/checks.py`: random edits .988 to 1
(flat ones .998), two seeds of one prompt at most .953 in any of eight forms (2,240 pairs), flat ones of any two prompts .955 (4,560)."""
SHIFT_MAX, SPOT_MAX = 14.0, 16.0
"""Colour: largest mean distance in (a, b) over the 8x8 cells, and largest excess of one cell over the median. Edits: 11.9 and 15.3 at most
(brightness, crops); a product in another colour, same pose: excess at least 21 (560 pairs)."""
VARIANT_STRUCTURE_MIN, VARIANT_SHIFT_MAX, VARIANT_SPOT_MAX = 0.85, 8.0, 18.0
BUSY_POWER, BUSY_MIN = 9.0, 0.9
"""Variants: least correlation, colour as above, and which share of the 4x4 blocks of L must vary by 3 levels or more. 785 pairs of 27
models' variants (cache-dit): .953 are found in the mean of models, .741 without this rule. No false one among 250 pairs of one prompt and
809,000 others of real models. In the starter's small world 10 more of 360 pairs of seeds; they are hard to tell apart by eye."""
GREY_CHROMA, GREY_OTHER_CHROMA = 4.0, 6.0
"""A picture without colour, and one with colour in most places: as a copy in grey and its original, colour tells nothing of the two."""
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
    return None if on_fail == "ignore" else Bars.one((max(settings.max_distance, settings.variant_distance) + 1) / 256, on_fail)


class _Thumbnails:
    """Signatures by place, on disk: they are looked at only where a hash or a pooled thumbnail is near already.

    The file is made with the first signature. Where the disk takes no more, that one and all later ones stay in memory: nothing is lost.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._on_disk = 0
        self._in_memory = bytearray()

    def extend(self, raw: bytes) -> None:
        """Appends signatures of SIGNATURE_BYTES each."""
        written = 0
        if not self._in_memory:
            try:
                written = self._write(raw)
            except OSError as error:
                log.warning("thumbnails_not_on_disk", error=str(error), kept="in memory", remedy="name a folder with room in TMPDIR")
        self._on_disk += written
        self._in_memory += raw[written * SIGNATURE_BYTES :]

    def _write(self, raw: bytes) -> int:
        """Puts all of them behind those on disk. Raises: OSError."""
        if self._file is None:
            self._file, path = tempfile.mkstemp(prefix="renderfarm-thumbnails-")
            weakref.finalize(self, os.close, self._file)
            os.unlink(path)  # it is gone when this process is
        written = 0
        while written < len(raw):  # a disk that fills up takes a part first
            written += os.pwrite(self._file, memoryview(raw)[written:], self._on_disk * SIGNATURE_BYTES + written)
        return len(raw) // SIGNATURE_BYTES

    def __getitem__(self, place: int) -> Planes:
        if place < self._on_disk:
            assert self._file is not None, "what is on disk has a file"
            return planes_of_bytes(os.pread(self._file, SIGNATURE_BYTES, place * SIGNATURE_BYTES))
        first = (place - self._on_disk) * SIGNATURE_BYTES
        return planes_of_bytes(bytes(self._in_memory[first : first + SIGNATURE_BYTES]))


class DuplicateIndex:
    """Fingerprints of the accepted images of one job. One process, no lock; 100,000 images take about 40 MB, and as much on disk."""

    def __init__(self, settings: DuplicatesSettings) -> None:
        self.settings = settings
        self._hashes = HammingIndex()
        self._pooled = np.zeros((1024, POOL * POOL), np.float32)
        self._trusted = np.zeros(1024, np.bool_)
        self._there = np.zeros(1024, np.bool_)
        self._names: list[str] = []
        self._thumbnails = _Thumbnails()
        self._rows: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, row_id: str, name: str, picture: Fingerprint) -> None:
        """Remembers an accepted image of a row. `name` is what a person is shown when a twin of it turns up."""
        self.extend([row_id], [name], [picture.pdq], [picture.quality], [picture.signature])

    def extend(
        self, row_ids: Sequence[str], names: Sequence[str], pdqs: Sequence[str], qualities: Sequence[int], signatures: Sequence[str]
    ) -> None:
        """`add` for many at once; `signatures` are base64, as in a fingerprint.

        Raises: ValueError for a hash or signature of another length.
        """
        if not names:
            return
        first, count = len(self._names), len(names)
        raw = b"".join(base64.b64decode(text, validate=True) for text in signatures)
        if len(raw) != count * SIGNATURE_BYTES:
            raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, these {count} have {len(raw)}")
        self._hashes.extend(pdq.packed(list(pdqs)))
        while first + count > len(self._trusted):
            self._trusted, self._there, self._pooled = (
                np.concatenate([a, np.zeros_like(a)]) for a in (self._trusted, self._there, self._pooled)
            )
        self._trusted[first : first + count] = np.asarray(qualities) >= self.settings.min_quality
        self._there[first : first + count] = True
        light = np.frombuffer(raw, np.uint8).reshape(count, SIGNATURE_BYTES)[:, :256].reshape(count, 16, 16)
        self._pooled[first : first + count] = _pooled(light.astype(np.int16))
        self._names += names
        self._thumbnails.extend(raw)
        for place, row_id in enumerate(row_ids, first):
            self._rows[row_id] = (*self._rows.get(row_id, ()), place)

    def remove(self, row_id: str, name: str) -> None:
        """Forgets an image that was added but never committed; its place stays, and matches nothing."""
        for place in [place for place in self._rows.get(row_id, ()) if self._names[place] == name]:
            self._rows[row_id] = tuple(other for other in self._rows[row_id] if other != place)
            self._trusted[place] = self._there[place] = False

    def judge(self, row_id: str, picture: Fingerprint) -> Verdict:
        """One verdict on a candidate: first against its own row, then against the whole job. Adds nothing."""
        if not self.settings.enabled:
            return not_run(NAME, "switched off")
        own = self.judge_row(row_id, picture)
        if own.outcome != "accepted":
            return own
        other = self.judge_job(row_id, picture)
        return own if other.outcome == "not_run" else other

    def judge_row(self, row_id: str, picture: Fingerprint) -> Verdict:
        """Against the accepted images of the same row."""
        places = np.array(self._rows.get(row_id, ()), np.int64)
        forms = _forms(picture)
        twin = self._nearest(places, distances(self._hashes[places], forms), picture) or self._same(places, picture)
        return self._verdict(twin, bars(self.settings, OWN_ROW), OWN_ROW, "unlike the row's other images")

    def judge_job(self, row_id: str, picture: Fingerprint) -> Verdict:
        """Against the accepted images of all other rows."""
        bar = bars(self.settings, OTHER_ROW)
        if bar is None:
            return not_run(NAME, "twins in other rows are ignored")
        if picture.quality < self.settings.min_quality and _flat(planes_of(picture.signature)[0]):
            return not_run(NAME, f"too little detail to compare with other rows (PDQ quality {picture.quality})")
        own = self._rows.get(row_id, ())
        places, gaps = self._hashes.search(_forms(picture), self.settings.max_distance, self.settings.variant_distance)
        others = ~np.isin(places, np.array(own, np.int64))
        twin = self._nearest(places[others], gaps[others], picture) or self._same(self._sieved(own, picture), picture)
        return self._verdict(twin, bar, OTHER_ROW, "unlike the job's other images")

    def _verdict(self, twin: _Twin | None, bar: Bars | None, where: str, passed: str) -> Verdict:
        assert bar is not None, "whoever looks has a bar"
        if twin is None:
            return judge(NAME, 1.0, bar, "", passed=passed)
        return judge(NAME, twin.score, bar, f"near-duplicate of {twin.name} in {where}")

    def _nearest(self, places: npt.NDArray[np.int64], gaps: npt.NDArray[np.int64], picture: Fingerprint) -> _Twin | None:
        """The nearest confirmed twin among these places, by their distances (N, 8) to the eight forms; the earliest of equals."""
        if not places.size or picture.quality < self.settings.min_quality:
            return None
        reach = np.full(gaps.shape[1], self.settings.max_distance)
        reach[0] = max(self.settings.max_distance, self.settings.variant_distance)  # nothing draws a variant turned or mirrored
        close = np.argwhere((gaps <= reach) & self._trusted[places][:, None])
        close = close[np.lexsort((places[close[:, 0]], gaps[close[:, 0], close[:, 1]]))]
        asked = forms_of_signature(picture.signature) if close.size else []
        for nth, form in close:
            place = int(places[nth])
            known, gap = self._thumbnails[place], gaps[nth, form]
            twin = gap <= self.settings.max_distance and confirms(asked[form], known)
            if twin or (form == 0 and gap <= self.settings.variant_distance and varies(asked[0], known)):
                return _Twin(self._names[place], float(gaps[nth, form]) / 256)
        return None

    def _sieved(self, own: Sequence[int], picture: Fingerprint) -> npt.NDArray[np.int64]:
        """The images of other rows whose pooled thumbnail is near enough in one of eight forms that the thumbnails may agree."""
        others = self._there[: len(self)].copy()
        others[list(own)] = False
        if picture.quality >= self.settings.min_quality:
            others &= ~self._trusted[: len(self)]
        places = np.flatnonzero(others)
        light = planes_of(picture.signature)[0]
        if not places.size or _flat(light):
            return places[:0]
        forms = _pooled(np.stack(list(pdq.eight_forms(light))))
        stored = self._pooled[places]
        squared = (stored * stored).sum(axis=1)[:, None] + (forms * forms).sum(axis=1) - 2 * stored @ forms.T
        near: npt.NDArray[np.bool_] = (squared <= 2 - 2 * STRUCTURE_ALONE_MIN + 1e-4).any(axis=1) & stored.any(axis=1)
        return places[near]

    def _same(self, places: npt.NDArray[np.int64], picture: Fingerprint) -> _Twin | None:
        """The first twin among pictures with too little detail for PDQ, by the thumbnails alone, in eight forms."""
        asked = forms_of_signature(picture.signature)
        for place in places:
            if picture.quality < self.settings.min_quality or not self._trusted[place]:
                known = self._thumbnails[place]
                if any(confirms(form, known, STRUCTURE_ALONE_MIN) for form in asked):
                    return _Twin(self._names[place], 0.0)
        return None


def _forms(picture: Fingerprint) -> npt.NDArray[np.uint64]:
    """The hashes of the eight forms, uint64 (8, 4)."""
    return pdq.packed(list(picture.forms)) if picture.forms else pdq.forms_of_hash(picture.pdq)


def _flat(light: npt.NDArray[np.int16]) -> bool:
    """Whether a thumbnail's L has no structure to correlate."""
    return float(light.astype(np.float64).var()) < FLAT_POWER


def _pooled(light: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Each L of (N, 16, 16) less its mean, of unit length, projected on 4x4 cells: float32 (N, 16). Zeros without structure. Two pooled
    ones are at most as far apart as the thumbnails, whose squared distance is 2 - 2 x correlation."""
    centred = light - light.mean(axis=(1, 2), keepdims=True)
    power = np.square(centred).mean(axis=(1, 2))
    length = np.sqrt(power * light[0].size)
    unit = np.where(power < FLAT_POWER, 0.0, 1.0) / np.where(length == 0, 1.0, length)
    cells = centred.reshape(-1, POOL, 16 // POOL, POOL, 16 // POOL).sum(axis=(2, 4)) / (16 // POOL)
    return np.asarray(cells.reshape(-1, POOL * POOL) * unit[:, None], np.float32)


def confirms(asked: Planes, known: Planes, structure_min: float = STRUCTURE_MIN) -> bool:
    """Whether two thumbnails in the same orientation agree in local structure and in colour."""
    grey = _one_is_grey(asked, known)
    if not grey and not _colours_agree(asked, known, SHIFT_MAX, SPOT_MAX):
        return False
    a, b = asked[0].astype(np.float64).ravel(), known[0].astype(np.float64).ravel()
    if min(a.var(), b.var()) < FLAT_POWER:
        shift = float(a.mean() - b.mean())
        return not grey and abs(shift) <= FLAT_LIGHT_MAX and float(np.abs(a - b - shift).max()) <= FLAT_LIGHT_MAX * 4
    return _correlation(a, b) >= (max(structure_min, STRUCTURE_ALONE_MIN) if grey else structure_min)


def varies(asked: Planes, known: Planes) -> bool:
    """Whether two thumbnails that have structure all over agree in it, and in colour, as variants of one seed do."""
    blocks = np.stack([asked[0], known[0]]).reshape(2, POOL, 4, POOL, 4).astype(np.float64)
    if (blocks.var(axis=(2, 4)) > BUSY_POWER).mean(axis=(1, 2)).min() < BUSY_MIN:
        return False
    if not _colours_agree(asked, known, VARIANT_SHIFT_MAX, VARIANT_SPOT_MAX):
        return False
    return _correlation(asked[0].astype(np.float64).ravel(), known[0].astype(np.float64).ravel()) >= VARIANT_STRUCTURE_MIN


def _colours_agree(asked: Planes, known: Planes, shift_max: float, spot_max: float) -> bool:
    cells = np.linalg.norm((asked[1] - known[1]).astype(np.float64), axis=-1)
    return bool(cells.mean() <= shift_max and cells.max() - np.median(cells) <= spot_max)


def _one_is_grey(asked: Planes, known: Planes) -> bool:
    """Whether one has no colour anywhere, and the other has in most places: not a grey and a red product on white."""
    grey, other = sorted((np.linalg.norm(planes[1].astype(np.float64) - 128, axis=-1) for planes in (asked, known)), key=np.max)
    return bool(grey.max() <= GREY_CHROMA and np.median(other) >= GREY_OTHER_CHROMA)


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))
