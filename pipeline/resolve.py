"""What a job names by path or URI → digests, once, before anything renders: weights, adapters, manifest, input pictures.

A `ResolvedJob` is all that planning and rendering need to know of the outside; its `job_json` is written beside the output and its digest
enters every plan record. A manifest with faults stops here, or its bad rows are set aside with `skip_invalid`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline import __version__, manifest
from pipeline.errors import JobError, ManifestChanged, ManifestError, NotStored, RenderFailed, StorageRefused
from pipeline.job import JobSettings
from pipeline.manifest import BadRow, Rules, Shard
from pipeline.models import ModelSettings, Resolved
from pipeline.models import resolve as resolve_weights
from pipeline.models.families import FAMILIES
from pipeline.plan import Intent, invalid_image_id, plan_digest, plan_row
from pipeline.render.open import picture_size
from pipeline.schema import PlannedImage, PromptRow
from pipeline.storage import Storage, list_inputs, open_input, stamp
from pipeline.watermark import supported

JOB_FILE = "job.json"
JOB_FILE_BYTES_MAX = 16 << 20
FAULTS_SHOWN_MAX = 50
Stamp = tuple[tuple[str, int, float], ...]
UNRECORDED: Mapping[str, bool | Mapping[str, bool]] = {
    "schedule": True,
    "notify": True,
    "budget": True,
    "farm": {"metrics": True, "hang_seconds": True},
    "output": {"patience_seconds": True},
}
"""Settings that are not in job.json: they say when a job runs and who is told, and a change of them is no new plan."""


@dataclass(frozen=True, slots=True)
class ResolvedJob:
    """A job with every digest known. `planned` counts images, bad rows that were set aside included.

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

    def images(self) -> Iterator[PlannedImage]:
        """Every planned image in manifest order; the manifest is streamed again, a row group at a time. Raises: ManifestChanged."""
        for shard in self._shards():
            for row in shard.rows:
                yield from plan_row(row, manifest.row_digest(row), self.intent)

    def bad(self) -> Iterator[tuple[str, BadRow]]:
        """Rows that cannot be planned, with the image id under which each is recorded as failed. Raises: ManifestChanged."""
        for shard in self._shards():
            for row in shard.bad:
                yield invalid_image_id(row.row_id, row.row, row.digest), row

    def _shards(self) -> Iterator[Shard]:
        """The manifest's shards, each only if its files are still those that were planned."""
        _require_same(self.job.manifest, self.manifest_stamp)
        for shard in manifest.read(self.job.manifest, self.rules):
            _require_same(self.job.manifest, self.manifest_stamp)
            yield shard


def _stamp(uri: str) -> Stamp:
    return stamp(list_inputs(uri, ".parquet"))


def _stamp_or_none(uri: str) -> Stamp:
    """Empty where nothing lies: reading it says so with a remedy."""
    try:
        return _stamp(uri)
    except NotStored:
        return ()


def _require_same(uri: str, before: Stamp) -> None:
    """Raises: ManifestChanged."""
    if _stamp_or_none(uri) != before:
        raise ManifestChanged(
            f"{uri}: the manifest was replaced while the job ran; what was rendered is committed. "
            "Run the same command again: the new manifest is planned then."
        )


def resolve_job(job: JobSettings, *, skip_invalid: bool = False) -> ResolvedJob:
    """Read everything the job names. Raises: ManifestError naming every fault, WeightsError, JobError, StorageRefused."""
    weights = resolve_weights(job.model)
    before = _stamp_or_none(job.manifest)
    rules = Rules(adapters=frozenset(job.model.adapters), forbidden_words=job.forbidden_words)
    _refuse_default_adapter(job)
    try:
        if not skip_invalid:
            _refuse_faults(job, rules)
        rows, bad_rows, planned, inputs, masked = _survey(job, rules, weights)
        manifest_digest = manifest.digest(job.manifest)
    except NotStored as error:
        raise ManifestError("no such manifest", job.manifest, "check `manifest:` in the job file, or pass --manifest") from error
    found = {uri: _digest_input(uri, job) for uri in sorted(inputs)}
    _refuse_masks(masked, {uri: size for uri, (_, size) in found.items()})
    input_digests = {uri: digest for uri, (digest, _) in found.items()}
    adapters = {adapter.name: f"{adapter.sha256} at {adapter.scale}" for adapter in weights.adapters}
    intent = Intent(job, weights.digest, adapters, input_digests)
    job_json = _job_json(job, weights, manifest_digest)
    settings_digest = hashlib.sha256(job_json).hexdigest()
    digest = plan_digest(manifest_digest, settings_digest, planned)
    _require_same(job.manifest, before)
    return ResolvedJob(job, weights, intent, rules, manifest_digest, settings_digest, digest, planned, rows, bad_rows, job_json, before)


def _refuse_default_adapter(job: JobSettings) -> None:
    if job.defaults.adapter is not None and job.defaults.adapter not in job.model.adapters:
        known = ", ".join(sorted(job.model.adapters)) or "none"
        raise JobError(f"no adapter {job.defaults.adapter!r}", "defaults.adapter", f"name one of model.adapters ({known})")


