"""The verifier of docs/examples against what is done to a log and to bundles: each row of a table does one thing, and it must be named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from renderfarm import notes, output
from renderfarm.log import guarded, parts
from renderfarm.log.proofs import prove
from renderfarm.log.tree import Frontier, tree_root
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.records.canonical import ColumnBytes
from renderfarm.records.tables import columns, from_table, to_table
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests.formats import (
    EXAMPLES,
    JOB_JSON,
    OTHER,
    PLAN_2,
    RECORDS,
    RECORDS_4,
    SETTINGS,
    SIGNER,
    STRANGER,
    VECTORS,
    VKEY,
    finished,
    grown,
    sealed,
    verify,
    verify_each,
    write_example,
)


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "output"
    write_example(folder)
    return folder


# What is done to a log, and what the verifier says of it.

Attack = Callable[[Path], object]


def part(folder: Path, number: int) -> Path:
    return folder / output.part_key(number)


def table_of(folder: Path, number: int) -> pa.Table:
    return pq.read_table(part(folder, number))


def rewritten(number: int, edit: Callable[[list[Record]], list[Record]] = list, **footer: bytes) -> Attack:
    """A part with edited records or footer entries, all else as a careful forger leaves it."""

    def attack(folder: Path) -> None:
        path, version = part(folder, number), number + 1
        records = edit(list(from_table(parts.read_part(path.read_bytes(), number).table)))
        entries = dict(pq.read_metadata(path).metadata) | {f"renderfarm.{name}".encode(): value for name, value in footer.items()}
        path.write_bytes(guarded.write(columns(to_table(records), version), entries))

    return attack


def edited(row: int, **fields: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [dataclasses.replace(record, **fields) if place == row else record for place, record in enumerate(records)]


def with_their_root(number: int, edit: Callable[[list[Record]], list[Record]]) -> Attack:
    """Edited records and the row root that they give, under the checkpoint that was signed for the others."""

    def attack(folder: Path) -> None:
        records = edit(list(from_table(parts.read_part(part(folder, number).read_bytes(), number).table)))
        row_root = tree_root(ColumnBytes.of(columns(to_table(records), number + 1), number + 1).leaves())
        rewritten(number, lambda _: records, row_root=row_root.hex().encode())(folder)

    return attack


def swapped_rows(records: list[Record]) -> list[Record]:
    return [records[1], records[0], *records[2:]]


def swapped(one: int, two: int) -> Attack:
    def attack(folder: Path) -> None:
        first = part(folder, one).read_bytes()
        part(folder, one).write_bytes(part(folder, two).read_bytes())
        part(folder, two).write_bytes(first)

    return attack


def forged(number: int, origin: str = "renderfarm/mugs", signer: Signer = SIGNER, before: Frontier | None = None) -> Attack:
    """A part with other records, every hash right and signed by somebody."""

    def attack(folder: Path) -> None:
        footer = parts.read_footer(part(folder, number).read_bytes(), number)
        record = dataclasses.replace(RECORDS["superseded-3"], version=footer.version, job="forged")
        part(folder, number).write_bytes(sealed([record], footer.version, before or footer.before, origin, signer)[0])

    return attack


def gone(key: str) -> Attack:
    return lambda folder: (folder / key).unlink()


def bytes_of(key: str, change: Callable[[bytes], bytes]) -> Attack:
    return lambda folder: (folder / key).write_bytes(change((folder / key).read_bytes()))


def flipped(data: bytes, place: float = 0.3) -> bytes:
    at = int(place * len(data))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def respelled(digit: bytes) -> bytes:
    """The last digit of a base64 text with one `=`, its two spare bits set to other than zero: most decoders read the same."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(digit) + 1 :][:1]


def first_picture(folder: Path) -> str:
    return next((folder / "images" / "mug-3").iterdir()).relative_to(folder).as_posix()


def checkpoint_of(number: int) -> str:
    """The checkpoint that this part of the example carries."""
    text: str = json.loads(VECTORS.read_text("utf-8"))["parts"][number]["checkpoint"]
    return text


