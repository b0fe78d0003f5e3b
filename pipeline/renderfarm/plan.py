"""Rows → images, seeds and batches. Pure: the same row, job and digests always give the same plan.

An `image_id` covers what changes pixels *by intent*: prompts, size, steps, guidance, scheduler, weights, adapter, inputs, seed. It leaves
out batch size, memory mode, checks, file format, keys and output, so that changing those renders nothing again. A seed never depends on
the prompt or on the image_id, so that editing one word, or previewing with fewer steps, keeps the noise.

In a new output every id and digest of a row is hashed with the row's salt (`records.salts`), so that nobody tests a guess against
it. Seeds are not: the noise stays where the salt was forgotten. An output that began before record version 4 has no salts ("").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring
from typing import Any

from renderfarm.job import JobSettings
from renderfarm.manifest import adapters
from renderfarm.manifest.rows import shortest
from renderfarm.manifest.weighted import has_syntax
from renderfarm.schema import Attempt, PlannedImage, PromptRow

SEED_BITS = 48
"""Derived seeds stay below 2^53, so that every JSON reader keeps them whole."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What all images of a plan share: the job's defaults and the digests that `resolve` found. Digests are SHA-256 in hex."""

    job: JobSettings
    weights_digest: str
    adapter_digests: Mapping[str, str] = field(default_factory=dict)
    input_digests: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    """The ControlNet's digest and scale; empty without one."""
    embedding_digests: Mapping[str, str] = field(default_factory=dict)
    """Word → digest of its textual inversion."""


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What images must share to be rendered in one call of a diffusers pipeline."""

    width: int
    height: int
    steps: int
    guidance: float
    adapter: str | None
    has_init: bool
    has_mask: bool
    strength: float | None
    has_control: bool = False


def plan_row(row: PromptRow, row_digest: str, intent: Intent, salt: str = "") -> tuple[PlannedImage, ...]:
    """All images of one row, in index order. `row_digest`: of what the row says, plain; `salt`: of the row, 32 hex digits or ""."""
    count = row.images if row.images is not None else intent.job.defaults.images
    digest = salted_row_digest(row_digest, salt)
    return tuple(_plan_image(row, digest, index, intent, salt) for index in range(count))


def _plan_image(row: PromptRow, row_digest: str, index: int, intent: Intent, salt: str) -> PlannedImage:
    job, defaults = intent.job, intent.job.defaults
    image = PlannedImage(
        image_id="",
        row_id=row.id,
        row_digest=row_digest,
        index=index,
        prompt=row.prompt,
        negative_prompt=", ".join(part for part in (job.negative_prompt, row.negative_prompt) if part),
        seed=first_seed(row.seed, job.seed, row.id, index),
        width=row.width or defaults.width,
        height=row.height or defaults.height,
        steps=row.steps or defaults.steps,
        guidance=row.guidance if row.guidance is not None else defaults.guidance,
        text=row.text,
        objects=row.objects,
        adapter=adapters.chosen(row.adapter, defaults.adapter, defaults.adapters),
        init_image=row.init_image,
        init_digest=intent.input_digests.get(row.init_image) if row.init_image else None,
        mask_image=row.mask_image,
        mask_digest=intent.input_digests.get(row.mask_image) if row.mask_image else None,
        strength=row.strength,
        tags=row.tags,
        control_image=row.control_image,
        control_digest=intent.input_digests.get(row.control_image) if row.control_image else None,
        salt=salt,
    )
    image_id = _image_id(image, intent)
    return replace(image, image_id=image_id, drawing_id=image_id)  # one sheet a drawing, as long as nothing is laid over it


def _image_id(image: PlannedImage, intent: Intent) -> str:
    """32 hex digits over the intent, as canonical JSON under a domain of its own."""
    content = {
        "row": image.row_id,
        "index": image.index,
        "prompt": image.prompt,
        "negative_prompt": image.negative_prompt,
        "seed": image.seed,
        "size": [image.width, image.height],
        "steps": image.steps,
        "guidance": image.guidance,
        "scheduler": intent.job.model.scheduler,
        "weights": intent.weights_digest,
        "adapter": adapters.identity(image.adapter, intent.adapter_digests),
        "init": image.init_digest,
        "mask": image.mask_digest,
        "strength": image.strength,
    }
    if image.control_image is not None:
        content["control"] = [intent.control, image.control_digest]
    if intent.job.model.lossy.name:
        content["lossy"] = intent.job.model.lossy.name
    if intent.job.model.altered:
        content["model"] = intent.job.model.altered
    if words := embedded(intent, image.prompt, image.negative_prompt):
        content["embeddings"] = words
    if in_chunks(intent.job, image.prompt, image.negative_prompt):
        content["long_prompts"] = "chunk"
    if intent.job.model.prompt_weights == "read" and weights_in(image.prompt, image.negative_prompt):
        content["prompt_weights"] = "read"
    if image.salt:
        content["salt"] = image.salt
    return _digest("image 2" if image.salt else "image 1", content)[:32]


class ImageIds:
    """The image ids of raw rows (see `manifest.rows`) that are known to be good: what `plan_row` gives, in a tenth of the time.

    So a start passes over what is done already. The same canonical JSON, written by a template whose constants are filled in once.
    """

    def __init__(self, intent: Intent) -> None:
        self._intent = intent
        model = intent.job.model
        self._lossy = f'"lossy":{_text(model.lossy.name)},' if model.lossy.name else ""
        self._altered = f'"model":{_canonical(model.altered)},' if model.altered else ""
        self._tail = f'"weights":{_text(intent.weights_digest)}}}]'
        self._scheduler = _text(model.scheduler)

    def of(self, raw: Mapping[str, Any], salt: str = "") -> list[bytes]:
        """16 bytes for each image of the row, in index order. `salt` as of `plan_row`."""
        intent, value = self._intent, raw.get
        job, defaults = intent.job, intent.job.defaults
        row, seed, init, mask, control = raw["id"], value("seed"), value("init_image"), value("mask_image"), value("control_image")
        adapter = adapters.chosen(value("adapter"), defaults.adapter, defaults.adapters)
        guidance = defaults.guidance if value("guidance") is None else shortest(raw["guidance"])
        strength = "null" if value("strength") is None else repr(shortest(raw["strength"]))
        negative = ", ".join(part for part in (job.negative_prompt, value("negative_prompt")) if part)
        adapter_json = _text(adapters.identity(adapter, intent.adapter_digests))
        init_json, mask_json = (_text(intent.input_digests.get(uri) if uri else None) for uri in (init, mask))
        control_json = f'"control":[{_text(intent.control)},{_text(intent.input_digests.get(control))}],' if control is not None else ""
        chunked = '"long_prompts":"chunk",' if in_chunks(job, raw["prompt"], negative) else ""
        words = embedded(intent, raw["prompt"], negative) if intent.embedding_digests else {}
        words_json = f'"embeddings":{_canonical(words)},' if words else ""
        weighted = '"prompt_weights":"read",' if job.model.prompt_weights == "read" and weights_in(raw["prompt"], negative) else ""
        version, salt_json = (2, f'"salt":"{salt}",') if salt else (1, "")
        head = f'["renderfarm image {version}",{{"adapter":{adapter_json},{control_json}{words_json}"guidance":{guidance!r},"index":'
        middle = (
            f',"init":{init_json},{chunked}{self._lossy}"mask":{mask_json},{self._altered}"negative_prompt":{_text(negative)},'
            f'"prompt":{_text(raw["prompt"])},{weighted}"row":{_text(row)},{salt_json}"scheduler":{self._scheduler},"seed":'
        )
        tail = (
            f',"size":[{value("width") or defaults.width},{value("height") or defaults.height}],"steps":{value("steps") or defaults.steps},'
            f'"strength":{strength},{self._tail}'
        )
        count = defaults.images if value("images") is None else raw["images"]
        texts = (f"{head}{i}{middle}{first_seed(seed, job.seed, row, i)}{tail}" for i in range(count))
        return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]


SHORT_BYTES = 30
"""A text of so few bytes is no long prompt for any CLIP: its tokens are at least a byte each."""


def in_chunks(job: JobSettings, prompt: str, negative: str) -> bool:
    """Whether the job's `long_prompts: chunk` may change this picture, as far as can be told without the tokenizer."""
    long = max(len(prompt.encode("utf-8", "surrogatepass")), len(negative.encode("utf-8", "surrogatepass"))) > SHORT_BYTES
    return long and job.model.long_prompts == "chunk"


