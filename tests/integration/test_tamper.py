"""The tamper table: each row does one thing to a good output, and the audit must name it, once, and blame nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import credential, keys, notes, watermark
from renderfarm.audit.audit import audit
from renderfarm.audit.findings import MEANINGS, AuditReport
from renderfarm.audit.pictures import Beliefs, PictureResult, Recorded, check_object
from renderfarm.errors import CredentialFailed, NotStored, UserError
from renderfarm.keys import Trust
from renderfarm.keys.certificates import development_chain
from renderfarm.log import guarded, parts
from renderfarm.log import values as beside
from renderfarm.log.index import index_root
from renderfarm.log.tree import Frontier, tree_root
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Checkpoint, Signer, cosign
from renderfarm.output import CHECKPOINT, VALUES, WITNESSED, part_key, part_number, values_key
from renderfarm.pictures import decode, encode
from renderfarm.records import tables as recording
from renderfarm.records.canonical import ColumnBytes, sealed
from renderfarm.records.tables import arrow_schema, from_table, to_table, values_schema
from renderfarm.schema import RECORD_VERSION, Adapter, Box, Input, ObjectCount, Record, Subject, Verdict, record_fields
from renderfarm.storage import Storage
from tests import outputs
from tests.outputs import Output, place
from tests.waiting import wait_until

WRONG = Signer.of("renderfarm-development/a0cbdf2c", Ed25519PrivateKey.from_private_bytes(bytes([3] * 32)))
WITNESS, WITNESS_KEY = "witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
PARTS = 5


@dataclass(frozen=True, slots=True)
class World:
    """The output under attack, a copy; `same`: another output of the same job and keys; `other`: of another job."""

    out: Output
    same: Output
    other: Output

    def part(self, number: int) -> Path:
        return self.out.folder / part_key(number)

    def values(self, number: int) -> Path:
        return values_of(self.part(number))

    @property
    def cache(self) -> Path:
        return self.out.folder / CHECKPOINT

    @property
    def witnessed(self) -> Path:
        return self.out.folder / WITNESSED

    @property
    def job(self) -> Path:
        return self.out.folder / "job.json"

    def picture(self, row: int) -> Path:
        return next(self.out.folder.glob(f"{place(row)}*"))

    def head(self, number: int) -> Checkpoint:
        return parts.read_footer(self.part(number).read_bytes(), number).checkpoint


@dataclass(frozen=True, slots=True)
class Brief:
    """An output, and the second from which its certificate is expired."""

    out: Output
    until_s: float


@pytest.fixture(scope="session")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Brief:
    """Built before everything else, so that nobody has to wait for its end."""
    base = tmp_path_factory.mktemp("brief")
    keys_folder = keys.init(base / "keys").folder
    for seconds in (8, 40):  # a loaded machine may not have signed all of it within the first
        chain = development_chain(dt.timedelta(seconds=seconds), backdated=dt.timedelta(seconds=1))
        begin = time.time()
        (keys_folder / "certificates.pem").write_bytes(chain.chain_pem)
        (keys_folder / "certificate.key").write_bytes(chain.key_pem)
        (keys_folder / "trust/anchors.pem").write_bytes(chain.anchor_pem)
        with contextlib.suppress(CredentialFailed):
            made = outputs.build(base / f"out-{seconds}", keys_folder, at_us=int(begin * 1_000_000))
            return Brief(made, begin + seconds + 1.5)  # C2PA compares whole seconds
    raise AssertionError("five pictures take longer than 40 s")


@pytest.fixture(scope="session")
def originals(brief: Brief, tmp_path_factory: pytest.TempPathFactory) -> World:
    base = tmp_path_factory.mktemp("tamper")
    made = outputs.build(base / "out", base / "keys")
    same = outputs.build(base / "same", base / "keys", first=100)
    world = World(made, same, outputs.build(base / "other", base / "keys", name="cups", first=200))
    for output in (world.out, world.same, world.other):
        head = parts.read_footer((output.folder / part_key(3)).read_bytes(), 3).checkpoint
        (output.folder / WITNESSED).write_bytes(cosign.cosign(head, WITNESS, WITNESS_KEY, 1_790_000_000).to_bytes())
    trust = dataclasses.replace(made.trust, witness_keys={WITNESS: WITNESS_KEY.public_key()})
    return dataclasses.replace(world, out=dataclasses.replace(made, trust=trust))


@pytest.fixture
def world(originals: World, tmp_path: Path) -> World:
    shutil.copytree(originals.out.folder, tmp_path / "out")
    return dataclasses.replace(originals, out=dataclasses.replace(originals.out, folder=tmp_path / "out"))


def run(world: World, **options: Any) -> AuditReport:
    return audit(world.out.storage, options.pop("trust", world.out.trust), check_many=_remembering, **options)


_ANSWERS: dict[object, PictureResult] = {}


def _remembering(storage: Storage, recorded: Iterable[Recorded], beliefs: Beliefs) -> Iterator[PictureResult]:
    """Checks each object once per content: most attacks leave most pictures alone."""
    for item in recorded:
        try:
            content = storage.get(item.object_key)
        except (NotStored, ValueError):
            content = None
        key = (item, content, beliefs.anchors_pem, beliefs.mark_keys)
        if key not in _ANSWERS:
            _ANSWERS[key] = check_object(storage, item, beliefs)
        yield _ANSWERS[key]


def blamed(report: AuditReport) -> list[tuple[str, str]]:
    return [(finding.name, finding.where) for finding in report.findings]


def flip(path: Path, place: float = 0.5, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= bit
    path.write_bytes(bytes(data))


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def swap(one: Path, two: Path) -> None:
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def footer_of(path: Path) -> dict[bytes, bytes]:
    return dict(pq.read_metadata(path).metadata)


def table_of(path: Path) -> pa.Table:
    return pq.read_table(path)


def values_of(part: Path) -> Path:
    return next(part.parent.parent.glob(f"values/{part.stem}-*"))


def records_of(path: Path) -> list[Record]:
    number = part_number(f"provenance/parts/{path.name}")
    assert number is not None
    values = [found.read_bytes() for found in path.parent.parent.glob(f"values/{path.stem}-*")]
    return list(from_table(parts.read_part(parts.PartFile(path.read_bytes(), *values), number).table))


def columns_of(records: list[Record]) -> pa.Table:
    return recording.columns(to_table(records), RECORD_VERSION)


def rewrite(path: Path, edit: Callable[[list[Record]], list[Record]], **footer: bytes | None) -> None:
    """The part with edited records and footer entries, all else as a careful forger would leave it."""
    columns = columns_of(edit(records_of(path)))
    entries = footer_of(path) | {f"renderfarm.{key}".encode(): value for key, value in footer.items()}  # type: ignore[dict-item]
    path.write_bytes(guarded.write(columns, {key: value for key, value in entries.items() if value is not None}))


def rewrite_values(path: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], **footer: bytes) -> None:
    """A file of values with edited rows and footer entries."""
    table = pa.Table.from_pylist(edit(table_of(path).to_pylist()), values_schema())
    path.write_bytes(guarded.write(table, footer_of(path) | {f"renderfarm.{key}".encode(): value for key, value in footer.items()}))


def edited(**fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [dataclasses.replace(records[0], **fields), *records[1:]]


def resealed(**fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [sealed(dataclasses.replace(records[0], **fields)), *records[1:]]


def same_records(records: list[Record]) -> list[Record]:
    return records


def resigned(path: Path, number: int, edit: Callable[[list[Record]], list[Record]], signer: Signer) -> None:
    """The part with edited records, every hash recomputed, signed by somebody; the values beside it too."""
    old = parts.read_footer(path.read_bytes(), number)
    records = edit(records_of(path))
    row_root, index = tree_root(ColumnBytes.of(columns_of(records)).leaves()), index_root(columns_of(records))
    leaf = dataclasses.replace(old, rows=len(records), row_root=row_root, index_root=index).leaf
    head = notes.sign(Checkpoint(old.checkpoint.origin, number + 1, old.before.append(leaf).root()), signer)
    rewrite(
        path, lambda _: records, row_root=row_root.hex().encode(), index_root=index.hex().encode(), checkpoint=head.to_bytes(),
        log_key=notes.verifier_key(signer.name, signer.public_key).encode(),
    )  # fmt: skip
    (path.parents[2] / values_key(number, row_root)).write_bytes(beside.encode(recording.values(to_table(records)), number, row_root))


Attack = Callable[[World], object]
IMAGE = "images/"
CASES: dict[str, tuple[Attack, str, str]] = {}


def case(name: str, finding: str, where: str) -> Callable[[Attack], Attack]:
    def enter(attack: Attack) -> Attack:
        assert name not in CASES
        CASES[name] = (attack, finding, where)
        return attack

    return enter


def add(name: str, finding: str, where: str, attack: Attack) -> None:
    case(name, finding, where)(attack)


# Objects: PNG (rows 1 and 2), JPEG (row 3), WebP (row 4), and a rejected WebP under review/.
for row in (1, 3, 4):
    there = place(row)
    add(f"object {row}: a pixel byte flipped", "object-altered", there, lambda w, r=row: flip(w.picture(r), 0.9))
    add(f"object {row}: its first byte flipped", "object-altered", there, lambda w, r=row: flip(w.picture(r), 0.0))
    add(f"object {row}: truncated", "object-altered", there, lambda w, r=row: truncate(w.picture(r), 0.7))
    add(f"object {row}: emptied", "object-altered", there, lambda w, r=row: truncate(w.picture(r), 0))
    add(f"object {row}: deleted", "object-missing", there, lambda w, r=row: w.picture(r).unlink())


@case("object: a byte added", "object-altered", place(1))
def _(w: World) -> None:
    w.picture(1).write_bytes(w.picture(1).read_bytes() + b"\0")


@case("object: encoded again, credential gone", "object-altered", place(1))
def _(w: World) -> None:
    w.picture(1).write_bytes(encode(decode(w.picture(1).read_bytes()), "image/png"))


@case("object: exchanged for one of another output of the same keys", "object-altered", place(1))
def _(w: World) -> None:
    w.picture(1).write_bytes(next(w.same.folder.glob(f"{place(101)}*")).read_bytes())


@case("object: a directory in its place", "object-missing", place(1))
def _(w: World) -> None:
    path = w.picture(1)
    path.unlink()
    path.mkdir()


@case("review: a rejected picture altered", "object-altered", place(2, "review"))
def _(w: World) -> None:
    flip(next(w.out.folder.glob(f"{place(2, 'review')}*")))


@case("review: a rejected picture deleted", "object-missing", place(2, "review"))
def _(w: World) -> None:
    next(w.out.folder.glob(f"{place(2, 'review')}*")).unlink()


# Parts.
for number in range(PARTS):
    key = part_key(number)
    add(f"part {number}: deleted", "part-missing", key, lambda w, n=number: w.part(n).unlink())
    add(f"part {number}: a byte of a page flipped", "part-altered", key, lambda w, n=number: flip(w.part(n), 0.2))
    add(f"part {number}: truncated", "part-altered", key, lambda w, n=number: truncate(w.part(n), 0.5))
    add(f"part {number}: emptied", "part-altered", key, lambda w, n=number: truncate(w.part(n), 0))
    add(f"part {number}: its magic bytes flipped", "part-altered", key, lambda w, n=number: flip(w.part(n), 1.0))
    add(
        f"part {number}: re-signed with a wrong key, its key beside it", "checkpoint-bad-signature", key,
        lambda w, n=number: resigned(w.part(n), n, same_records, WRONG),
    )  # fmt: skip
    add(
        f"part {number}: exchanged for the same part of another job", "part-altered", key,
        lambda w, n=number: w.part(n).write_bytes((w.other.folder / part_key(n)).read_bytes()),
    )  # fmt: skip

for number in range(1, PARTS):
    add(
        f"part {number}: exchanged for that of another run of the job", "history-rewritten", part_key(number),
        lambda w, n=number: w.part(n).write_bytes((w.same.folder / part_key(n)).read_bytes()),
    )  # fmt: skip


@case("part: a copy of another part in its place", "part-altered", part_key(2))
def _(w: World) -> None:
    w.part(2).write_bytes(w.part(3).read_bytes())


@case("part: a copy of another part, renumbered in its footer", "part-altered", part_key(2))
def _(w: World) -> None:
    entries = footer_of(w.part(3)) | {parts.PART_KEY: b"2"}
    w.part(2).write_bytes(guarded.write(table_of(w.part(3)), entries))


for entry, value in {
    "record_version": b"1",
    "part": b"3",
    "row_root": b"00" * 32,
    "index_root": b"00" * 32,
    "frontier": b"",
    "checkpoint": b"rubbish",
    "log_key": b"rubbish",
}.items():
    if entry != "log_key":
        add(
            f"footer: {entry} edited", "part-altered", part_key(2),
            lambda w, e=entry, v=value: rewrite(w.part(2), same_records, **{e: v}),
        )  # fmt: skip
    add(
        f"footer: {entry} removed", "part-altered", part_key(2),
        lambda w, e=entry: rewrite(w.part(2), same_records, **{e: None}),
    )  # fmt: skip


@case("footer: an entry more", "part-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), same_records, extra=b"1")


@case("footer: another part's checkpoint", "part-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), same_records, checkpoint=w.head(3).to_bytes())


@case("footer: the checkpoint's size edited", "checkpoint-bad-signature", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), same_records, checkpoint=dataclasses.replace(w.head(2), size=2).to_bytes())


@case("footer: the checkpoint's origin edited", "checkpoint-bad-signature", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), same_records, checkpoint=dataclasses.replace(w.head(2), origin="x").to_bytes())


@case("footer: the signature removed, another's left", "checkpoint-bad-signature", part_key(2))
def _(w: World) -> None:
    head = notes.sign(dataclasses.replace(w.head(2), signatures=()), WRONG)
    rewrite(w.part(2), same_records, checkpoint=head.to_bytes())


@case("columns: a column more", "part-altered", part_key(2))
def _(w: World) -> None:
    table = table_of(w.part(2)).append_column("extra", pa.array(["x", "y"]))
    w.part(2).write_bytes(guarded.write(table, footer_of(w.part(2))))


@case("columns: a column less", "part-altered", part_key(2))
def _(w: World) -> None:
    w.part(2).write_bytes(guarded.write(table_of(w.part(2)).drop_columns("device"), footer_of(w.part(2))))


@case("columns: statistics that nobody signed", "part-altered", part_key(2))
def _(w: World) -> None:
    footer = footer_of(w.part(2))
    with pq.ParquetWriter(w.part(2), arrow_schema(), store_schema=False) as file:
        file.write_table(table_of(w.part(1)))
        file.add_key_value_metadata(footer)


@case("rows: one removed", "part-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), lambda records: records[1:], part=b"2")


@case("rows: one repeated", "part-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), lambda records: [*records, records[0]])


@case("rows: their order changed", "record-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), lambda records: records[::-1])


@case("rows: all removed", "part-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), lambda records: [])


@case("rows: a prompt edited and the row root with it", "part-altered", part_key(2))
def _(w: World) -> None:
    edit = resealed(prompt="A photograph of a gun")
    root = tree_root(ColumnBytes.of(columns_of(edit(records_of(w.part(2))))).leaves())
    rewrite(w.part(2), edit, row_root=root.hex().encode())


@case("rows: a prompt, its commitment and its claim digest edited", "record-altered", part_key(2))
def _(w: World) -> None:
    rewrite(w.part(2), resealed(prompt="A photograph of a gun"))


@case("rows: a prompt edited and everything recomputed and signed by a wrong key", "checkpoint-bad-signature", part_key(2))
def _(w: World) -> None:
    resigned(w.part(2), 2, resealed(prompt="A photograph of a gun"), WRONG)


# Values beside the parts: nobody signs the file, and each row of it is committed to.
add("values: a byte flipped", "values-altered", VALUES, lambda w: flip(w.values(2), 0.3))
add("values: truncated", "values-altered", VALUES, lambda w: truncate(w.values(2), 0.5))
add("values: emptied", "values-altered", VALUES, lambda w: truncate(w.values(2), 0))
add("values: a column less", "values-altered", VALUES, lambda w: _less(w.values(2)))
add("values: a row less", "values-altered", VALUES, lambda w: rewrite_values(w.values(2), lambda rows: rows[1:]))
add("values: their order changed", "values-altered", VALUES, lambda w: rewrite_values(w.values(2), lambda rows: rows[::-1]))
add("values: said to be another part's", "values-altered", VALUES, lambda w: rewrite_values(w.values(2), list, part=b"3"))
add("values: of another root", "values-altered", VALUES, lambda w: rewrite_values(w.values(2), list, row_root=b"00" * 32))
add("values: of another version", "values-altered", VALUES, lambda w: rewrite_values(w.values(2), list, values_version=b"2"))
add("values: exchanged for those of another part", "values-altered", VALUES, lambda w: shutil.copy(w.values(3), w.values(2)))
add(
    "values: those of another run of the job, under this one's name", "values-altered", VALUES,
    lambda w: shutil.copy(values_of(w.same.folder / part_key(2)), w.values(2)),
)  # fmt: skip
add(
    "values: the salt gone, the rest left", "values-altered", VALUES,
    lambda w: rewrite_values(w.values(2), lambda rows: [{**rows[0], "salt": None}, *rows[1:]]),
)  # fmt: skip
for field in values_schema():
    other: Any = [] if pa.types.is_list(field.type) or pa.types.is_map(field.type) else 7 if field.name == "seed" else "other"
    other = [("campaign", "winter")] if field.name == "tags" else [{"name": "gun", "count": 2}] if field.name == "objects" else other
    other = ["x"] if field.name in ("input_uris", "reasons") else [{"name": "a", "value": "b"}] if field.name == "texts" else other
    add(
        f"values: {field.name} edited", "values-altered", VALUES,
        lambda w, n=field.name, v=other: rewrite_values(w.values(2), lambda rows: [{**rows[0], n: v}, *rows[1:]]),
    )  # fmt: skip


def _less(path: Path) -> None:
    path.write_bytes(guarded.write(table_of(path).drop_columns("prompt"), footer_of(path)))


@case("rows: a prompt edited and everything recomputed and signed by the true key", "history-rewritten", part_key(3))
def _(w: World) -> None:
    """Whoever holds the key can write a part 2 that stands; then part 3 shows that another one was signed."""

    def edit(records: list[Record]) -> list[Record]:
        return [dataclasses.replace(resealed(prompt="A photograph of a gun")(records)[0], claim_digest=None), *records[1:]]

    resigned(w.part(2), 2, edit, w.out.signer)


# The head, the tail, and what lies beside.
@case("head: a forged part behind it, by a wrong key", "checkpoint-bad-signature", part_key(5))
def _(w: World) -> None:
    _forge_next(w, WRONG)


@case("head: an unsigned Parquet file behind it", "part-altered", part_key(5))
def _(w: World) -> None:
    pq.write_table(table_of(w.part(4)), w.part(5))


@case("head: the last part again behind it", "part-altered", part_key(5))
def _(w: World) -> None:
    shutil.copy(w.part(4), w.part(5))


@case("head: a part far behind it", "part-missing", part_key(5))
def _(w: World) -> None:
    forged = Output(w.out.folder.parent / "forged", w.out.keys, w.out.trust)
    shutil.copytree(w.out.folder, forged.folder)
    writer = LogWriter.open(forged.storage, outputs.JOB, w.out.signer)
    for _number in range(3):
        writer.append([outputs.plan_record(6, outputs.job_json())])
    shutil.copy(forged.folder / part_key(7), w.part(7))
    w.cache.write_bytes((forged.folder / CHECKPOINT).read_bytes())


@case("parts: a foreign file among them", "part-altered", "provenance/parts/notes.txt")
def _(w: World) -> None:
    (w.out.folder / "provenance/parts/notes.txt").write_text("hello")


@case("parts: two in the middle deleted", "part-missing", part_key(1))
def _(w: World) -> None:
    w.part(1).unlink()
    w.part(2).unlink()


@case("parts: all deleted, the cache left", "part-missing", part_key(0))
def _(w: World) -> None:
    for number in range(PARTS):
        w.part(number).unlink()


@case("cache: deleted", "checkpoint-missing", CHECKPOINT)
def _(w: World) -> None:
    w.cache.unlink()


@case("cache: emptied", "checkpoint-altered", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(b"")


@case("cache: truncated", "checkpoint-altered", CHECKPOINT)
def _(w: World) -> None:
    truncate(w.cache, 0.6)


@case("cache: a megabyte of it", "checkpoint-altered", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(w.cache.read_bytes() + bytes(1 << 20))


@case("cache: its size edited", "checkpoint-bad-signature", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(dataclasses.replace(w.head(4), size=4).to_bytes())


@case("cache: its root edited", "checkpoint-bad-signature", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(dataclasses.replace(w.head(4), root=bytes(32)).to_bytes())


@case("cache: its signature flipped", "checkpoint-bad-signature", CHECKPOINT)
def _(w: World) -> None:
    head = w.head(4)
    made = head.signatures[0]
    bad = dataclasses.replace(made, value=bytes([made.value[0] ^ 1]) + made.value[1:])
    w.cache.write_bytes(dataclasses.replace(head, signatures=(bad,)).to_bytes())


@case("cache: signed by a wrong key", "checkpoint-bad-signature", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(notes.sign(dataclasses.replace(w.head(4), signatures=()), WRONG).to_bytes())


@case("cache: that of another job", "checkpoint-altered", CHECKPOINT)
def _(w: World) -> None:
    shutil.copy(w.other.folder / CHECKPOINT, w.cache)


@case("cache: that of another run of the job", "history-rewritten", CHECKPOINT)
def _(w: World) -> None:
    shutil.copy(w.same.folder / CHECKPOINT, w.cache)


@case("cache: rolled back", "checkpoint-rolled-back", CHECKPOINT)
def _(w: World) -> None:
    w.cache.write_bytes(w.head(2).to_bytes())


# The checkpoint that a trusted witness cosigned, of 4 of the 5 parts.
add("witnessed: deleted", "cosignature-missing", WITNESSED, lambda w: w.witnessed.unlink())
add("witnessed: emptied", "checkpoint-altered", WITNESSED, lambda w: truncate(w.witnessed, 0))
add("witnessed: truncated", "checkpoint-altered", WITNESSED, lambda w: truncate(w.witnessed, 0.8))


@case("witnessed: its size edited", "checkpoint-bad-signature", WITNESSED)
def _(w: World) -> None:
    w.witnessed.write_bytes(dataclasses.replace(notes.parse(w.witnessed.read_bytes()), size=5).to_bytes())


@case("witnessed: the witness's line flipped", "cosignature-bad", WITNESSED)
def _(w: World) -> None:
    found = notes.parse(w.witnessed.read_bytes())
    log, line = found.signatures
    bad = dataclasses.replace(line, value=line.value[:-1] + bytes([line.value[-1] ^ 1]))
    w.witnessed.write_bytes(dataclasses.replace(found, signatures=(log, bad)).to_bytes())


@case("witnessed: the witness's time edited", "cosignature-bad", WITNESSED)
def _(w: World) -> None:
    found = notes.parse(w.witnessed.read_bytes())
    log, line = found.signatures
    bad = dataclasses.replace(line, value=(1_800_000_000).to_bytes(8, "big") + line.value[8:])
    w.witnessed.write_bytes(dataclasses.replace(found, signatures=(log, bad)).to_bytes())


@case("witnessed: cosigned by another key under the witness's name", "cosignature-missing", WITNESSED)
def _(w: World) -> None:
    w.witnessed.write_bytes(cosign.cosign(w.head(3), WITNESS, Ed25519PrivateKey.generate(), 1_790_000_000).to_bytes())


@case("witnessed: that of another job", "checkpoint-altered", WITNESSED)
def _(w: World) -> None:
    shutil.copy(w.other.folder / WITNESSED, w.witnessed)


@case("witnessed: that of another run of the job", "history-rewritten", WITNESSED)
def _(w: World) -> None:
    shutil.copy(w.same.folder / WITNESSED, w.witnessed)


@case("witnessed: the parts after it gone, one that it saw as well, and the cache with them", "part-missing", part_key(3))
def _(w: World) -> None:
    head = w.head(2)
    w.part(4).unlink()
    w.part(3).unlink()
    w.cache.write_bytes(head.to_bytes())


# job.json.
@case("job.json: deleted", "job-missing", "job.json")
def _(w: World) -> None:
    w.job.unlink()


@case("job.json: a byte flipped", "job-altered", "job.json")
def _(w: World) -> None:
    flip(w.job, 0.5)


@case("job.json: emptied", "job-altered", "job.json")
def _(w: World) -> None:
    w.job.write_bytes(b"")


@case("job.json: that of another job", "job-altered", "job.json")
def _(w: World) -> None:
    shutil.copy(w.other.folder / "job.json", w.job)


@case("job.json: another limit of attempts", "job-altered", "job.json")
def _(w: World) -> None:
    w.job.write_bytes(outputs.job_json(attempts=1))


# Every column of a record, edited in the part with all else left in order.
OTHER_VALUE: dict[str, Any] = {
    "objects": (ObjectCount("gun", 2),),
    "tags": (("campaign", "winter"),),
    "batch": ("x/1",),
    "verdicts": (Verdict("text", "accepted"),),
    "kind": "superseded",
    "outcome": "rejected",
    "settings": (("sampler.eta", "0.5"),),
    "adapters": (Adapter("style", "0f", 0.8),),
    "inputs": (Input("init", "0f", "/in/a.png"),),
    "crop": (Box(0, 0, 1, 1),),
    "subjects": (Subject("0f" * 16, "0f" * 32),),
}
for field in arrow_schema():
    if field.name != "version":
        changed = OTHER_VALUE.get(
            field.name, 77 if pa.types.is_integer(field.type) else 0.25 if pa.types.is_floating(field.type) else "other"
        )
        add(
            f"column {field.name}: edited", "record-altered", part_key(2),
            lambda w, n=field.name, v=changed: rewrite(w.part(2), edited(**{n: v})),
        )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_audit_names_it_and_blames_nothing_else(world: World, name: str) -> None:
    attack, finding, where = CASES[name]
    attack(world)
    report = run(world)
    assert [item.name for item in report.findings] == [finding], report.text()
    assert report.findings[0].where.startswith(where)
    assert report.exit_code == 4 and report.verdict == "1 finding"


def test_the_table_is_long_enough_and_knows_every_column() -> None:
    assert len(CASES) >= 60
    columns = {name.split()[1].rstrip(":") for name in CASES if name.startswith("column ")}
    assert columns == set(record_fields(RECORD_VERSION)) - {"version"}


def test_a_good_output_passes(world: World) -> None:
    report = run(world)
    assert report.ok and report.trusted and report.verdict == "passed" and report.exit_code == 0, report.text()
    assert report.counts is not None and (report.counts.planned, report.counts.remaining) == (6, 0)
    assert (report.parts, report.records, report.objects, report.objects_read, report.orphans) == (5, 9, 5, 5, 0)
    assert not report.notes
    assert set(report.as_dict()) >= {"verdict", "findings", "checkpoint", "counts"}


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("object", "review", "cache", "job", "footer"))])
def test_quick_sees_what_it_can_and_blames_nothing_else(world: World, name: str) -> None:
    """Quick reads no picture: it misses an edit that keeps the size, and nothing else of these."""
    attack, finding, _ = CASES[name]
    attack(world)
    report = run(world, quick=True)
    kept_size = finding == "object-altered" and ("flipped" in name or name == "review: a rejected picture altered")
    assert [item.name for item in report.findings] == ([] if kept_size else [finding]), report.text()
    assert report.objects_read == 0


def test_what_cannot_be_seen_from_inside(world: World) -> None:
    """A tail cut off together with the cache leaves a whole, older log; a checkpoint that was kept shows it."""
    kept = world.cache.read_bytes()
    world.part(4).unlink()
    world.cache.write_bytes(world.head(3).to_bytes())
    assert run(world).ok
    report = run(world, since=kept)
    assert blamed(report) == [("part-missing", part_key(4))]
    assert "the checkpoint that was kept includes it" in report.findings[0].what


@pytest.mark.parametrize("quick", [False, True])
def test_a_log_that_was_taken_away_is_no_pass(world: World, quick: bool) -> None:
    shutil.rmtree(world.out.folder / "provenance")
    assert blamed(run(world, quick=quick)) == [("part-missing", part_key(0))]
    for path in world.out.folder.iterdir():
        if path.name != "images":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert blamed(run(world, quick=quick)) == [("part-missing", part_key(0))], "the pictures alone say so"
    shutil.rmtree(world.out.folder / "images")
    with pytest.raises(UserError, match="no output of a job"):
        run(world, quick=quick)


def test_an_older_cosigned_checkpoint_in_the_place_of_a_newer_one_is_shown(world: World) -> None:
    """By itself it is nothing wrong, as a witness may have been away: the auditor reads how much of the log it saw."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    trust = dataclasses.replace(world.out.trust, witness_keys={"witness.example/w": key.public_key()})
    for number, said in ((4, "witness.example/w saw 5 parts on"), (2, "witness.example/w saw 3 of 5 parts on")):
        world.out.storage.put(WITNESSED, cosign.cosign(world.head(number), "witness.example/w", key, 1_790_000_000).to_bytes())
        report = run(world, trust=trust)
        assert report.ok and said in report.text()