PART_1, PART_2 = output.part_key(1), output.part_key(2)
LOG_ATTACKS: dict[str, tuple[Attack, str]] = {
    "a prompt edited": (rewritten(0, edited(1, prompt="a gun")), "00000000.parquet: row 1: the claim digest is not"),
    "a file's digest edited": (rewritten(0, edited(1, file_sha256="0" * 64)), "00000000.parquet: its rows do not give the row root"),
    "a review edited, its claim made anew": (
        rewritten(1, lambda records: [records[0], finished(dataclasses.replace(records[1], reviewer="Bob"))]), "its rows do not give"),
    "a payload edited": (rewritten(0, lambda r: [finished(dataclasses.replace(x, watermark_payload="0" * 11)) if x.watermark_payload else x
                                                 for x in r]), "row 1: the watermark's payload is not"),
    "a row edited, and the row root with it": (with_their_root(1, edited(0, object_key="images/x.png")), "it does not lead to the root"),
    "a row fewer, and the row root with it": (with_their_root(2, lambda records: records[:-1]), "it does not lead to the root"),
    "two rows swapped": (rewritten(2, swapped_rows), "its rows do not give the row root"),
    "a row dropped": (rewritten(2, lambda records: records[:-1]), "its rows do not give the row root"),
    "a row twice": (rewritten(2, lambda records: [*records, records[-1]]), "its rows do not give the row root"),
    "a part dropped": (gone(PART_1), "part 1 is missing"),
    "the end dropped": (gone(PART_2), "checkpoint: it is of 3 parts, and 2 are there: the end is missing"),
    "the log dropped": (lambda folder: shutil.rmtree(folder / output.PARTS), "there is no log here"),
    "two parts swapped": (swapped(0, 1), "it says that it is part 1"),
    "the row root edited": (rewritten(1, row_root=b"0" * 64), "its rows do not give the row root"),
    "the frontier edited": (rewritten(1, frontier=b"0" * 64), "it continues another history"),
    "no frontier": (rewritten(1, frontier=b""), "it continues another history"),
    "the number edited": (rewritten(1, part=b"2"), "it says that it is part 2"),
    "another version": (rewritten(1, record_version=b"3"), "its columns are not those of a record"),
    "an unknown version": (rewritten(1, record_version=b"5"), "records of version 5"),
    "a newer version": (rewritten(1, record_version=b"4"), "its footer lacks an entry, or has one too many"),
    "an entry too many": (rewritten(1, note=b"believe me"), "its footer lacks an entry, or has one too many"),
    "a stranger's part": (forged(2, signer=STRANGER), "no trusted key signed the checkpoint"),
    "a part of another log": (forged(2, origin="renderfarm/cups"), "it belongs to renderfarm/cups"),
    "a part of another history": (forged(2, before=Frontier(2, (bytes(32),))), "it continues another history"),
    "the end written anew": (forged(2), "provenance/checkpoint: it is of another history"),
    "a part's checkpoint replaced by an older one": (
        lambda folder: rewritten(2, checkpoint=checkpoint_of(1).encode())(folder), "its checkpoint is of 2 parts"),
    "a part's signature flipped": (
        lambda folder: rewritten(1, checkpoint=_resigned(folder))(folder), "the signature by renderfarm.example/log is bad"),
    "a byte of a page flipped": (bytes_of(PART_1, flipped), "damaged"),
    "a part cut off": (bytes_of(PART_1, lambda data: data[:-100]), "not a Parquet file"),
    "bytes behind a part": (bytes_of(PART_1, lambda data: data + b"\n"), "not a Parquet file"),
    "an empty part": (bytes_of(PART_1, lambda data: b""), "not a Parquet file"),
    "a file among the parts": (lambda folder: (folder / output.PARTS / "x.txt").write_text("x"), "x.txt: a file that is no part"),
    "the checkpoint's copy gone": (gone(output.CHECKPOINT), "checkpoint: it is missing"),
    "the checkpoint's copy edited": (bytes_of(output.CHECKPOINT, lambda data: data.replace(b"\n3\n", b"\n2\n")), "the signature by"),
    "bytes behind the checkpoint": (bytes_of(output.CHECKPOINT, lambda data: data + b"x"), "checkpoint: not a signed note"),
    "another spelling of the checkpoint": (
        bytes_of(output.CHECKPOINT, lambda data: data[:-3] + respelled(data[-3:-2]) + data[-2:]), "base64 that is not in its one form"),
    "an old checkpoint put back": (lambda folder: (folder / output.CHECKPOINT).write_text(checkpoint_of(0)),
                                   "an old one was put back"),
    "a cosignature flipped": (bytes_of(output.WITNESSED, lambda data: _flipped_line(data)), "the signature by witness.example/w1 is bad"),
    "no cosignature": (gone(output.WITNESSED), "no checkpoint is cosigned by witness.example/w1"),
    "job.json edited": (bytes_of(output.JOB_FILE, lambda data: data + b"\n"), "job.json: it is not the one"),
    "job.json gone": (gone(output.JOB_FILE), "job.json: it is missing"),
    "a picture edited": (lambda folder: bytes_of(first_picture(folder), flipped)(folder), "its bytes are not"),
    "a picture gone": (lambda folder: (folder / first_picture(folder)).unlink(), "it is gone"),
}  # fmt: skip


