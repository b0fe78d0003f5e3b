#!/usr/bin/env python3
"""Verifies what Renderfarm proves, without Renderfarm: written from docs/formats.md, with the standard library and `cryptography`.

    python verify.py bundle proof.json --key trust/log.vkey
    python verify.py log outputs/mugs --key trust/log.vkey --since kept-checkpoint --witness trust/w1.witness --pictures
    python verify.py vectors vectors.json

A key is a C2SP verifier key, a file of them, or a folder with such files; it never comes from what is verified.
Exit codes: 0 verified; 1 a fault, of which the first one is named; 2 the arguments are wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

sys.path.insert(0, str(Path(__file__).resolve().parent))
import parquet
from evidence import (
    BROKEN,
    INSIDE,
    LOG,
    MEMBERS,
    NEWEST,
    VALUES,
    WITNESS,
    Keys,
    Note,
    append,
    canonical,
    fields_of,
    index_root_of,
    key_id,
    leaf_hash,
    leaves_of,
    pages_of,
    parse_key,
    parse_note,
    part_leaf,
    place,
    require,
    require_consistent,
    require_own_digests,
    require_own_values,
    require_signed,
    root_from_inclusion,
    root_of,
    root_over,
    rows_of,
    said,
    spec,
    split,
    values_bytes,
    witnessed,
)
from statements import require_statement

ROWS_MAX, PART_BYTES_MAX, BUNDLE_BYTES_MAX, PROOFS_MAX, PROOF_MAX = 100_000, 256 << 20, 32 << 20, 1000, 64
FOOTER = {"record_version", "part", "row_root", "frontier", "checkpoint", "log_key"}

# Section 6: parts, and the values beside them.


@dataclass(frozen=True)
class Part:
    """What a part's footer says, and its records in the form that they have in a bundle, without values."""

    row_root: bytes
    index_root: bytes | None
    frontier: list[bytes]
    checkpoint: Note
    records: list[dict[str, Any]]


def read_part(data: bytes, number: int) -> Part:
    stated = entries_of(data)
    known = {str(known): known for known in range(1, NEWEST + 1)}
    version = known.get(stated.get("record_version", ""), 0)
    require(version > 0, f"records of version {stated.get('record_version', 'none')}")
    require(set(stated) == FOOTER | ({"index_root"} if version >= 4 else set()), "its footer lacks an entry, or has one too many")
    require(stated["part"] == str(number), f"it says that it is part {stated['part']}")
    records = rows_in(data, fields_of(version))
    require(all(record["version"] == version for record in records), "a record of another version than the part's")
    frontier = hashes(stated["frontier"].split(",") if stated["frontier"] else [])
    row_root, *index_root = hashes([stated["row_root"], *([stated["index_root"]] if version >= 4 else [])])
    return Part(row_root, index_root[0] if index_root else None, frontier, parse_note(stated["checkpoint"].encode()), records)


def read_values(data: bytes, number: int, row_root: bytes, rows: int) -> list[dict[str, Any]]:
    """What lies beside a part: of each of its rows the values. Whether the rows commit to them is for `with_values`."""
    own = {"values_version": "1", "part": str(number), "row_root": row_root.hex()}
    require(entries_of(data) == own, "it belongs to another part")
    found = rows_in(data, spec(VALUES))
    require(len(found) == rows, f"it has {len(found)} rows, its part {rows}")
    return found


