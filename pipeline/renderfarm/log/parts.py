"""The files of the log, read with care: whoever wrote them may be hostile.

A part is one Parquet file, `provenance/parts/{number:08d}.parquet`, with the columns of `tables.arrow_schema(version)`
and nothing else. Its footer says:

    renderfarm.record_version   version of the columns and of the canonical bytes
    renderfarm.part             its number, counted from 0
    renderfarm.row_root         root of the row tree over its records' canonical bytes, hex
    renderfarm.index_root       from version 4 on, root of the tree over the images that it speaks of (`index`), hex
    renderfarm.frontier         the log tree before this part (`tree.Frontier`), hex hashes joined by commas: this part's
                                inclusion proof
    renderfarm.checkpoint       the signed checkpoint that includes this part
    renderfarm.log_key          the public key that signed it, as a C2SP verifier key: who claims to have signed, never
                                whom to trust

So each part can be verified alone, and a missing one is missed without its neighbours being blamed. Statistics are left
out: they would be unsigned claims about the columns that query engines act upon. What is read here is well formed;
whether it is true is for `check_head` and `check_rows`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import LogDamaged
from renderfarm.log import guarded
from renderfarm.log import values as beside
from renderfarm.log.index import index_root
from renderfarm.log.parquet_footer import Chunk
from renderfarm.log.tree import HASH_BYTES, Frontier, part_leaf, tree_root
from renderfarm.notes import Checkpoint
from renderfarm.output import part_key, part_number, values_key
from renderfarm.records.canonical import ColumnBytes
from renderfarm.records.tables import VERSION_KEY, arrow_schema, from_table, view
from renderfarm.schema import RECORD_FIELDS, RECORD_VERSION

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PART_KEY = b"renderfarm.part"
ROOT_KEY = b"renderfarm.row_root"
INDEX_KEY = b"renderfarm.index_root"
FRONTIER_KEY = b"renderfarm.frontier"
CHECKPOINT_KEY = b"renderfarm.checkpoint"
LOG_KEY_KEY = b"renderfarm.log_key"
FOOTER_KEYS = frozenset({VERSION_KEY, PART_KEY, ROOT_KEY, FRONTIER_KEY, CHECKPOINT_KEY, LOG_KEY_KEY})
"""The footer's entries up to version 3; `INDEX_KEY` is one more from version 4 on."""

PART_BYTES_MAX, PART_ROWS_MAX = guarded.BYTES_MAX, guarded.ROWS_MAX
FEW_ROWS = 8
"""Up to so many rows are encoded one by one, which takes a sixth of the time for one, and as long for nine."""


class PartDamaged(LogDamaged):
    """One part is not what its writer made. `finding` is the audit's name for it; `reason` says how we know."""

    def __init__(self, finding: str, key: str, reason: str) -> None:
        super().__init__(finding, key, reason)
        self.finding = finding
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key}: {self.reason} ({self.finding})"


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part's bytes, and those of the values beside it: None where they were not asked for, or are not there."""

    data: bytes = field(repr=False)
    values: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, file: PartFile | bytes) -> PartFile:
        """A part's bytes alone are a part without its values."""
        return cls(file) if isinstance(file, bytes) else file


@dataclass(frozen=True, slots=True)
class Footer:
    """What a part says of itself. `before`: the log tree over the parts before it. `log_key` is a claim, not trust."""

    number: int
    rows: int
    row_root: bytes
    before: Frontier
    checkpoint: Checkpoint
    log_key: str
    version: int
    index_root: bytes | None = None

    @property
    def leaf(self) -> bytes:
        """The part's leaf hash in the log tree, from what the footer states."""
        return part_leaf(self.number, self.rows, self.row_root, self.index_root)

    def signer(self) -> tuple[str, Ed25519PublicKey]:
        """Name and public key of whoever claims to have signed. Raises: NoteMalformed."""
        return notes.parse_verifier_key(self.log_key)


