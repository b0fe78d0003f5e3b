"""The examples of docs/formats.md: their records and outputs, the vectors that the code gives for them, and the verifier to be run.

`python -m tests.formats` writes what is made under docs/examples anew, for a new version of records. Vectors of earlier versions never
change.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import notes, output
from renderfarm.credential import prompt_digest, salted_prompt_digest
from renderfarm.job import JobSettings
from renderfarm.log import guarded, index, parts, values
from renderfarm.log.proofs import prove, prove_consistency
from renderfarm.log.tree import Frontier, inclusion_proof, leaf_hash, part_leaf, tree_root
from renderfarm.log.writer import LogWriter
from renderfarm.manifest import row_digest
from renderfarm.notes import Checkpoint, Signer, cosign
from renderfarm.notes.statement import Statement, person_key_name, sign, words_commitment
from renderfarm.plan import (
    Intent,
    attempt_of,
    first_seed,
    invalid_image_id,
    plan_digest,
    plan_row,
    salted_manifest_digest,
    salted_row_digest,
)
from renderfarm.records import canonical
from renderfarm.records.canonical import ColumnBytes, claim_bytes, record_bytes, values_bytes
from renderfarm.records.tables import as_dict, claim_digest, columns, record_id, to_table, values_schema
from renderfarm.schema import Adapter, Box, ObjectCount, PromptRow, Record, Subject, Verdict
from renderfarm.statements import inbox
from renderfarm.storage import LocalStorage, segment
from renderfarm.watermark.types import MarkKey, Payload

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "formats.md", DOCS / "formats-derived.md")
EXAMPLES = DOCS / "examples"
VECTORS = EXAMPLES / "vectors.json"

# The keys of the vectors: nobody may trust them, since their seeds are these.
KEY, OTHER, WITNESS, PERSON = (Ed25519PrivateKey.from_private_bytes(bytes(range(at, at + 32))) for at in (0, 32, 64, 128))
SIGNER = Signer.of("renderfarm.example/log", KEY)
STRANGER = Signer.of("renderfarm.example/log", OTHER)
WITNESS_NAME, SEEN_S = "witness.example/w1", 1_790_000_000
ADA = Signer.of(person_key_name("Ada"), PERSON)
VKEY = notes.verifier_key(SIGNER.name, KEY.public_key())
MARK_KEY = MarkKey(bytes(range(96, 128)))

JOB_JSON = b'{\n "name": "mugs",\n "settings": {\n  "checks": {\n   "attempts": 2\n  }\n }\n}\n'
JOB = JobSettings.model_validate(
    {
        "name": "mugs",
        "manifest": "mugs.parquet",
        "output": {"to": "out"},
        "seed": 7,
        "negative_prompt": "blurry",
        "model": {"scheduler": "ddim"},
        "defaults": {"width": 512, "height": 512, "steps": 20, "guidance": 7.5},
    }
)
WEIGHTS, EDGES = (hashlib.sha256(text).hexdigest() for text in (b"weights", b"edges"))
INTENT = Intent(JOB, WEIGHTS, input_digests={"edges.png": EDGES}, control="c1 at 0.8")
ODD = "mug 2/\u00e4"
ROWS = {
    "plain": PromptRow("mug-1", "a red mug"),
    "own seed": PromptRow(ODD, 'a "blue" mug\non a table', seed=41, steps=4, guidance=7.1, images=2, tags=(("sku", "2"),)),
    "control": PromptRow("mug-3", "a mug", control_image="edges.png", objects=(ObjectCount("mug", 1),)),
}


SALT, *_SALTS = (hashlib.sha256(text).hexdigest()[:32] for text in (b"output", b"plain", b"own seed", b"control"))
SALTS = dict(zip(ROWS, _SALTS, strict=True))
"""Of the output of version 4, and of its rows: worthless, as the keys are."""


def planned(name: str, index: int = 0, version: int = 3) -> Any:
    row = ROWS[name]
    return plan_row(row, row_digest(row), INTENT, SALTS[name] if version >= 4 else "")[index]


# The records of the vectors: every kind and outcome, in three versions. Their pictures are stand-ins.


def picture(image: str, attempt: int) -> bytes:
    return f"a stand-in for the picture of {image}, attempt {attempt}\n".encode()


def finished(record: Record, image: str = "", folder: str = "images", suffix: str = "png") -> Record:
    """The record with its claim digest and, where `image` names a row, the fields of a stored picture."""
    record = dataclasses.replace(record, claim_digest=claim_digest(record))
    if not image:
        return record
    data = picture(image, record.attempt or 0)
    digest = hashlib.sha256(data).hexdigest()
    place = f"{record.index}" if folder == "images" else f"{record.index}-{record.attempt}"
    key = f"{folder}/{image}/{place}-{digest[:12]}.{suffix}"
    return dataclasses.replace(record, media_type=f"image/{suffix}", file_sha256=digest, file_bytes=len(data), object_key=key)


def attempt(name: str, number: int, version: int, outcome: str, at: int, **fields: Any) -> Record:
    image = planned(name, version=version)
    inside = {"init_image", "init_digest", "mask_image", "mask_digest", "control_image", "control_digest"}
    left = {"image_id", "seed"} | ({"adapter"} | inside if version >= 4 else {"drawing_id", "salt"})
    intent = {field.name: getattr(image, field.name) for field in dataclasses.fields(image) if field.name not in left}
    intent |= {"inputs": image.inputs()} if version >= 4 else {}
    rendered = {} if outcome == "failed" else {
        "weights": "starter", "weights_revision": "1", "weights_digest": WEIGHTS, "weights_licence": "apache-2.0",
        "scheduler": "ddim", "dtype": "float32", "device": "cpu", "driver": "none",
        "torch_version": "2.13.0", "diffusers_version": "0.42.1",
        "batch": (f"{image.image_id}/{number}",), "watermark_method": "renderfarm-tile", "watermark_version": 1,
        "watermark_key_id": MARK_KEY.key_id, "watermark_payload": record_id(image.image_id, number),
        "pdq": hashlib.sha256(f"{name}/{number}".encode()).hexdigest(), "pdq_quality": 90,
        "signature": base64.b64encode(hashlib.shake_256(name.encode()).digest(384)).decode(), "started_us": at,
    }  # fmt: skip
    return Record(
        "attempt", version, job="mugs", image_id=image.image_id, attempt=number, seed=attempt_of(image, number).seed,
        outcome=outcome, renderfarm_version="0.1.0", finished_us=at + 900_000, **{"plan_digest": PLAN_1, **intent, **rendered, **fields},  # type: ignore[arg-type]
    )  # fmt: skip


def reviewed(tried: Record, outcome: str, version: int, at: int, **fields: Any) -> Record:
    said: dict[str, Any] = {"reviewer": "Ada", "reviewed_digest": tried.claim_digest, "started_us": tried.finished_us, "reason": None}
    blank: dict[str, Any] = dict.fromkeys(("claim_digest", "media_type", "file_sha256", "file_bytes", "object_key", "thumb_key"))
    verdicts = (Verdict("person", outcome, "by Ada"),)  # type: ignore[arg-type]
    known = {"kind": "review", "version": version, "outcome": outcome, "verdicts": verdicts, "finished_us": at}
    return dataclasses.replace(tried, **{**known, **said, **blank, **fields})


MANIFEST, SETTINGS = hashlib.sha256(b"manifest").hexdigest(), hashlib.sha256(JOB_JSON).hexdigest()
PLAN_1, PLAN_2 = plan_digest(MANIFEST, "5" * 64, 3), plan_digest(MANIFEST, SETTINGS, 3)
AT = 1_790_000_000_000_000


def example_records() -> dict[str, Record]:
    blank = Record("plan", 1, job="mugs", plan_digest=PLAN_1, renderfarm_version="0.1.0", finished_us=AT)
    later = dataclasses.replace(blank, version=3, plan_digest=PLAN_2, finished_us=AT + 9_000_000)
    gibberish = Verdict("text", "rejected", "reads \u201eMGU\u201c", 0.25, 0.8, (Box(10, 20, 110, 60), Box(0, 0, 1, 1)))
    made = {
        "plan-1": dataclasses.replace(blank, manifest_digest=MANIFEST, settings_digest="5" * 64, planned=3),
        "accepted-1": finished(attempt("plain", 1, 1, "accepted", AT, verdicts=(Verdict("mark", "accepted", "", 0.9987),)), "mug-1"),
        "rejected-1": finished(
            attempt("own seed", 1, 1, "rejected", AT + 1, text="MUG \u2615 \U0001f600", verdicts=(gibberish,), reason="text"),
            segment(ODD), "review", "webp",
        ),
        "failed-1": finished(attempt("control", 1, 1, "failed", AT + 2, reason="out of memory", objects=(ObjectCount("mug", 1),))),
    }  # fmt: skip
    second = finished(attempt("own seed", 2, 2, "rejected", AT + 3, reason="text", verdicts=(gibberish,)), segment(ODD), "review")
    moved: dict[str, Any] = {"object_key": f"images/{segment(ODD)}/0-{(second.file_sha256 or '')[:12]}.png"}
    kept: dict[str, Any] = {name: getattr(second, name) for name in ("media_type", "file_sha256", "file_bytes")}
    taken = finished(reviewed(second, "accepted", 2, AT + 5_000_000))
    made |= {"rejected-2": second, "review-2": dataclasses.replace(taken, **kept, **moved)}
    gone = made["failed-1"].image_id
    first = made["accepted-1"]
    made |= {
        "superseded-3": dataclasses.replace(later, kind="superseded", image_id=gone),
        "plan-3": dataclasses.replace(later, manifest_digest=MANIFEST, settings_digest=SETTINGS, planned=3),
        "reinstated-3": dataclasses.replace(later, kind="reinstated", image_id=gone),
        "accepted-3": finished(attempt("control", 2, 3, "accepted", AT + 9_000_001, plan_digest=PLAN_2), "mug-3"),
    }
    back = finished(reviewed(first, "rejected", 3, AT + 12_000_000, plan_digest=PLAN_2, withdrawn_key=first.object_key))
    kept = {name: getattr(first, name) for name in ("media_type", "file_sha256", "file_bytes")}
    moved = {"object_key": f"review/mug-1/0-1-{(first.file_sha256 or '')[:12]}.png"}
    return made | {"review-3": dataclasses.replace(back, **kept, **moved)}


# Version 4, in an output of its own.

MANIFEST_4 = salted_manifest_digest(MANIFEST, SALT)
PLAN_4 = plan_digest(MANIFEST_4, SETTINGS, 3)


def finished4(record: Record, folder: str = "images", suffix: str = "png") -> Record:
    """The record of an attempt with commitment, claim digest and the fields of a stored picture."""
    record = canonical.sealed(record)
    data = picture(record.image_id or "", record.attempt or 0)
    digest = hashlib.sha256(data).hexdigest()
    key = (output.delivered_key if folder == "images" else output.kept_key)(record, digest, f"image/{suffix}")
    return dataclasses.replace(record, media_type=f"image/{suffix}", file_sha256=digest, file_bytes=len(data), object_key=key)


def leaf_of(record: Record) -> str:
    return leaf_hash(record_bytes(record)).hex()


def said(kind: str, about: Sequence[Record], at: int, words: str = "", salt: str = "", **fields: Any) -> Statement:
    """What Ada says of these records, signed by her."""
    subjects = tuple(Subject(record.image_id or "", leaf_of(record)) for record in about)
    nonce = hashlib.sha256(f"{kind} {at}".encode()).hexdigest()[:32]
    committed = words_commitment(salt, words) if words else None
    return sign(Statement("renderfarm/mugs", kind, "", at, nonce, committed, subjects, tuple(sorted(fields.items()))), ADA)


def taken_in(statement: Statement, words: str | None, salt: str | None, **fields: Any) -> Record:
    """The record of a statement, as whoever holds the log writes it."""
    record = Record(
        "statement", 4, job="mugs", plan_digest=PLAN_4, statement=statement.kind, subjects=statement.subjects,
        signed=statement.to_bytes().decode(), reviewer="Ada", salt=salt, reason=words, renderfarm_version="0.1.0",
        finished_us=statement.time_us,
    )  # fmt: skip
    return canonical.sealed(dataclasses.replace(record, **fields))


def example_records_4() -> dict[str, Record]:
    blank = Record("plan", 4, job="mugs", plan_digest=PLAN_4, renderfarm_version="0.1.0", finished_us=AT)
    gibberish = Verdict("text", "rejected", "reads \u201eMGU\u201c", 0.25, 0.8, (Box(10, 20, 110, 60), Box(0, 0, 1, 1)))
    mark = Verdict("mark", "accepted", "", 0.9987)
    settings = (("lossy.reuse", "2"), ("tiling", '["vae"]'))
    rich: dict[str, Any] = {"verdicts": (mark,), "settings": settings, "adapters": (Adapter("ink", EDGES, 0.8),)}
    sheet: dict[str, Any] = {
        "format": "story", "locale": "de-AT", "crop": (Box(0, 64, 512, 448),), "layers_digest": "6" * 64, "drawing_digest": "7" * 64,
        "texts": (("title", "Der Becher"), ("price", "7 \u20ac")), "alt": "a red mug",
    }  # fmt: skip
    asked: dict[str, Any] = {"version": 4, "plan_digest": PLAN_4}
    plan = dataclasses.replace(blank, manifest_digest=MANIFEST_4, settings_digest=SETTINGS, planned=3)
    first = finished4(attempt("plain", 1, outcome="accepted", at=AT, **asked, **rich, **sheet))
    failed = canonical.sealed(attempt("control", 1, outcome="failed", at=AT + 2, **asked, cause="render", reason="out of memory"))
    again = finished4(attempt("control", 2, outcome="accepted", at=AT + 3, **asked, verdicts=(mark,)))
    second = finished4(attempt("own seed", 1, outcome="rejected", at=AT + 4, **asked, text="MUG \u2615 \U0001f600",
                               verdicts=(gibberish,), reason="text"), "review")  # fmt: skip
    later = dataclasses.replace(blank, finished_us=AT + 9_000_000)
    good = said("review", [second], AT + 10_000_000, "reads well enough", second.salt or "", attempt=1, outcome="accepted")
    blank_file: dict[str, Any] = dict.fromkeys(("claim_digest", "thumb_key"))
    review = dataclasses.replace(
        second, kind="statement", statement="review", subjects=good.subjects, signed=good.to_bytes().decode(), reviewer="Ada",
        outcome="accepted", reason="reads well enough", verdicts=(Verdict("person", "accepted", "by Ada: reads well enough"),),
        reviewed_digest=second.claim_digest, started_us=second.finished_us, finished_us=good.time_us,
        object_key=output.delivered_key(second, second.file_sha256 or "", "image/png"), **blank_file,
    )  # fmt: skip
    applause = said("applause", [first, again], AT + 11_000_000, stars=5, tags=("warm", "clear"), seen=True)
    late = said("review", [second], AT + 12_000_000, attempt=1, outcome="accepted")
    why = Verdict("person", "not_run", "too late: it is accepted already")
    return {
        "plan-4": plan,
        "accepted-4": first,
        "failed-4": failed,
        "again-4": again,
        "rejected-4": second,
        "superseded-4": dataclasses.replace(later, kind="superseded", image_id=failed.image_id),
        "reinstated-4": dataclasses.replace(later, kind="reinstated", image_id=failed.image_id),
        "review-4": canonical.sealed(review),
        "applause-4": taken_in(applause, None, None),
        "late-4": taken_in(late, None, "5a" * 16, verdicts=(why,)),
    }


RECORDS = example_records()
RECORDS_4 = example_records_4()
PARTS = {1: ("plan-1", "accepted-1", "rejected-1", "failed-1"), 2: ("rejected-2", "review-2"),
         3: ("superseded-3", "plan-3", "reinstated-3", "accepted-3", "review-3")}  # fmt: skip
"""Version → the records of one part."""
PARTS_4 = (
    ("plan-4", "accepted-4", "failed-4"),
    ("again-4", "rejected-4"),
    ("superseded-4", "reinstated-4", "review-4", "applause-4", "late-4"),
)
FORGOTTEN = {1: (0,), 2: None}
"""Parts of the example of version 4 whose values were forgotten: rows, or all."""


def sealed(
    records: list[Record], version: int, before: Frontier, origin: str = "renderfarm/mugs", signer: Signer = SIGNER
) -> tuple[bytes, Frontier]:
    """A part's bytes, of any version, and the log behind it. The writer writes the newest version only."""
    table = columns(to_table(records), version)
    row_root = tree_root(ColumnBytes.of(table, version).leaves())
    index_root = index.index_root(table) if version >= 4 else None
    after = before.append(part_leaf(before.size, len(records), row_root, index_root))
    head = notes.sign(Checkpoint(origin, after.size, after.root()), signer)
    footer = {
        b"renderfarm.record_version": str(version).encode(),
        b"renderfarm.part": str(before.size).encode(),
        b"renderfarm.row_root": row_root.hex().encode(),
        b"renderfarm.frontier": ",".join(item.hex() for item in before.hashes).encode(),
        b"renderfarm.checkpoint": head.to_bytes(),
        b"renderfarm.log_key": notes.verifier_key(signer.name, signer.public_key).encode(),
    } | ({b"renderfarm.index_root": index_root.hex().encode()} if index_root is not None else {})
    return guarded.write(table, footer), after