def with_values(row: int, record: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The record in the form that it has in a bundle, with the values that it commits to; without, where they were forgotten."""
    with place(f"row {row}"):
        if values["salt"] is None:
            require(not any(value not in (None, []) for value in values.values()), "it was forgotten, and has a value")
            return record
        whole = {**record, **{name: value for name, value in values.items() if name not in INSIDE}}
        for name, (holder, member) in INSIDE.items():
            texts = values[name] or [None] * len(record[holder]) if name == "input_uris" else values[name]
            require(len(texts) == len(record[holder]), f"{len(texts)} {name} for {len(record[holder])} {holder}")
            whole[holder] = [{**element, member: text} for element, text in zip(record[holder], texts, strict=True)]
        require_own_values(whole)
        return whole


def entries_of(data: bytes) -> dict[str, str]:
    """The footer's entries by name, without `renderfarm.` before it; others keep their names."""
    require(len(data) <= PART_BYTES_MAX, "more than 256 MiB")
    pairs = parquet.metadata(parquet.footer(data))
    require(len({name for name, _ in pairs}) == len(pairs), "an entry of its footer twice")
    return {name.removeprefix("renderfarm.") if name.startswith("renderfarm.") else f"?{name}": value for name, value in pairs}


Spec = Sequence[tuple[str, str, bool]]


def rows_in(data: bytes, fields: Spec) -> list[dict[str, Any]]:
    """The rows of a file that has these columns."""
    nodes, leaves = columns_of(fields)
    found = parquet.read(data, nodes, leaves)
    require(0 < found.rows <= ROWS_MAX, f"{found.rows} rows")
    columns = [joined(found.columns, (name,), kind, 0) for name, kind, _ in fields]
    return [dict(zip([name for name, _, _ in fields], row, strict=True)) for row in zip(*columns, strict=True)]


def columns_of(fields: Spec) -> tuple[list[parquet.Node], list[parquet.Leaf]]:
    """The Parquet schema of a file with these columns: its elements in order, without the root, and its leaves."""
    nodes: list[parquet.Node] = []
    leaves: list[parquet.Leaf] = []

    def add(name: str, kind: str, nullable: bool, path: tuple[str, ...], level: int, lists: tuple[int, ...]) -> None:
        path, level = (*path, name), level + nullable
        if kind not in MEMBERS:
            nodes.append(parquet.Node(name, int(nullable), kind, 0))
            leaves.append(parquet.Leaf(path, kind, level, lists))
            return
        members, (repeated, *element) = spec(MEMBERS[kind]), groups_of(kind)
        nodes.append(parquet.Node(name, 0, None, 1))
        nodes.append(parquet.Node(repeated, 2, None, 1 if element else len(members)))
        nodes.extend(parquet.Node(group, 0, None, len(members)) for group in element)
        for member in members:
            add(*member, (*path, repeated, *element), level + 1, (*lists, level + 1))

    for top in fields:
        add(*top, (), 0, ())
    return nodes, leaves


def groups_of(kind: str) -> tuple[str, ...]:
    """The groups that Parquet puts between a list or map and the members of its elements; the first one repeats."""
    return ("key_value",) if kind == "tags" else ("list",) if kind == "strings" else ("list", "element")


def joined(columns: Mapping[tuple[str, ...], list[Any]], path: tuple[str, ...], kind: str, depth: int) -> list[Any]:
    """One value a row, as in a bundle: columns of members become elements again. depth: of lists around this one."""
    if kind not in MEMBERS:
        return columns[path]
    names = [name for name, _, _ in spec(MEMBERS[kind])]
    members = [joined(columns, (*path, *groups_of(kind), name), of, depth + 1) for name, of, _ in spec(MEMBERS[kind])]

    def together(values: Sequence[Any], left: int) -> Any:
        if left:
            return [together(some, left - 1) for some in zip(*values, strict=True)]
        return values[0] if kind == "strings" else list(values) if kind == "tags" else dict(zip(names, values, strict=True))

    whole: list[Any] = together(members, depth + 2)
    return whole


def hashes(texts: Any) -> list[bytes]:
    require(isinstance(texts, list) and len(texts) <= PROOF_MAX, "not a list of at most 64 hashes")
    require(all(isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) for text in texts), "a hash is 64 hex digits")
    return [bytes.fromhex(text) for text in texts]


# Section 7: bundles.