def test_a_rewritten_history_passes_alone_and_not_since(world: World, originals: World) -> None:
    kept = world.head(2).to_bytes()
    assert run(world, since=kept).ok
    rewritten = dataclasses.replace(world, out=originals.same)
    assert run(rewritten).ok
    assert blamed(run(rewritten, since=kept)) == [("history-rewritten", "--since")]
    assert blamed(run(rewritten, since=kept, quick=True)) == [("history-rewritten", "--since")]


@pytest.mark.parametrize("since", [b"rubbish", b""])
def test_a_kept_checkpoint_that_is_none(world: World, since: bytes) -> None:
    with pytest.raises(UserError, match="not a checkpoint to compare with"):
        run(world, since=since)


def test_a_kept_checkpoint_of_another_log_or_by_nobody(world: World, originals: World) -> None:
    with pytest.raises(UserError, match="renderfarm/cups, this log is renderfarm/mugs"):
        run(world, since=(originals.other.folder / CHECKPOINT).read_bytes())
    forged = notes.sign(dataclasses.replace(world.head(2), signatures=()), WRONG)
    with pytest.raises(UserError, match=r"signature|known key"):
        run(world, since=forged.to_bytes())


def test_the_whole_log_signed_anew_with_keys_swapped_along(world: World) -> None:
    shutil.rmtree(world.out.folder / "provenance")
    forged = LogWriter.open(world.out.storage, outputs.JOB, WRONG)
    forged.append([outputs.plan_record(6, outputs.job_json())])
    forged.append([outputs.attempt_record(1, outcome="failed")])
    report = run(world)
    assert report.found == {"checkpoint-bad-signature": 3, "cosignature-missing": 1}
    assert {finding.where for finding in report.findings} == {part_key(0), part_key(1), CHECKPOINT, WITNESSED}
    alone = audit(world.out.storage)
    assert alone.ok and not alone.trusted and alone.verdict == "self-consistent, not trusted"
    assert any("no trusted log key" in note for note in alone.notes)