def values_beside(storage: LocalStorage, number: int) -> tuple[parts.Footer, str]:
    """A part's footer, and the key of its values."""
    footer = parts.read_footer(storage.get(output.part_key(number)), number)
    return footer, output.values_key(number, footer.row_root)


def forget(storage: LocalStorage, number: int, rows: Sequence[int] | None) -> None:
    """Takes away the values of some rows of a part, or all of them."""
    footer, key = values_beside(storage, number)
    if rows is None:
        storage.delete(key)
        return
    table = values.read(storage.get(key), number, footer.row_root, footer.rows)
    nothing = {field.name: None if field.nullable else [] for field in table.schema}
    left = [nothing if row in rows else said for row, said in enumerate(table.to_pylist())]
    storage.put(key, values.encode(pa.Table.from_pylist(left, schema=values_schema()), number, footer.row_root))


def write_example_4(folder: Path, forgotten: Mapping[int, Sequence[int] | None] = FORGOTTEN) -> None:
    """The output of version 4: three parts with their values, some of them forgotten, what lies beside them, and a statement that waits."""
    storage = LocalStorage(folder, create=True)
    writer = LogWriter.open(storage, "mugs", SIGNER)
    for names in PARTS_4:
        writer.append([RECORDS_4[name] for name in names])
    assert writer.checkpoint is not None
    storage.put(output.WITNESSED, cosign.cosign(writer.checkpoint, WITNESS_NAME, WITNESS, SEEN_S).to_bytes())
    for number, rows in forgotten.items():
        forget(storage, number, rows)
    waits = said("withdrawal", [RECORDS_4["again-4"]], AT + 13_000_000, "not our mug", SALTS["control"])
    inbox.put(storage, inbox.Letter(waits, waits.to_bytes().decode(), "not our mug", SALTS["control"], (1,)))
    storage.put(output.SALT, SALT.encode() + b"\n")
    storage.put(output.JOB_FILE, JOB_JSON)
    for record in RECORDS_4.values():
        if record.object_key is not None and record.outcome is not None:
            storage.put(record.object_key, picture(record.image_id or "", record.attempt or 0))