def verify_bundle(data: bytes, keys: Keys, people: Keys) -> str:
    """A proof of records, or of growth; what it proves. people: keys whose statements count, beside `keys`. Raises: Fault."""
    require(len(data) <= BUNDLE_BYTES_MAX, "more than 32 MiB")
    document = json.loads(data, object_pairs_hook=no_name_twice)
    require(isinstance(document, dict), "not a bundle")
    if document.get("format") == "renderfarm-consistency/1":
        old, new = (parse_note(document[name].encode()) for name in ("old", "new"))
        signers = [require_signed(note, keys) for note in (old, new)]
        require_consistent(old, new, hashes(document["proof"]))
        return f"{new.origin}: the log of {new.size} parts begins with the log of {old.size} parts, signed by {signers[1]}"
    require(document.get("format") == "renderfarm-proof/1", "not a bundle")
    proofs, image = document["proofs"], document["image_id"]
    require(isinstance(proofs, list) and 1 <= len(proofs) <= PROOFS_MAX, "a bundle holds 1 to 1000 proofs")
    lines = []
    for number, proof in enumerate(proofs):
        with place(f"proof {number}"):
            lines.append(verify_proof(proof, image, keys, people))
    return "\n  ".join([f"image {image}: {len(proofs)} records", *lines])


def verify_proof(proof: Mapping[str, Any], image_id: str, keys: Keys, people: Keys) -> str:
    record, number, rows, row = (proof[name] for name in ("record", "part", "rows", "row"))
    require(all(type(value) is int for value in (number, rows, row)), "part, rows and row are whole numbers")
    note = parse_note(proof["checkpoint"].encode())
    signer = require_signed(note, keys)
    require(0 <= row < rows and 0 <= number < note.size, "a place that is not in the log")
    data, claim = canonical(record)
    require(record["image_id"] == image_id, "a record of another image than the bundle says")
    row_root = root_from_inclusion(leaf_hash(data), row, rows, hashes(proof["row_proof"]))
    index = hashes([proof["index_root"]])[0] if record["version"] >= 4 else None
    root = root_from_inclusion(part_leaf(number, rows, row_root, index), number, note.size, hashes(proof["log_proof"]))
    require(root == note.root, "the record does not lead to the signed root")
    require_own_digests(record, data, claim)
    by = require_statement(record, note.origin, {**keys, **people})
    require(by != "" or not people, "a statement by nobody who is trusted")
    what = " ".join(str(record[name]) for name in ("kind", "statement", "attempt", "outcome") if record.get(name) is not None)
    what += "" if by is None else f" by {by or 'a key that was not given'}"
    gone = "" if record["version"] < 4 or record["commitment"] is None or "salt" in record else "; its values are not there"
    return f"{what}: row {row} of part {number} of {note.origin}, signed by {signer}{gone}"


def no_name_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    require(len({name for name, _ in pairs}) == len(pairs), "a JSON object with a name twice")
    return dict(pairs)


# Section 8: a whole log.


def verify_log(folder: Path, keys: Keys, witnesses: Keys, people: Keys, since: Note | None, pictures: bool) -> str:
    """Every part of an output's log, the checkpoints beside it, its job.json; what was found. Raises: Fault."""
    lying = folder / "provenance" / "parts"
    names = sorted(path.name for path in lying.iterdir()) if lying.is_dir() else []
    require(bool(names), "there is no log here")
    frontier, roots, records = list[bytes](), [root_of([])], list[dict[str, Any]]()
    origin, signer, forgotten, speakers = "", "", 0, Counter[str]()
    known: dict[str, tuple[str | None, str | None]] = {}
    notes: set[str | None] = set()
    for number, name in enumerate(names):
        with place(f"provenance/parts/{name}"):
            require(re.fullmatch(r"[0-9]{8}\.parquet", name) is not None, "a file that is no part")
            require(int(name[:8]) == number, f"part {number} is missing")
            part = read_part((lying / name).read_bytes(), number)
            note = part.checkpoint
            signer, origin = require_signed(note, keys), origin or note.origin
            require(note.origin == origin, f"it belongs to {note.origin}")
            require(note.size == number + 1, f"its checkpoint is of {note.size} parts")
            require(part.frontier == frontier, "it continues another history than the parts before it")
            leaves = leaves_of(part.records)
            require(root_over(leaves) == part.row_root, "its rows do not give the row root that it states")
            require(index_root_of(part.records) == part.index_root, "its rows do not give the index root that it states")
            for row, (leaf, record) in enumerate(zip(leaves, part.records, strict=True)):
                with place(f"row {row}"):
                    require_subjects(record, known)
                    require(record.get("signed") is None or record["signed"] not in notes, "a statement that is in the log already")
                known[leaf.hex()] = record["image_id"], record["claim_digest"]
                notes.add(record.get("signed"))
            frontier = append(frontier, number, part_leaf(number, len(part.records), part.row_root, part.index_root))
            require(root_of(frontier) == note.root, "it does not lead to the root that its checkpoint signs")
        roots.append(note.root)
        forgotten += verify_values(folder, number, part, speakers, keys, people)
        records += [record | {"part": number} for record in part.records]
    verify_kept([*kept(folder, len(names), keys), *([("--since", since)] if since is not None else [])], origin, roots, witnesses)
    verify_job(folder, records, origin)
    looked = [f"{verify_pictures(folder, records)} pictures have their recorded bytes"] if pictures else []
    counted = Counter(" ".join(filter(None, (record["kind"], record.get("statement"), record["outcome"]))) for record in records)
    lines = [f"{count} {what}" for what, count in sorted(counted.items())]
    lines += [f"{count} statements by {name or 'keys that were not given'}" for name, count in sorted(speakers.items())]
    inbox = folder / "provenance" / "inbox"
    waiting = len(list(inbox.iterdir())) if inbox.is_dir() else 0
    lines += [f"{waiting} statements that wait, and are not in the log"] if waiting else []
    lines += [f"{forgotten} records whose values are not there: forgotten, and no fault"] if forgotten else []
    head = f"{origin}: {len(names)} parts, {len(records)} records, root {roots[-1].hex()}, signed by {signer}"
    return "\n  ".join([head, *lines, *looked])