def test_without_trust_a_part_by_another_key_stands_out(world: World) -> None:
    resigned(world.part(2), 2, same_records, WRONG)
    report = audit(world.out.storage)
    assert blamed(report) == [("checkpoint-bad-signature", part_key(2))]


def test_another_certificate_authority(world: World, tmp_path: Path) -> None:
    foreign = keys.init(tmp_path / "foreign").trust()
    report = run(world, trust=Trust(world.out.trust.log_keys, foreign.anchors_pem, world.out.trust.mark_keys))
    assert report.found == {"credential-untrusted": 5}


def test_a_certificate_that_expired_after_signing(brief: Brief) -> None:
    """The signed log says when each picture was finished, and its certificate was good then."""
    wait_until(brief.until_s)
    report = audit(brief.out.storage, brief.out.trust)
    assert report.found == {"credential-expired": 5}, report.text()
    assert "was good until then" in report.findings[0].what


def test_without_the_watermark_key_the_mark_is_not_judged(world: World) -> None:
    report = run(world, trust=Trust(world.out.trust.log_keys, world.out.trust.anchors_pem, ()))
    assert report.ok and any(note.startswith("4 accepted pictures") for note in report.notes)


def test_a_cache_one_behind_is_a_crash_and_no_finding(world: World) -> None:
    world.cache.write_bytes(world.head(3).to_bytes())
    report = run(world)
    assert report.ok and any("one part behind" in note for note in report.notes)


