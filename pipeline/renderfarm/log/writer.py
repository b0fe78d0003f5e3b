"""The log's only writer: one part, written once, is the commit.

Opening reads what is there and verifies it, so nothing is ever appended to a damaged log. A first start, a resume and a restart after a
crash are the same call. A part is put under the next number, if nothing lies there. What a crash leaves:

    before the put              nothing, or a file of values that belongs to no part: the images are orphans, and are rendered again
    in the put                  a whole part or none: the storage promises it
    after the put, before the   the commit: the cached checkpoint is one part behind, and the next open renews it
    cached checkpoint

A second driver on the same output writes another part under the same number, and loses: `Fenced`. Persons who say something meanwhile are
no second driver: their statements wait in the inbox for whoever writes (`inbox`). Should somebody have taken them in without knowing of us,
a part of nothing but statements lies where ours was to go: it is taken in, and our records go under the next number. So nobody who takes in
statements ever fences a driver, whatever the leases say.

A part is always written before the copies of its checkpoint. So a signed checkpoint that counts more parts than there are means that
parts were lost; one with another root means that parts were replaced. Nothing is appended then: it would bury the loss under a log that
passes its audit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import AcceptedMeanwhile, AlreadyStored, Fenced, LogDamaged, NotStored, Overtaken, StorageAway
from renderfarm.log import guarded, parts, snapshot
from renderfarm.log import values as beside
from renderfarm.log.index import index_root
from renderfarm.log.parts import PartFile
from renderfarm.log.reading import decoded, fetch_part, list_parts
from renderfarm.log.state import COLUMNS, LogState
from renderfarm.log.tree import Frontier, consistency_proof, part_leaf, tree_root
from renderfarm.notes import Checkpoint, Signer
from renderfarm.output import CHECKPOINT, SALTED_SNAPSHOT, SNAPSHOT, WITNESSED, part_key, values_key
from renderfarm.records import tables
from renderfarm.records.canonical import ColumnBytes
from renderfarm.records.tables import VERSION_KEY, to_table
from renderfarm.schema import PLAIN_VERSION, RECORD_VERSION, Record
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

CHECKPOINT_TYPE = "text/plain; charset=utf-8"
PARQUET_TYPE = "application/vnd.apache.parquet"
_TAKEN = (*COLUMNS, "subjects")
"""The columns of a part that a start looks at; its canonical bytes are made from all."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A part that is durable, and the signed head that includes it."""

    number: int
    rows: int
    bytes: int
    checkpoint: Checkpoint


class Committer(Protocol):
    """Where records go; returning means durable. Raises: Fenced, StorageAway."""

    def append(self, records: Sequence[Record]) -> object:
        """Commit the records as one part, in this order."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A part whose put has not been confirmed: it may lie in the storage or not."""

    table: pa.Table
    data: bytes
    values: tuple[str, bytes] | None
    leaf: bytes
    commit: Commit


