"""How fast accepted images came lately, from the records' own times."""

from __future__ import annotations

from itertools import pairwise

from pipeline.provenance import reading
from pipeline.storage import Storage

PARTS_LOOKED_AT = 20
PAUSE_S = 300.0
"""A gap this long between two records is a pause of the job, not a slow image."""


def last_rate(storage: Storage) -> float | None:
    """Accepted images per second over the newest parts, pauses left out; None where fewer than two were accepted."""
    numbers, _ = reading.part_keys(storage)
    times: list[int] = []
    for _, table in reading.tables(storage, ("outcome", "finished_us"), numbers[-PARTS_LOOKED_AT:]):
        outcomes, finished = (table.column(name).to_pylist() for name in ("outcome", "finished_us"))  # type: ignore[attr-defined]
        times += [at for outcome, at in zip(outcomes, finished, strict=True) if outcome == "accepted"]
    gaps = [(later - earlier) / 1e6 for earlier, later in pairwise(sorted(times))]
    spent_s = sum(gap for gap in gaps if gap < PAUSE_S)
    return len(gaps) / spent_s if spent_s > 0 else None
