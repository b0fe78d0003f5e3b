"""Trees, records, keys and checkpoints as docs/formats.md has them (sections 2 to 5): bytes in, bytes out or a `Fault`. Reads no file."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Keys = Mapping[str, Ed25519PublicKey]
LOG, WITNESS = 1, 4
"""Types of C2SP keys: Ed25519, and a witness's cosignature/v1."""

# Section 3.1. name:type, ? for nullable, @ for the version that added it.
FIELDS = """
kind:text version:int job:text plan_digest:text manifest_digest:text? settings_digest:text? planned:int?
image_id:text? row_id:text? row_digest:text? index:int? attempt:int? prompt:text? negative_prompt:text? seed:int?
width:int? height:int? steps:int? guidance:float? text:text? objects:objects adapter:text?
init_image:text? init_digest:text? mask_image:text? mask_digest:text? strength:float? tags:tags
control_image:text?@3 control_digest:text?@3
weights:text? weights_revision:text? weights_digest:text? weights_licence:text? scheduler:text? dtype:text? device:text? driver:text?
renderfarm_version:text? torch_version:text? diffusers_version:text? batch:strings outcome:text? reason:text? verdicts:verdicts
watermark_method:text? watermark_version:int? watermark_key_id:text? watermark_payload:text?
pdq:text? pdq_quality:int? signature:text? started_us:int? finished_us:int reviewer:text?@2 reviewed_digest:text?@2 withdrawn_key:text?@2
claim_digest:text? media_type:text? file_sha256:text? file_bytes:int? object_key:text? thumb_key:text?
"""
FIELDS_4 = """
kind:text version:int job:text plan_digest:text manifest_digest:text? settings_digest:text? planned:int?
image_id:text? drawing_id:text? row_digest:text? index:int? attempt:int? commitment:text?
width:int? height:int? steps:int? guidance:float? strength:float? settings:pairs adapters:adapters inputs:inputs
format:text? locale:text? crop:boxes layers_digest:text? drawing_digest:text?
weights:text? weights_revision:text? weights_digest:text? weights_licence:text? scheduler:text? dtype:text? device:text? driver:text?
renderfarm_version:text? torch_version:text? diffusers_version:text? batch:strings outcome:text? cause:text? verdicts:checked
watermark_method:text? watermark_version:int? watermark_key_id:text? watermark_payload:text?
pdq:text? pdq_quality:int? signature:text? started_us:int? finished_us:int
statement:text? subjects:subjects signed:text? reviewer:text? reviewed_digest:text? withdrawn_key:text?
claim_digest:text? media_type:text? file_sha256:text? file_bytes:int? object_key:text? thumb_key:text?
"""
VALUES = """
salt:text? row_id:text? prompt:text? negative_prompt:text? seed:int? text:text? objects:objects tags:tags
input_uris:strings texts:pairs alt:text? reason:text? reasons:strings
"""
MEMBERS = {
    "objects": "name:text count:int",
    "tags": "key:text value:text",
    "strings": "element:text",
    "verdicts": "check:text outcome:text reason:text score:float? threshold:float? boxes:boxes",
    "checked": "check:text outcome:text score:float? threshold:float? boxes:boxes",
    "boxes": "x0:int y0:int x1:int y1:int",
    "pairs": "name:text value:text",
    "adapters": "name:text digest:text weight:float",
    "inputs": "role:text digest:text boxes:boxes",
    "subjects": "image_id:text digest:text",
}
INSIDE = {"reasons": ("verdicts", "reason"), "input_uris": ("inputs", "uri")}
"""Values that stand inside the elements of another list where a record has its values with it (section 7)."""
KINDS = ("plan", "attempt", "superseded", "reinstated", "review", "statement")
NEWEST = 4
NULL = b"\xff\xff\xff\xff"
ROWS_BYTES_MAX, NOTE_BYTES_MAX, SIGNATURES_MAX, PARTS_MAX = 2 << 30, 64 << 10, 32, 10**8
ENTRY_BYTES, PAGE_ENTRIES = 20, 16
_ID = re.compile("[0-9a-f]{32}")


class Fault(Exception):
    """What does not hold, and where."""


