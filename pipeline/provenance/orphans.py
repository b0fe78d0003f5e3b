"""Pictures that no record delivers: what a crash left between the PUT and the commit, or between a person's rejection and the removal.
Harmless."""

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
    named: dict[str, Stored] = {}
    for _, table in reading.tables(storage, ("object_key", "thumb_key", "withdrawn_key")):
        columns = [table.column(name).to_pylist() for name in ("object_key", "thumb_key", "withdrawn_key")]  # type: ignore[attr-defined]
        for key, thumb, withdrawn in zip(*columns, strict=True):
            for delivered in (key, thumb):
                if delivered in candidates:
                    named[delivered] = candidates.pop(delivered)
            if withdrawn in named:  # a person took it back, and a crash kept it from being removed
                candidates[withdrawn] = named.pop(withdrawn)
    yield from (candidates[key] for key in sorted(candidates))