def write_example(folder: Path) -> None:
    """The output of the vectors: three parts in three versions, the checkpoints beside them, job.json and the pictures."""
    storage, log = LocalStorage(folder, create=True), Frontier()
    for number, (version, names) in enumerate(PARTS.items()):
        data, log = sealed([RECORDS[name] for name in names], version, log)
        storage.put(output.part_key(number), data)
    head = parts.read_footer(data, 2).checkpoint
    storage.put(output.CHECKPOINT, head.to_bytes())
    storage.put(output.WITNESSED, cosign.cosign(head, WITNESS_NAME, WITNESS, SEEN_S).to_bytes())
    storage.put(output.JOB_FILE, JOB_JSON)
    taken = {record.withdrawn_key for record in RECORDS.values()}
    rows = {image.image_id: segment(image.row_id) for image in map(planned, ROWS)}
    for record in RECORDS.values():
        if record.object_key is not None and record.object_key not in taken:
            storage.put(record.object_key, picture(rows[record.image_id or ""], record.attempt or 0))


def index_vectors() -> dict[str, Any]:
    """An index of 40 entries, and how it shows all rows of an image, and that another is in none."""
    ids = [hashlib.sha256(f"image {n // 2}".encode()).hexdigest()[:32] for n in range(38)]
    about = [(), ()] * 18 + [(Subject(ids[4], "0" * 64),), (Subject(ids[6], "0" * 64), Subject(ids[8], "1" * 64))]
    table = to_table([Record("superseded", 4, image_id=name, subjects=said) for name, said in zip(ids, about, strict=True)])
    pages = index.pages(table)
    leaves = [leaf_hash(page) for page in pages]

    def shown(*numbers: int) -> list[dict[str, Any]]:
        return [{"number": n, "page": pages[n].hex(), "proof": [item.hex() for item in inclusion_proof(leaves, n)]} for n in numbers]

    border = pages[1][:16].hex()  # speaks from the second page on, maybe from the end of the first
    absent = f"{int(pages[1][-20:-4].hex(), 16) + 1:032x}"  # would stand between the second page and the third
    return {
        "rows": [[name, *(subject.image_id for subject in said)] for name, said in zip(ids, about, strict=True)],
        "pages": [page.hex() for page in pages],
        "root": index.index_root(table).hex(),
        "present": {"image_id": border, "pages": shown(0, 1), "rows": [row for row, name in enumerate(ids) if name == border]},
        "absent": {"image_id": absent, "pages": shown(1, 2), "rows": []},
    }


