"""Counts an audited log again, and finds what is recorded twice. Works on columns; its memory does not grow with the log.

The rules are those of `log.state`, written a second time on purpose: the audit shares no code for them with the driver that it audits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.audit.spill import ROWS_IN_MEMORY, Buckets
from renderfarm.log.index import hex_words, id_words
from renderfarm.log.state import Counts, RecordedPlan
from renderfarm.schema import REVIEW

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "kind", "statement", "plan_digest", "manifest_digest", "settings_digest", "planned", "image_id", "attempt", "outcome", "claim_digest",
    "reviewed_digest",
)  # fmt: skip
"""The record columns that a tally takes."""

_ROW = np.dtype([("high", "<u8"), ("low", "<u8"), ("claim", "<u8"), ("attempt", "<i4"), ("part", "<u4"), ("code", "u1")], align=True)
_ACCEPTED, _REJECTED, _FAILED, _SUPERSEDED, _REINSTATED, _TAKEN, _REFUSED, _NONE = range(8)
_KINDS = ("attempt", "superseded", "reinstated", "review", "plan", "statement")
_OUTCOMES = ("accepted", "rejected", "failed")
_CODES = np.array(
    [
        [_ACCEPTED, _REJECTED, _FAILED, _NONE],
        [_SUPERSEDED] * 4,
        [_REINSTATED] * 4,
        [_TAKEN, _REFUSED, _NONE, _NONE],
        [_NONE] * 4,
        [_NONE] * 4,
        [_NONE] * 4,
    ],
    np.uint8,
)
"""What a row says, by the places of its kind and its outcome among these; each has one place more for any other text."""
_TWICE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Twice:
    """One image with one attempt recorded twice (`attempt`), or accepted twice (`attempt` None); the later part."""

    image_id: str
    attempt: int | None
    part: int


@dataclass(frozen=True, slots=True)
class Unfounded:
    """A person's verdict that the log does not bear out, and why."""

    image_id: str
    attempt: int
    part: int
    what: str


@dataclass(frozen=True, slots=True)
class Sum:
    """What the whole log comes to. `counts` is None when more images have an end than are planned: then `ended` says
    how many."""

    counts: Counts | None
    known: int
    twice: tuple[Twice, ...]
    rows: int
    unfounded: tuple[Unfounded, ...] = ()