BROKEN = (Fault, ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError, RecursionError)
"""What reading hostile bytes may end in."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Fault(what)


def said(error: BaseException) -> str:
    return str(error) if isinstance(error, (Fault, ValueError)) else f"malformed ({type(error).__name__}: {error})"


@contextlib.contextmanager
def place(where: str) -> Iterator[None]:
    """Puts the place before a fault that is found inside."""
    try:
        yield
    except BROKEN as error:
        raise Fault(f"{where}: {said(error)}") from None


# Section 2: hashes and trees.


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(frontier: Sequence[bytes], size: int, leaf: bytes) -> list[bytes]:
    """The frontier of a tree of `size` leaves after one leaf more."""
    hashes = list(frontier)
    while size & 1:
        leaf, size = node_hash(hashes.pop(), leaf), size >> 1
    return [*hashes, leaf]


def root_of(frontier: Sequence[bytes]) -> bytes:
    if not frontier:
        return hashlib.sha256().digest()
    *rest, root = frontier
    for left in reversed(rest):
        root = node_hash(left, root)
    return root


def root_over(leaves: Sequence[bytes]) -> bytes:
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        frontier = append(frontier, size, leaf)
    return root_of(frontier)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.3.2."""
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        require(last > 0, "a proof is too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    require(last == 0, "a proof is too short")
    return root


def require_consistent(old: Note, new: Note, proof: Sequence[bytes]) -> None:
    """RFC 9162 section 2.1.4.2."""
    says = "the newer log does not begin with the older one"
    require(old.origin == new.origin and 1 <= old.size <= new.size, says)
    if old.size == new.size:
        require(not proof and old.root == new.root, says)
        return
    hashes = [old.root, *proof] if old.size & (old.size - 1) == 0 else list(proof)
    require(bool(hashes), says)
    node, last = old.size - 1, new.size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        require(last > 0, says)
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    require(last == 0 and before == old.root and after == new.root, says)


# Section 3: records.


@functools.cache
def spec(text: str, version: int = NEWEST) -> tuple[tuple[str, str, bool], ...]:
    """Name, type and whether null is allowed, of what this version has."""
    found = (re.fullmatch(r"(\w+):(\w+)(\??)(?:@(\d))?", item) for item in text.split())
    return tuple((item[1], item[2], bool(item[3])) for item in found if item is not None and int(item[4] or 1) <= version)


def fields_of(version: int) -> tuple[tuple[str, str, bool], ...]:
    return spec(FIELDS_4) if version >= 4 else spec(FIELDS, version)


def split(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any] | None]:
    """A record in the form that it has in a bundle → its fields, and the values that it commits to: None where they are not there."""
    version: Any = record.get("version")
    require(type(version) is int and 1 <= version <= NEWEST, f"a record of version {version!r}")
    wanted = {name for name, _, _ in fields_of(version)}
    beside = {name for name, _, _ in spec(VALUES)} - set(INSIDE) if version >= 4 and "salt" in record else set()
    require(set(record) == wanted | beside, f"not the fields of a record of version {version}")
    if not beside:
        return record, None
    require(isinstance(record["salt"], str), "a salt that is none")
    fields, values = {name: record[name] for name in wanted}, {name: record[name] for name in beside}
    for name, (holder, member) in INSIDE.items():
        texts = [element[member] for element in record[holder]]
        values[name] = [] if None in texts else texts
        fields[holder] = [{key: value for key, value in element.items() if key != member} for element in record[holder]]
    return fields, values


def canonical(record: Mapping[str, Any]) -> tuple[bytes, int]:
    """The canonical bytes of a record in the form that it has in a bundle, and how many of them are the claim."""
    fields, _ = split(record)
    out, claim = bytearray(f"renderfarm-record/{fields['version']}\n".encode()), 0
    for name, kind, nullable in fields_of(fields["version"]):
        claim = len(out) if name == "claim_digest" else claim
        out += field(fields[name], name, kind, nullable)
    return bytes(out), claim


def values_bytes(values: Mapping[str, Any]) -> bytes:
    """What `commitment` is the SHA-256 of."""
    return b"renderfarm-values/1\n" + b"".join(field(values[name], name, kind, nullable) for name, kind, nullable in spec(VALUES))


def field(value: Any, name: str, kind: str, nullable: bool) -> bytes:
    if value is None:
        require(nullable, f"{name} is null")
        return NULL
    body = body_of(value, name, kind)
    return struct.pack(">I", len(body)) + body


def body_of(value: Any, name: str, kind: str) -> bytes:
    if kind == "text" and isinstance(value, str):
        return value.encode()
    if kind == "int" and type(value) is int:
        return struct.pack(">q", value)
    if kind == "float" and type(value) in (int, float) and value == value:
        return struct.pack(">d", float(value))
    require(kind in MEMBERS and isinstance(value, list), f"{name} is no {kind}")
    members = spec(MEMBERS[kind])
    return b"".join(
        field(part, f"{name}.{member}", of, nullable)
        for element in value
        for part, (member, of, nullable) in zip(parts_of(element, name, kind), members, strict=True)
    )