def test_orphans_are_a_note(world: World) -> None:
    world.out.storage.put("images/row-9/0-123456789abc.png", b"left by a crash")
    report = run(world)
    assert report.ok and report.orphans == 1
    assert any("1 stored pictures are delivered by no record" in note for note in report.notes)


def test_two_attacks_are_two_findings(world: World) -> None:
    flip(world.picture(1), 0.9)
    rewrite(world.part(4), edited(device="another"))
    report = run(world)
    assert sorted(report.found) == ["object-altered", "record-altered"]


def test_an_edited_field_names_its_row(world: World) -> None:
    rewrite(world.part(2), lambda records: [records[0], dataclasses.replace(records[1], device="another")])
    (finding,) = run(world).findings
    assert finding.where == f"{part_key(2)}#1" and outputs.image_id(3) in finding.what


def test_values_can_go_and_everything_signed_still_verifies(world: World) -> None:
    """One row, one file, all files: no finding, and the report says how many records lost their values."""
    empty = {field.name: None if field.nullable else [] for field in values_schema()}
    rewrite_values(world.values(2), lambda rows: [empty, *rows[1:]])
    for gone in (1, 3, 8):
        report = run(world)
        assert report.ok and report.forgotten == gone and report.objects_read == 5, report.text()
        assert any(f"the values of {gone} records are gone" in note for note in report.notes)
        for path in [world.values(1)] if gone == 1 else list((world.out.folder / VALUES).iterdir()):
            path.unlink()
    assert run(world, quick=True).ok