def grown(storage: LocalStorage) -> bytes:
    """That the log goes on from where it was after its second part."""
    return prove_consistency(storage, parts.read_footer(storage.get(output.part_key(1)), 1).checkpoint.to_bytes())


def record_vector(record: Record) -> dict[str, Any]:
    vector = {
        "record": json.loads(json.dumps(as_dict(record))),
        "canonical": record_bytes(record).hex(),
        "claim_digest": hashlib.sha256(claim_bytes(record)).hexdigest(),
        "leaf": leaf_of(record),
    }
    return vector | ({"values": values_bytes(record).hex()} if record.version >= 4 and record.salt is not None else {})


def salted_vectors() -> dict[str, Any]:
    """Ids and digests of an output of version 4."""
    bare = planned("plain", version=4)
    return {
        "output_salt": SALT,
        "salts": SALTS,
        "image_ids": {name: [planned(name, at, 4).image_id for at in range(ROWS[name].images or 1)] for name in ROWS},
        "invalid_image_id": invalid_image_id("mug-9", 4, "0" * 64, SALTS["plain"]),
        "row_digests": {name: salted_row_digest(row_digest(row), SALTS[name]) for name, row in ROWS.items()},
        "manifest_digest": MANIFEST_4,
        "prompt_digest": salted_prompt_digest(bare.prompt, bare.salt),
        "words": words_commitment(SALTS["own seed"], "reads well enough"),
    }


