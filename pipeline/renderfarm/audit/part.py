"""One part by itself: read, its rows held against the root that it states, its records against themselves.

What depends on trust or on the parts before it is for `audit.log`. So this runs anywhere and in any order: in threads of this process,
in worker processes, on a cluster. Only the columns that the audit goes on with come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.audit import counts as tally
from renderfarm.audit import pictures as objects
from renderfarm.audit.fanout import FanOut, chunked, reachable, storage_here
from renderfarm.audit.statements import Said, of_part
from renderfarm.log import parts
from renderfarm.log.parts import Footer, PartDamaged, PartFile
from renderfarm.log.reading import decoded, fetch_parts
from renderfarm.records.canonical import ColumnBytes
from renderfarm.records.tables import record_id
from renderfarm.schema import PLAIN_VERSION
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

QUICK_COLUMNS = tuple(dict.fromkeys((*tally.COLUMNS, "object_key", "file_bytes", "withdrawn_key")))
KEPT_COLUMNS = tuple(dict.fromkeys((*QUICK_COLUMNS, *objects.COLUMNS, *objects.REVIEW_COLUMNS)))
_OWN = ("attempt", "watermark_payload", "subjects", "commitment", "salt", "version", "signed")
EXAMINED_COLUMNS = tuple(dict.fromkeys((*KEPT_COLUMNS, *_OWN)))

CHUNK = 8
"""Parts that a worker takes at a time."""
PROCESSES_FROM_BYTES = 16 << 20
"""Below this much Parquet, starting processes takes longer than it saves."""
FAT_BYTES = 64 << 20
"""Kept columns that are larger are not carried between processes: hostile ones could add up. The asker reads such a part itself."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """A signed row that no careful writer would have written: a finding's name, the row, what it says, and of which image."""

    name: str
    row: int
    what: str
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A part that could be read. `rows`, `values`: what is wrong with its rows and the values beside it, to be named if its head holds.
    `forgotten`: records whose values are gone."""

    footer: Footer
    table: pa.Table
    rows: PartDamaged | None = None
    oddities: tuple[Oddity, ...] = ()
    values: PartDamaged | None = None
    forgotten: int = 0
    statements: tuple[Said, ...] = ()


Outcome = tuple[int, Examined | PartDamaged]


def examine(file: PartFile, number: int, quick: bool) -> Examined | PartDamaged:
    """Part `number`. quick: only its footer and the columns for counting; no row is re-derived. A damaged part is a value here."""
    try:
        if quick:
            return Examined(*parts.read_columns(file, number, QUICK_COLUMNS))
        part = parts.read_part(file, number, EXAMINED_COLUMNS)
    except PartDamaged as damage:
        return damage
    rows = rows_damage(part)
    oddities = () if rows is not None else tuple(_oddities(part.table, part.encoded))
    table = part.table
    gone = int(np.sum(table["commitment"].is_valid().to_numpy() & table["salt"].is_null().to_numpy())) if part.values is None else 0
    spoken = rows is None and "statement" in table["kind"].unique().to_pylist()
    said = tuple(of_part(parts.read_part(file, number).table)) if spoken else ()  # rare, and it takes every field
    return Examined(part.footer, table.select(KEPT_COLUMNS), rows, oddities, part.values, gone, said)


def examine_all(storage: Storage, numbers: Sequence[int], size: int, quick: bool, fan_out: FanOut | None) -> Iterator[Outcome]:
    """Every part that is there, in order. size: bytes that all parts have together; fan_out None: in this process.

    Raises: StorageAway.
    """
    if fan_out is None or size < PROCESSES_FROM_BYTES or not reachable(storage):
        yield from decoded(storage, numbers, lambda number, file: examine(file, number, quick), with_values=not quick)
        return
    for outcomes in fan_out(ExamineParts(storage.uri, quick), chunked(numbers, CHUNK)):
        for number, outcome in outcomes:
            if outcome is None:
                for _, file in fetch_parts(storage, [number], with_values=not quick):
                    yield number, examine(file, number, quick)
            else:
                yield number, outcome


@dataclass(frozen=True, slots=True)
class ExamineParts:
    """The task: examines the parts of these numbers. None in place of one that is too fat to be carried."""

    uri: str
    quick: bool

    def __call__(self, numbers: tuple[int, ...]) -> list[tuple[int, Examined | PartDamaged | None]]:
        outcomes: list[tuple[int, Examined | PartDamaged | None]] = []
        for number, file in fetch_parts(storage_here(self.uri), numbers, with_values=not self.quick):
            outcome = examine(file, number, self.quick)
            fat = isinstance(outcome, Examined) and outcome.table.nbytes > FAT_BYTES
            outcomes.append((number, None if fat else outcome))
        return outcomes


def rows_damage(part: parts.Part) -> PartDamaged | None:
    """What `parts.check_rows` says, with the rows to blame where their claims can tell."""
    try:
        parts.check_rows(part)
    except PartDamaged as damage:
        rows = differing_claims(part.table, part.encoded)
        if not rows:
            return damage
        image = part.table.column("image_id")[rows[0]].as_py()
        reason = f"{damage.reason}; the claim digest of row {rows[0]} (image {image}) is not that of its fields"
        more = f" (and of {len(rows) - 1} more)" if len(rows) > 1 else ""
        return PartDamaged(damage.finding, f"{damage.key}#{rows[0]}", reason + more)
    return None


def differing_claims(table: pa.Table, encoded: ColumnBytes) -> list[int]:
    """Rows whose claim digest is given and is not that of their fields."""
    stated = table.column("claim_digest").to_pylist()
    rows = [row for row, digest in enumerate(stated) if digest is not None]
    return [row for row, digest in zip(rows, encoded.claim_digests(rows), strict=True) if stated[row] != digest]


def _oddities(table: pa.Table, encoded: ColumnBytes) -> Iterator[Oddity]:
    """What a signed record says of itself: its claim digest and its watermark's payload follow from its fields."""
    import pyarrow.compute as pc

    for row in differing_claims(table, encoded):
        yield Oddity("claim-differs", row, "the claim digest is not that of the record's fields")
    unsigned = pc.and_(pc.equal(table["kind"], "review"), pc.greater(table["version"], PLAIN_VERSION))
    misplaced = pc.and_(table["signed"].is_valid(), pc.not_equal(table["kind"], "statement"))
    for row in pc.indices_nonzero(pc.or_(unsigned, misplaced)).to_pylist():
        if unsigned[row].as_py():
            yield Oddity("statement-unsigned", row, "a person's word without the note that this person signed")
        else:
            yield Oddity("record-malformed", row, f"a record of kind {table['kind'][row].as_py()!r:.40} with a person's note")
    columns = (table.column(name).to_pylist() for name in ("watermark_payload", "image_id", "attempt"))
    for row, (payload, image, attempt) in enumerate(zip(*columns, strict=True)):
        if payload is None:
            continue
        if image is None or attempt is None or attempt < 1 or "\n" in image or payload != record_id(image, attempt):
            yield Oddity("record-malformed", row, f"the watermark's payload {payload!r:.40} is not its own", image)