def require_subjects(record: Mapping[str, Any], known: Mapping[str, tuple[str | None, str | None]]) -> None:
    """A statement is about earlier records of this log; a review about the attempt whose claim digest it repeats.

    known: of each earlier record's leaf its image and its claim digest.
    """
    subjects = record.get("subjects", [])
    found = [known.get(subject["digest"]) for subject in subjects]
    there = (item is not None and item[0] == subject["image_id"] for item, subject in zip(found, subjects, strict=True))
    require(all(there), "a statement about a record that is not there")
    if record.get("statement") == "review" and record["outcome"] is not None:
        require([item and item[1] for item in found] == [record["reviewed_digest"]], "a review of another attempt than it says")


def verify_values(folder: Path, number: int, part: Part, speakers: Counter[str], keys: Keys, people: Keys) -> int:
    """That what lies beside a part is what its rows commit to, and that statements are what people signed; counts who spoke.

    How many records' values are not there.
    """
    path = folder / "provenance" / "values" / f"{number:08d}-{part.row_root.hex()[:12]}.parquet"
    records = part.records
    with place(f"provenance/values/{path.name}"):
        if part.index_root is not None and path.is_file():
            found = read_values(path.read_bytes(), number, part.row_root, len(records))
            records = [with_values(row, record, values) for row, (record, values) in enumerate(zip(records, found, strict=True))]
    for row, record in enumerate(records):
        with place(f"row {row}"):
            by = require_statement(record, part.checkpoint.origin, {**keys, **people})
            require(by != "" or not people, "a statement by nobody who is trusted")
            speakers.update([] if by is None else [by])
    return sum("salt" not in record and record.get("commitment") is not None for record in records)


def kept(folder: Path, size: int, keys: Keys) -> Iterator[tuple[str, Note]]:
    """The checkpoints that lie beside the parts: signed, and the copy of the newest not older than a crash explains."""
    for name in ("checkpoint", "witnessed"):
        path, where = folder / "provenance" / name, f"provenance/{name}"
        with place(where):
            if path.is_file():
                note = parse_note(path.read_bytes())
                require_signed(note, keys)
                require(name == "witnessed" or note.size >= size - 1, f"it is of {note.size} parts: an old one was put back")
                yield where, note
            else:
                require(name == "witnessed" or size == 1, "it is missing")