def embedded(intent: Intent, *texts: str) -> dict[str, str]:
    """The textual inversions whose words stand in a text, with their digests."""
    return {word: digest for word, digest in intent.embedding_digests.items() if any(word in text for text in texts)}


def weights_in(*texts: str) -> bool:
    """Whether a text holds anything that who reads weights does not read as letters."""
    return any(map(has_syntax, texts))


def _text(value: str | None) -> str:
    """A string as JSON has it, unescaped beyond ASCII."""
    return "null" if value is None else encode_basestring(value)


def salted_row_digest(digest: str, salt: str) -> str:
    """What a record says of a row: its digest, salted where there is a salt."""
    return _digest("row 2", [salt, digest]) if salt else digest


def salted_manifest_digest(digest: str, salt: str) -> str:
    """What records and job.json say of a manifest. `salt`: of the output, 32 hex digits, or ""."""
    return _digest("manifest 2", [salt, digest]) if salt else digest


def invalid_image_id(row_id: str, row: int, digest: str, salt: str = "") -> str:
    """The id under which a row that cannot be planned is recorded as failed. `digest`: of the row, plain."""
    return _digest("invalid row 2", [salt, row_id, row, digest])[:32] if salt else _digest("invalid row 1", [row_id, row, digest])[:32]


def first_seed(row_seed: int | None, job_seed: int, row_id: str, index: int) -> int:
    """The noise of attempt 1. A row's own seed is used as it is for index 0."""
    if row_seed is not None and index == 0:
        return row_seed
    origin = f'"row",{row_seed}' if row_seed is not None else f'"job",{job_seed},{_text(row_id)}'
    return _seed(f"[{origin},{index}]")


