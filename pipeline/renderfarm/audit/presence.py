"""Which recorded pictures are not there, which have another size, and which nobody recorded. Its memory does not grow with the output.

Keys are held as 64-bit hashes, by Python's own hash, whose key is this process's: nobody can make two keys collide on purpose. Only what
seems to be missing is looked up again by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.audit.spill import ROWS_IN_MEMORY, Buckets
from renderfarm.storage import Stored

if TYPE_CHECKING:
    import pyarrow as pa

_ROW = np.dtype([("key", "<u8"), ("size", "<i8"), ("part", "<i4"), ("row", "<i4")])
_LISTED = -1


@dataclass(frozen=True, slots=True)
class Absent:
    """One recorded object that is not there as recorded; `size` is None where it is gone, else what the listing says."""

    part: int
    row: int
    size: int | None


class Presence:
    """Feed it parts and a listing, in any order, then ask once."""

    def __init__(self, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self._rows = Buckets(_ROW, rows_in_memory)
        self.recorded = 0
        self._withdrawn: dict[int, tuple[int, int]] = {}

    def add_part(self, part: int, table: pa.Table) -> None:
        """The objects that a part records, and those that a person took back: columns `object_key`, `file_bytes`, `withdrawn_key`."""
        import pyarrow.compute as pc

        if table.column("withdrawn_key").null_count < table.num_rows:
            withdrawn = enumerate(table.column("withdrawn_key").to_pylist())
            self._withdrawn.update((hash(key), (part, row)) for row, key in withdrawn if key is not None)
        named = table.column("object_key").is_valid().to_numpy()
        keys = table.column("object_key").drop_null().to_numpy()
        sizes = pc.fill_null(table.column("file_bytes"), -2).to_numpy()[named]
        self.recorded += len(keys)
        self._add(np.fromiter(map(hash, keys.tolist()), np.int64, len(keys)), sizes, part, np.flatnonzero(named))

    def add_listing(self, listing: Iterable[Stored]) -> None:
        """What lies in the storage."""
        remaining = iter(listing)
        while True:
            # Flat, and no object kept: a list of a hundred thousand of them costs twice as much, in the collector and the caches.
            numbers = (number for key, size, _ in islice(remaining, 100_000) for number in (hash(key), size))
            pairs = np.fromiter(numbers, np.int64).reshape(-1, 2)
            if not len(pairs):
                return
            self._add(pairs[:, 0], pairs[:, 1], _LISTED, None)

    def _add(self, keys: np.ndarray, sizes: np.ndarray, part: int, row: np.ndarray | None) -> None:
        rows = np.zeros(len(keys), _ROW)
        rows["key"] = keys.view(np.uint64)
        rows["size"], rows["part"] = sizes, part
        if row is not None:
            rows["row"] = row
        self._rows.add(rows, (rows["key"] & 63).astype(np.uint8))

    def withdrawn(self, key: str, place: tuple[int, int]) -> bool:
        """Whether a person took this object back after the record at this place, (part, row), delivered it."""
        return self._withdrawn.get(hash(key), (-1, -1)) > place

    def compare(self) -> tuple[list[Absent], int]:
        """Recorded objects that are gone or of another size, in log order, and the number of objects nobody recorded."""
        absent: list[Absent] = []
        orphans = 0
        with self._rows as buckets:
            for rows in buckets:
                is_listed = rows["part"] == _LISTED
                listed, recorded = rows.take(np.flatnonzero(is_listed)), self._delivered(rows.take(np.flatnonzero(~is_listed)))
                recorded = recorded.take(np.argsort(recorded["key"]))  # searching in order is four times as fast
                order = np.argsort(listed["key"])
                keys = listed["key"][order]
                at = np.minimum(np.searchsorted(keys, recorded["key"]), max(len(keys) - 1, 0))
                is_listed = keys[at] == recorded["key"] if len(keys) else np.zeros(len(recorded), bool)
                sizes = np.full(len(recorded), -1, np.int64)
                sizes[is_listed] = listed["size"][order[at[is_listed]]]
                for index in np.flatnonzero(sizes != recorded["size"]):
                    item, size = recorded[index], int(sizes[index]) if is_listed[index] else None
                    absent.append(Absent(int(item["part"]), int(item["row"]), size))
                named = np.zeros(len(keys), bool)
                named[at[is_listed]] = True
                orphans += int((~named).sum())
        return sorted(absent, key=lambda item: (item.part, item.row)), orphans

    def _delivered(self, recorded: np.ndarray) -> np.ndarray:
        """Without the rows whose object was taken back after them: it may be gone, and if it lies there it is an orphan."""
        if not self._withdrawn:
            return recorded
        keys = np.array(list(self._withdrawn), np.int64).view(np.uint64)
        keep = np.ones(len(recorded), bool)
        for at in np.flatnonzero(np.isin(recorded["key"], keys)):
            place = (int(recorded["part"][at]), int(recorded["row"][at]))
            keep[at] = self._withdrawn[int(recorded["key"][at].astype(np.int64))] <= place
        return recorded[keep]