def verify_kept(notes: Sequence[tuple[str, Note]], origin: str, roots: Sequence[bytes], witnesses: Keys) -> None:
    """Checkpoints from outside the parts: the parts lead to them, and each trusted witness cosigned one."""
    seen: set[str] = set()
    for where, note in notes:
        with place(where):
            require(note.origin == origin, f"it belongs to {note.origin}")
            require(note.size < len(roots), f"it is of {note.size} parts, and {len(roots) - 1} are there: the end is missing")
            require(roots[note.size] == note.root, "it is of another history than the parts")
            seen |= set(witnessed(note, witnesses))
    require(set(witnesses) <= seen, f"no checkpoint is cosigned by {', '.join(sorted(set(witnesses) - seen))}")


def verify_job(folder: Path, records: Sequence[Mapping[str, Any]], origin: str) -> None:
    """job.json is the one that the newest plan recorded; right after a plan, a crash may have left that of the plan before."""
    plans = [record for record in records if record["kind"] == "plan"]
    if not plans:
        return
    later = (record for record in records if record["kind"] == "attempt" and record["part"] > plans[-1]["part"])
    rendered = any(record["outcome"] in ("accepted", "rejected") for record in later)
    path = folder / "job.json"
    with place("job.json"):
        if not path.is_file():
            require(not rendered and len(plans) == 1, "it is missing")
            return
        data = path.read_bytes()
        fitting = [plan["settings_digest"] for plan in (plans[-1:] if rendered else plans[-2:])]
        require(hashlib.sha256(data).hexdigest() in fitting, "it is not the one that the newest plan recorded")
        name = json.loads(data, object_pairs_hook=no_name_twice)["name"]
        require(origin == "renderfarm/" + quote(name, safe="-._~"), f"it is of job {name}, the log is {origin}")


def verify_pictures(folder: Path, records: Sequence[Mapping[str, Any]]) -> int:
    """Each recorded picture that no later record took back has its recorded bytes; how many there are."""
    delivered: dict[str, tuple[str, int]] = {}
    for record in records:
        delivered.pop(record.get("withdrawn_key") or "", None)
        if record["object_key"] is not None:
            delivered[record["object_key"]] = record["file_sha256"], record["file_bytes"]
    for key, (digest, size) in delivered.items():
        with place(key):
            steps, path = key.split("/"), folder / key
            require(steps[0] in ("images", "review") and not {"", ".", ".."} & set(steps) and "\\" not in key, "not a picture's key")
            require(path.is_file() and path.stat().st_size == size, "it is gone, or of another size")
            require(hashlib.sha256(path.read_bytes()).hexdigest() == digest, "its bytes are not the recorded ones")
    return len(delivered)


# Section 12: test vectors.


def verify_vectors(document: Mapping[str, Any]) -> str:
    """That this program derives what the vectors say. Raises: Fault."""
    records, keys = document["records"], document["keys"]
    for name, vector in records.items():
        with place(f"record {name}"):
            data, claim = canonical(vector["record"])
            found = [data.hex(), hashlib.sha256(data[:claim]).hexdigest(), leaf_hash(data).hex()]
            require(found == [vector["canonical"], vector["claim_digest"], vector["leaf"]], "other bytes, claim digest or leaf")
            _, values = split(vector["record"])
            require((None if values is None else values_bytes(values).hex()) == vector.get("values"), "other bytes of the values")
            require_own_values(vector["record"])
    for parts in (document["parts"], document["parts_4"]):
        frontier: list[bytes] = []
        for number, part in enumerate(parts):
            with place(f"part {number}"):
                rows, note = [records[name]["record"] for name in part["records"]], parse_note(part["checkpoint"].encode())
                row_root, index_root = root_over(leaves_of(rows)), index_root_of(rows)
                leaf = part_leaf(number, len(rows), row_root, index_root)
                require([row_root.hex(), leaf.hex()] == [part["row_root"], part["leaf"]], "another row root or leaf")
                require((index_root and index_root.hex()) == part.get("index_root"), "another index root")
                require([item.hex() for item in frontier] == part["frontier"], "another frontier")
                frontier = append(frontier, number, leaf)
                require(root_of(frontier) == note.root, "another root")
                require_signed(note, dict([parse_key(keys["log"], LOG)]))
                people = dict([parse_key(keys["person"], LOG)])
                require("" not in {require_statement(row, note.origin, people) for row in rows}, "a statement by nobody known")
    with place("index"):
        verify_index(document["index"])
    require(bool(witnessed(parse_note(document["witnessed"].encode()), dict([parse_key(keys["witness"], WITNESS)]))), "no cosignature")
    return f"{len(records)} records and {len(document['parts']) + len(document['parts_4'])} parts are as the vectors say"


