"""Proofs as files: what one image's records say, checkable without the output and by other tools.

A bundle is one JSON document:

    format    "renderfarm-proof/1"
    image_id  32 hex digits
    proofs    one per record of the image, in log order:
        record        the record's fields, by name; from version 4 on, with `salt`, the values that it commits to, if they are there
        part, rows, row     where it lies: part number, rows in that part, row in the part
        index_root    from version 4 on, root of the part's index tree, hex
        row_proof     RFC 6962 inclusion of the record's leaf in the part's row tree, hex
        log_proof     inclusion of the part's leaf in the log tree of the checkpoint, hex
        checkpoint    the signed note that covers it (C2SP tlog-checkpoint)
        log_key       the C2SP verifier key that claims to have signed it; whom to trust is the reader's to say

`canonical` says what a record's bytes are, `tree.part_leaf` what a part's leaf is. A consistency bundle holds two signed
checkpoints and the RFC 6962 proof that the newer log begins with the older one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import LogDamaged, UserError
from renderfarm.log import parts, reading
from renderfarm.log import tree as log
from renderfarm.log.parts import PartFile
from renderfarm.notes import statement as statements
from renderfarm.output import part_key
from renderfarm.records import spoken
from renderfarm.records.canonical import claim_digest, commitment, record_bytes
from renderfarm.records.tables import as_dict, from_dict, from_table, record_id
from renderfarm.schema import Record
from renderfarm.storage import Storage

FORMAT = "renderfarm-proof/1"
CONSISTENCY_FORMAT = "renderfarm-consistency/1"
BUNDLE_BYTES_MAX = 32 << 20
PROOFS_MAX = 1000

Keys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a bundle turned out to be. `holds`: hashes and signatures fit; `ok`: they do, under a key that is trusted."""

    holds: bool
    ok: bool
    reason: str
    records: tuple[Record, ...] = ()

    def lines(self) -> list[str]:
        """The answer for people. What the bundle says is not escaped in it: whoever prints it does that, line by line."""
        lines = [self.reason]
        for record in self.records:
            by = f" by {record.reviewer}, as the log took it in" if record.reviewer else ""
            lines.append(f"  image {record.image_id} attempt {record.attempt}: {record.outcome or record.kind}{by}, job {record.job}")
            if record.prompt is not None:
                lines.append(f"    prompt  {record.prompt}")
                weights = " ".join(filter(None, (record.weights, record.weights_revision)))
                lines.append(f"    weights {weights}, seed {record.seed}")
            if record.file_sha256:
                lines.append(f"    file    {record.object_key}, SHA-256 {record.file_sha256}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def prove(storage: Storage, image_id: str) -> bytes:
    """A bundle with every record of one image, each bound to the checkpoint that its own part carries.

    Raises: UserError when the log has no record of the image; LogDamaged when a part that has one does not verify.
    """
    proofs = list(_proofs(storage, image_id))
    if not proofs:
        raise UserError(f"no record of image {image_id!r:.60}", storage.uri, "take the id from the report or an export")
    document = {"format": FORMAT, "image_id": image_id, "proofs": proofs}
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _proofs(storage: Storage, image_id: str) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    def look(number: int, file: PartFile) -> tuple[PartFile | None, list[int]]:
        column = parts.read_columns(file, number, ["image_id"])[1].column("image_id")
        rows = pc.indices_nonzero(pc.fill_null(pc.equal(column, image_id), False)).to_pylist()
        return reading.with_its_values(storage, number, file) if rows else None, rows

    for number, (file, rows) in reading.decoded(storage, None, look, with_values=False):
        if file is not None:
            yield from prove_rows(file, number, rows)


def prove_rows(file: PartFile, number: int, rows: list[int]) -> Iterator[dict[str, Any]]:
    """The proofs of some rows of part `number`.

    Raises: LogDamaged when the part does not verify under the key that it names itself, or the values beside it are not its own.
    """
    part = parts.trusted_values(file, number)
    parts.check_head(part.footer, parts.embedded_keys(part.footer))
    parts.check_rows(part)
    leaves, index = part.encoded.leaves(), part.footer.index_root
    for row in rows:
        (record,) = from_table(part.table.slice(row, 1))
        yield {
            "record": as_dict(record),
            "part": number,
            "rows": part.footer.rows,
            "row": row,
            **({"index_root": index.hex()} if index is not None else {}),
            "row_proof": [item.hex() for item in log.inclusion_proof(leaves, row)],
            "log_proof": [item.hex() for item in reversed(part.footer.before.hashes)],
            "checkpoint": part.footer.checkpoint.to_bytes().decode(),
            "log_key": part.footer.log_key,
        }


def verify(bundle: bytes, log_keys: Keys | None, people: Keys | None = None) -> Verification:
    """Checks a bundle with no access to the output. Without keys it can hold, but is not trusted. Never raises on what it reads.

    people: keys of people who are trusted by name; where there are any, a statement by nobody of them, nor of the log, proves nothing.
    """
    try:
        document = _document(bundle, FORMAT)
        proofs = document["proofs"]
        if not isinstance(proofs, list) or not 0 < len(proofs) <= PROOFS_MAX:
            raise ValueError(f"a bundle holds 1 to {PROOFS_MAX} proofs")
        records = tuple(_verify_one(proof, log_keys, people or {}) for proof in proofs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"not a bundle: {type(error).__name__} {error}"
        return Verification(False, False, f"not proven: {reason}")
    if any(record.image_id != document.get("image_id") for record in records):
        return Verification(False, False, "not proven: a record is of another image than the bundle says")
    if not log_keys:
        return Verification(True, False, "consistent, not trusted: no trusted log key was given", records)
    return Verification(True, True, f"proven: {len(records)} record{'s' * (len(records) > 1)} under a trusted log key", records)


def _verify_one(proof: dict[str, Any], log_keys: Keys | None, people: Keys) -> Record:
    """The record that one proof proves. Raises: ValueError, KeyError or TypeError for one that does not."""
    record = from_dict(proof["record"])
    number, rows, row = (_whole(proof[name]) for name in ("part", "rows", "row"))
    head = notes.parse(proof["checkpoint"].encode())
    keys = log_keys or dict([notes.parse_verifier_key(proof["log_key"])])
    notes.verify(head, keys)
    leaf = log.leaf_hash(record_bytes(record))
    row_root = log.root_from_inclusion(leaf, row, rows, _hashes(proof["row_proof"]))
    index = bytes.fromhex(proof["index_root"]) if record.version >= 4 else None
    part_leaf = log.part_leaf(number, rows, row_root, index)
    if log.root_from_inclusion(part_leaf, number, head.size, _hashes(proof["log_proof"])) != head.root:
        raise ValueError("the record is not what the checkpoint signed: it does not lead to the signed root")
    if record.salt is not None and commitment(record) != record.commitment:
        raise ValueError("the record's values are not what it committed to")
    _require_own(record, head.origin, {**(log_keys or {}), **people}, bool(people))
    return record


def _require_own(record: Record, origin: str, known: Keys, by_name: bool) -> None:
    """What a record says of itself: who holds the log's key may have signed what does not hold. Raises: ValueError."""
    if record.kind not in ("plan", "attempt", "superseded", "reinstated", "statement" if record.version >= 4 else "review"):
        raise ValueError(f"a record of unknown kind {record.kind!r:.40}")
    if record.claim_digest not in (None, claim_digest(record)):
        raise ValueError("the claim digest is not that of the record's fields")
    if record.watermark_payload not in (None, record_id(str(record.image_id), record.attempt or 0)):
        raise ValueError("the watermark's payload is not the record's id")
    if record.version < 4 or record.kind != "statement":
        if record.signed or record.statement:
            raise ValueError("a note in a record that is no statement")
        return
    statement = spoken.kept(record)
    if wrong := spoken.differing(record, statement):
        raise ValueError(f"the record differs from the statement in it: {wrong}")
    if statement.origin != origin:
        raise ValueError(f"the statement is for the log {statement.origin}")
    if by_name or statements.known_key(statement.signer, known) is not None:
        statements.verify(statement, known)


def prove_consistency(storage: Storage, old: bytes) -> bytes:
    """A bundle which shows that the log, as its newest part signs it, begins with the log of a kept checkpoint.

    Raises: UserError when `old` is no checkpoint, or this log is not its continuation; LogDamaged.
    """
    try:
        earlier = notes.parse(old)
    except notes.NoteMalformed as error:
        raise UserError(f"not a checkpoint: {error}", remedy="give one that you kept") from error
    footers = [parts.read_footer(file, number) for number, file in reading.fetch_parts(storage, with_values=False)]
    for expected, footer in enumerate(footers):
        if footer.number != expected:
            raise LogDamaged(f"{part_key(expected)} is missing")
    leaves = [footer.leaf for footer in footers]
    if not 0 < earlier.size <= len(leaves) or log.tree_root(leaves[: earlier.size]) != earlier.root:
        raise UserError("this log does not continue that checkpoint", storage.uri, "audit it with --since")
    document = {
        "format": CONSISTENCY_FORMAT,
        "old": earlier.to_bytes().decode(),
        "new": footers[-1].checkpoint.to_bytes().decode(),
        "proof": [item.hex() for item in log.consistency_proof(leaves, earlier.size)],
        "log_key": footers[-1].log_key,
    }
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def verify_any(bundle: bytes, log_keys: Keys | None, people: Keys | None = None) -> Verification:
    """Checks a bundle of either kind. Never raises on what it reads."""
    with contextlib.suppress(ValueError, RecursionError):
        _document(bundle, CONSISTENCY_FORMAT)
        return verify_consistency(bundle, log_keys)
    return verify(bundle, log_keys, people)


def verify_consistency(bundle: bytes, log_keys: Keys | None) -> Verification:
    """Checks a consistency bundle. Without keys it can hold, but is not trusted. Never raises on what it reads."""
    try:
        document = _document(bundle, CONSISTENCY_FORMAT)
        old, new = (notes.parse(document[name].encode()) for name in ("old", "new"))
        keys = log_keys or dict([notes.parse_verifier_key(document["log_key"])])
        for head in (old, new):
            notes.verify(head, keys)
        holds = old.origin == new.origin and log.verify_consistency(old.size, new.size, old.root, new.root, _hashes(document["proof"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Verification(False, False, f"not proven: {error}")
    if not holds:
        return Verification(False, False, "not proven: the newer log does not begin with the older one")
    if not log_keys:
        return Verification(True, False, "consistent, not trusted: no trusted log key was given")
    return Verification(True, True, f"proven: the log of {new.size} parts begins with the log of {old.size} parts")


def _document(bundle: bytes, form: str) -> dict[str, Any]:
    if len(bundle) > BUNDLE_BYTES_MAX:
        raise ValueError(f"more than {BUNDLE_BYTES_MAX >> 20} MiB")
    try:
        document = json.loads(bundle)
    except ValueError as error:
        raise ValueError("not a bundle: this is no JSON") from error
    if not isinstance(document, dict) or document.get("format") != form:
        raise ValueError(f"not a document of format {form}")
    return document


def _hashes(texts: Any) -> list[bytes]:
    if not isinstance(texts, list) or len(texts) > log.PROOF_MAX:
        raise ValueError(f"a proof is a list of at most {log.PROOF_MAX} hashes")
    return [bytes.fromhex(text) for text in texts]


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= notes.SIZE_MAX:
        raise ValueError(f"not a place in a log: {value!r:.40}")
    return value
