"""What a job names by path or URI → digests, once, before anything renders: weights, adapters, manifest, input pictures.

A `ResolvedJob` is all that planning and rendering need to know of the outside; its `job_json` is written beside the output and its digest
enters every plan record. A manifest with faults stops here, or its bad rows are set aside with `skip_invalid`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from renderfarm import manifest
from renderfarm.errors import JobError, ManifestError, NotStored, PictureError, StorageRefused
from renderfarm.job import JobSettings
from renderfarm.manifest import BadRow, Rules, Shard
from renderfarm.manifest.adapters import chosen, parse
from renderfarm.models import Resolved
from renderfarm.models import resolve as resolve_weights
from renderfarm.pictures import size_of
from renderfarm.plan import ImageIds, Intent, invalid_image_id, plan_digest, plan_row, salted_manifest_digest
from renderfarm.records.salts import Salts, plain
from renderfarm.resolve.survey import Stamp, Survey, require_same, shortened, stamp_or_none, survey
from renderfarm.schema import PlannedImage
from renderfarm.storage import open_input
from renderfarm.version import __version__

UNRECORDED: Mapping[str, bool | Mapping[str, bool]] = {
    "schedule": True,
    "notify": True,
    "budget": True,
    "witness": True,
    "farm": True,
    "output": {"patience_s": True},
}
"""Settings that are not in job.json: they say when and where a job runs and who is told, and a change of them is no new plan."""


@dataclass(frozen=True, slots=True)
class ResolvedJob:
    """A job with every digest known. `planned` counts images, bad rows that were set aside included. What asks for `salts` answers for
    an output whose rows have these (`records.salts`).

    `manifest_stamp`: the manifest's files as they were when it was read, so that one that is replaced meanwhile is noticed.
    """

    job: JobSettings
    weights: Resolved
    intent: Intent
    rules: Rules
    manifest_digest: str
    settings_digest: str
    plan_digest: str
    planned: int
    rows: int
    bad_rows: int
    job_json: bytes = field(repr=False)
    manifest_stamp: Stamp
    notes: tuple[str, ...] = ()
    """What a person should read before rendering."""

    def salted(self, salt: str) -> ResolvedJob:
        """The same for an output with this salt, 32 hex digits: nobody can test a guessed manifest against the digests that it shows."""
        digest = salted_manifest_digest(self.manifest_digest, salt)
        job_json = _job_json(self.job, self.weights, digest)
        settings = hashlib.sha256(job_json).hexdigest()
        named = plan_digest(digest, settings, self.planned)
        return replace(self, manifest_digest=digest, settings_digest=settings, plan_digest=named, job_json=job_json)

    def images(self, salts: Salts = plain, done: Callable[[Iterable[bytes]], bool] | None = None) -> Iterator[PlannedImage]:
        """Every planned image in manifest order; the manifest is streamed again, a row group at a time. Raises: ManifestChanged.

        `done`: whether nothing is wanted of the images with these keys (16 bytes each); where it says so of all of a shard, the
        shard is passed over. What it is asked follows what it said, so that a start skips a million rows in seconds.
        """
        for shard in self._shards(salts, done):
            for row, salt in zip(shard.rows, salts([row.id for row in shard.rows]), strict=True):
                yield from plan_row(row, manifest.row_digest(row), self.intent, salt)

    def bad(self, salts: Salts = plain) -> Iterator[tuple[str, str, BadRow]]:
        """Rows that cannot be planned, with the image id under which each is recorded as failed and its salt. Raises: ManifestChanged."""
        for shard in self._shards():
            for row, salt in zip(shard.bad, salts([row.row_id for row in shard.bad]), strict=True):
                yield invalid_image_id(row.row_id, row.row, row.digest, salt), salt, row

    def image_keys(self, salts: Salts = plain) -> Iterator[bytes]:
        """The image ids of everything that is planned, 16 bytes each, bad rows' last. Raises: ManifestChanged."""
        ids = ImageIds(self.intent)
        if self.bad_rows:
            yield from (bytes.fromhex(image.image_id) for image in self.images(salts))
            yield from (bytes.fromhex(image_id) for image_id, _, _ in self.bad(salts))
            return
        require_same(self.job.manifest, self.manifest_stamp)
        for raws in manifest.raw_rows(self.job.manifest):
            require_same(self.job.manifest, self.manifest_stamp)
            yield from _keys(ids, raws, salts)

    def _shards(self, salts: Salts = plain, done: Callable[[Iterable[bytes]], bool] | None = None) -> Iterator[Shard]:
        """The manifest's shards, each only if its files are still those that were planned."""
        uri, ids = self.job.manifest, ImageIds(self.intent)
        require_same(uri, self.manifest_stamp)
        if done is None or self.bad_rows:
            shards = manifest.read(uri, self.rules)
        else:
            shards = manifest.read_on(uri, self.rules, lambda raws: done(_keys(ids, raws, salts)))
        for shard in shards:
            require_same(uri, self.manifest_stamp)
            yield shard


def _keys(ids: ImageIds, raws: Sequence[Mapping[str, Any]], salts: Salts) -> Iterator[bytes]:
    """The image ids of raw rows. Their salts are asked for together: one by one that would take longer than all the rest."""
    for raw, salt in zip(raws, salts([raw["id"] for raw in raws]), strict=True):
        yield from ids.of(raw, salt)