def test_values_that_belong_to_no_part_are_a_note(world: World) -> None:
    shutil.copy(world.values(2), world.values(2).with_name(f"00000002-{'0' * 12}.parquet"))
    report = run(world)
    assert report.ok and any("1 files of values belong to no part" in note for note in report.notes), report.notes


def test_a_sample_reads_so_many_and_misses_nothing_that_is_gone(world: World) -> None:
    world.picture(3).unlink()
    report = run(world, sample=2, seed=1)
    assert blamed(report)[0][0] == "object-missing" and report.found["object-missing"] == 1
    assert report.objects_read <= 2
    assert run(world, sample=0).objects_read == 0


def test_seed_and_log_name_the_sample_for_ever(world: World) -> None:
    drawn: list[int] = []
    number = {outputs.image_id(n): n for n in range(9)}

    def remember(storage: Storage, recorded: Iterable[Recorded], beliefs: Beliefs) -> Iterator[PictureResult]:
        drawn.extend(number[item.image_id or ""] for item in recorded)
        return iter(())

    for seed in (1, 2, 3):
        audit(world.out.storage, world.out.trust, sample=2, seed=seed, check_many=remember)
    assert drawn == [1, 4, 1, 3, 1, 3]


def test_every_name_of_a_finding_has_a_meaning_and_most_are_in_the_table(world: World) -> None:
    named = {finding for _, finding, _ in CASES.values()}
    lied = set(LIES.values()) | {"credential-untrusted", "credential-expired"}
    in_test_tamper_reviews = {name for name in MEANINGS if name.startswith("statement-")}
    assert named | lied | {"job-missing"} | in_test_tamper_reviews == set(MEANINGS)


