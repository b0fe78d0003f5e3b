"""Rows of fixed size that may be more than memory holds: kept in memory while few, in bucket files once they are many.

Rows of one bucket come back together, in the order in which they were added, so that whatever is grouped by the
bucket's number can be worked out one bucket at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BUCKETS = 64
ROWS_IN_MEMORY = 250_000
"""10 MB or so. More would save nothing: writing and reading a million rows takes a tenth of a second."""


class Buckets:
    """Structured rows (dtype given) by bucket, 0 to 63. Close it, or use it as a context manager."""

    def __init__(self, dtype: np.dtype, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self._dtype = dtype
        self._limit = rows_in_memory
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Buckets:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def add(self, rows: np.ndarray, bucket: np.ndarray) -> None:
        """Rows (n,) of the dtype and their buckets, uint8 (n,), taken modulo 64."""
        self._held.append((rows, bucket % BUCKETS))
        self._rows += len(rows)
        if self._rows > self._limit:
            self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="renderfarm-audit-")
        # NumPy may turn big-endian fields into the machine's own order here; the files must have the declared one.
        rows = np.concatenate([item for item, _ in self._held]).astype(self._dtype, copy=False)
        bucket = np.concatenate([item for _, item in self._held])
        order = np.argsort(bucket, kind="stable")
        rows, edges = rows[order], np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        for number in range(BUCKETS):
            chosen = rows[edges[number] : edges[number + 1]]
            if len(chosen):
                with (Path(self._folder.name) / str(number)).open("ab") as file:
                    chosen.tofile(file)
        self._held, self._rows = [], 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """One array per bucket that has rows; a single array with all of them while nothing was written to files."""
        if self._folder is None:
            if self._held:
                yield np.concatenate([item for item, _ in self._held])
            return
        if self._held:
            self._spill()
        for number in range(BUCKETS):
            path = Path(self._folder.name) / str(number)
            if path.exists():
                yield np.fromfile(path, self._dtype)