def made_vectors(folder: Path, folder_4: Path) -> dict[str, Any]:
    """Everything that vectors.json says, as the code gives it; the folders: where `write_example` and `write_example_4` wrote."""
    footers = [parts.read_footer((folder / output.part_key(number)).read_bytes(), number) for number in range(len(PARTS))]
    footers_4 = [parts.read_footer((folder_4 / output.part_key(number)).read_bytes(), number) for number in range(len(PARTS_4))]
    row, bare = ROWS["own seed"], planned("plain")
    payload = Payload(1, record_id(bare.image_id, 1))
    return {
        "keys": {
            "log_seed": KEY.private_bytes_raw().hex(),
            "log": VKEY,
            "witness_seed": WITNESS.private_bytes_raw().hex(),
            "witness": notes.verifier_key(WITNESS_NAME, WITNESS.public_key(), notes.COSIGNATURE),
            "mark_secret": MARK_KEY.secret.hex(),
            "mark_key_id": MARK_KEY.key_id,
            "person_seed": PERSON.private_bytes_raw().hex(),
            "person": notes.verifier_key(ADA.name, ADA.public_key),
        },
        "records": {name: record_vector(record) for name, record in (RECORDS | RECORDS_4).items()},
        "parts": [
            {
                "records": list(names),
                "row_root": footer.row_root.hex(),
                "leaf": footer.leaf.hex(),
                "frontier": [item.hex() for item in footer.before.hashes],
                "checkpoint": footer.checkpoint.to_bytes().decode(),
            }
            for names, footer in zip(PARTS.values(), footers, strict=True)
        ],
        "parts_4": [
            {
                "records": list(names),
                "row_root": footer.row_root.hex(),
                "index_root": (footer.index_root or b"").hex(),
                "leaf": footer.leaf.hex(),
                "frontier": [item.hex() for item in footer.before.hashes],
                "checkpoint": footer.checkpoint.to_bytes().decode(),
            }
            for names, footer in zip(PARTS_4, footers_4, strict=True)
        ],
        "index": index_vectors(),
        "salted": salted_vectors(),
        "witnessed": (folder / output.WITNESSED).read_text("utf-8"),
        "image_ids": {name: [planned(name, at).image_id for at in range(ROWS[name].images or 1)] for name in ROWS},
        "invalid_image_id": invalid_image_id("mug-9", 4, "0" * 64),
        "seeds": {
            "job 7, row mug-1, index 0": first_seed(None, 7, "mug-1", 0),
            "row seed 41, index 0": first_seed(41, 7, row.id, 0),
            "row seed 41, index 1": first_seed(41, 7, row.id, 1),
            "the first one's attempt 2": attempt_of(bare, 2).seed,
        },
        "row_digests": {name: row_digest(row) for name, row in ROWS.items()},
        "plan_digest": plan_digest(MANIFEST, SETTINGS, 3),
        "segments": {text: segment(text) for text in ("mug-1", ODD, "..", "~" * 60)},
        "prompt_digest": prompt_digest(bare.prompt, bare.image_id, MARK_KEY),
        "record_id": payload.record,
        "mark_word": payload.sealed(MARK_KEY).hex(),
    }


