"""A small output that people review: one image accepted, one exhausted with its pictures kept as delivered, one with previews only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from renderfarm import credential, keys
from renderfarm.log.writer import LogWriter
from renderfarm.resolve import read_job_file
from renderfarm.review.review import Reviewed, Word, review
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests import outputs
from tests.outputs import Output, attempt_record, image_id, stored_attempt


def job_json(attempts: int = 2, **output: Any) -> bytes:
    """A job file with what a review reads of one."""
    settings = {"checks": {"attempts": attempts}, "output": {"quality": 92, "format": "png", **output}, "model": {}}
    return json.dumps({"name": outputs.JOB, "settings": settings}).encode()


def build(folder: Path, key_folder: Path) -> Output:
    """Image 1 accepted, image 2 exhausted (two PNG), image 3 exhausted (a WebP preview, and nothing kept)."""
    key_set = keys.load(key_folder) if key_folder.exists() else keys.init(key_folder)
    LocalStorage(folder, create=True)
    output = Output(folder, key_set, key_set.trust())
    output.storage.put("job.json", job_json())
    issuer = credential.Issuer(key_set)

    def stored(number: int, attempt: int, outcome: str, media_type: str = "image/png") -> Record:
        return stored_attempt(output, issuer, attempt_record(number, attempt, outcome), media_type)

    writer = LogWriter.open(output.storage, outputs.JOB, output.signer)
    writer.append([outputs.plan_record(3, job_json())])
    writer.append([stored(1, 1, "accepted"), stored(2, 1, "rejected"), stored(2, 2, "rejected")])
    writer.append([stored(3, 1, "rejected", "image/webp"), attempt_record(3, 2, "rejected")])
    return output


def word(output: Output, number: int, attempt: int, outcome: str, reviewer: str = "Ada", note: str = "") -> Reviewed:
    """One review of an image of this output."""
    job = read_job_file(output.storage)
    said = Word(outcome, reviewer, note)  # type: ignore[arg-type]
    return review(output.storage, job, output.keys, image_id(number), attempt, said)