@dataclass(frozen=True, slots=True)
class Part:
    """One part, decoded: rows as a table of `tables.view_schema()`, whatever version they were written in, and their canonical
    bytes by that version. `values` says what is wrong with the values beside it, which are then not in the table."""

    footer: Footer
    table: pa.Table
    encoded: ColumnBytes
    values: PartDamaged | None = None


def read_footer(file: PartFile | bytes, number: int) -> Footer:
    """What part `number` says of itself; no row is decoded.

    Raises: PartDamaged when it is no Parquet file, passes a limit, or its footer is incomplete, has more than the known
    keys or another number.
    """
    return _open(PartFile.of(file).data, number)[0]


def read_part(file: PartFile | bytes, number: int, names: Iterable[str] = RECORD_FIELDS) -> Part:
    """Part `number` with its rows, all columns of the view or these, and the values that are what these commit to.

    Raises: PartDamaged as `read_footer`, and when a page does not decode, a checksum differs, or a null lies where none
    may. Values that are not what was committed to are no reason: they are not believed.
    """
    file = PartFile.of(file)
    footer, parquet, chunks = _open(file.data, number)
    try:
        table = guarded.decoded(file.data, parquet, chunks)
        table = table.replace_schema_metadata(arrow_schema(footer.version).metadata)
        encoded = _encoded(table, footer.version)
    except ValueError as error:
        raise PartDamaged("part-altered", part_key(number), str(error)) from error
    values, damage = _values(file.values, footer, table)
    return Part(footer, view(table, values, names), encoded, damage)


def trusted_values(file: PartFile | bytes, number: int) -> Part:
    """As `read_part`, for who goes by the values or passes them on: altered ones are not taken for forgotten ones.

    Raises: PartDamaged, also for values that are not what the part commits to.
    """
    part = read_part(file, number)
    if part.values is not None:
        raise part.values
    return part


def require_values(file: PartFile, number: int) -> None:
    """That the values beside a part are what it commits to, for who reads some columns of them; no record is re-derived.

    Raises: PartDamaged.
    """
    footer, table = read_columns(file, number, ("commitment",))
    damage = _values(file.values, footer, table)[1]
    if damage is not None:
        raise damage


def _values(data: bytes | None, footer: Footer, table: pa.Table) -> tuple[pa.Table | None, PartDamaged | None]:
    """The values beside a part, if each row of them is what the part commits to."""
    if data is None or footer.version < 4:
        return None, None
    key = values_key(footer.number, footer.row_root)
    try:
        values = beside.read(data, footer.number, footer.row_root, footer.rows)
        wrong = beside.differing(values, table.column("commitment").to_pylist())
    except ValueError as error:
        return None, PartDamaged("values-altered", key, str(error))
    if not wrong:
        return values, None
    more = f" (and of {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return None, PartDamaged("values-altered", f"{key}#{wrong[0]}", f"they are not what the record committed to{more}")


def _encoded(table: pa.Table, version: int) -> ColumnBytes:
    if table.num_rows <= FEW_ROWS:
        records = list(from_table(view(table)))
        if all(record.version == version for record in records):
            return ColumnBytes.of_records(records)
    return ColumnBytes.of(table, version)


def read_columns(file: PartFile | bytes, number: int, names: Iterable[str]) -> tuple[Footer, pa.Table]:
    """Part `number` with only some columns of the view. Nothing is re-derived, so trust the rows only as far as the storage.

    Raises: PartDamaged as `read_part`. Values that cannot be read are left out.
    """
    file = PartFile.of(file)
    footer, parquet, chunks = _open(file.data, number)
    wanted = list(names)
    values = None
    try:
        present = [name for name in arrow_schema(footer.version).names if name in wanted]
        table = guarded.decoded(file.data, parquet, chunks, present or ["kind"])
    except ValueError as error:
        raise PartDamaged("part-altered", part_key(number), str(error)) from error
    asked = beside.asked(wanted)
    if asked and file.values is not None and footer.version >= 4:
        with contextlib.suppress(ValueError):
            values = beside.read(file.values, number, footer.row_root, footer.rows, asked)
    return footer, view(table, values, wanted)


