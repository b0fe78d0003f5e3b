"""The first look at a manifest: every row judged, counted and digested in one pass, and what was found remembered.

A manifest of a million rows takes half a minute to judge. What one look found is kept in the user's cache under everything that it
follows from: the files as they were (name, size, times, inode or ETag), the job's settings, the weights, and the code that judges. Files
that changed within the last seconds are not remembered, since they could change again without it being seen; and a memory that is not
as it was written is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from renderfarm import cache, manifest
from renderfarm.errors import JobError, ManifestChanged, ManifestError, NotStored
from renderfarm.job import JobSettings
from renderfarm.manifest import Rules
from renderfarm.manifest.weighted import WEIGHT_MAX, means_weights, pieces
from renderfarm.models import Resolved
from renderfarm.models.families import family_of
from renderfarm.models.prompts import Reader, reader_of
from renderfarm.models.sampling import RESCALED
from renderfarm.render.renderer import STRENGTH
from renderfarm.schema import PromptRow
from renderfarm.storage import FileStamp, stamp
from renderfarm.version import __version__
from renderfarm.watermark import supported

FAULTS_SHOWN_MAX = 50
LONG_MAX = 3
"""Rows with long prompts that the plan names."""
REMEMBERED_MAX = 32
INPUTS_REMEMBERED_MAX = 10_000
"""A memory with more input pictures is not kept: they are read and hashed anew in any case, which takes longer than the look."""
SETTLED_S = 3.0
"""Storages that tell times of change in whole seconds cannot tell two changes within one."""
JUDGES = ("manifest/*.py", "resolve/*.py", "watermark/*.py", "models/families.py", "models/prompts.py", "models/sampling.py", "schema.py")
"""The code that a look follows from."""
Stamp = tuple[FileStamp, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a manifest holds for a job: `rows` good and `bad` bad rows, `planned` images (a bad row counts as one), the input pictures'
    URIs, and of inpainting (init image, mask, id of the first row with both)."""

    manifest_digest: str
    rows: int
    bad: int
    planned: int
    inputs: tuple[str, ...]
    masked: tuple[tuple[str, str, str], ...]
    long: tuple[tuple[str, str], ...] = ()
    """(row id, the end of its prompt that the model does not read) of the first `LONG_MAX` that are longer than that."""
    long_count: int = 0


def survey(
    job: JobSettings,
    rules: Rules,
    weights: Resolved,
    before: Stamp,
    *,
    skip_invalid: bool,
    look: Callable[[JobSettings, Rules, Resolved], Survey] | None = None,
    clock: Callable[[], float] = time.time,
) -> Survey:
    """Looks at the job's manifest, or remembers how it looked. `before`: its stamp; look: for tests, what looks in its place.

    Raises: ManifestError naming every fault, unless `skip_invalid` sets bad rows aside; JobError; NotStored, StorageRefused.
    """
    memory = _memory(job, weights, before)
    judged = _recall(memory)
    if judged is None:
        try:
            judged = (look or _look)(job, rules, weights)
        except (ManifestError, JobError):
            if not skip_invalid:
                _refuse_faults(job, rules)
            raise
        require_same(job.manifest, before)
        if _settled(before, clock()) and len(judged.inputs) + len(judged.masked) <= INPUTS_REMEMBERED_MAX:
            _remember(memory, judged)
    if judged.bad and not skip_invalid:
        _refuse_faults(job, rules)
    return judged


def _look(job: JobSettings, rules: Rules, weights: Resolved) -> Survey:
    """One pass. Also refuses sizes that the mark or the model cannot work with, and init images that it cannot start from."""
    rows = bad = planned = 0
    inputs: set[str] = set()
    masked: dict[tuple[str, str], str] = {}
    running = manifest.Running()
    refuser, long, long_count = Refuser(job, weights), list[tuple[str, str]](), 0
    for shard in manifest.read(job.manifest, rules, running):
        bad += len(shard.bad)
        for row in shard.rows:
            rows += 1
            planned += row.images if row.images is not None else job.defaults.images
            inputs.update(uri for uri in (row.init_image, row.mask_image, row.control_image) if uri)
            if row.init_image and row.mask_image:
                masked.setdefault((row.init_image, row.mask_image), row.id)
            if lost := refuser.look(row):
                long_count += 1
                long += [(row.id, lost)][: LONG_MAX - len(long)]
    pairs = tuple((init, mask, row_id) for (init, mask), row_id in masked.items())
    return Survey(running.hexdigest(), rows, bad, planned + bad, tuple(sorted(inputs)), pairs, tuple(long), long_count)


