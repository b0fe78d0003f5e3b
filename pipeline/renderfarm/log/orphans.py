"""Orphans: pictures that no record delivers, and values that belong to no part. A crash leaves them between the PUT and the commit, or
between a person's rejection and the removal of the file. They are harmless.

They may be removed only while every record is there. If a part of the log is lost, its pictures look like orphans; if the whole log is
lost, all pictures do.
"""

from __future__ import annotations

from collections.abc import Iterator

from renderfarm import notes
from renderfarm.errors import LogDamaged, NotStored
from renderfarm.log import reading
from renderfarm.output import CHECKPOINT, PICTURES, SALT, SALTED_SNAPSHOT, THUMBS, VALUES, WITNESSED, part_key, values_key
from renderfarm.storage import Storage, Stored

PREFIXES = (*PICTURES, THUMBS, VALUES)


def orphans(storage: Storage, before_s: float) -> Iterator[Stored]:
    """Objects under these prefixes that no record names and no part has, last modified before `before_s` (seconds since 1970 UTC).

    The listing is taken before the log is read, so that a picture stored and committed meanwhile is never taken for an orphan. An orphan
    may be stored again while this runs, its bytes the same and its time new: who removes one looks at its time once more (`still_old`).

    Raises: LogDamaged for a log that is not whole; StorageAway.
    """
    candidates = {stored.key: stored for prefix in PREFIXES for stored in storage.list(prefix) if stored.modified_s < before_s}
    if not candidates:
        return
    named: dict[str, Stored] = {}
    for kept in (SALT, SALTED_SNAPSHOT):
        candidates.pop(kept, None)
    for footer, table in reading.tables(storage, ("object_key", "thumb_key", "withdrawn_key"), _whole(storage)):
        candidates.pop(values_key(footer.number, footer.row_root), None)
        columns = [table.column(name).to_pylist() for name in ("object_key", "thumb_key", "withdrawn_key")]  # type: ignore[attr-defined]
        for key, thumb, withdrawn in zip(*columns, strict=True):
            for delivered in (key, thumb):
                if delivered in candidates:
                    named[delivered] = candidates.pop(delivered)
            if withdrawn in named:  # a person took it back, and a crash kept it from being removed
                candidates[withdrawn] = named.pop(withdrawn)
    yield from (candidates[key] for key in sorted(candidates))


def still_old(storage: Storage, stored: Stored, before_s: float) -> bool:
    """Whether an orphan is there as it was listed: a driver that renders the same picture again renews its time. Raises: StorageAway."""
    try:
        now = storage.stat(stored.key)
    except ValueError:  # a name that no program of ours writes
        return True
    return now is not None and now.modified_s < before_s


def _whole(storage: Storage) -> list[int]:
    """The numbers of all parts. Raises: LogDamaged where some are known to be missing; StorageAway."""
    known = max(_size(storage, key) for key in (CHECKPOINT, WITNESSED))  # read first: a driver may be at work
    numbers = reading.list_parts(storage).numbers
    if numbers != list(range(len(numbers))) or len(numbers) < max(1, known):
        missing = next(number for number in range(len(numbers) + 1) if number >= len(numbers) or numbers[number] != number)
        raise LogDamaged(
            f"{storage.uri}: {part_key(missing)} is missing, so its pictures would be taken for orphans: run `renderfarm audit` first"
        )
    return numbers


def _size(storage: Storage, key: str) -> int:
    """How many parts a copy of the checkpoint says there are; 0 for none that can be read."""
    try:
        return notes.parse(storage.get(key, notes.NOTE_BYTES_MAX)).size
    except (NotStored, notes.NoteMalformed):
        return 0
