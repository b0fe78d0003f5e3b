"""Small, complete outputs for tests: real marks, credentials, records and parts; drawn pictures in place of rendered ones."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renderfarm import credential, keys, watermark
from renderfarm.keys import KeySet, Trust
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.output import delivered_key, kept_key
from renderfarm.pictures import encode
from renderfarm.pictures.fingerprints import SIGNATURE_BYTES
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import record_id
from renderfarm.schema import Record, Verdict
from renderfarm.storage import LocalStorage, Storage
from tests.salted import salted

JOB = "mugs"
SIDE = 256
START_US = 1_790_000_000_000_000


@dataclass(frozen=True, slots=True)
class Output:
    """An output folder, who wrote it, and what an auditor trusts."""

    folder: Path
    keys: KeySet
    trust: Trust

    @property
    def storage(self) -> Storage:
        """The folder as a storage."""
        return LocalStorage(self.folder, create=False)

    @property
    def signer(self) -> Signer:
        """Who signs the log."""
        return self.keys.signer()


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    """A textured picture, uint8 (side, side, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 215, (side // 16, side // 16, 3)).astype(np.float32)
    smooth = coarse.repeat(16, axis=0).repeat(16, axis=1)
    noise = random.normal(0, 9, (side, side, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def image_id(number: int) -> str:
    """A well-formed image id."""
    return hashlib.sha256(f"image {number}".encode()).hexdigest()[:32]


def place(number: int, folder: str = "images") -> str:
    """How the names of an image's pictures begin."""
    return f"{folder}/{image_id(number)[:2]}/{image_id(number)}-"


def job_json(name: str = JOB, attempts: int = 2) -> bytes:
    """A job file with what the audit reads of one."""
    return json.dumps({"name": name, "settings": {"checks": {"attempts": attempts}}}).encode()


def plan_record(planned: int, job: bytes, name: str = JOB) -> Record:
    """The record of a plan made from this job file."""
    digest = hashlib.sha256(job).hexdigest()
    return Record(
        "plan", job=name, plan_digest=f"plan of {planned}", manifest_digest="m" * 64, settings_digest=digest, planned=planned,
        finished_us=START_US,
    )  # fmt: skip


def attempt_record(number: int, attempt: int = 1, outcome: str = "accepted", name: str = JOB) -> Record:
    """An attempt's record as it is before anything is stored."""
    verdicts = (Verdict("text", "rejected", "gibberish", 0.2, 0.8),) if outcome == "rejected" else ()
    record = Record(
        "attempt", job=name, plan_digest="plan", image_id=image_id(number), row_id=f"row-{number}", row_digest="d" * 64, index=0,
        attempt=attempt, prompt=f"A photograph of mug {number} on a table", negative_prompt="blurry", seed=1000 + number, width=SIDE,
        height=SIDE, steps=4, guidance=7.5, text="OPEN", tags=(("campaign", "autumn"), ("sku", str(number))), weights="starter",
        weights_revision="1", weights_digest="e" * 64, weights_licence="apache-2.0", scheduler="ddim", dtype="float32", device="cpu",
        driver="none", renderfarm_version="0.1.0", torch_version="2.13.0", diffusers_version="0.42.1",
        batch=(f"{image_id(number)}/{attempt}",), outcome=outcome, verdicts=verdicts,  # type: ignore[arg-type]
        reason="text: gibberish" if verdicts else None, pdq=hashlib.sha256(f"pdq {number}".encode()).hexdigest(), pdq_quality=90,
        signature=base64.b64encode(hashlib.shake_256(f"looks {number}".encode()).digest(SIGNATURE_BYTES)).decode(),
        started_us=START_US + number, finished_us=START_US + number + 900_000,
    )  # fmt: skip
    return salted(record, hashlib.sha256(f"salt {number}".encode()).hexdigest()[:32])


def stored_attempt(output: Output, issuer: credential.Issuer, record: Record, media_type: str = "image/png") -> Record:
    """Draws, marks, encodes, signs and stores the picture of an attempt; its finished record."""
    assert record.image_id is not None and record.attempt is not None
    payload = record_id(record.image_id, record.attempt)
    drawn = picture(int(record.image_id[:6], 16) + record.attempt)[None]
    marked = watermark.embed(drawn, [watermark.Payload(1, payload)], output.keys.mark_key)[0]
    record = dataclasses.replace(
        record,
        watermark_method=watermark.METHOD,
        watermark_version=watermark.VERSION,
        watermark_key_id=output.keys.mark_key.key_id,
        watermark_payload=payload,
    )
    record = sealed(record)
    assert record.claim_digest is not None
    claim = credential.claim_for(record, record.claim_digest, "Example GmbH", output.keys.mark_key)
    data = issuer.issue(encode(marked, media_type), media_type, claim)
    digest = hashlib.sha256(data).hexdigest()
    key = (delivered_key if record.outcome == "accepted" else kept_key)(record, digest, media_type)
    output.storage.put_new(key, data, media_type)
    return dataclasses.replace(record, media_type=media_type, file_sha256=digest, file_bytes=len(data), object_key=key)


def build(folder: Path, key_folder: Path, name: str = JOB, first: int = 0, at_us: int | None = None) -> Output:
    """An output of 5 parts: a plan of 6 images; 4 accepted (PNG, PNG, JPEG, WebP), 1 exhausted, 1 failed; 8 attempts."""
    key_set = keys.load(key_folder) if key_folder.exists() else keys.init(key_folder)
    LocalStorage(folder, create=True)
    output = Output(folder, key_set, key_set.trust())
    issuer = credential.Issuer(key_set)
    job = job_json(name)
    output.storage.put("job.json", job)
    writer = LogWriter.open(output.storage, name, output.signer)
    writer.append([dataclasses.replace(plan_record(6, job, name), finished_us=START_US + first)])

    def stored(number: int, attempt: int = 1, outcome: str = "accepted", media_type: str = "image/png") -> Record:
        record = attempt_record(first + number, attempt, outcome, name)
        return stored_attempt(output, issuer, dataclasses.replace(record, finished_us=at_us or record.finished_us), media_type)

    writer.append([stored(1), stored(2, outcome="rejected", media_type="image/webp")])
    writer.append([stored(2, 2), stored(3, media_type="image/jpeg")])
    writer.append([attempt_record(first + 5, n, "rejected", name) for n in (1, 2)])
    writer.append([stored(4, media_type="image/webp"), attempt_record(first + 6, outcome="failed", name=name)])
    return output
