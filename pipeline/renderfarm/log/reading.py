"""Streams of parts and records from a storage, in constant memory: a few parts are fetched ahead, none is kept.

Hostile parts are `parts`' to refuse. Verification is the caller's: `records` is for outputs that were audited or opened
by the writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from renderfarm.errors import NotStored
from renderfarm.log import parts, values
from renderfarm.log.parts import PartFile
from renderfarm.log.state import COLUMNS, LogState
from renderfarm.output import PARTS, part_key, part_number
from renderfarm.records.tables import from_table
from renderfarm.schema import Record
from renderfarm.storage import Storage

Decoded = TypeVar("Decoded")

FETCH_AHEAD = 16
"""Parts under way at once: with 20 ms of latency, about 800 parts a second."""
DECODE_AHEAD = 2
"""Parts decoded beside one another: Arrow lets go of the interpreter while it decodes. A hostile part may take much memory."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies among the parts: their numbers, ascending, their bytes together, and the keys of files that are no parts."""

    numbers: list[int]
    size: int
    strays: list[str]


def list_parts(storage: Storage) -> Listing:
    """The parts as the storage lists them. Raises: StorageAway."""
    numbers, strays, size = [], [], 0
    for stored in storage.list(PARTS):
        number = part_number(stored.key)
        if number is None:
            strays.append(stored.key)
        else:
            numbers.append(number)
            size += stored.size
    return Listing(sorted(numbers), size, strays)


def fetch_parts(storage: Storage, numbers: Sequence[int] | None = None, *, with_values: bool = True) -> Iterator[tuple[int, PartFile]]:
    """Number and bytes of each part, ascending, and of the values beside it; a part that went away in between is left out.

    A part that passes `parts.PART_BYTES_MAX` comes cut just above that size, for `parts.read_part` to refuse. Raises:
    StorageAway.
    """
    chosen = list_parts(storage).numbers if numbers is None else numbers
    with ThreadPoolExecutor(FETCH_AHEAD, "parts") as pool:
        waiting: deque[tuple[int, Future[PartFile | None]]] = deque()
        remaining = iter(chosen)
        for number in islice(remaining, FETCH_AHEAD):
            waiting.append((number, pool.submit(fetch_part, storage, number, with_values)))
        while waiting:
            number, future = waiting.popleft()
            file = future.result()
            for following in islice(remaining, 1):
                waiting.append((following, pool.submit(fetch_part, storage, following, with_values)))
            if file is not None:
                yield number, file


def decoded(
    storage: Storage, numbers: Sequence[int] | None, decode: Callable[[int, PartFile], Decoded], *, with_values: bool = True
) -> Iterator[tuple[int, Decoded]]:
    """Number of each part and what `decode` makes of it, ascending; `decode` is called in threads.

    Raises: StorageAway, and what `decode` raises.
    """
    with ThreadPoolExecutor(DECODE_AHEAD, "decode") as pool:
        waiting: deque[tuple[int, Future[Decoded]]] = deque()
        for number, file in fetch_parts(storage, numbers, with_values=with_values):
            waiting.append((number, pool.submit(decode, number, file)))
            if len(waiting) > DECODE_AHEAD:
                number, future = waiting.popleft()
                yield number, future.result()
        for number, future in waiting:
            yield number, future.result()


def fetch_part(storage: Storage, number: int, with_values: bool = True) -> PartFile | None:
    """One part's bytes, and those of the values beside it; None where there is no such part. Raises: StorageAway."""
    try:
        file = PartFile(storage.get(part_key(number), parts.PART_BYTES_MAX))
    except NotStored:
        return None
    return with_its_values(storage, number, file) if with_values else file


def with_its_values(storage: Storage, number: int, file: PartFile) -> PartFile:
    """A part that was fetched alone, and the values beside it, if there are any. Raises: StorageAway."""
    key = values.key_beside(file.data, number)
    try:
        return PartFile(file.data, storage.get(key, parts.PART_BYTES_MAX)) if key is not None else file
    except NotStored:
        return file


def tables(
    storage: Storage, columns: Iterable[str] | None = None, numbers: Sequence[int] | None = None, *, values_hold: bool = False
) -> Iterator[tuple[parts.Footer, object]]:
    """Footer and Arrow table of each part, or of these, unverified, with all columns or these.

    Raises: parts.PartDamaged for one that cannot be read, and, of all columns or where values are to hold, for values that it does not
    commit to; StorageAway.
    """
    names = None if columns is None else tuple(columns)

    def read(number: int, file: PartFile) -> tuple[parts.Footer, object]:
        if names is not None:
            if values_hold:
                parts.require_values(file, number)
            return parts.read_columns(file, number, names)
        part = parts.trusted_values(file, number)
        return part.footer, part.table

    for _, content in decoded(storage, numbers, read, with_values=names is None or bool(values.asked(names))):
        yield content


def records(storage: Storage) -> Iterator[Record]:
    """Every record of the log in order, unverified but for its values.

    Raises: parts.PartDamaged for a part that cannot be read, or values that it does not commit to; StorageAway.
    """
    for number, file in fetch_parts(storage):
        yield from from_table(parts.trusted_values(file, number).table)


def read_state(storage: Storage) -> LogState:
    """What the log says, from the few columns that it takes; nothing is verified (`renderfarm status`).

    Raises: LogDamaged for a part that cannot be read; StorageAway.
    """
    state = LogState()
    for _, table in decoded(storage, None, lambda number, file: parts.read_columns(file, number, COLUMNS)[1]):
        state.fold(table)
    return state