def _resigned(folder: Path) -> bytes:
    """The checkpoint of part 1 with a bad signature beside the right key's name and id."""
    head = parts.read_footer(part(folder, 1).read_bytes(), 1).checkpoint
    (line,) = head.signatures
    return dataclasses.replace(head, signatures=(dataclasses.replace(line, value=flipped(line.value)),)).to_bytes()


def _flipped_line(data: bytes) -> bytes:
    head = notes.parse(data)
    *rest, line = head.signatures
    return dataclasses.replace(head, signatures=(*rest, dataclasses.replace(line, value=flipped(line.value, 0.9)))).to_bytes()


@pytest.fixture(scope="session")
def attacked_logs(example: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the verifier says after each attack."""
    base = tmp_path_factory.mktemp("attacked")
    folders = {name: base / str(number) for number, name in enumerate(LOG_ATTACKS)}
    for name, folder in folders.items():
        shutil.copytree(example, folder)
        LOG_ATTACKS[name][0](folder)
    asked = [("log", folder, "--key", VKEY, "--witness", EXAMPLES / "trust", "--pictures") for folder in folders.values()]
    return dict(zip(folders, verify_each(*asked), strict=True))


@pytest.mark.parametrize("name", LOG_ATTACKS)
def test_what_is_done_to_a_log_is_named(name: str, attacked_logs: dict[str, tuple[int, str]]) -> None:
    code, said = attacked_logs[name]
    assert code == 1 and said.startswith("not verified: ") and LOG_ATTACKS[name][1] in said and said.count("\n") == 1, said


def test_a_log_that_was_cut_back_as_a_whole_is_caught_by_a_kept_checkpoint_alone(tmp_path: Path) -> None:
    """Without its last part, and with the copies of that time, a log is one that ended earlier: nothing inside it tells."""
    storage = LocalStorage(tmp_path / "out", create=True)
    writer = LogWriter.open(storage, "mugs", SIGNER)
    storage.put(output.JOB_FILE, JOB_JSON)
    writer.append([Record("plan", job="mugs", plan_digest=PLAN_2, settings_digest=SETTINGS, planned=1)])
    before = storage.get(output.CHECKPOINT)
    (tmp_path / "kept").write_bytes(writer.append([RECORDS_4["superseded-4"]]).checkpoint.to_bytes())
    storage.delete(PART_1)
    asked = ("log", tmp_path / "out", "--key", VKEY)
    code, said = verify(*asked)
    assert code == 1 and "provenance/checkpoint: it is of 2 parts, and 1 are there" in said
    storage.put(output.CHECKPOINT, before)
    (code, _), (later, said) = verify_each(asked, (*asked, "--since", tmp_path / "kept"))
    assert (code, later) == (0, 1) and "--since: it is of 2 parts, and 1 are there: the end is missing" in said


def test_another_key_of_the_same_name_is_not_trusted(example: Path) -> None:
    other = notes.verifier_key(STRANGER.name, STRANGER.public_key)
    code, said = verify("log", example, "--key", other)
    assert code == 1 and "no trusted key signed the checkpoint" in said


# What is done to a bundle.

Edit = Callable[[dict[str, Any]], object]


def at(*steps: Any) -> Callable[[Any], Edit]:
    """What puts a value at this place of a document."""

    def put(value: Any) -> Edit:
        def edit(document: dict[str, Any]) -> None:
            place: Any = document
            for step in steps[:-1]:
                place = place[step]
            place[steps[-1]] = value(place[steps[-1]]) if callable(value) else value

        return edit

    return put


PROOF = ("proofs", 0)
BUNDLE_ATTACKS: dict[str, tuple[Edit, str]] = {
    "a prompt edited": (at(*PROOF, "record", "prompt")("a gun"), "does not lead to the signed root"),
    "a float edited": (at(*PROOF, "record", "guidance")(7.500000000000001), "does not lead to the signed root"),
    "a verdict edited": (at(*PROOF, "record", "verdicts", 0, "reason")("fine"), "does not lead to the signed root"),
    "an extra field": (at(*PROOF, "record", "note")("x"), "not the fields of a record"),
    "an extra member": (at(*PROOF, "record", "verdicts", 0, "note")("x"), "malformed element"),
    "a truth for a number": (at(*PROOF, "record", "attempt")(True), "attempt is no int"),
    "no number": (at(*PROOF, "record", "finished_us")(None), "finished_us is null"),
    "half a surrogate": (at(*PROOF, "record", "prompt")("\ud800"), "surrogates not allowed"),
    "another version": (at(*PROOF, "record", "version")(2), "not the fields of a record of version 2"),
    "another row": (at(*PROOF, "row")(0), "does not lead to the signed root"),
    "more rows": (at(*PROOF, "rows")(9), "proof is too short"),
    "another part": (at(*PROOF, "part")(7), "a place that is not in the log"),
    "a negative row": (at(*PROOF, "row")(-1), "a place that is not in the log"),
    "a leaf swapped": (at(*PROOF, "row_proof")(lambda proof: proof[::-1]), "does not lead to the signed root"),
    "a hash too few": (at(*PROOF, "row_proof")(lambda proof: proof[:-1]), "too short"),
    "a hash too many": (at(*PROOF, "row_proof")(lambda proof: [*proof, "0" * 64]), "too long"),
    "a hash of another size": (at(*PROOF, "log_proof")(["00"]), "a hash is 64 hex digits"),
    "another checkpoint": (at(*PROOF, "checkpoint")(lambda note: note.replace("\n1\n", "\n2\n")), "the signature by"),
    "a checkpoint of a later size": (at(*PROOF, "checkpoint")(lambda _: checkpoint_of(1)), "too short"),
    "bytes behind the checkpoint": (at(*PROOF, "checkpoint")(lambda note: note + "x"), "not a signed note"),
    "another image": (at("image_id")("0" * 32), "a record of another image"),
    "no proofs": (at("proofs")([]), "1 to 1000 proofs"),
    "a proof that is none": (at("proofs")([5]), "malformed"),
    "another format": (at("format")("renderfarm-proof/2"), "not a bundle"),
}


@pytest.fixture(scope="session")
def bundle(example: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(prove(LocalStorage(example, create=False), RECORDS["accepted-1"].image_id or ""))
    return document


@pytest.fixture(scope="session")
def attacked_bundles(bundle: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the verifier says after each edit."""
    base = tmp_path_factory.mktemp("edited")
    files = {name: base / f"{number}.json" for number, name in enumerate(BUNDLE_ATTACKS)}
    for name, file in files.items():
        document = json.loads(json.dumps(bundle))
        BUNDLE_ATTACKS[name][0](document)
        file.write_text(json.dumps(document))
    return dict(zip(files, verify_each(*(("bundle", file, "--key", VKEY) for file in files.values())), strict=True))


@pytest.mark.parametrize("name", BUNDLE_ATTACKS)
def test_what_is_done_to_a_bundle_is_named(name: str, attacked_bundles: dict[str, tuple[int, str]]) -> None:
    code, said = attacked_bundles[name]
    assert code == 1 and said.startswith("not verified: ") and BUNDLE_ATTACKS[name][1] in said and said.count("\n") == 1, said


TEXTS: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text + "{}", "Extra data"),
    (lambda text: text.replace('"image_id"', '"image_id": "x", "image_id"', 1), "a name twice"),
    (lambda text: "[" * 100_000, "malformed"),
    (lambda text: " " * (32 << 20) + text, "more than 32 MiB"),
    (lambda text: "", "Expecting value"),
]


