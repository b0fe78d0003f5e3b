"""How fast accepted images came lately, and how long a job was rendered in all, from the records' own times."""

from __future__ import annotations

from itertools import pairwise

from renderfarm.log import reading
from renderfarm.storage import Storage

COLUMNS = ("kind", "outcome", "started_us", "finished_us")
PARTS_LOOKED_AT = 20
PAUSE_S = 300.0
"""A gap this long between two records is a pause of the job, not a slow image."""


def last_rate(storage: Storage) -> float | None:
    """Accepted images per second over the newest parts, pauses left out; None where fewer than two were accepted."""
    numbers = reading.list_parts(storage).numbers
    begun: list[int] = []
    ended: list[int] = []
    for _, table in reading.tables(storage, COLUMNS, numbers[-PARTS_LOOKED_AT:]):
        for row in table.select(COLUMNS).to_pylist():  # type: ignore[attr-defined]
            if row["kind"] == "attempt" and row["outcome"] == "accepted":
                begun.append(row["started_us"] or row["finished_us"])
                ended.append(row["finished_us"])
    if len(ended) < 2:
        return None
    gaps = [(later - earlier) / 1e6 for earlier, later in pairwise([min(begun), *sorted(ended)])]
    spent_s = sum(gap for gap in gaps if gap < PAUSE_S)
    return len(ended) / spent_s if spent_s > 0 else None


def spent_s(storage: Storage) -> float:
    """Seconds of rendering that the whole log tells of: from the first record of each run to its last, pauses left out."""
    spent_s, last = 0.0, None
    for _, table in reading.tables(storage, COLUMNS):
        for row in table.select(COLUMNS).to_pylist():  # type: ignore[attr-defined]
            if row["kind"] != "attempt" or row["started_us"] is None:
                continue
            begun, ended = row["started_us"] / 1e6, row["finished_us"] / 1e6
            before = begun if last is None or begun - last >= PAUSE_S else last
            spent_s += max(0.0, ended - before)
            last = max(ended, last or ended)
    return spent_s
