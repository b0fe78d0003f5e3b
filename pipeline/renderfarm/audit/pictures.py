"""One recorded picture against its record: bytes, credential, mark. Pure but for one `get`; many are spread over processes.

The first thing that is wrong is the one that is named: altered bytes explain a broken credential, so nothing else is blamed then.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from renderfarm.audit.fanout import FanOut, chunked, reachable, storage_here
from renderfarm.errors import NotStored, PictureError
from renderfarm.keys import Trust, load_trust
from renderfarm.output import PICTURES
from renderfarm.schema import REVIEW
from renderfarm.storage import Storage
from renderfarm.watermark import MarkKey

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "image_id",
    "attempt",
    "outcome",
    "object_key",
    "file_sha256",
    "file_bytes",
    "media_type",
    "claim_digest",
    "watermark_payload",
    "watermark_key_id",
    "finished_us",
    "watermark_version",
)
"""The record columns that say what an object must be."""
REVIEW_COLUMNS = ("kind", "statement", "reviewed_digest", "started_us")
"""A review moves a picture: its credential is about the attempt, which was finished when the review says that it started."""

HERE_MAX = 128
"""Up to so many pictures are checked in this process: starting others takes longer."""
CHUNK = 16

OBJECT_BYTES_MAX = 1 << 28


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record says of one stored picture. `where` is the place of the record; times are microseconds since 1970."""

    where: str
    image_id: str | None
    attempt: int | None
    outcome: str | None
    object_key: str
    file_sha256: str | None
    file_bytes: int | None
    media_type: str | None
    claim_digest: str | None
    watermark_payload: str | None
    watermark_key_id: str | None
    finished_us: int
    watermark_version: int | None = None


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What the auditor trusts of pictures. `anchors_pem` None: no certificate authority, so trust in credentials is not judged.

    Where it came from a folder it pickles as that folder, so that no watermark key travels to other machines.
    """

    anchors_pem: bytes | None = None
    mark_keys: tuple[MarkKey, ...] = ()
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def of(cls, trust: Trust | None) -> Beliefs:
        """What trust says of pictures."""
        return cls() if trust is None else cls(trust.anchors_pem or None, trust.mark_keys, trust.folder)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (_from_folder, (self.folder,)) if self.folder else (Beliefs, (self.anchors_pem, self.mark_keys))


@lru_cache(maxsize=4)
def _from_folder(folder: Path) -> Beliefs:
    return Beliefs.of(load_trust(folder))


@dataclass(frozen=True, slots=True)
class PictureResult:
    """What one object came to: a finding's name and what was seen, or nothing. `mark_read`: whether its mark was looked for."""

    recorded: Recorded
    finding: str | None = None
    what: str = ""
    mark_read: bool = False


def recorded_objects(number: int, key: str, table: pa.Table) -> Iterator[Recorded]:
    """The stored pictures that a part records; `key` is the part's."""
    names = COLUMNS + REVIEW_COLUMNS
    columns = [table.column(name).to_pylist() for name in names]
    for row, values in enumerate(zip(*columns, strict=True)):
        fields = dict(zip(names, values, strict=True))
        kind, statement, digest, made_us = (fields.pop(name) for name in REVIEW_COLUMNS)
        if kind == "review" or statement == REVIEW:
            fields |= {"claim_digest": digest, "finished_us": made_us or 0}
        if fields["object_key"] is not None:
            yield Recorded(f"{key}#{row}", **fields)


def check_objects(
    storage: Storage, recorded: Iterable[Recorded], beliefs: Beliefs, fan_out: FanOut, here_max: int = HERE_MAX
) -> Iterator[PictureResult]:
    """The answer on each object, in their order; spread out once they are many and the storage can be opened elsewhere.

    Raises: StorageAway.
    """
    remaining = iter(recorded)
    first = list(islice(remaining, here_max))
    everything = chain(first, remaining)
    if len(first) < here_max or not reachable(storage):
        yield from (check_object(storage, item, beliefs) for item in everything)
        return
    for answers in fan_out(CheckObjects(storage.uri, beliefs), chunked(everything, CHUNK)):
        yield from answers


@dataclass(frozen=True, slots=True)
class CheckObjects:
    """The task: checks a chunk of objects."""

    uri: str
    beliefs: Beliefs

    def __call__(self, chunk: tuple[Recorded, ...]) -> list[PictureResult]:
        storage = storage_here(self.uri)
        return [check_object(storage, item, self.beliefs) for item in chunk]


def check_object(storage: Storage, recorded: Recorded, beliefs: Beliefs) -> PictureResult:
    """Everything that can be said of one picture. Raises: StorageAway."""
    key, size = recorded.object_key, recorded.file_bytes
    if not key.startswith(PICTURES) or size is None or not 0 < size <= OBJECT_BYTES_MAX:
        return PictureResult(recorded, "record-malformed", f"its object is {key!r:.80} of {size} bytes")
    try:
        data = storage.get(key, size)
    except NotStored:
        return PictureResult(recorded, "object-missing", f"recorded in {recorded.where}")
    except ValueError:
        return PictureResult(recorded, "record-malformed", f"its object key {key!r:.80} is no key")
    if len(data) != size or hashlib.sha256(data).hexdigest() != recorded.file_sha256:
        differs = f"its size is not {size} bytes" if len(data) != size else "its SHA-256 is not the recorded one"
        return PictureResult(recorded, "object-altered", f"{differs}; recorded in {recorded.where}")
    return _check_credential(data, recorded, beliefs) or _check_mark(data, recorded, beliefs)


def _check_credential(data: bytes, recorded: Recorded, beliefs: Beliefs) -> PictureResult | None:
    from renderfarm import credential

    if recorded.claim_digest is None or recorded.media_type is None:
        return None
    at = dt.datetime.fromtimestamp(recorded.finished_us / 1e6, dt.UTC) if 0 < recorded.finished_us < 1 << 52 else None
    finding = credential.read(data, recorded.media_type, beliefs.anchors_pem, at=at)
    if finding.state in ("absent", "invalid"):
        return PictureResult(recorded, f"credential-{finding.state}", finding.reason)
    if finding.claim_digest != recorded.claim_digest:
        what = f"it claims {finding.claim_digest}, the record of image {recorded.image_id} is {recorded.claim_digest}"
        return PictureResult(recorded, "credential-mismatch", what)
    if finding.state != "trusted" and beliefs.anchors_pem:
        return PictureResult(recorded, f"credential-{finding.state}", finding.reason)
    return None


def _check_mark(data: bytes, recorded: Recorded, beliefs: Beliefs) -> PictureResult:
    """The mark of an accepted picture reads back to its record. A rejected one may have been rejected for its mark."""
    from renderfarm import watermark
    from renderfarm.pictures import decode

    keys = [key for key in beliefs.mark_keys if key.key_id == recorded.watermark_key_id]
    if recorded.outcome != "accepted" or recorded.watermark_payload is None or not keys:
        return PictureResult(recorded)
    try:
        pixels = decode(data)
    except PictureError as error:
        return PictureResult(recorded, "object-unreadable", error.what)
    reading = watermark.read(pixels, keys, search="fast")
    if not reading.present or reading.payload is None:
        return PictureResult(recorded, "watermark-unreadable", f"recorded as {recorded.watermark_payload}", True)
    read_back, recorded_as = (reading.payload.record, reading.version), (recorded.watermark_payload, recorded.watermark_version)
    if read_back != recorded_as:
        what = "it reads {} (version {}), recorded is {} (version {})".format(*read_back, *recorded_as)
        return PictureResult(recorded, "watermark-mismatch", what, True)
    return PictureResult(recorded, mark_read=True)