# The verifier.

GUARD = """
import contextlib, io, json, runpy, sys
allowed = sys.stdlib_module_names | {"cryptography", "_cffi_backend", "cffi", "parquet", "unzstd", "evidence", "statements"}
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ImportError("the verifier imports " + name)
sys.meta_path.insert(0, Guard())
answers, verifier = [], sys.argv[1]
for arguments in json.load(sys.stdin):
    sys.argv, said, code = [verifier, *arguments], io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(verifier, run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    answers.append([code, said.getvalue()])
print(json.dumps(answers))
"""


def verify_each(*runs: Sequence[object]) -> list[tuple[int, str]]:
    """Exit code and output of the verifier for each of these arguments, all in one process: alone in it, without our environment, and with
    no import but the standard library's and cryptography's."""
    command = [sys.executable, "-I", "-B", "-W", "error", "-c", GUARD, str(EXAMPLES / "verify.py")]
    asked = json.dumps([list(map(str, arguments)) for arguments in runs])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


def verify(*arguments: object) -> tuple[int, str]:
    return verify_each(arguments)[0]


def write_all() -> None:
    """The files of docs/examples that are made."""
    for name in ("output", "output4"):
        shutil.rmtree(EXAMPLES / name, ignore_errors=True)
    write_example(EXAMPLES / "output")
    write_example_4(EXAMPLES / "output4")
    vectors = made_vectors(EXAMPLES / "output", EXAMPLES / "output4")
    VECTORS.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", "utf-8")
    storage = LocalStorage(EXAMPLES / "output", create=False)
    (EXAMPLES / "proof.json").write_bytes(prove(storage, RECORDS["accepted-1"].image_id or ""))
    (EXAMPLES / "growth.json").write_bytes(grown(storage))
    salted = LocalStorage(EXAMPLES / "output4", create=False)
    (EXAMPLES / "proof4.json").write_bytes(prove(salted, RECORDS_4["accepted-4"].image_id or ""))
    (EXAMPLES / "trust").mkdir(exist_ok=True)
    (EXAMPLES / "trust" / "ada.person").write_text(notes.verifier_key(ADA.name, ADA.public_key) + "\n")
    (EXAMPLES / "trust" / "log.vkey").write_text(VKEY + "\n")
    (EXAMPLES / "trust" / "w1.witness").write_text(notes.verifier_key(WITNESS_NAME, WITNESS.public_key(), notes.COSIGNATURE) + "\n")


if __name__ == "__main__":
    write_all()