def parts_of(element: Any, name: str, kind: str) -> list[Any]:
    """An element's members in order: a text of `strings` is its own, a tag has them by place, all others by name."""
    names = [member for member, _, _ in spec(MEMBERS[kind])]
    if kind == "strings":
        return [element]
    if kind == "tags":
        require(isinstance(element, list) and len(element) == len(names), f"{name} has a malformed element")
        return list(element)
    require(isinstance(element, dict) and set(element) == set(names), f"{name} has a malformed element")
    return [element[member] for member in names]


def require_own_digests(record: Mapping[str, Any], data: bytes, claim: int) -> None:
    """What a record says of itself: its kind, its claim digest, the watermark's payload, and the values, if they are there."""
    stated, payload = record["claim_digest"], record["watermark_payload"]
    require(record["kind"] in KINDS and record["kind"] != ("review" if record["version"] >= 4 else "statement"),
            f"a record of unknown kind {record['kind']}")  # fmt: skip
    require(stated in (None, hashlib.sha256(data[:claim]).hexdigest()), "the claim digest is not that of the record's fields")
    if payload is not None:
        require(payload == record_id(record["image_id"], record["attempt"]), "the watermark's payload is not the record's id")
    require_own_values(record)


def require_own_values(record: Mapping[str, Any]) -> None:
    _, values = split(record)
    made = None if values is None else hashlib.sha256(values_bytes(values)).hexdigest()
    require(made in (None, record.get("commitment")), "the values are not what the record committed to")


def record_id(image_id: str, attempt: int) -> str:
    return hashlib.sha256(f"renderfarm-record-id/1\n{image_id}\n{attempt}\n".encode()).hexdigest()[:11]


# Section 4: from rows to the log.


