"""Perceptual hashes of accepted images by row, as the log says them. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

import numpy as np

from renderfarm.errors import LogDamaged
from renderfarm.records.salts import row_hash

_TAIL_MAX = 50_000


class Pdqs:
    """PDQ hashes by row, 56 bytes each: a sorted body for binary search and a short unsorted tail."""

    def __init__(self) -> None:
        self._rows = array("Q")
        self._images = bytearray()
        self._hashes = bytearray()
        self._sorted = np.zeros(0, np.uint64)
        self._order = np.zeros(0, np.int64)

    def add(self, row_id: object, image: bytes, pdq: object) -> None:
        if not isinstance(pdq, str):
            return
        try:
            raw = bytes.fromhex(pdq)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise LogDamaged(f"not a PDQ hash: {pdq!r:.80}")
        self._rows.append(row_hash(row_id) if isinstance(row_id, str) else 0)
        self._images += image
        self._hashes += raw

    def dump(self) -> dict[str, np.ndarray]:
        hashes = {"pdq_images": self._images, "pdq_hashes": self._hashes}
        rows = np.array(self._rows, np.uint64)
        return {"pdq_rows": rows, **{name: np.frombuffer(bytes(data), np.uint8) for name, data in hashes.items()}}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray]) -> Pdqs:
        pdqs = cls()
        pdqs._rows = array("Q", arrays["pdq_rows"].astype(np.uint64).tobytes())
        pdqs._images, pdqs._hashes = bytearray(arrays["pdq_images"].tobytes()), bytearray(arrays["pdq_hashes"].tobytes())
        return pdqs

    def of_row(self, row_id: str) -> Iterator[tuple[bytes, bytes]]:
        """Image keys and hashes of one row's images, in log order."""
        rows = np.frombuffer(self._rows, np.uint64) if self._rows else np.zeros(0, np.uint64)
        if len(rows) - len(self._sorted) > _TAIL_MAX:
            self._order = np.argsort(rows, kind="stable")
            self._sorted = rows[self._order]
        wanted = np.uint64(row_hash(row_id))
        first, last = np.searchsorted(self._sorted, wanted, "left"), np.searchsorted(self._sorted, wanted, "right")
        tail = np.nonzero(rows[len(self._sorted) :] == wanted)[0] + len(self._sorted)
        for index in (*self._order[first:last].tolist(), *tail.tolist()):
            yield bytes(self._images[16 * index : 16 * index + 16]), bytes(self._hashes[32 * index : 32 * index + 32])

    def all(self) -> np.ndarray:
        return np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, 32)