def verify_index(vector: Mapping[str, Any]) -> None:
    """The pages of an index, its root, and what it shows of two images."""
    rows = [{"image_id": ids[0], "subjects": [{"image_id": about} for about in ids[1:]]} for ids in vector["rows"]]
    pages, root = pages_of(rows), bytes.fromhex(vector["root"])
    require([page.hex() for page in pages] == vector["pages"], "other pages")
    require(root_over(list(map(leaf_hash, pages))) == root, "another root")
    for case in (vector["present"], vector["absent"]):
        shown = [(page["number"], bytes.fromhex(page["page"]), hashes(page["proof"])) for page in case["pages"]]
        require(rows_of(case["image_id"], shown, len(pages), root) == case["rows"], "other rows")


# What runs it.


def printable(text: str) -> str:
    return "".join(character if " " <= character <= "~" or character == "\n" else "?" for character in text)


def load_keys(named: Sequence[str], suffix: str) -> dict[str, Ed25519PublicKey]:
    """Keys by name, from a folder the files with this suffix; two keys of one name are refused. Raises: Fault."""
    found: dict[str, Ed25519PublicKey] = {}
    for item in named:
        path = Path(item)
        files = sorted(path.glob(f"*.{suffix}")) if path.is_dir() else [path] if path.is_file() else []
        for line in [line for file in files for line in file.read_text("utf-8").splitlines()] if files else [item]:
            if line.strip() and not line.lstrip().startswith("#"):
                name, key = parse_key(line, WITNESS if suffix == "witness" else LOG)
                at = f"{name}+{key_id(name, key, LOG).hex()}" if suffix == "person" else name  # a person may have several keys
                require(found.setdefault(at, key) == key, f"two keys are named {name}")
    require(bool(found) or not named, f"no key in {', '.join(named)}")
    return found


def run(args: argparse.Namespace, keys: Keys, witnesses: Keys, people: Keys) -> str:
    if args.what == "vectors":
        return verify_vectors(json.loads(args.file.read_bytes()))
    if args.what == "bundle":
        return verify_bundle(args.file.read_bytes(), keys, people)
    since = parse_note(args.since.read_bytes()) if args.since else None
    if since is not None:
        with place("--since"):
            require_signed(since, keys)
    return verify_log(args.folder, keys, witnesses, people, since, args.pictures)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    bundle = commands.add_parser("bundle", help="a proof of an image's records, or of a log's growth")
    bundle.add_argument("file", type=Path)
    log = commands.add_parser("log", help="the whole log of an output")
    log.add_argument("folder", type=Path)
    for command in (bundle, log):
        command.add_argument("--key", action="append", required=True, help="a trusted log key: verifier key, file or folder")
        command.add_argument("--person", action="append", default=[], help="key of a person: then nobody else may have said anything")
    log.add_argument("--witness", action="append", default=[], help="a witness that must have cosigned: verifier key, file or folder")
    log.add_argument("--since", type=Path, help="a checkpoint that you kept: the log must continue it")
    log.add_argument("--pictures", action="store_true", help="compare the recorded pictures' bytes, too")
    commands.add_parser("vectors", help="test this program").add_argument("file", type=Path)
    args = parser.parse_args()
    try:
        named = ((vars(args).get(name, []), suffix) for name, suffix in (("key", "vkey"), ("witness", "witness"), ("person", "person")))
        keys, witnesses, people = (load_keys(*some) for some in named)
    except BROKEN as error:
        parser.error(printable(said(error)))
    try:
        print(printable(f"verified: {run(args, keys, witnesses, people)}"))
        return 0
    except OSError as error:
        print(printable(f"cannot be read: {error}"), file=sys.stderr)
        return 2
    except BROKEN as error:
        print(printable(f"not verified: {said(error)}"))
        return 1


if __name__ == "__main__":
    sys.exit(main())