class Refuser:
    """What a job cannot render of single rows, for whoever looks at rows before a run does."""

    def __init__(self, job: JobSettings, weights: Resolved) -> None:
        self._job, self._weights, self._reader = job, weights, _reader(weights)

    def look(self, row: PromptRow) -> str:
        """The words of the row that its model does not read. Raises: JobError for a row that is not rendered as it asks."""
        _refuse_size(row, self._job, self._weights)
        _refuse_task(row, self._job, self._weights)
        _refuse_weights(row, self._job)
        return _lost(row, self._job, self._reader)


def _reader(weights: Resolved) -> Reader | None:
    return reader_of(Path(weights.path), weights.pipeline_class, {one.word: one.vectors for one in weights.embeddings})


def _settled(files: Stamp, now: float) -> bool:
    """Whether the files lie there unchanged for a while, by this machine's clock; one that was put there with an old time does not."""
    changed = [max(file.modified_s, 0.0 if file.uri.startswith("s3://") else int(file.version.split()[0]) / 1e9) for file in files]
    return now - max(changed, default=0.0) > SETTLED_S


def _memory(job: JobSettings, weights: Resolved, files: Stamp) -> Path:
    """Where a look under these circumstances is remembered."""
    code = [path for name in JUDGES for path in sorted(Path(__file__).parents[1].glob(name))]
    written = [(path.name, stat.st_size, stat.st_mtime_ns) for path in code for stat in (path.stat(),)]
    facts = [
        __version__,
        job.model_dump(mode="json"),
        weights.digest,
        sorted(weights.beside.items()),
        weights.pipeline_class,
        weights.size_multiple,
        files,
        written,
    ]
    return cache.cache_folder() / "manifests" / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _recall(memory: Path) -> Survey | None:
    """A memory that cannot be read, or is not as it was written, is none."""
    try:
        digest, _, text = memory.read_text().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return None
        remembered = json.loads(text)
        masked = tuple((str(init), str(mask), str(row_id)) for init, mask, row_id in remembered["masked"])
        inputs = tuple(str(uri) for uri in remembered["inputs"])
        long = tuple((str(row_id), str(lost)) for row_id, lost in remembered["long"])
        rows, bad, planned, long_count = (int(remembered[name]) for name in ("rows", "bad", "planned", "long_count"))
        return Survey(str(remembered["manifest_digest"]), rows, bad, planned, inputs, masked, long, long_count)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: Path, judged: Survey) -> None:
    """The oldest are dropped."""
    text = json.dumps(dataclasses.asdict(judged))
    cache.write(memory, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    with contextlib.suppress(OSError):
        for old in sorted(memory.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-REMEMBERED_MAX]:
            old.unlink(missing_ok=True)


def _refuse_faults(job: JobSettings, rules: Rules) -> None:
    faults = manifest.check(job.manifest, rules)
    named = [str(fault) for fault in itertools.islice(faults, FAULTS_SHOWN_MAX)]
    more = sum(1 for _ in faults)
    if named:
        tail = [f"and {more} more: `renderfarm manifest check` lists them all"] if more else []
        count = len(named) + more
        remedy = "mend the rows, or render the good ones with --skip-invalid"
        raise ManifestError(f"{count} fault(s)", job.manifest, remedy, [*named, *tail])


def _refuse_task(row: PromptRow, job: JobSettings, weights: Resolved) -> None:
    """What the row asks for and the weights' pipeline would leave out without a word. Raises: JobError."""
    steps, family, where = row.steps or job.defaults.steps, family_of(weights.pipeline_class), f"row id {row.id!r}"
    rungs = [rung.negative_prompt for rung in job.checks.ladder]
    takes_negatives = family.negative or (job.model.true_cfg or 0) > 1
    if not takes_negatives and any((job.negative_prompt, row.negative_prompt, *rungs)):
        place = where if row.negative_prompt else "negative_prompt" if job.negative_prompt else "checks.ladder"
        raise JobError(f"{weights.pipeline_class} takes no negative prompt", place, "remove it, or say in the prompt what should be there")
    task = "text" if row.init_image is None else "inpaint" if row.mask_image else "image"
    if job.model.guidance_rescale and (row.control_image or task not in RESCALED.get(family.name, ())):
        what = f"diffusers does not rescale guidance when {weights.pipeline_class} starts from a picture or has a ControlNet"
        raise JobError(what, where, "remove model.guidance_rescale, or render these rows by a job of their own")
    if row.strength is not None and not family.by_strength:
        what = f"{weights.pipeline_class} looks at its init_image and does not start from it: strength has no meaning"
        raise JobError(what, where, "remove the strength")
    strength = 1.0 if row.init_image is None or not family.by_strength else row.strength
    strength = STRENGTH["inpaint" if row.mask_image else "image"] if strength is None else strength
    if int(steps * strength) < 1:
        raise JobError(f"{steps} steps at strength {strength:g} leave nothing to draw", where, "raise one of them")
    most = int(weights.steps_max * strength) if family.name == "lcm" else weights.steps_max
    if weights.steps_max and max(steps, *(rung.steps or 0 for rung in job.checks.ladder), 0) > most:
        raise JobError(f"{weights.scheduler} was distilled to at most {most} steps, and this asks for more", where, "ask for fewer")
    if row.control_image and row.init_image and family.prediction == "flow":
        what = f"{weights.pipeline_class} is guided by a ControlNet from words alone, and this row has an init_image as well"
        raise JobError(what, where, "remove one of them")
    if row.init_image is None and not family.text:
        what = f"{weights.pipeline_class} draws only inside masks, and this row has none"
        raise JobError(what, where, "give it an init_image and a mask_image")
    if row.init_image is None:
        return
    if family.prediction == "flow" and family.by_strength and weights.scheduler != "FlowMatchEulerDiscreteScheduler":
        raise JobError(f"{weights.scheduler} cannot start from a picture in a flow", where, "set model.scheduler: flow_euler")
    if not (family.inpaint if row.mask_image else family.image):
        what = "inpainting" if row.mask_image else "image-to-image"
        remedy = "remove its init_image and mask_image, or use weights of another family"
        raise JobError(f"{weights.pipeline_class} has no {what}", where, remedy)


def _refuse_weights(row: PromptRow, job: JobSettings) -> None:
    """What a front end would read as weights and these settings do not. Raises: JobError."""
    where, wanted = f"row id {row.id!r}", job.model.prompt_weights
    texts = (row.prompt, row.negative_prompt or "", job.negative_prompt or "")
    if wanted == "refuse" and (meant := next(filter(None, map(means_weights, texts)), "")):
        remedy = "set model.prompt_weights: read (Stable Diffusion 1/2, SDXL), or letters to have it drawn as it stands"
        raise JobError(f"the prompt holds {shortened(meant)!r}, which diffusers does not read as a weight or a break", where, remedy)
    weights = (weight for text in texts for piece in pieces(text) for _, weight in piece) if wanted == "read" else ()
    if any(not 0 <= weight <= WEIGHT_MAX for weight in weights):
        raise JobError("a weight in the prompt is none", where, f"weights go from 0 to {WEIGHT_MAX:g}")


def _lost(row: PromptRow, job: JobSettings, reader: Reader | None) -> str:
    """The words of the row's prompts that the model does not read. Raises: JobError where the job refuses that."""
    negative = ", ".join(part for part in (job.negative_prompt, row.negative_prompt) if part)
    lost = reader and (reader.lost(row.prompt) or reader.lost(negative))
    if lost and job.model.long_prompts == "refuse":
        what = f"the prompt is longer than these weights read: {shortened(lost)!r} would be lost"
        raise JobError(what, f"row id {row.id!r}", "say it in fewer words, or set model.long_prompts")
    return lost or ""


def shortened(text: str, chars_max: int = 60) -> str:
    """A text for one line."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _refuse_size(row: PromptRow, job: JobSettings, weights: Resolved) -> None:
    width, height, multiple = row.width or job.defaults.width, row.height or job.defaults.height, weights.size_multiple
    if weights.side_max and max(width, height) > weights.side_max:
        remedy = f"choose a width and height of at most {weights.side_max}"
        raise JobError(f"{width}x{height} pictures are larger than these weights know positions for", f"row id {row.id!r}", remedy)
    if width % multiple or height % multiple:
        drawn = f"{-(-width // multiple) * multiple}x{-(-height // multiple) * multiple}"
        remedy = f"choose a width and height that are multiples of {multiple}, such as {drawn}: cutting to a size is not done yet"
        raise JobError(f"{width}x{height} pictures do not fit these weights", f"row id {row.id!r}", remedy)
    if not (job.mark.allow_unmarked or supported(width, height)):
        raise JobError(
            f"{width}x{height} pictures cannot carry the watermark (mark: unsupported)",
            f"row id {row.id!r}",
            "render at least 256 pixels on the short side, or set mark.allow_unmarked: true",
        )


def stamp_or_none(uri: str) -> Stamp:
    """Empty where nothing lies: reading it says so with a remedy."""
    try:
        return stamp(uri, ".parquet")
    except NotStored:
        return ()


def require_same(uri: str, before: Stamp) -> None:
    """That the files are those of before; a local one may have got another owner, mode or link meanwhile. Raises: ManifestChanged."""
    if _content(stamp_or_none(uri)) != _content(before):
        raise ManifestChanged(
            f"{uri}: the manifest was replaced while the job ran; what was rendered is committed. "
            "Run the same command again: the new manifest is planned then."
        )


def _content(files: Stamp) -> Stamp:
    return tuple(file if file.uri.startswith("s3://") else file._replace(version="") for file in files)