def resolve_job(job: JobSettings, *, skip_invalid: bool = False) -> ResolvedJob:
    """Read everything the job names. Raises: ManifestError naming every fault, WeightsError, JobError, StorageRefused."""
    weights = resolve_weights(job.model)
    before = stamp_or_none(job.manifest)
    rules = Rules(adapters=frozenset(job.model.adapters), forbidden_words=job.forbidden_words, control=job.model.controlnet is not None)
    _refuse_default_adapter(job)
    try:
        read = survey(job, rules, weights, before, skip_invalid=skip_invalid)
    except NotStored as error:
        raise ManifestError("no such manifest", job.manifest, "check `manifest:` in the job file, or pass --manifest") from error
    inputs = {uri: _digest_input(uri, job) for uri in sorted(read.inputs)}
    _refuse_masks(read.masked, {uri: size for uri, (_, size) in inputs.items()})
    input_digests = {uri: digest for uri, (digest, _) in inputs.items()}
    adapters = {adapter.name: f"{adapter.sha256} at {adapter.scale}" for adapter in weights.adapters}
    words = {one.word: one.sha256 for one in weights.embeddings}
    intent = Intent(job, weights.digest, adapters, input_digests, weights.control.identity if weights.control else "", words)
    job_json = _job_json(job, weights, read.manifest_digest)
    settings_digest = hashlib.sha256(job_json).hexdigest()
    digest = plan_digest(read.manifest_digest, settings_digest, read.planned)
    require_same(job.manifest, before)
    counts, notes = (read.planned, read.rows, read.bad), (*weights.warnings, *_long_prompts(job, read))
    return ResolvedJob(job, weights, intent, rules, read.manifest_digest, settings_digest, digest, *counts, job_json, before, notes)


def _long_prompts(job: JobSettings, read: Survey) -> list[str]:
    """What is said of prompts that are longer than the model reads."""
    if not read.long_count:
        return []
    rows = "; ".join(f"row {row_id!r}: {shortened(lost)!r}" for row_id, lost in read.long)
    if job.model.long_prompts == "chunk":
        return [f"{read.long_count} prompts are longer than the model reads at once, and are encoded in chunks"]
    return [f"{read.long_count} prompts are longer than the model reads; these words are lost ({rows}): see model.long_prompts"]


def _refuse_default_adapter(job: JobSettings) -> None:
    text = chosen(None, job.defaults.adapter, job.defaults.adapters)
    for name, _ in parse(text) if text else ():
        if name not in job.model.adapters:
            known = ", ".join(sorted(job.model.adapters)) or "none"
            raise JobError(f"no adapter {name!r}", "defaults.adapter", f"name some of model.adapters ({known})")


def _refuse_masks(masked: Iterable[tuple[str, str, str]], sizes: Mapping[str, tuple[int, int]]) -> None:
    """A mask says which pixels of its picture stay: it must have its size. Raises: ManifestError."""
    for init, mask, row_id in sorted(masked):
        if sizes[init] != sizes[mask]:
            (a, b), (c, d) = sizes[init], sizes[mask]
            raise ManifestError(f"mask_image is {c}x{d}, init_image is {a}x{b}", f"row id {row_id!r}", "make them equal")


def _digest_input(uri: str, job: JobSettings) -> tuple[str, tuple[int, int]]:
    """SHA-256 and size of one input picture, read only under a prefix that the job allows. Raises: ManifestError."""
    where = f"input {uri!r}"
    if not _allowed(uri, job.inputs.allow):
        raise ManifestError("this input lies under no allowed prefix", where, "add its folder to inputs.allow in the job file")
    try:
        with open_input(uri) as file:
            data = file.read(job.inputs.bytes_max + 1)
    except (NotStored, StorageRefused) as error:
        raise ManifestError("this input picture cannot be read", where, "check the path and its permissions") from error
    if len(data) > job.inputs.bytes_max:
        raise ManifestError("this input picture is too large", where, f"at most {job.inputs.bytes_max} bytes (inputs.bytes_max)")
    try:
        return hashlib.sha256(data).hexdigest(), size_of(data)
    except PictureError as error:
        raise ManifestError(f"this input picture cannot be used: {error.what}", where, error.remedy) from error


def _allowed(uri: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a path, links resolved, or an S3 URI lies below one of the prefixes."""
    from pathlib import Path

    if uri.startswith("s3://"):
        return any(uri.startswith(prefix.rstrip("/") + "/") for prefix in prefixes if prefix.startswith("s3://"))
    if "://" in uri:
        return False
    path = Path(uri).expanduser().resolve()
    return any(path.is_relative_to(Path(prefix).resolve()) for prefix in prefixes if "://" not in prefix)


def _job_json(job: JobSettings, weights: Resolved, manifest_digest: str) -> bytes:
    """The resolved job as it lies beside the output: settings, digests, licence; no secret can be in it."""
    content = {
        "renderfarm": __version__,
        "name": job.name,
        "settings": job.model_dump(mode="json", exclude=UNRECORDED),
        "manifest_digest": manifest_digest,
        "weights": {
            "name": weights.weights,
            "revision": weights.revision,
            "digest": weights.digest,
            "licence": weights.licence,
            "adapters": {adapter.name: adapter.sha256 for adapter in weights.adapters},
            "embeddings": {one.word: one.sha256 for one in weights.embeddings},
            "controlnet": weights.control and {"name": weights.control.weights, "digest": weights.control.digest},
        },
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
