"""The files of the log, read with care: whoever wrote them may be hostile.

A part is one Parquet file, `provenance/parts/{number:08d}.parquet`, with the columns of `record.arrow_schema(version)`
and nothing else. Its footer says:

    renderfarm.record_version   version of the columns and of the canonical bytes
    renderfarm.part             its number, counted from 0
    renderfarm.row_root         root of the row tree over its records' canonical bytes, hex
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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import LogDamaged
from renderfarm.log.canonical import ColumnBytes
from renderfarm.log.decoded_size import too_large
from renderfarm.log.parquet_footer import Chunk, column_chunks
from renderfarm.log.record import VERSION_KEY, arrow_schema, from_table, upgraded
from renderfarm.log.tree import Frontier, part_leaf, tree_root
from renderfarm.notes import Checkpoint
from renderfarm.output import part_key, part_number
from renderfarm.schema import RECORD_VERSION

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PART_KEY = b"renderfarm.part"
ROOT_KEY = b"renderfarm.row_root"
FRONTIER_KEY = b"renderfarm.frontier"
CHECKPOINT_KEY = b"renderfarm.checkpoint"
LOG_KEY_KEY = b"renderfarm.log_key"
FOOTER_KEYS = frozenset({VERSION_KEY, PART_KEY, ROOT_KEY, FRONTIER_KEY, CHECKPOINT_KEY, LOG_KEY_KEY})

PART_BYTES_MAX = 256 << 20
PART_ROWS_MAX = 100_000
ROW_GROUPS_MAX = 1000
DECODED_BYTES_MAX = 1 << 30
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
class Footer:
    """What a part says of itself. `before`: the log tree over the parts before it. `log_key` is a claim, not trust."""

    number: int
    rows: int
    row_root: bytes
    before: Frontier
    checkpoint: Checkpoint
    log_key: str
    version: int

    @property
    def leaf(self) -> bytes:
        """The part's leaf hash in the log tree, from what the footer states."""
        return part_leaf(self.number, self.rows, self.row_root)

    def signer(self) -> tuple[str, Ed25519PublicKey]:
        """Name and public key of whoever claims to have signed. Raises: NoteMalformed."""
        return notes.parse_verifier_key(self.log_key)


@dataclass(frozen=True, slots=True)
class Part:
    """One part, decoded: rows as a table of `arrow_schema()`, whatever version they were written in, and their canonical
    bytes by that version."""

    footer: Footer
    table: pa.Table
    encoded: ColumnBytes


def read_footer(data: bytes, number: int) -> Footer:
    """What part `number` says of itself; no row is decoded.

    Raises: PartDamaged when it is no Parquet file, passes a limit, or its footer is incomplete, has more than the known
    keys or another number.
    """
    return _open(data, number)[0]


def read_part(data: bytes, number: int) -> Part:
    """Part `number` with its rows.

    Raises: PartDamaged as `read_footer`, and when a page does not decode, a checksum differs, or a null lies where none
    may.
    """
    import pyarrow as pa

    footer, file, chunks = _open(data, number)
    key = part_key(number)
    try:
        _check_size(data, chunks, key)
        table = file.read(use_threads=False)
        table.validate(full=True)
        table = table.replace_schema_metadata(arrow_schema(footer.version).metadata)
        encoded = _encoded(table, footer.version)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise PartDamaged("part-altered", key, f"its rows cannot be read: {_brief(error)}") from error
    return Part(footer, upgraded(table), encoded)


def _encoded(table: pa.Table, version: int) -> ColumnBytes:
    if table.num_rows <= FEW_ROWS:
        records = list(from_table(upgraded(table)))
        if all(record.version == version for record in records):
            return ColumnBytes.of_records(records)
    return ColumnBytes.of(table, version)


def read_columns(data: bytes, number: int, columns: Iterable[str]) -> tuple[Footer, pa.Table]:
    """Part `number` with only some of its top-level columns. Nothing is re-derived, so trust the rows only as far as
    the storage.

    Raises: PartDamaged as `read_part`.
    """
    import pyarrow as pa

    footer, file, chunks = _open(data, number)
    names = list(columns)
    try:
        _check_size(data, chunks, part_key(number))
        available = set(arrow_schema(footer.version).names)
        return footer, upgraded(file.read(columns=[name for name in names if name in available], use_threads=False), names)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise PartDamaged("part-altered", part_key(number), f"its rows cannot be read: {_brief(error)}") from error


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
    """That the rows give the root that the footer states.

    Raises: PartDamaged, `record-altered`.
    """
    if tree_root(part.encoded.leaves()) != part.footer.row_root:
        reason = "the rows do not give the row root that the log signed"
        raise PartDamaged("record-altered", part_key(part.footer.number), reason)


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = part_key(number)
    if len(data) > PART_BYTES_MAX:
        raise PartDamaged("part-altered", key, f"more than {PART_BYTES_MAX >> 20} MiB")
    try:
        chunks = column_chunks(data)
        file = pq.ParquetFile(
            pa.BufferReader(data),
            page_checksum_verification=True,
            thrift_string_size_limit=16 << 20,
            thrift_container_size_limit=1_000_000,
        )
        schema = file.schema_arrow
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise PartDamaged("part-altered", key, f"not a Parquet file: {_brief(error)}") from error
    version = _version(file, key)
    _check_shape(file, schema, version, key)
    _check_chunks(file, chunks, key)
    return _footer(file, version, number, key), file, chunks