def test_text_that_is_no_bundle(bundle: dict[str, Any], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(len(TEXTS))]
    for file, (change, _) in zip(files, TEXTS, strict=True):
        file.write_text(change(json.dumps(bundle)))
    answers = verify_each(*(("bundle", file, "--key", VKEY) for file in files))
    for (code, said), (_, what) in zip(answers, TEXTS, strict=True):
        assert code == 1 and what in said, said


def test_a_bundle_under_another_key(bundle: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(json.dumps(bundle))
    assert verify("bundle", tmp_path / "proof.json", "--key", VKEY)[0] == 0
    assert "no trusted key" in verify("bundle", tmp_path / "proof.json", "--key", notes.verifier_key(STRANGER.name, OTHER.public_key()))[1]


GROWTH_ATTACKS: list[Edit] = [
    at("proof")([]),
    at("proof")(lambda proof: [*proof, proof[0]]),
    at("proof")(lambda proof: ["0" * 64, *proof[1:]]),
    lambda document: document.update(old=document["new"], new=document["old"]),
    lambda document: document.update(old=document["new"]),
]


def test_what_is_done_to_a_proof_of_growth(example: Path, tmp_path: Path) -> None:
    storage = LocalStorage(example, create=False)
    whole = grown(storage)
    files = [tmp_path / f"{number}.json" for number in range(len(GROWTH_ATTACKS))]
    for file, edit in zip(files, GROWTH_ATTACKS, strict=True):
        document = json.loads(whole)
        edit(document)
        file.write_text(json.dumps(document))
    for code, said in verify_each(*(("bundle", file, "--key", VKEY) for file in files)):
        assert code == 1 and "the newer log does not begin with the older one" in said, said