def attempt_of(image: PlannedImage, number: int) -> Attempt:
    """The attempt `number` (from 1) of an image; every attempt has noise of its own, derived from the first's."""
    return Attempt(image, number, image.seed if number == 1 else _seed(f'["retry",{image.seed},{image.index},{number}]'))


def drawing_of(attempt: Attempt) -> tuple[object, ...]:
    """What two attempts share that are drawn as one: the drawing, the attempt's noise, and what a rung of the ladder may change."""
    image = attempt.image
    return image.drawing_id or image.image_id, attempt.number, attempt.seed, image.steps, image.guidance, image.negative_prompt


def drawn_once(attempts: Sequence[Attempt]) -> tuple[tuple[Attempt, ...], tuple[int, ...]]:
    """The first attempt of each drawing, in order, and for each attempt which of these is drawn for it."""
    first: dict[tuple[object, ...], int] = {}
    places = tuple(first.setdefault(drawing_of(attempt), len(first)) for attempt in attempts)
    return tuple(attempts[places.index(place)] for place in range(len(first))), places


def on_ladder(attempt: Attempt, rejected: int, job: JobSettings) -> Attempt:
    """The attempt as the job's ladder renders it after so many rejections of its image.

    The image keeps its id and its seeds: what was asked for is the same, and what was really used stands in the record. A rung is added to
    what the row and the job ask for, not to the rung before it.
    """
    rung = next((rung for rung in reversed(job.checks.ladder) if rung.after <= rejected), None)
    if rung is None:
        return attempt
    image = attempt.image
    negative = ", ".join(part for part in (image.negative_prompt, rung.negative_prompt) if part)
    steps, guidance = max(image.steps, rung.steps or 0), max(image.guidance, rung.guidance or 0.0)
    return replace(attempt, image=replace(image, steps=steps, guidance=guidance, negative_prompt=negative))


def _seed(origin: str) -> int:
    """From its origin as canonical JSON."""
    data = f'["renderfarm seed 1",{origin}]'.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[: SEED_BITS // 8])


def batch_key(image: PlannedImage) -> BatchKey:
    """Images with equal keys may share a batch."""
    return BatchKey(
        image.width,
        image.height,
        image.steps,
        image.guidance,
        image.adapter,
        image.init_image is not None,
        image.mask_image is not None,
        image.strength,
        image.control_image is not None,
    )


def mixed_key(image: PlannedImage) -> BatchKey:
    """As `batch_key`, for a renderer with slots: steps and guidance may differ, but for whether there is any guidance."""
    key = batch_key(image)
    return key if key.has_init or key.has_control else replace(key, steps=0, guidance=float(image.guidance > 1))


def batches(attempts: Iterable[Attempt], size: int) -> list[tuple[Attempt, ...]]:
    """Attempts grouped by batch key, at most `size` together; groups in the order of their first member, members in theirs."""
    groups: dict[BatchKey, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(batch_key(attempt.image), []).append(attempt)
    return [tuple(group[at : at + size]) for group in groups.values() for at in range(0, len(group), size)]


def plan_digest(manifest_digest: str, settings_digest: str, planned: int) -> str:
    """SHA-256 that names one plan; equal plans are recorded once."""
    return _digest("plan 1", [manifest_digest, settings_digest, planned])


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _digest(domain: str, content: Mapping[str, object] | Sequence[object]) -> str:
    data = _canonical([f"renderfarm {domain}", content])
    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()