def check_head(footer: Footer, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """That the part's checkpoint is signed by one of `keys` and includes the part. The name of that key.

    Raises: PartDamaged, `checkpoint-bad-signature` or `part-altered`.
    """
    key = part_key(footer.number)
    try:
        name = notes.verify(footer.checkpoint, keys)
    except notes.NoteUntrusted as error:
        raise PartDamaged("checkpoint-bad-signature", key, str(error)) from error
    if footer.checkpoint.size != footer.number + 1:
        reason = f"its checkpoint is of {footer.checkpoint.size} parts instead of {footer.number + 1}"
        raise PartDamaged("part-altered", key, reason)
    if footer.before.append(footer.leaf).root() != footer.checkpoint.root:
        raise PartDamaged("part-altered", key, "its footer does not lead to the root that its checkpoint signs")
    return name


def check_rows(part: Part) -> None:
    """That the rows give the roots that the footer states.

    Raises: PartDamaged, `record-altered` or, for the index alone, `part-altered`.
    """
    if tree_root(part.encoded.leaves()) != part.footer.row_root:
        reason = "the rows do not give the row root that the log signed"
        raise PartDamaged("record-altered", part_key(part.footer.number), reason)
    if part.footer.index_root is not None and index_root(part.table) != part.footer.index_root:
        raise PartDamaged("part-altered", part_key(part.footer.number), "the rows do not give the index root that the log signed")


def embedded_keys(footer: Footer) -> dict[str, Ed25519PublicKey]:
    """The key that the part itself names: good for consistency only.

    Raises: PartDamaged when it is malformed.
    """
    try:
        name, public_key = footer.signer()
    except notes.NoteMalformed as error:
        raise PartDamaged("part-altered", part_key(footer.number), f"its log key: {error}") from error
    return {name: public_key}


def _open(data: bytes, number: int) -> tuple[Footer, pq.ParquetFile, list[Chunk]]:
    try:
        file, chunks = guarded.opened(data)
        version = _version(file)
        guarded.check_shape(file, chunks, arrow_schema(version), f"records version {version}")
        return _footer(file, version, number), file, chunks
    except ValueError as error:
        raise PartDamaged("part-altered", part_key(number), str(error)) from error


def _version(file: pq.ParquetFile) -> int:
    """The version of the records, as the footer states it; the newest where it says nothing, which `_footer` will name."""
    stated = (file.metadata.metadata or {}).get(VERSION_KEY, str(RECORD_VERSION).encode())
    known = {str(version).encode(): version for version in range(1, RECORD_VERSION + 1)}
    if stated not in known:
        raise ValueError(f"records of version {stated[:20].decode(errors='replace')}")
    return known[stated]


def _footer(file: pq.ParquetFile, version: int, number: int) -> Footer:
    stated = guarded.entries(file, FOOTER_KEYS | ({INDEX_KEY} if version >= 4 else set()))
    if stated[PART_KEY] != str(number).encode():
        raise ValueError(f"it says that it is part {stated[PART_KEY][:20].decode(errors='replace')}")
    try:
        checkpoint = notes.parse(stated[CHECKPOINT_KEY])
        hashes = tuple(map(bytes.fromhex, filter(None, stated[FRONTIER_KEY].decode().split(","))))
        before = Frontier(number, hashes)
        row_root = _hash(stated[ROOT_KEY])
        index = _hash(stated[INDEX_KEY]) if version >= 4 else None
        log_key = stated[LOG_KEY_KEY].decode()
    except ValueError as error:
        raise ValueError(f"its footer is malformed: {guarded.brief(error)}") from error
    return Footer(number, file.metadata.num_rows, row_root, before, checkpoint, log_key, version, index)


def _hash(text: bytes) -> bytes:
    made = bytes.fromhex(text.decode())
    if made.hex().encode() != text or len(made) != HASH_BYTES:
        raise ValueError("a root that is not 64 hex digits")
    return made


def numbered(keys: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Part keys with their numbers, in order; other keys are left out."""
    for key in sorted(keys):
        number = part_number(key)
        if number is not None:
            yield number, key