class Recount:
    """Feed it every part in order, then ask once."""

    def __init__(self, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self.plan: RecordedPlan | None = None
        self.plan_before: RecordedPlan | None = None
        self.rendered_since = False
        """Whether a part after the newest plan's holds a rendered attempt."""
        self._rows = Buckets(_ROW, rows_in_memory)
        self._count = 0

    def add(self, part: int, table: pa.Table) -> list[tuple[int, str]]:
        """Takes in one part, which has at least `COLUMNS`.

        Returns (row, what) of rows that no driver writes; they are left out.
        """
        import pyarrow.compute as pc

        self._count += table.num_rows
        kinds = _index(table.column("kind"), _KINDS)
        kinds = np.where(_effective(table), _KINDS.index("review"), kinds)
        codes = _CODES[kinds, _index(table.column("outcome"), _OUTCOMES)]
        plans, reviews = kinds == _KINDS.index("plan"), kinds == _KINDS.index("review")
        words, good = id_words(table.column("image_id"))
        attempts = pc.fill_null(table.column("attempt"), -1).to_numpy()
        moves = (codes == _SUPERSEDED) | (codes == _REINSTATED)
        good &= (codes != _NONE) & (moves | ((attempts >= 0) & (attempts < 1 << 20)))
        strange = np.flatnonzero(~good & ~plans & (kinds != _KINDS.index("statement")))
        wrong = [(int(row), "no image, attempt or outcome that a driver writes") for row in strange]
        self.rendered_since |= bool((codes <= _REJECTED).any())
        wrong += self._take_plans(table, plans)
        claim = _first_word(table.column("claim_digest"))
        if reviews.any():
            claim = np.where(reviews, _first_word(table.column("reviewed_digest")), claim)
        rows = np.zeros(table.num_rows, _ROW)
        rows["high"], rows["low"], rows["claim"] = words[:, 0], words[:, 1], claim
        rows["attempt"], rows["code"], rows["part"] = attempts, codes, part
        rows = rows if good.all() else rows.take(np.flatnonzero(good))
        self._rows.add(rows, (rows["low"] & 63).astype(np.uint8))
        return wrong

    def _take_plans(self, table: pa.Table, plans: np.ndarray) -> list[tuple[int, str]]:
        wrong = []
        for row in np.flatnonzero(plans):
            digest, manifest, settings, planned = (
                table.column(name)[int(row)].as_py() for name in ("plan_digest", "manifest_digest", "settings_digest", "planned")
            )
            if planned is None or planned < 0:
                wrong.append((int(row), "a plan without a number of images"))
            else:
                self.plan, self.plan_before, self.rendered_since = RecordedPlan(digest, manifest, settings, planned), self.plan, False
        return wrong

    def sum(self, attempts_limit: int) -> Sum:
        """Counts by the newest plan, with `attempts_limit` rejected attempts exhausting an image. Frees what was
        held."""
        stands: Counter[str] = Counter()
        twice: list[Twice] = []
        unfounded: list[Unfounded] = []
        with self._rows as buckets:
            for rows in buckets:
                images, reviewed = _apart(_by_image(rows))
                for repeats in (images.twice(), *(image.twice for image in reviewed)):
                    twice += repeats[: _TWICE_MAX - len(twice)]
                stands.update(images.standings(attempts_limit))
                stands.update(filter(None, (image.standing(attempts_limit) for image in reviewed)))
                unfounded += [wrong for image in reviewed for wrong in image.unfounded][: _TWICE_MAX - len(unfounded)]
        planned = self.plan.planned if self.plan else 0
        ended = stands["accepted"] + stands["exhausted"] + stands["failed"]
        fits = ended + stands["remaining"] <= planned
        counts = Counts(planned, stands["accepted"], stands["exhausted"], stands["failed"], planned - ended)
        return Sum(counts if fits else None, ended + stands["remaining"], tuple(twice), self._count, tuple(unfounded))


@dataclass(frozen=True, slots=True)
class _RowsByImage:
    """Rows sorted by image, in log order within each; `starts`: where each image begins."""

    rows: np.ndarray
    starts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each image."""
        return np.diff(self.starts, append=len(self.rows))

    def standings(self, attempts_limit: int) -> dict[str, int]:
        if not len(self.rows):
            return {}
        codes = np.ascontiguousarray(self.rows["code"])
        position = np.arange(len(codes))
        accepted = np.logical_or.reduceat(codes == _ACCEPTED, self.starts)
        rejected = np.add.reduceat(codes == _REJECTED, self.starts, dtype=np.int64)
        last_try = np.maximum.reduceat(np.where(codes <= _FAILED, position, -1), self.starts)
        last_move = np.maximum.reduceat(np.where(codes > _FAILED, position, -1), self.starts)
        failed = (last_try >= 0) & (codes[last_try] == _FAILED)
        counted = (last_move < 0) | (codes[last_move] == _REINSTATED)
        exhausted = rejected >= attempts_limit
        return {
            "accepted": int((counted & accepted).sum()),
            "failed": int((counted & ~accepted & failed).sum()),
            "exhausted": int((counted & ~accepted & ~failed & exhausted).sum()),
            "remaining": int((counted & ~accepted & ~failed & ~exhausted).sum()),
        }

    def twice(self) -> list[Twice]:
        several = self.rows.take(np.flatnonzero(np.repeat(self.sizes > 1, self.sizes)))
        tried = several.take(np.flatnonzero(several["code"] <= _FAILED))
        tried = tried.take(np.lexsort((tried["attempt"], tried["low"], tried["high"])))
        retried = [_twice(tried[i], True) for i in _repeats(tried, ("high", "low", "attempt"))[:_TWICE_MAX]]
        accepted = several.take(np.flatnonzero(several["code"] == _ACCEPTED))
        blamed = {twice.image_id for twice in retried}
        repeated = [_twice(accepted[i], False) for i in _repeats(accepted, ("high", "low"))[:_TWICE_MAX]]
        return retried + [twice for twice in repeated if twice.image_id not in blamed]


class _Reviewed:
    """One image on which a person had a word, followed row by row: such images are few."""

    def __init__(self, rows: np.ndarray) -> None:
        self.twice: list[Twice] = []
        self.unfounded: list[Unfounded] = []
        self._counted, self._failed = True, False
        self._rejected = self._chosen = 0
        self._known: dict[int, tuple[int, int]] = {}
        for row in rows:
            self._take(row, int(row["code"]), int(row["attempt"]))

    def standing(self, attempts_limit: int) -> str | None:
        """Where the image stands; None where it is not in the newest plan."""
        ended = "accepted" if self._chosen else "failed" if self._failed else "exhausted"
        return None if not self._counted else ended if ended != "exhausted" or self._rejected >= attempts_limit else "remaining"

    def _take(self, row: np.void, code: int, attempt: int) -> None:
        if code in (_SUPERSEDED, _REINSTATED):
            self._counted = code == _REINSTATED
        elif code >= _TAKEN:
            self._review(row, code, attempt)
        else:
            if attempt in self._known:
                self.twice.append(_twice(row, True))
            elif code == _ACCEPTED and self._chosen:
                self.twice.append(_twice(row, False))
            self._known[attempt] = (code, int(row["claim"]))
            self._failed = code == _FAILED
            self._rejected += code == _REJECTED
            self._chosen = attempt if code == _ACCEPTED else self._chosen

    def _review(self, row: np.void, code: int, attempt: int) -> None:
        judged, claim = self._known.get(attempt, (_FAILED, 0))
        wrong = "an attempt that was never rendered" if judged == _FAILED else ""
        wrong = wrong or ("another record of that attempt than the log's" if claim != int(row["claim"]) else "")
        if wrong:
            self.unfounded.append(Unfounded(_image(row), attempt, int(row["part"]), f"it is about {wrong}"))
        if code == _TAKEN and attempt != self._chosen:
            if self._chosen:
                self.twice.append(_twice(row, False))
            self._rejected, self._chosen = max(0, self._rejected - 1), attempt
        elif code == _REFUSED and attempt == self._chosen:
            self._rejected, self._chosen = self._rejected + 1, 0


def _apart(images: _RowsByImage) -> tuple[_RowsByImage, list[_Reviewed]]:
    """The images that no person looked at, and those that one did, each by itself."""
    rows, starts = images.rows, images.starts
    if not (rows["code"] >= _TAKEN).any():
        return images, []
    by_person = np.logical_or.reduceat(rows["code"] >= _TAKEN, starts)
    ends = starts + images.sizes
    reviewed = [_Reviewed(rows[start:end]) for start, end in zip(starts[by_person], ends[by_person], strict=True)]
    return _by_image(rows[np.repeat(~by_person, images.sizes)]), reviewed


def _repeats(rows: np.ndarray, fields: tuple[str, ...]) -> np.ndarray:
    """Indices of sorted rows that equal the row before them in these fields."""
    same = np.ones(max(len(rows) - 1, 0), bool)
    for name in fields:
        same &= rows[name][1:] == rows[name][:-1]
    return np.flatnonzero(same) + 1


def _twice(row: np.void, with_attempt: bool) -> Twice:
    return Twice(_image(row), int(row["attempt"]) if with_attempt else None, int(row["part"]))


def _image(row: np.void) -> str:
    return f"{int(row['high']):016x}{int(row['low']):016x}"


def _by_image(rows: np.ndarray) -> _RowsByImage:
    """Sorted by the ids' low words: one word sorts in an eighth of the time of two, and few images share it that are not the same."""
    order = np.argsort(rows["low"])
    low = rows["low"].take(order)
    equal = np.zeros(len(rows) + 1, bool)
    equal[1:-1] = low[1:] == low[:-1]
    places = np.flatnonzero(equal[1:] | equal[:-1])
    if len(places):
        chosen = np.sort(order[places])
        order[places] = chosen[np.lexsort((rows["high"].take(chosen), rows["low"].take(chosen)))]
    rows = rows.take(order)
    new = np.ones(len(rows), bool)
    new[1:] = (rows["high"][1:] != rows["high"][:-1]) | (rows["low"][1:] != rows["low"][:-1])
    return _RowsByImage(rows, np.flatnonzero(new))


def _effective(table: pa.Table) -> np.ndarray:
    """Which rows are a person's review in a statement that says how it came out; bool (n,). One that came too late says nothing of it."""
    import pyarrow.compute as pc

    reviews = pc.fill_null(pc.equal(table.column("statement"), REVIEW), False)
    found: np.ndarray = pc.and_(reviews, pc.is_valid(table.column("outcome"))).to_numpy()
    return found


@cache
def _texts(values: tuple[str, ...]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values)


def _index(column: pa.ChunkedArray, values: tuple[str, ...]) -> np.ndarray:
    """Where each text stands among the values; behind the last for none of them. int32 (n,)."""
    import pyarrow.compute as pc

    indices: np.ndarray = pc.fill_null(pc.index_in(column, value_set=_texts(values)), len(values)).to_numpy()
    return indices


def _first_word(column: pa.ChunkedArray) -> np.ndarray:
    """The first 64 bits of digests of 64 hex digits, uint64 (n,); 0 where there is none, or no such digest."""
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return np.zeros(len(column), np.uint64)
    usual = hex_words(column, 64)
    if usual is not None:
        return usual[:, 0]
    good = pc.fill_null(pc.equal(pc.binary_length(column), 64), False)
    words, fits = id_words(pc.if_else(good, pc.utf8_slice_codeunits(column, 0, 32), None))
    return np.where(fits, words[:, 0], 0)
