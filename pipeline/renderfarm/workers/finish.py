"""One attempt from pixels to record: check → (the driver decides) → encode → credential → store → record.

Everything it needs is an argument, so it runs without Ray and without a GPU. Checking and storing are two calls, because near-duplicates
depend on what was accepted before: the driver judges those in log order and then says what becomes of the attempt. Nothing here is the
commit: a crash after the PUT leaves an orphan that `gc` collects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from renderfarm import watermark
from renderfarm.checks import registry
from renderfarm.checks.base import Check
from renderfarm.credential import Issuer, claim_for, xmp_for
from renderfarm.job import JobSettings
from renderfarm.output import delivered_key, kept_key, thumb_key
from renderfarm.pictures import Fingerprint, Pixels, decode, encode, fingerprint, thumbnail
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import record_id
from renderfarm.retry import cause_of
from renderfarm.schema import PLAIN_VERSION, Attempt, AttemptOutcome, PlannedImage, PromptRow, Record, RenderInfo, Verdict
from renderfarm.storage import Storage
from renderfarm.version import __version__
from renderfarm.watermark import MarkKey, Payload
from renderfarm.workers.inputs import read_inputs

Answer = TypeVar("Answer")

PAYLOAD_VERSION = 1
REVIEW_TYPE = "image/webp"
REVIEW_QUALITY = 90
THUMB_SIDE = 256
_ONE_EACH = ("adapter", "init_image", "init_digest", "mask_image", "mask_digest", "control_image", "control_digest")
"""Fields that `adapters` and `inputs` replace from record version 4 on."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found on one attempt, and what finds its near-duplicates; `cpu_s` is CPU seconds by stage."""

    verdicts: tuple[Verdict, ...]
    fingerprint: Fingerprint
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the driver made of it: the outcome, its reason, all verdicts, and whether the picture is kept."""

    outcome: AttemptOutcome
    reason: str
    verdicts: tuple[Verdict, ...]
    keep_picture: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A stored attempt, ready for the log, and the CPU seconds by stage."""

    record: Record
    cpu_s: dict[str, float]


def payload_of(attempt: Attempt) -> Payload:
    """What the watermark of an attempt says."""
    return Payload(PAYLOAD_VERSION, record_id(attempt.image.image_id, attempt.number))


class Finisher:
    """Checks and stores attempts; one per worker, not shared between threads."""

    def __init__(
        self, job: JobSettings, plan_digest: str, storage: Storage, checks: Sequence[Check], issuer: Issuer, mark_key: MarkKey
    ) -> None:
        self.job = job
        self.plan_digest = plan_digest
        self.storage = storage
        self.checks = registry.prepare(checks)
        self.issuer = issuer
        self.mark_key = mark_key
        self.media_type = job.media_type()

    def check(self, attempt: Attempt, pixels: Pixels, *, marked: bool) -> Checked:
        """All checks on the pixels that ship. pixels: uint8 (H, W, 3), sRGB, marked already where `marked`."""
        clock = _Clock()
        shown = pixels if self.media_type == "image/png" else clock("decode", lambda: self._as_shipped(pixels))
        verdicts = [clock("mark.read", lambda: self._read_back(attempt, shown, marked))]
        row = _as_row(attempt.image)
        rejected = False
        for check in self.checks:
            if rejected:
                verdicts.append(Verdict(check.name, "not_run", registry.REJECTED_EARLIER))
                continue
            (verdict,) = clock(f"check.{check.name}", lambda: registry.run([check], shown, row))  # noqa: B023
            rejected = verdict.outcome == "rejected"
            verdicts.append(verdict)
        return Checked(tuple(verdicts), clock("fingerprint", lambda: fingerprint(shown)), clock.cpu_s)

    def _as_shipped(self, pixels: Pixels) -> Pixels:
        return decode(encode(pixels, self.media_type, quality=self.job.output.quality))

    def _read_back(self, attempt: Attempt, shown: Pixels, marked: bool) -> Verdict:
        """The mark as a check: what ships must lead back to its record."""
        wanted = payload_of(attempt)
        if not marked:
            outcome = "flagged" if self.job.mark.allow_unmarked else "rejected"
            return Verdict("mark", outcome, "the picture cannot carry the watermark")  # type: ignore[arg-type]
        reading = watermark.read(shown, [self.mark_key], search="fast")
        if reading.payload == wanted and reading.version == watermark.VERSION:
            return Verdict("mark", "accepted", "", round(reading.confidence, 4))
        return Verdict("mark", "rejected", "the watermark does not read back", round(reading.confidence, 4))

    def store(
        self, attempt: Attempt, pixels: Pixels, info: RenderInfo, checked: Checked, decision: Decision, *, marked: bool, started_us: int
    ) -> Finished:
        """Write the picture and its thumbnail, and make the record. Raises: StorageAway, CredentialFailed; RenderFailed for an input
        that is gone or changed."""
        clock = _Clock()
        record = self._record(attempt, info, checked, decision, marked, started_us)
        record = clock("record", lambda: sealed(record))
        if not decision.keep_picture:
            return Finished(record, clock.cpu_s)
        accepted = decision.outcome == "accepted"
        whole = accepted or self.job.output.kept == "delivery"
        media_type = self.media_type if whole else REVIEW_TYPE
        quality = self.job.output.quality if whole else REVIEW_QUALITY
        went_in = read_inputs([attempt.image])
        claim = claim_for(record, record.claim_digest or "", self.job.provider, self.mark_key, went_in)
        xmp = xmp_for(record, self.job.provider)
        bare = clock("encode", lambda: encode(pixels, media_type, quality=quality, xmp=xmp))
        data = clock("credential", lambda: self.issuer.issue(bare, media_type, claim))
        digest = hashlib.sha256(data).hexdigest()
        assert len(digest) == 64
        key = delivered_key(record, digest, media_type) if accepted else kept_key(record, digest, media_type)
        small = thumb_key(record, digest)
        thumb = clock("thumb", lambda: thumbnail(pixels, THUMB_SIDE))
        clock("store", lambda: self._put(key, data, media_type, small, thumb))
        record = dataclasses.replace(
            record, media_type=media_type, file_sha256=digest, file_bytes=len(data), object_key=key, thumb_key=small
        )
        return Finished(record, clock.cpu_s)

    def _put(self, key: str, data: bytes, media_type: str, thumb_key: str, thumb: bytes) -> None:
        """Picture first: a crash between the two leaves an orphan picture, never a record without one."""
        self.storage.put_new(key, data, media_type)
        self.storage.put_new(thumb_key, thumb, REVIEW_TYPE)

    def _record(self, attempt: Attempt, info: RenderInfo, checked: Checked, decision: Decision, marked: bool, started_us: int) -> Record:
        blank = _blank(attempt, self.job.name, self.plan_digest, decision.reason)
        made = info if blank.version > PLAIN_VERSION else as_older(info)
        return dataclasses.replace(
            blank,
            **{f.name: getattr(made, f.name) for f in dataclasses.fields(made)},
            outcome=decision.outcome,
            cause=None,
            verdicts=decision.verdicts,
            watermark_method=watermark.METHOD if marked else None,
            watermark_version=watermark.VERSION if marked else None,
            watermark_key_id=self.mark_key.key_id if marked else None,
            watermark_payload=payload_of(attempt).record if marked else None,
            pdq=checked.fingerprint.pdq,
            pdq_quality=checked.fingerprint.quality,
            signature=checked.fingerprint.signature,
            started_us=started_us,
            finished_us=now_us(),
        )