# What a writer with the true key can get wrong: every signature holds, and the claims do not.
LIES = {
    "an attempt recorded twice": "attempt-twice",
    "an image accepted twice": "attempt-twice",
    "more images than planned": "counts-differ",
    "an image id that is none": "record-malformed",
    "an object key that leaves the output": "record-malformed",
    "a payload of another record": "record-malformed",
    "a claim digest of other fields": "claim-differs",
    "the object of another record": "credential-mismatch",
    "a picture without credential": "credential-absent",
    "a picture with a damaged credential": "credential-invalid",
    "a picture without mark": "watermark-unreadable",
    "a picture with another's mark": "watermark-mismatch",
    "a picture with a mark of another version": "watermark-mismatch",
    "a picture that does not decode": "object-unreadable",
    "a review of an attempt that never was": "review-unfounded",
}


def _forge_next(world: World, signer: Signer, records: list[Record] | None = None) -> None:
    """One more part that continues the log, by whoever holds this key."""
    last = parts.read_footer(world.part(PARTS - 1).read_bytes(), PARTS - 1)
    view = to_table(records or [outputs.attempt_record(9, outcome="failed")])
    table = recording.columns(view, RECORD_VERSION)
    root, index = tree_root(ColumnBytes.of(table).leaves()), index_root(table)
    before: Frontier = last.before.append(last.leaf)
    footer = dataclasses.replace(last, number=PARTS, rows=table.num_rows, row_root=root, before=before, index_root=index)
    head = notes.sign(Checkpoint(last.checkpoint.origin, PARTS + 1, before.append(footer.leaf).root()), signer)
    entries = {
        b"renderfarm.record_version": str(RECORD_VERSION).encode(),
        parts.PART_KEY: str(PARTS).encode(),
        parts.ROOT_KEY: root.hex().encode(),
        parts.INDEX_KEY: index.hex().encode(),
        parts.FRONTIER_KEY: ",".join(item.hex() for item in before.hashes).encode(),
        parts.CHECKPOINT_KEY: head.to_bytes(),
        parts.LOG_KEY_KEY: notes.verifier_key(signer.name, signer.public_key).encode(),
    }
    world.part(PARTS).write_bytes(guarded.write(table, entries))
    (world.out.folder / values_key(PARTS, root)).write_bytes(beside.encode(recording.values(view), PARTS, root))
    if signer is not WRONG:
        world.cache.write_bytes(head.to_bytes())


