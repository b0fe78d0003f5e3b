"""What statements are about: records of the log, by the part that a statement names, else by one walk over one column of the log.

And which reviews a log holds that keeps no notes (versions 1 to 3). Both are asked only about statements that somebody known signed. A part
that cannot be read is a trouble of the statements that need it, and of nobody else.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator

from renderfarm.errors import LogDamaged, UserError
from renderfarm.log import parts, reading
from renderfarm.log.writer import LogWriter
from renderfarm.notes.statement import Statement
from renderfarm.records.tables import from_table
from renderfarm.schema import Record, Subject
from renderfarm.storage import Storage

PARTS_KEPT = 4
_PLAIN = ("kind", "image_id", "attempt", "outcome", "finished_us")


class Subjects:
    """Finds records in one log, which may grow meanwhile."""

    def __init__(self, storage: Storage, writer: LogWriter) -> None:
        self._storage, self._writer = storage, writer
        self._parts: dict[int, tuple[parts.Part, dict[str, int]]] = {}
        self._wanted: set[str] = set()
        self._holding: dict[str, list[int]] = {}
        """The parts that speak of an image, for statements that do not say it."""
        self._plain: set[tuple[object, ...]] = set()
        self._plain_parts = 0

    def expect(self, images: Iterable[str]) -> None:
        """That these images are asked for next, by statements without a lead: one walk then finds all of them."""
        self._wanted = set(images)
        self._holding.clear()

    def find(self, subject: Subject, lead: int | None) -> Record:
        """The record that a statement is about. Raises: UserError where the log has none with this hash; LogDamaged; StorageAway."""
        numbers = [] if lead is None or lead >= self._writer.size else [lead]
        for number in itertools.chain(numbers, self._holders(subject.image_id)):
            part, rows = self._part(number)
            if subject.digest in rows:
                (record,) = from_table(part.table.slice(rows[subject.digest], 1))
                if record.image_id == subject.image_id:
                    return record
        raise UserError("it is about a record that this log does not hold")

    def _holders(self, image_id: str) -> Iterator[int]:
        """The parts that speak of an image."""
        if image_id not in self._holding:
            self._look_for(self._wanted | {image_id})
        yield from self._holding[image_id]

    def _look_for(self, images: set[str]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._holding |= {image: [] for image in images}
        wanted = pa.array(sorted(images), pa.string())
        for number, file in reading.fetch_parts(self._storage, range(self._writer.size), with_values=False):
            with contextlib.suppress(LogDamaged):  # its records are not found; the audit names it
                column = parts.read_columns(file, number, ["image_id"])[1].column("image_id")
                for image in column.filter(pc.is_in(column, value_set=wanted)).unique().to_pylist():
                    self._holding[image].append(number)

    def _part(self, number: int) -> tuple[parts.Part, dict[str, int]]:
        """A part, and its rows by the hex of their leaf hashes. Raises: LogDamaged for one that cannot be read or is gone; StorageAway."""
        if number not in self._parts:
            file = reading.fetch_part(self._storage, number)
            if file is None:
                raise LogDamaged(f"part {number} is gone")
            part = parts.read_part(file, number)
            while len(self._parts) >= PARTS_KEPT:
                del self._parts[next(iter(self._parts))]
            self._parts[number] = part, {leaf.hex(): row for row, leaf in enumerate(part.encoded.leaves())}
        return self._parts[number]

    def holds(self, statement: Statement) -> bool:
        """Whether a log that keeps no notes holds this review: by the image, the attempt, the outcome, and when. Each part is read once.

        Raises: LogDamaged for a part that cannot be read: nobody knows then; StorageAway.
        """
        for _, table in reading.tables(self._storage, _PLAIN, range(self._plain_parts, self._writer.size)):
            rows = zip(*(table.column(name).to_pylist() for name in _PLAIN), strict=True)  # type: ignore[attr-defined]
            self._plain |= {tuple(said) for kind, *said in rows if kind == "review"}
            self._plain_parts += 1
        about = statement.subjects[0].image_id if statement.subjects else None
        return (about, statement.get("attempt"), statement.get("outcome"), statement.time_us) in self._plain