def _refuse_faults(job: JobSettings, rules: Rules) -> None:
    faults = manifest.check(job.manifest, rules)
    shown = [str(fault) for fault in itertools.islice(faults, FAULTS_SHOWN_MAX)]
    more = sum(1 for _ in faults)
    if shown:
        tail = [f"and {more} more: `renderfarm manifest check` lists them all"] if more else []
        count = len(shown) + more
        remedy = "mend the rows, or render the good ones with --skip-invalid"
        raise ManifestError("\n  ".join([f"{count} fault(s)", *shown, *tail]), job.manifest, remedy)


def _survey(job: JobSettings, rules: Rules, weights: Resolved) -> tuple[int, int, int, set[str], set[tuple[str, str, str]]]:
    """(good rows, bad rows, planned images, input URIs, (init, mask, row id) of inpainting) in one pass.

    Also refuses sizes that the mark or the model cannot work with, and init images that it cannot start from.
    """
    rows = bad = planned = 0
    inputs: set[str] = set()
    masked: dict[tuple[str, str], str] = {}
    for shard in manifest.read(job.manifest, rules):
        bad += len(shard.bad)
        for row in shard.rows:
            rows += 1
            planned += row.images if row.images is not None else job.defaults.images
            inputs.update(uri for uri in (row.init_image, row.mask_image) if uri)
            if row.init_image and row.mask_image:
                masked.setdefault((row.init_image, row.mask_image), row.id)
            _refuse_size(row, job, weights.size_multiple)
            _refuse_task(row, job, weights)
    return rows, bad, planned + bad, inputs, {(init, mask, row_id) for (init, mask), row_id in masked.items()}


def _refuse_task(row: PromptRow, job: JobSettings, weights: Resolved) -> None:
    steps = row.steps or job.defaults.steps
    if row.strength is not None and int(steps * row.strength) < 1:
        raise JobError(f"{steps} steps at strength {row.strength:g} leave nothing to draw", f"row id {row.id!r}", "raise one of them")
    family = next((family for family in FAMILIES if family.name == weights.family), None)
    if row.init_image is None or family is None:
        return
    if not (family.inpaint if row.mask_image else family.image):
        what = "inpainting" if row.mask_image else "image-to-image"
        remedy = "remove its init_image and mask_image, or use weights of another family"
        raise JobError(f"{weights.pipeline_class} has no {what}", f"row id {row.id!r}", remedy)


def _refuse_masks(masked: set[tuple[str, str, str]], sizes: Mapping[str, tuple[int, int]]) -> None:
    """A mask says which pixels of its picture stay: it must have its size. Raises: ManifestError."""
    for init, mask, row_id in sorted(masked):
        if sizes[init] != sizes[mask]:
            (a, b), (c, d) = sizes[init], sizes[mask]
            raise ManifestError(f"mask_image is {c}x{d}, init_image is {a}x{b}", f"row id {row_id!r}", "make them equal")


def _refuse_size(row: PromptRow, job: JobSettings, multiple: int) -> None:
    width, height = row.width or job.defaults.width, row.height or job.defaults.height
    if width % multiple or height % multiple:
        remedy = f"choose a width and height that are multiples of {multiple}"
        raise JobError(f"{width}x{height} pictures do not fit these weights", f"row id {row.id!r}", remedy)
    if not (job.mark.allow_unmarked or supported(width, height)):
        raise JobError(
            f"{width}x{height} pictures cannot carry the watermark (mark: unsupported)",
            f"row id {row.id!r}",
            "render at least 256 pixels on the short side, or set mark.allow_unmarked: true",
        )


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
        return hashlib.sha256(data).hexdigest(), picture_size(data)
    except RenderFailed as error:
        raise ManifestError(f"this input picture cannot be used: {error}", where, "give a whole picture file") from error


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
        },
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class JobFile:
    """What job.json says that outlives versions of this program: read without judging the rest of its settings."""

    name: str
    attempts: int
    quality: int
    model: Mapping[str, object]
    checks: Mapping[str, object]
    keys: str | None
    media_type: str
    allow_unmarked: bool

    def model_settings(self) -> ModelSettings:
        """The model's settings. Raises: JobError when this version does not understand them."""
        try:
            return ModelSettings.model_validate(self.model)
        except ValueError as error:
            what = f"the model's settings were written by another version: {error}"
            raise JobError(what, JOB_FILE, "use the version that the records name (renderfarm_version)") from error


def read_job_file(storage: Storage) -> JobFile:
    """The job that wrote an output. Raises: JobError where there is none."""
    try:
        content = json.loads(storage.get(JOB_FILE, JOB_FILE_BYTES_MAX))
        settings = content["settings"]
        quality, attempts = int(settings["output"]["quality"]), int(settings["checks"]["attempts"])
        keys = settings.get("keys")
        named = keys if isinstance(keys, str) else None
        media_type, unmarked = f"image/{settings['output'].get('format', 'png')}", settings.get("mark", {}).get("allow_unmarked") is True
        return JobFile(
            str(content["name"]), attempts, quality, dict(settings["model"]), dict(settings["checks"]), named, media_type, unmarked
        )
    except (NotStored, ValueError, KeyError, TypeError) as error:
        remedy = "name the folder or prefix that a job wrote"
        raise JobError("no output of a job: job.json is missing or damaged", storage.uri, remedy) from error