def _as_row(image: PlannedImage) -> PromptRow:
    """The row that a check sees for one image: what was asked, with the job's defaults filled in."""
    return PromptRow(
        id=image.row_id,
        prompt=image.prompt,
        negative_prompt=image.negative_prompt,
        seed=image.seed,
        width=image.width,
        height=image.height,
        steps=image.steps,
        guidance=image.guidance,
        text=image.text,
        objects=image.objects,
        adapter=image.adapter,
        init_image=image.init_image,
        mask_image=image.mask_image,
        strength=image.strength,
        tags=image.tags,
        control_image=image.control_image,
    )


def as_older(info: RenderInfo) -> RenderInfo:
    """What records up to version 3 say of it: what was lossy stands behind the sampler's name, and adapters in the plan alone."""
    said = {name: json.loads(value) for name, value in info.settings}
    reuse, quantise, tiled = (said.get(name) for name in ("lossy.reuse", "lossy.quantise", "vae.tiling"))
    words = [word for word, there in ((f"reuse {reuse}", reuse), (str(quantise), quantise), ("tiled VAE", tiled)) if there]
    scheduler = info.scheduler + (f" ({', '.join(words)})" if words else "")
    return dataclasses.replace(info, scheduler=scheduler, settings=(), adapters=())


def failed_record(attempt: Attempt, job: str, plan_digest: str, reason: str) -> Record:
    """The record of an attempt that could not be rendered."""
    return sealed(_blank(attempt, job, plan_digest, reason))


def _blank(attempt: Attempt, job: str, plan_digest: str, reason: str) -> Record:
    """What every record of this attempt says, of the version that its output is written in."""
    image, version = attempt.image, attempt.image.record_version
    apart = {"seed", "drawing_id", "salt"} if version <= PLAIN_VERSION else {"seed", *_ONE_EACH}
    shared = {f.name: getattr(image, f.name) for f in dataclasses.fields(image) if f.name not in apart}
    return Record(
        kind="attempt",
        version=version,
        job=job,
        plan_digest=plan_digest,
        inputs=image.inputs() if version > PLAIN_VERSION else (),
        attempt=attempt.number,
        seed=attempt.seed,
        outcome="failed",
        cause=cause_of(reason) if version > PLAIN_VERSION else None,
        reason=reason,
        renderfarm_version=__version__,
        finished_us=now_us(),
        **shared,
    )


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class _Clock:
    """CPU seconds of this thread by stage: no check starts others, and one that loads a model beside it is not counted."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}

    def __call__(self, stage: str, call: Callable[[], Answer]) -> Answer:
        """Run `call` and add its CPU time to `stage`."""
        begin = time.thread_time()
        try:
            return call()
        finally:
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + time.thread_time() - begin
