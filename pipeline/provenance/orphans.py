"""Pictures that no record names: what a crash left between the PUT and the commit. Harmless, and rendered again."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.provenance import reading
from pipeline.storage import Storage, Stored

PREFIXES = ("images/", "review/", "thumbs/")


def orphans(storage: Storage, before_s: float) -> Iterator[Stored]:
    """Objects under the picture prefixes that no record names, last modified before `before_s` (seconds since 1970 UTC).

    The listing is taken before the log is read, so that a picture stored and committed meanwhile is never taken for an orphan.
    """
    candidates = {found.key: found for prefix in PREFIXES for found in storage.list(prefix) if found.modified_s < before_s}
    for _, table in reading.tables(storage, ("object_key", "thumb_key")):
        for column in ("object_key", "thumb_key"):
            for key in table.column(column).to_pylist():  # type: ignore[attr-defined]
                candidates.pop(key, None)
    yield from (candidates[key] for key in sorted(candidates))