def _lying_records(world: World, lie: str) -> list[Record]:
    issuer = credential.Issuer(world.out.keys)
    plan = outputs.plan_record(20, outputs.job_json())
    fresh = outputs.attempt_record(11)
    last = records_of(world.part(4))[0]
    if lie == "an attempt recorded twice":
        return [plan, outputs.attempt_record(6, outcome="failed")]
    if lie == "an image accepted twice":
        return [plan, outputs.stored_attempt(world.out, issuer, outputs.attempt_record(4, 2))]
    if lie == "more images than planned":
        return [outputs.attempt_record(12, outcome="failed")]
    if lie == "an image id that is none":
        return [plan, _claimed(dataclasses.replace(fresh, image_id="../.."))]
    if lie == "an object key that leaves the output":
        return [plan, dataclasses.replace(fresh, object_key="images/../../../etc/passwd", file_bytes=9, file_sha256="x")]
    if lie == "a review of an attempt that never was":
        return [plan, _claimed(dataclasses.replace(fresh, kind="review", outcome="rejected", reviewer="Eve"))]
    stored = outputs.stored_attempt(world.out, issuer, fresh)
    if lie == "a payload of another record":
        return [plan, _claimed(dataclasses.replace(stored, watermark_payload="0" * 11, object_key=None))]
    if lie == "a claim digest of other fields":
        return [plan, dataclasses.replace(stored, claim_digest="0" * 64, object_key=None)]
    if lie == "the object of another record":
        fields = {name: getattr(last, name) for name in ("media_type", "file_sha256", "file_bytes", "object_key")}
        return [plan, dataclasses.replace(stored, **fields)]
    return [plan, _with_picture(world, issuer, stored, lie)]