def leaves_of(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """The leaves of a part's row tree. Raises: Fault, also for a record that differs from what it says of itself."""
    leaves: list[bytes] = []
    size = 0
    for row, record in enumerate(records):
        with place(f"row {row}"):
            data, claim = canonical(record)
            require_own_digests(record, data, claim)
            size += len(data)
            require(size <= ROWS_BYTES_MAX, "more than 2 GiB of rows")
        leaves.append(leaf_hash(data))
    return leaves


def pages_of(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """The pages of a part's index: which rows speak of which image."""
    spoken = ((row, [record["image_id"], *(about["image_id"] for about in record["subjects"])]) for row, record in enumerate(records))
    entries = {bytes.fromhex(name) + struct.pack(">I", row) for row, names in spoken for name in names if _ID.fullmatch(name or "")}
    data = b"".join(sorted(entries))
    return [data[at : at + ENTRY_BYTES * PAGE_ENTRIES] for at in range(0, len(data), ENTRY_BYTES * PAGE_ENTRIES)]


def index_root_of(records: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The root of a part's index tree; None for records of versions 1 to 3, which have none."""
    return root_over([leaf_hash(page) for page in pages_of(records)]) if records and records[0]["version"] >= 4 else None


def rows_of(image_id: str, shown: Sequence[tuple[int, bytes, Sequence[bytes]]], count: int, root: bytes) -> list[int]:
    """All rows of a part that speak of an image, none if none does, from neighbouring pages (number, page, inclusion proof) of its index.

    Raises: Fault where they do not show it.
    """
    entries = list[bytes]()
    for step, (number, page, proof) in enumerate(shown):
        require(number == shown[0][0] + step and 0 <= number < count, "pages that are no neighbours")
        require(0 < len(page) <= ENTRY_BYTES * PAGE_ENTRIES and len(page) % ENTRY_BYTES == 0, "not a page of an index")
        require(root_from_inclusion(leaf_hash(page), number, count, proof) == root, "a page that does not lead to the index root")
        entries += [page[at : at + ENTRY_BYTES] for at in range(0, len(page), ENTRY_BYTES)]
    require(all(one < two for one, two in pairwise(entries)), "an index that is not sorted")
    image = bytes.fromhex(image_id)
    if not shown:
        require(count == 0 and root == root_of([]), "no page is shown")
        return []
    require(shown[0][0] == 0 or entries[0][:16] < image, "what stands before the first page is not shown")
    require(shown[-1][0] == count - 1 or entries[-1][:16] > image, "what stands behind the last page is not shown")
    return [int.from_bytes(entry[16:], "big") for entry in entries if entry[:16] == image]


def part_leaf(number: int, rows: int, row_root: bytes, index_root: bytes | None) -> bytes:
    """index_root: None for a part with records of versions 1 to 3."""
    if index_root is None:
        return leaf_hash(f"renderfarm-part/1\n{number}\n{rows}\n{row_root.hex()}\n".encode())
    return leaf_hash(f"renderfarm-part/2\n{number}\n{rows}\n{row_root.hex()}\n{index_root.hex()}\n".encode())


# Section 5: keys, notes, checkpoints, cosignatures.


@dataclass(frozen=True)
class Note:
    """A checkpoint. `lines`: of each signature the key's name, the key's id, and what follows the id."""

    origin: str
    size: int
    root: bytes
    text: bytes
    lines: tuple[tuple[str, bytes, bytes], ...]


def key_id(name: str, key: Ed25519PublicKey, kind: int) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.public_bytes_raw()).digest()[:4]


def parse_key(text: str, kind: int) -> tuple[str, Ed25519PublicKey]:
    name, _, rest = text.strip().partition("+")
    stated, _, encoded = rest.partition("+")
    require(bool(name) and bool(encoded), f"not a verifier key: {text.strip()[:80]}")
    raw = unbase64(encoded)
    require(len(raw) == 33 and raw[0] == kind, f"not a verifier key of type {kind}: {text.strip()[:80]}")
    key = Ed25519PublicKey.from_public_bytes(raw[1:])
    require(key_id(name, key, kind).hex() == stated, f"the id of key {name} is not its own")
    return name, key


def parse_signed(data: bytes, bytes_max: int = NOTE_BYTES_MAX) -> tuple[str, tuple[tuple[str, bytes, bytes], ...]]:
    """The text of a signed note without its last line feed, and of each signature the key's name, the key's id, and what follows the id."""
    require(len(data) <= bytes_max, f"a note of more than {bytes_max >> 10} KiB")
    whole = data.decode()
    text, blank, tail = whole.rpartition("\n\n")
    require(not re.search(r"[\x00-\x09\x0b-\x1f]", whole) and bool(blank) and tail.endswith("\n"), "not a signed note")
    signatures = [line.split(" ") for line in tail[:-1].split("\n")]
    require(len(signatures) <= SIGNATURES_MAX and all(len(s) == 3 and s[0] == "\u2014" and s[1] for s in signatures), "not a signed note")
    raws = [(name, unbase64(value)) for _, name, value in signatures]
    require(all(len(raw) > 4 and re.fullmatch(r"[^\s+]+", name) for name, raw in raws), "not a signed note")
    return text, tuple((name, raw[:4], raw[4:]) for name, raw in raws)


def parse_note(data: bytes) -> Note:
    text, signatures = parse_signed(data)
    lines = text.split("\n")
    require(len(lines) == 3 and bool(lines[0]) and re.fullmatch("0|[1-9][0-9]{0,8}", lines[1]) is not None, "not a checkpoint")
    root = unbase64(lines[2])
    require(len(root) == 32 and int(lines[1]) <= PARTS_MAX, "not a checkpoint")
    return Note(lines[0], int(lines[1]), root, text.encode() + b"\n", signatures)


def unbase64(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    require(base64.b64encode(raw).decode() == text, "base64 that is not in its one form")
    return raw


def require_signed(note: Note, keys: Keys) -> str:
    """The name of a trusted key that signed; a bad line of a trusted key is a fault, whoever else signed."""
    good = [name for name, ident, _ in note.lines if name in keys and ident == key_id(name, keys[name], LOG)]
    require(bool(good), f"no trusted key signed the checkpoint; signed by {', '.join(name for name, _, _ in note.lines)}")
    for name, ident, signature in note.lines:
        if name in good and ident == key_id(name, keys[name], LOG):
            require_signature(keys[name], signature, note.text, name)
    return good[0]


def witnessed(note: Note, keys: Keys) -> dict[str, int]:
    """Which trusted witnesses saw this checkpoint, and when (seconds since 1970 UTC)."""
    seen: dict[str, int] = {}
    for name, ident, value in note.lines:
        if name in keys and ident == key_id(name, keys[name], WITNESS):
            seconds = int.from_bytes(value[:8], "big")
            require(len(value) == 72 and seconds < 1 << 40, f"the cosignature by {name} is bad")
            require_signature(keys[name], value[8:], f"cosignature/v1\ntime {seconds}\n".encode() + note.text, name)
            seen[name] = max(seconds, seen.get(name, 0))
    return seen


def require_signature(key: Ed25519PublicKey, signature: bytes, message: bytes, name: str) -> None:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise Fault(f"the signature by {name} is bad") from None
