"""Names of what lies in an output, and the only place that says them.

A key never leaves the output: what a manifest says is percent-encoded.

    job.json                                  the resolved job
    images/<ab>/<image>-<hash>.png            accepted pictures; <ab>: how the image's id begins
    review/<ab>/<image>-<attempt>-<hash>.*    rejected attempts, for a person
    thumbs/…                                  small pictures for the report
    provenance/parts/00000042.parquet         the log
    provenance/values/00000042-<hash>.parquet what its records commit to, with the salts
    provenance/values/salt                    what the manifest's digest is hashed with
    provenance/inbox/…                        people's statements that wait for the log
    provenance/values/snapshot                what shortens the next start; in older outputs provenance/snapshot
    provenance/checkpoint, witnessed, lease
    report/index.html                         the contact sheet

Where records are of version 3 or earlier, pictures are named by their row: images/<row>/<index>-<hash>.png, and so on.
"""

from __future__ import annotations

import re

from renderfarm.pictures import EXTENSIONS
from renderfarm.schema import PLAIN_VERSION, Record
from renderfarm.storage import segment

JOB_FILE = "job.json"
JOB_FILE_BYTES_MAX = 16 << 20
IMAGES, REVIEW, THUMBS, REPORT = "images/", "review/", "thumbs/", "report/"
PICTURES = (IMAGES, REVIEW)
"""Where recorded pictures lie."""
PARTS = "provenance/parts/"
VALUES = "provenance/values/"
INBOX = "provenance/inbox/"
SALT = VALUES + "salt"
"""The output's own salt: 32 hex digits and a line feed. Where it was taken away, the next driver makes another."""
CHECKPOINT = "provenance/checkpoint"
WITNESSED = "provenance/witnessed"
"""The newest checkpoint that witnesses cosigned."""
SNAPSHOT = "provenance/snapshot"
SALTED_SNAPSHOT = VALUES + "snapshot"
"""The snapshot of an output with salts: it holds them, so it goes where the values go."""
LEASE = "provenance/lease"
REPORT_INDEX = "report/index.html"

_PART = re.compile(r"provenance/parts/([0-9]{8})\.parquet")


def part_key(number: int) -> str:
    """Where a part lies."""
    return f"{PARTS}{number:08d}.parquet"


def part_number(key: str) -> int | None:
    """The number of the part that lies there; None for any other key."""
    found = _PART.fullmatch(key)
    return int(found[1]) if found else None


def values_key(number: int, row_root: bytes) -> str:
    """Where the values lie that the records of a part commit to: no two drivers write one name."""
    return f"{VALUES}{number:08d}-{row_root.hex()[:12]}.parquet"


def delivered_key(record: Record, file_sha256: str, media_type: str) -> str:
    """Where the accepted picture of an attempt lies."""
    return f"{IMAGES}{_image(record)}-{file_sha256[:12]}.{EXTENSIONS[media_type]}"


def kept_key(record: Record, file_sha256: str, media_type: str) -> str:
    """Where the rejected picture of an attempt is kept for a person."""
    return f"{REVIEW}{_image(record)}-{record.attempt}-{file_sha256[:12]}.{EXTENSIONS[media_type]}"


def thumb_key(record: Record, file_sha256: str) -> str:
    """Where the small picture of an attempt lies."""
    return f"{THUMBS}{_image(record)}-{record.attempt}-{file_sha256[:12]}.webp"


def _image(record: Record) -> str:
    """How the names of an image's pictures begin: by its id, which tells nobody the row; in older outputs by its row."""
    if record.version > PLAIN_VERSION:
        assert record.image_id, "a picture is of an image"
        return f"{record.image_id[:2]}/{record.image_id}"
    return f"{segment(record.row_id or '')}/{record.index}"


def inbox_key(time_us: int, note_sha256: str) -> str:
    """Where a person's statement waits: by its time, then by itself."""
    return f"{INBOX}{time_us:016d}-{note_sha256[:16]}.json"