def _claimed(record: Record) -> Record:
    return sealed(record)


def _with_picture(world: World, issuer: credential.Issuer, record: Record, lie: str) -> Record:
    """The record with a picture that is not what it says."""
    import hashlib

    assert record.object_key is not None and record.claim_digest is not None and record.image_id is not None
    good = (world.out.folder / record.object_key).read_bytes()
    claim = credential.claim_for(record, record.claim_digest, "Example GmbH", world.out.keys.mark_key)
    if lie == "a picture without credential":
        data = encode(decode(good), "image/png")
    elif lie == "a picture with a damaged credential":
        broken = bytearray(good)
        broken[-40] ^= 1
        data = bytes(broken)
    elif lie == "a picture without mark":
        data = issuer.issue(encode(outputs.picture(5), "image/png"), "image/png", claim)
    elif lie == "a picture with another's mark":
        other = decode(world.picture(1).read_bytes())
        data = issuer.issue(encode(other, "image/png"), "image/png", claim)
    elif lie == "a picture with a mark of another version":
        payload = watermark.Payload(1, record.watermark_payload or "")
        older = watermark.embed(outputs.picture(5)[None], [payload], world.out.keys.mark_key, version=watermark.VERSION - 1)[0]
        data = issuer.issue(encode(older, "image/png"), "image/png", claim)
    else:
        bare = bytearray(encode(outputs.picture(5), "image/png"))
        bare[len(bare) // 2] ^= 1
        data = issuer.issue(bytes(bare), "image/png", claim)
    (world.out.folder / record.object_key).write_bytes(data)
    return dataclasses.replace(record, file_sha256=hashlib.sha256(data).hexdigest(), file_bytes=len(data))


@pytest.mark.parametrize("lie", LIES)
def test_what_a_writer_with_the_true_key_gets_wrong(world: World, lie: str) -> None:
    _forge_next(world, world.out.signer, _lying_records(world, lie))
    report = run(world)
    unsigned = ["statement-unsigned"] if "review" in lie else []  # it is no statement with a note either
    assert [finding.name for finding in report.findings] == [*unsigned, LIES[lie]], report.text()


@pytest.fixture(autouse=True)
def _nothing_is_written(world: World) -> Iterator[None]:
    yield
    assert not list(world.out.folder.rglob("*.tmp"))
