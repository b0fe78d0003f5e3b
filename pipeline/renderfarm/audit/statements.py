"""What people said, re-derived: each signed note against its record, its signer against trust, its subjects against the log.

`of_part` runs with a part, anywhere, and knows neither trust nor other parts. `Statements` is fed its findings in order, in the audit's own
process; at the end it looks for the records that statements are about, and at what waits in the inbox.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from renderfarm.audit.findings import AuditReport
from renderfarm.errors import UserError
from renderfarm.keys import Trust
from renderfarm.log import parts, reading
from renderfarm.log.state import statement_key
from renderfarm.notes import NoteMalformed, NoteUntrusted
from renderfarm.notes import statement as notes
from renderfarm.notes.statement import Statement
from renderfarm.output import part_key
from renderfarm.records import spoken
from renderfarm.records.tables import from_table
from renderfarm.statements import inbox, reviews
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

INBOX_MAX = 5000
"""So many statements in the inbox are looked at; more are counted."""


@dataclass(frozen=True, slots=True)
class Said:
    """One statement of a part: its row, its note as the record keeps it; what is wrong with it by itself, as a finding's name and words."""

    row: int
    signed: str | None
    finding: str | None = None
    what: str = ""


def of_part(table: pa.Table) -> Iterator[Said]:
    """The statements of a part, whose view this is, each held against its own record."""
    import pyarrow.compute as pc

    rows = pc.indices_nonzero(pc.equal(table.column("kind"), "statement")).to_pylist()
    for row, record in zip(rows, from_table(table.take(rows)) if rows else (), strict=True):
        try:
            statement = spoken.kept(record)
        except NoteMalformed as error:
            yield Said(row, None, "statement-unsigned" if record.signed is None else "statement-malformed", str(error))
            continue
        wrong = spoken.differing(record, statement)
        yield Said(row, record.signed, "statement-differs" if wrong else None, wrong)


class Statements:
    """Feed it each part's statements in order; then `finish`."""

    def __init__(self, report: AuditReport, trust: Trust | None) -> None:
        self._report = report
        self._people = trust.people if trust is not None and trust.log_keys else None
        self._by_name = trust is not None and bool(trust.person_keys)
        """Whether people are trusted by name: then a stranger's statement is no statement."""
        self._borrowed = 0
        self._seen: set[bytes] = set()
        self._strangers: Counter[str] = Counter()
        self._subjects: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
        """By the leaf hash of a record: of which image, and the places, (part, row), of the statements that are about it."""
        self.count = 0

    def add(self, number: int, said: tuple[Said, ...]) -> None:
        """The statements of one part."""
        for one in said:
            self.count += 1
            where = f"{part_key(number)}#{one.row}"
            if one.finding is not None:
                self._report.add(one.finding, where, one.what)
            if one.signed is not None:
                self._add(number, one.row, where, notes.parse(one.signed.encode()), statement_key(one.signed))

    def _add(self, number: int, row: int, where: str, statement: Statement, key: bytes) -> None:
        if key in self._seen:
            self._report.add("statement-twice", where, f"a {statement.kind} by {statement.speaker}")
        self._seen.add(key)
        if statement.origin != self._report.origin:
            self._report.add("statement-differs", where, f"it was signed for the log {statement.origin}")
        self._verify(where, statement)
        for subject in statement.subjects:
            self._subjects[subject.digest].append((subject.image_id, number, row))

    def _verify(self, where: str, statement: Statement) -> None:
        people = self._people or {}
        if notes.known_key(statement.signer, people) is None:
            self._strangers[statement.signer] += 1
            if self._by_name:
                self._report.add("statement-untrusted", where, f"signed by {statement.signer}")
            return
        if reviews.borrowed(statement, people):
            self._borrowed += 1
        try:
            notes.verify(statement, people)
        except NoteUntrusted as error:
            self._report.add("statement-bad-signature", where, str(error))

    def finish(self, storage: Storage, whole: bool) -> None:
        """`whole`: whether the log verified, so that what is not in it can be missed. Raises: StorageAway."""
        if self._strangers and not self._by_name:
            said = f"{self._strangers.total()} statements of {len(self._strangers)} people"
            self._report.notes.append(f"{said}: no key of people is trusted (*.person), so who signed them was not judged")
        if self._borrowed:
            what = "name a person who has a key of their own, and are signed by another: they say only who was named"
            self._report.notes.append(f"{self._borrowed} statements {what}")
        if whole and self._subjects:
            self._find(storage)
        self._look_into_inbox(storage)

    def _find(self, storage: Storage) -> None:
        """Names the statements that are about no record before them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        images = pa.array(sorted({image for places in self._subjects.values() for image, *_ in places}), pa.string())
        found: dict[str, tuple[int, int, str]] = {}
        for number, file in reading.fetch_parts(storage, with_values=False):
            ids = parts.read_columns(file, number, ["image_id"])[1].column("image_id")
            rows = pc.indices_nonzero(pc.is_in(ids, value_set=images)).to_pylist()
            leaves = parts.read_part(file, number).encoded.leaves() if rows else []
            for row in rows:
                digest = leaves[row].hex()
                if digest in self._subjects:
                    found.setdefault(digest, (number, row, ids[row].as_py()))
        for digest, places in self._subjects.items():
            for image_id, number, row in places:
                at = found.get(digest)
                if at is None or at[:2] >= (number, row) or at[2] != image_id:
                    what = f"the record {digest} of image {image_id} is not in the log before it"
                    self._report.add("statement-unfounded", f"{part_key(number)}#{row}", what, image_id)

    def _look_into_inbox(self, storage: Storage) -> None:
        """What waits, and what of it nobody can take in."""
        keys = list(inbox.keys(storage))
        troubles: Counter[str] = Counter()
        for key in keys[:INBOX_MAX]:
            try:
                letter = inbox.read(storage, key)
                if letter is not None and letter.name in self._seen:
                    troubles["the log holds them already, and nobody took them away"] += 1
                elif letter is not None and self._people is not None:
                    notes.verify(letter.statement, self._people)
            except NoteMalformed as error:
                troubles[f"malformed: {error}"] += 1
            except NoteUntrusted as error:
                troubles[str(error)] += 1
            except UserError as error:  # one object that may not be read, or was put into an archive
                troubles[error.what] += 1
        if keys:
            self._report.notes.append(f"{len(keys)} statements of people wait in the inbox")
        for why, count in troubles.most_common(5):
            self._report.notes.append(f"{count} of them cannot be taken in: {why}")