def _version(file: pq.ParquetFile, key: str) -> int:
    """The version of the records, as the footer states it; the newest where it says nothing, which `_footer` will name."""
    stated = (file.metadata.metadata or {}).get(VERSION_KEY, str(RECORD_VERSION).encode())
    known = {str(version).encode(): version for version in range(1, RECORD_VERSION + 1)}
    if stated not in known:
        raise PartDamaged("part-altered", key, f"records of version {stated[:20].decode(errors='replace')}")
    return known[stated]


def _check_shape(file: pq.ParquetFile, schema: pa.Schema, version: int, key: str) -> None:
    metadata = file.metadata
    if not schema.equals(arrow_schema(version), check_metadata=False):
        raise PartDamaged("part-altered", key, f"its columns are not those of records version {version}")
    if not 0 < metadata.num_rows <= PART_ROWS_MAX:
        raise PartDamaged("part-altered", key, f"{metadata.num_rows} rows, outside 1 to {PART_ROWS_MAX}")
    if metadata.num_row_groups > ROW_GROUPS_MAX:
        raise PartDamaged("part-altered", key, f"{metadata.num_row_groups} row groups")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise PartDamaged("part-altered", key, "its row groups do not add up")
    if sum(max(group.total_byte_size, 0) for group in groups) > DECODED_BYTES_MAX:
        raise PartDamaged("part-altered", key, f"more than {DECODED_BYTES_MAX >> 20} MiB when decoded")


def _check_chunks(file: pq.ParquetFile, chunks: list[Chunk], key: str) -> None:
    """That what the footer says of its column chunks is what Arrow can take, and nothing that nobody signed."""
    columns = [file.schema.column(i) for i in range(len(file.schema))]
    levels = [(column.max_definition_level, column.max_repetition_level) for column in columns]
    if len(chunks) != len(levels) * file.metadata.num_row_groups:
        raise PartDamaged("part-altered", key, "its row groups do not have all columns")
    for place, chunk in enumerate(chunks):
        definition, repetition = levels[place % len(levels)]
        if chunk.statistics:
            raise PartDamaged("part-altered", key, "it carries statistics, which nobody signed")
        if chunk.definition not in (0, definition + 1) or chunk.repetition not in (0, repetition + 1):
            raise PartDamaged("part-altered", key, f"the sizes of column {chunk.path[:80]} are malformed")


def _check_size(data: bytes, chunks: list[Chunk], key: str) -> None:
    reason = too_large(data, chunks, DECODED_BYTES_MAX)
    if reason is not None:
        raise PartDamaged("part-altered", key, reason)


def _footer(file: pq.ParquetFile, version: int, number: int, key: str) -> Footer:
    stated = file.metadata.metadata or {}
    if set(stated) != FOOTER_KEYS:
        wrong = b", ".join(sorted(set(stated) ^ FOOTER_KEYS)).decode(errors="replace")
        raise PartDamaged("part-altered", key, f"its footer lacks, or has too much: {wrong[:200]}")
    if stated[PART_KEY] != str(number).encode():
        reason = f"it says that it is part {stated[PART_KEY][:20].decode(errors='replace')}"
        raise PartDamaged("part-altered", key, reason)
    try:
        checkpoint = notes.parse(stated[CHECKPOINT_KEY])
        hashes = tuple(map(bytes.fromhex, filter(None, stated[FRONTIER_KEY].decode().split(","))))
        before = Frontier(number, hashes)
        row_root = bytes.fromhex(stated[ROOT_KEY].decode())
        log_key = stated[LOG_KEY_KEY].decode()
    except ValueError as error:
        raise PartDamaged("part-altered", key, f"its footer is malformed: {_brief(error)}") from error
    return Footer(number, file.metadata.num_rows, row_root, before, checkpoint, log_key, version)


def _brief(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def numbered(keys: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Part keys with their numbers, in order; other keys are left out."""
    for key in sorted(keys):
        number = part_number(key)
        if number is not None:
            yield number, key