class LogWriter:
    """Appends records to one output's log. `state` is what the log says, kept up to date with every commit."""

    def __init__(self, storage: Storage, origin: str, signer: Signer, snapshot_parts: int = snapshot.PARTS_BEHIND) -> None:
        self.origin = origin
        self.state = LogState()
        self.checkpoint: Checkpoint | None = None
        self._storage = storage
        self._signer = signer
        self._frontier = Frontier()
        self._leaves: list[bytes] = []
        self._opened_size = 0
        self._snapshot_parts = snapshot_parts
        self._pending: _Pending | None = None
        self._keys: Mapping[str, Ed25519PublicKey] = {signer.name: signer.public_key}
        self.record_version = RECORD_VERSION
        """What its records are written in: an output keeps the scheme that it began with."""
        self._overtaken = False
        self._parts_behind = 0
        self._rows_behind = 0

    @classmethod
    def open(
        cls,
        storage: Storage,
        job_name: str,
        signer: Signer,
        trusted: Mapping[str, Ed25519PublicKey] | None = None,
        snapshot_parts: int = snapshot.PARTS_BEHIND,
    ) -> LogWriter:
        """Reads and verifies the whole log, renews the cache, and is ready to append.

        `trusted`: further keys that earlier parts may be signed with, after a change of keys. `snapshot_parts`: after so
        many parts a snapshot is renewed.
        Raises: LogDamaged for a gap, a foreign file, another job's log, a part that does not verify, or a signed checkpoint beside the
        parts that they do not lead to; StorageAway.
        """
        keys = {**(trusted or {}), signer.name: signer.public_key}
        writer = cls(storage, notes.origin(job_name), signer, snapshot_parts)
        writer._keys = keys
        numbers = _gapless(storage)
        for key in (SALTED_SNAPSHOT, SNAPSHOT):
            writer._start_from_snapshot(key, len(numbers), keys)
        writer._take_from(numbers)
        writer.record_version = RECORD_VERSION if writer.state.salted else PLAIN_VERSION
        for key in (CHECKPOINT, WITNESSED):
            writer._require_continued(key)
        writer._opened_size = writer.size
        if writer.checkpoint is not None:
            writer._renew_cache()
            writer._renew_snapshot()
        return writer

    def _start_from_snapshot(self, key: str, parts_count: int, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Takes over a snapshot if there is one that the log agrees with; whatever is wrong with one, it is not used."""
        try:
            loaded = snapshot.load(self._storage.get(key, snapshot.BYTES_MAX), self.origin, keys)
            last = loaded.frontier.size - 1
            if not 0 <= last < parts_count:
                return
            footer = parts.read_footer(self._storage.get(part_key(last), parts.PART_BYTES_MAX), last)
            parts.check_head(footer, keys)
        except (NotStored, ValueError, parts.PartDamaged):
            return
        if snapshot.agrees(loaded, footer.checkpoint, footer.before, footer.leaf):
            self.state, self._frontier, self.checkpoint = loaded.state, loaded.frontier, footer.checkpoint
            self._leaves = list(loaded.leaves)

    def _take_from(self, numbers: Sequence[int]) -> None:
        """Verifies and folds in those of the parts that are not yet."""
        for _, part in decoded(self._storage, numbers[self.size :], lambda number, file: parts.read_part(file, number, _TAKEN)):
            self._take(part, self._keys)

    def _require_continued(self, key: str) -> None:
        """That the parts lead to the checkpoint under this key, if a known key signed it for this log.

        Raises: PartDamaged, `part-missing` or `history-rewritten`; StorageAway.
        """
        try:
            earlier = notes.parse(self._storage.get(key, notes.NOTE_BYTES_MAX))
            notes.verify(earlier, self._keys)
        except (NotStored, notes.NoteMalformed, notes.NoteUntrusted):
            return
        if earlier.origin != self.origin:
            return
        if earlier.size > self.size:  # another writer may have committed since the parts were listed
            self._take_from(_gapless(self._storage))
        if earlier.size > self.size:
            lost = part_key(self.size)
            remedy = (
                f"restore it (the runbook says how); if it is lost for good, keep {key} elsewhere and take it away, to go on without it"
            )
            raise parts.PartDamaged("part-missing", lost, f"it is gone, and {key}, which our key signed, includes it; {remedy}")
        if tree_root(self._leaves[: earlier.size]) != earlier.root:
            raise parts.PartDamaged("history-rewritten", key, "our key signed it for another history than that of the parts which lie here")

    def _renew_snapshot(self) -> None:
        """A crash before or in this put leaves the older snapshot, and the next start reads more parts."""
        rows = max(snapshot.ROWS_BEHIND, len(self.state) // snapshot.SHARE_BEHIND)
        if self._parts_behind >= self._snapshot_parts or self._rows_behind >= rows:
            data = snapshot.dump(self.state, self._leaves, self.origin, self._signer)
            self._storage.put(SALTED_SNAPSHOT if self.state.salted else SNAPSHOT, data)
            self._parts_behind = self._rows_behind = 0

    def _take(self, part: parts.Part, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Verifies the next part against everything before it, and folds it in."""
        footer = part.footer
        parts.check_head(footer, keys)
        if footer.checkpoint.origin != self.origin:
            key, other = part_key(footer.number), footer.checkpoint.origin
            raise parts.PartDamaged("part-altered", key, f"it belongs to {other}, not to {self.origin}")
        if footer.before != self._frontier:
            reason = "it continues another history than the parts before it"
            raise parts.PartDamaged("history-rewritten", part_key(footer.number), reason)
        parts.check_rows(part)
        if part.values is not None:
            remedy = "restore the file, or take it away: what it held is then forgotten, and drawn again as new images"
            raise parts.PartDamaged(part.values.finding, part.values.key, f"{part.values.reason}; {remedy}")
        self._fold(part.table, footer.version)
        self._frontier = self._frontier.append(footer.leaf)
        self._leaves.append(footer.leaf)
        self.checkpoint = footer.checkpoint

    def _fold(self, table: pa.Table, version: int) -> None:
        self.state.fold(table)
        self.state.salted = self.state.salted and version > PLAIN_VERSION
        self._parts_behind += 1
        self._rows_behind += table.num_rows

    @property
    def size(self) -> int:
        """Number of committed parts."""
        return self._frontier.size

    @property
    def grown(self) -> bool:
        """Whether anything was committed since it was opened."""
        return self.size > self._opened_size

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The proof that the log, as it is now, begins with its first `old_size` parts. Raises: ValueError for more than there are."""
        return consistency_proof(self._leaves, old_size) if old_size else ()

    def append(self, records: Sequence[Record]) -> Commit:
        """Commits the records as the next part, in this order. When it returns they are durable and signed.

        After StorageAway the same call may be made again, with the same records or others: an unconfirmed part is
        settled first.
        Raises: ValueError for no or too many records, or one that no column can hold; LogDamaged for one that says
        nothing about an image or a plan; Overtaken for statements that others overtook; AcceptedMeanwhile; Fenced; StorageAway.
        """
        return self.append_table(to_table(records))

    def append_table(self, table: pa.Table) -> Commit:
        """`append` for rows that are columns already: a table of `tables.view_schema()`, all of version `record_version`."""
        if not 0 < table.num_rows <= parts.PART_ROWS_MAX:
            raise ValueError(f"a part holds 1 to {parts.PART_ROWS_MAX} records, not {table.num_rows}")
        if self._pending is not None:
            same = self._pending.table.equals(table)
            try:
                settled = self._settle()
            except Overtaken:  # statements that nobody asks us for any more: whoever took in the others saw them too
                if same:
                    raise
            self._pending = None
            if same:
                return settled
        self._pending = self._build(table)
        commit = self._settle()
        self._pending = None
        return commit

    def settle(self) -> None:
        """Learns what became of a part that was not confirmed, if there is one. Raises: as `append`."""
        if self._pending is not None:
            self._settle()
            self._pending = None

    def _build(self, table: pa.Table) -> _Pending:
        LogState().fold(table)  # rows that cannot be folded must not be committed
        if self._overtaken:
            self._refuse_second(table)
        number, version = self._frontier.size, self.record_version
        if table.column("version").unique().to_pylist() != [version]:
            raise ValueError(f"the records of this output are of version {version}")
        columns = tables.columns(table, version)
        row_root = tree_root(ColumnBytes.of(columns, version).leaves())
        index = index_root(table) if version >= 4 else None
        leaf = part_leaf(number, table.num_rows, row_root, index)
        head = notes.sign(Checkpoint(self.origin, number + 1, self._frontier.append(leaf).root()), self._signer)
        log_key = notes.verifier_key(self._signer.name, self._signer.public_key)
        footer = {
            VERSION_KEY: str(version).encode(),
            parts.PART_KEY: str(number).encode(),
            parts.ROOT_KEY: row_root.hex().encode(),
            parts.FRONTIER_KEY: ",".join(item.hex() for item in self._frontier.hashes).encode(),
            parts.CHECKPOINT_KEY: head.to_bytes(),
            parts.LOG_KEY_KEY: log_key.encode(),
        }
        values = None
        if index is not None:
            footer[parts.INDEX_KEY] = index.hex().encode()
            kept = tables.values(table)
            if wrong := beside.differing(kept, columns.column("commitment").to_pylist()):
                raise ValueError(f"row {wrong[0]}: its values are not what it commits to")
            if kept.column("salt").null_count < kept.num_rows:
                values = (values_key(number, row_root), beside.encode(kept, number, row_root))
        data = guarded.write(columns, footer)
        read = parts.read_part(PartFile(data, values[1] if values else None), number, ("kind",))
        assert tree_root(read.encoded.leaves()) == row_root and read.values is None, "a part does not read back as it was written"
        return _Pending(table, data, values, leaf, Commit(number, table.num_rows, len(data), head))

    def _settle(self) -> Commit:
        """Puts the pending part, however often it was tried before, and takes it as the new head."""
        pending = self._pending
        assert pending is not None
        key = part_key(pending.commit.number)
        try:
            if pending.values is not None:
                self._storage.put_new(*pending.values, PARQUET_TYPE)
            self._storage.put_new(key, pending.data, PARQUET_TYPE)
        except AlreadyStored as error:
            if self._take_statements(pending.commit.number):
                return self._settle_again(pending)
            raise Fenced(
                f"another driver owns {self._storage.uri}: it wrote {key} while this one was about to. "
                "Nothing of its work is lost; let one driver at a time write to an output."
            ) from error
        if self._frontier.size == pending.commit.number:
            self._frontier = self._frontier.append(pending.leaf)
            self._leaves.append(pending.leaf)
            self._fold(pending.table, self.record_version)
            self.checkpoint = pending.commit.checkpoint
        self._put_cache()
        self._renew_snapshot()
        return pending.commit

    def _take_statements(self, number: int) -> bool:
        """Takes in the part that lies where ours was to go, if it holds nothing but what people said."""
        try:
            file = fetch_part(self._storage, number)
            part = parts.read_part(file, number) if file is not None else None
            if part is None or not _only_statements(part.table):
                return False
            self._take(part, self._keys)
        except LogDamaged:
            return False
        self._overtaken = True
        return True

    def _settle_again(self, pending: _Pending) -> Commit:
        """Under the next number. Raises: Overtaken for statements, which may say the same, or something that no longer holds."""
        self._pending = None
        if _only_statements(pending.table):
            raise Overtaken(f"somebody else took in statements at {self._storage.uri}: ours are judged again")
        self._pending = self._build(pending.table)
        return self._settle()

    def _refuse_second(self, table: pa.Table) -> None:
        """An image that a person accepted while it was rendered here is not accepted again. Raises: AcceptedMeanwhile."""
        rows = zip(*(table.column(name).to_pylist() for name in ("kind", "image_id", "outcome")), strict=True)
        again = [row[1] for row in rows if (row[0], row[2]) == ("attempt", "accepted") and self.state.image(row[1]).accepted]
        if again:
            what = f"a person accepted image {again[0]} of {self._storage.uri} while it was rendered: run the same command again"
            raise AcceptedMeanwhile(what, frozenset(again))

    def _renew_cache(self) -> None:
        """The cache may be one behind after a crash, or lost; a good one is left alone, with any cosignatures."""
        assert self.checkpoint is not None
        try:
            cached = notes.parse(self._storage.get(CHECKPOINT, notes.NOTE_BYTES_MAX))
        except Exception as error:  # whatever is wrong with a cache, it is written anew
            if isinstance(error, StorageAway):
                raise
            self._put_cache()
            return
        if (cached.origin, cached.size, cached.root) != (self.origin, self.checkpoint.size, self.checkpoint.root):
            self._put_cache()

    def _put_cache(self) -> None:
        assert self.checkpoint is not None
        self._storage.put(CHECKPOINT, self.checkpoint.to_bytes(), CHECKPOINT_TYPE)


def _only_statements(table: pa.Table) -> bool:
    return set(table.column("kind").unique().to_pylist()) <= {"review", "statement"}


def _gapless(storage: Storage) -> list[int]:
    """The numbers of all parts. Raises: LogDamaged for a gap or a file that is no part."""
    listing = list_parts(storage)
    if listing.strays:
        raise LogDamaged(f"{listing.strays[0]} is no part of a log; move it away")
    for expected, number in enumerate(listing.numbers):
        if number != expected:
            raise parts.PartDamaged("part-missing", part_key(expected), "it is missing, later ones are there")
    return listing.numbers
