"""Which rows share an id, in 16 bytes of memory a row.

First pass: Python's 64-bit string hash of each id; rows whose hash nobody shares are done. Second pass, only when some
are left: an independent 64-bit BLAKE2b of those ids, so that 128 bits must agree before two ids are called equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.int64]
Ids = Callable[[], Iterable[list[str | None]]]
"""Reads the ids from the start, in chunks; null, unreadable and empty ids as None."""


@dataclass(frozen=True, slots=True)
class Twin:
    """One row that shares its id: `others` rows do too, the nearest of them at `other`; `place` counts from 0 among
    them.
    """

    other: int
    others: int
    place: int


@dataclass(frozen=True, slots=True)
class Twins:
    """All rows that share an id with another, by row. Arrays of equal length, int64, sorted by row."""

    rows: Hashes = field(default_factory=lambda: np.empty(0, np.int64))
    others: Hashes = field(default_factory=lambda: np.empty((0, 3), np.int64))

    def of(self, row: int) -> Twin | None:
        """The twin of a row, or None when its id is its own."""
        if not len(self.rows):
            return None
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return None
        other, others, place = (int(value) for value in self.others[at])
        return Twin(other, others, place)


def find_twins(ids: Ids, count: int) -> Twins:
    """The rows that share an id, among `count` rows. `ids` is called once, or twice when hashes meet."""
    hashes = np.empty(count, np.int64)
    absent = np.zeros(count, np.bool_)
    at = 0
    for chunk in ids():
        hashes[at : at + len(chunk)] = [hash(value) for value in chunk]
        absent[at : at + len(chunk)] = [value is None for value in chunk]
        at += len(chunk)
    assert at == count, "the ids were counted before they were read"
    ordered = np.sort(hashes[~absent])
    met = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(met):
        return Twins()
    rows = np.flatnonzero(_within(hashes, met) & ~absent)
    return _settle(rows, hashes[rows], _second_hashes(ids, rows))


def _within(hashes: Hashes, met: Hashes) -> npt.NDArray[np.bool_]:
    """Which hashes are among the sorted `met`, in slices so that no second array of the manifest's length is made."""
    among = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(hashes), 1 << 20):
        part = hashes[start : start + (1 << 20)]
        among[start : start + len(part)] = met[np.searchsorted(met, part).clip(max=len(met) - 1)] == part
    return among


def _second_hashes(ids: Ids, rows: Hashes) -> Hashes:
    """BLAKE2b-64 of the ids of some rows, in their order."""
    second = np.empty(len(rows), np.int64)
    start = hashed = 0
    for chunk in ids():
        stop = int(np.searchsorted(rows, start + len(chunk)))
        for at in range(hashed, stop):
            value = chunk[int(rows[at]) - start]
            assert value is not None, "rows without an id were left out before"
            second[at] = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)
        start, hashed = start + len(chunk), stop
    return second


def _settle(rows: Hashes, first: Hashes, second: Hashes) -> Twins:
    """Groups of rows whose both hashes agree, as Twins."""
    order = np.lexsort((rows, second, first))
    starts = np.flatnonzero(np.r_[True, (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)])
    sizes = np.diff(np.r_[starts, len(rows)])
    first_at, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    place = np.arange(len(rows)) - first_at
    neighbour = np.where(place > 0, np.arange(len(rows)) - 1, np.arange(len(rows)) + 1).clip(max=len(rows) - 1)
    facts = np.stack([rows[order][neighbour], size - 1, place], axis=1)
    twins = np.flatnonzero(size > 1)
    by_row = twins[np.argsort(rows[order][twins])]
    return Twins(rows[order][by_row], facts[by_row])
