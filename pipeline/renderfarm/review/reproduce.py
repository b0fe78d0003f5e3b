"""Renders a recorded image again from its record alone, compares, and says what could explain a difference.

The rendering itself is an argument, so nothing here needs a GPU or Ray. What is compared is what ships: the new rendering
gets the same watermark payload, and for a lossy format goes through the same encoder, before it is held against the
decoded file. The order is: file as recorded? → its mark's key at hand? → render → mark → encode → compare → explain.
Without the key there is no answer: a mark alone is a dozen grey levels, so "different" would be said of every picture.

A repeat on the same machine in the same batch is bit-identical; the same attempt in a batch of another size differs by one
grey level (measured with torch 2.13 on CPU), another device or version by more. So the attempts that shared the batch are
rendered along, from their own records, where the log has all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from renderfarm import keys, pictures
from renderfarm.errors import KeysError, NotStored, PictureError, RenderFailed, UserError
from renderfarm.log.find import image_named, records_of
from renderfarm.manifest.adapters import parse, spelled
from renderfarm.models import ModelSettings, beside, resolve
from renderfarm.pictures import Pixels, decode, encode
from renderfarm.render import CHUNK_END, Renderer
from renderfarm.resolve import read_job_file
from renderfarm.schema import PLAIN_VERSION, RECORD_FIELDS, Attempt, PlannedImage, Record, RenderInfo, forgotten, is_review
from renderfarm.storage import Storage
from renderfarm.watermark import VERSIONS, MarkKey, Payload, embed
from renderfarm.workers.finish import as_older
from renderfarm.workers.inputs import read_inputs

LEVELS_MAX = 2
"""Largest difference in any pixel, in grey levels of 255, that still counts as the same picture: batch (1) and mark (1)."""

PAYLOAD_VERSION = 1
"""What `finish` gives its payloads; a test holds the two together."""

LOSSY = frozenset({"image/jpeg", "image/webp"})

Kind = Literal["bit-identical", "within", "different"]
Render = Callable[[Sequence[Attempt]], tuple[NDArray[np.uint8], RenderInfo]]
"""Renders attempts as one batch, uint8 (B, H, W, 3) in their order, and says how it did."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two pictures differ. `grey_levels_max`: largest difference of any channel, 0..255; `psnr_db`: infinite for none.

    `share`: of the pixels that differ at all, 0..1. Pictures of different sizes differ by 255 in all pixels.
    """

    kind: Kind
    grey_levels_max: int
    psnr_db: float
    share: float


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The answer for one image: the comparison, and everything that is not as it was when the image was made."""

    image_id: str
    attempt: int
    comparison: Comparison
    reasons: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the record reproduces its picture (the command's exit code)."""
        return self.comparison.kind != "different"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; an infinite PSNR is null."""
        row = dataclasses.asdict(self)
        if math.isinf(self.comparison.psnr_db):
            row["comparison"]["psnr_db"] = None
        return {**row, "reasons": list(self.reasons), "same": self.same}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The answer for people. What the record says is not escaped in it: whoever prints it does that, line by line."""
        comparison = self.comparison
        words = {
            "bit-identical": "bit-identical to the stored picture",
            "within": f"within {comparison.grey_levels_max} grey level{'s' * (comparison.grey_levels_max > 1)} of the stored picture",
            "different": f"different: up to {comparison.grey_levels_max} grey levels, {comparison.psnr_db:.1f} dB PSNR",
        }
        lines = [f"image {self.image_id}, attempt {self.attempt}: {words[comparison.kind]}"]
        if comparison.kind != "bit-identical":
            lines.append(f"  {comparison.share:.2%} of the pixels differ")
            lines += [f"  because of this, perhaps: {reason}" for reason in self.reasons] or [
                "  device, versions, weights and batch are as recorded, so nothing explains the difference"
            ]
        return lines


@dataclass(frozen=True, slots=True)
class Model:
    """What renders again. `digest`: of its weights; `beside`: digests of what is loaded beside them, by name (`models.beside`)."""

    digest: str
    beside: Mapping[str, str]
    render: Render


def open_model(settings: ModelSettings) -> Model:
    """The model that a job names; its weights are loaded for each batch. Raises: UserError, StorageAway."""
    resolved = resolve(settings)

    def render(attempts: Sequence[Attempt]) -> tuple[NDArray[np.uint8], RenderInfo]:
        whole = settings.model_copy(update={"batch": len(attempts)})
        return Renderer(resolved, whole).render(attempts, inputs=read_inputs(attempt.image for attempt in attempts))

    return Model(resolved.digest, resolved.beside, render)


def reproduce_image(
    storage: Storage,
    image: str,
    trust: Path | None = None,
    on_note: Callable[[str], None] = lambda note: None,
    open_model: Callable[[ModelSettings], Model] = open_model,
) -> Reproduction:
    """Renders an image of an output again and compares it with the stored picture.

    image: its id, or ROW:INDEX; trust: a folder that holds the watermark's key, see `known_mark_keys`; on_note: hears before anything is
    rendered which keys could not be read, and that the weights are others now; open_model: what renders, so that a test needs no weights.
    Raises: UserError where there is no such output, image, picture or model; KeysError without the mark's key; PictureError for a file that
    is not the recorded one; RenderFailed; LogDamaged; StorageAway.
    """
    job = read_job_file(storage)
    image_id = image_named(storage, image)
    record = accepted(records_of(storage, frozenset({image_id})), image_id)
    attempt = attempt_of(record)
    try:
        stored = storage.get(record.object_key or "", pictures.BYTES_MAX)
    except NotStored as error:
        raise UserError(f"the picture {error} is gone", storage.uri, "`renderfarm audit` names everything that is missing") from error
    mark_keys, unread = known_mark_keys(trust, job.keys)
    for note in unread:
        on_note(note)
    mark_key(record, mark_keys)  # said before weights are read and minutes are spent on them
    model = open_model(job.model_settings())
    if model.digest != record.weights_digest:
        on_note(f"the record's weights were {record.weights_digest}, these are {model.digest}")
    drawn = frozenset(name.partition("/")[0] for name in record.batch)
    by = "drawing_id" if record.drawing_id else "image_id"
    batch = neighbours(records_of(storage, drawn, by), record)
    named = {name: "" for name, _ in parse(attempt.image.adapter)} if attempt.image.adapter else {}
    used = beside(named, attempt.image.control_digest)
    changed = changed_beside({name: digest for name, digest in job.beside.items() if name in used}, model.beside)
    return reproduce(record, stored, model.render, mark_keys, job.quality, batch, changed)


def reproduce(
    record: Record,
    stored: bytes,
    render: Render,
    mark_keys: Sequence[MarkKey],
    quality: int = 92,
    neighbours: Mapping[str, Record] = MappingProxyType({}),
    changed: tuple[str, ...] = (),
) -> Reproduction:
    """Renders `record`'s attempt again and compares it with `stored`, the file under its object key.

    mark_keys: watermark keys, one of them the one that the record names; quality: of the job, for JPEG and WebP; neighbours: as
    `neighbours` finds them. Unless all are there, and can still be rendered, the attempt is rendered alone. changed: reasons that no
    record tells, see `changed_beside`.
    Raises: KeysError when the mark's key is not among them; PictureError when the file is not the one that was recorded; UserError for a
    record without a picture.
    """
    if record.file_sha256 is None or record.media_type is None:
        raise UserError(f"image {record.image_id} has no stored picture to compare with", remedy="name an accepted image")
    if hashlib.sha256(stored).hexdigest() != record.file_sha256:
        raise PictureError("the stored file is not the one in the log", record.object_key or "", "run `renderfarm audit`")
    key = mark_key(record, mark_keys)
    attempt = attempt_of(record)
    rendered, info, position = _rendered(record, attempt, neighbours, render)
    pixels = rendered[position]
    if key is not None:
        payload = Payload(PAYLOAD_VERSION, record.watermark_payload or "")
        pixels = embed(pixels[None], [payload], key, version=record.watermark_version or 1)[0]
    if record.media_type in LOSSY:
        pixels = decode(encode(pixels, record.media_type, quality=quality))
    recorded = dataclasses.replace(info_of(record), batch=_together(record) or record.batch)
    reasons = changed + differences(recorded, info if record.version > PLAIN_VERSION else as_older(info))
    return Reproduction(attempt.image.image_id, attempt.number, compare(decode(stored, record.object_key or ""), pixels), reasons)


def compare(recorded: Pixels, rendered: Pixels, levels_max: int = LEVELS_MAX) -> Comparison:
    """Two pictures, uint8 (H, W, 3), held against each other."""
    if recorded.shape != rendered.shape:
        return Comparison("different", 255, 0.0, 1.0)
    apart = np.abs(recorded.astype(np.int16) - rendered.astype(np.int16))
    most = int(apart.max(initial=0))
    squared = float(np.mean(np.square(apart, dtype=np.float64))) if apart.size else 0.0
    psnr_db = 10 * math.log10(255.0**2 / squared) if squared else math.inf
    kind: Kind = "bit-identical" if most == 0 else "within" if most <= levels_max else "different"
    return Comparison(kind, most, psnr_db, float(np.mean(apart.max(axis=-1) > 0)) if apart.size else 0.0)


def differences(recorded: RenderInfo, now: RenderInfo) -> tuple[str, ...]:
    """What is not as it was, in words for a person, the likeliest cause of a difference first."""
    changes = []
    for name, words in (
        ("weights_digest", "other weights"),
        ("weights_revision", "another revision of the weights"),
        ("scheduler", "another scheduler"),
        ("dtype", "another number format"),
        ("device", "another device"),
        ("driver", "another driver"),
        ("torch_version", "another version of torch"),
        ("diffusers_version", "another version of diffusers"),
    ):
        before, after = getattr(recorded, name), getattr(now, name)
        if before != after:
            changes.append(f"{words}: {before or 'unknown'} then, {after or 'unknown'} now")
    settings = [dict(info.settings) | {f"adapter {a.name}": f"{a.digest} at {a.weight}" for a in info.adapters} for info in (recorded, now)]
    for name in sorted({*settings[0], *settings[1]}):
        before, after = (said.get(name, "none") for said in settings)
        if before != after:
            changes.append(f"another {name}: {before} then, {after} now")
    if recorded.batch != now.batch:
        changes.append(f"another batch: {len(recorded.batch)} attempts then, {len(now.batch)} now")
    return tuple(changes)


def changed_beside(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What an image used beside the weights (an adapter, a ControlNet) and is not as it was, in words; both by name, as digests."""
    names = [name for name in sorted(before) if before[name] != now.get(name)]
    return tuple(f"another {name}: {before[name]} then, {now.get(name, 'none')} now" for name in names)


def info_of(record: Record) -> RenderInfo:
    """How a recorded attempt was rendered."""
    names = [field.name for field in dataclasses.fields(RenderInfo) if field.name in RECORD_FIELDS]
    fields: dict[str, Any] = {name: getattr(record, name) for name in names}
    for name in names:
        if fields[name] is None:
            fields[name] = ""
    return RenderInfo(**fields)


def attempt_of(record: Record) -> Attempt:
    """The attempt to render, from the record alone. Raises: UserError for a record that is no attempt, lacks a field it needs, or whose
    values were forgotten.

    The planned image carries the attempt's own seed: the image's first seed is not needed to render this one again.
    """
    if forgotten(record):
        what = f"what image {record.image_id} was asked for was forgotten: its record holds no prompt and no seed any more"
        raise UserError(what, remedy="nothing can be rendered from it; its picture, mark and signatures still verify")
    if record.kind != "attempt" or record.attempt is None or record.seed is None:
        raise UserError(f"a {record.kind} record cannot be rendered", remedy="name an image of this output")
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(PlannedImage)}
    if record.version <= PLAIN_VERSION:
        fields |= {"drawing_id": record.image_id, "salt": ""}
    else:
        fields |= _once(record)
    optional = {"text", "adapter", "init_image", "init_digest", "mask_image", "mask_digest", "strength", "control_image", "control_digest"}
    missing = sorted(name for name, value in fields.items() if value is None and name not in optional)
    if missing:
        raise UserError(f"the record of image {record.image_id} lacks {', '.join(missing)}", remedy="run `renderfarm audit`")
    return Attempt(PlannedImage(**fields), record.attempt, record.seed)


def _once(record: Record) -> dict[str, Any]:
    """The adapters and the input pictures of a record of version 4, one picture of each kind. Raises: UserError where there are more."""
    given = {item.role: item for item in record.inputs}
    if len(given) != len(record.inputs) or not set(given) <= {"init", "mask", "control"}:
        what = f"image {record.image_id} was drawn with input pictures that this version cannot put together"
        raise UserError(what, remedy="use the version that the record names (renderfarm_version)")
    fields: dict[str, Any] = {"adapter": spelled((one.name, one.weight) for one in record.adapters) or None}
    for role, item in given.items():
        fields |= {f"{role}_image": item.uri, f"{role}_digest": item.digest}
    return fields


def accepted(records: Iterable[Record], image_id: str) -> Record:
    """The record of the attempt that was accepted for an image. Raises: UserError naming why there is none."""
    tried: dict[int | None, Record] = {}
    chosen = None
    for record in records:
        if record.image_id != image_id or not (record.kind == "attempt" or is_review(record)):
            continue
        if record.kind == "attempt":
            tried[record.attempt] = record
        if record.outcome == "accepted" and record.attempt in tried:
            chosen = dataclasses.replace(tried[record.attempt], object_key=record.object_key)
        elif is_review(record) and chosen is not None and chosen.attempt == record.attempt:
            chosen = None
    if chosen is None:
        what = f"no attempt of image {image_id} was accepted" if tried else f"image {image_id} is not in this output"
        raise UserError(what, remedy="`renderfarm provenance export` lists the images of an output")
    return chosen


def _rendered(
    record: Record, attempt: Attempt, neighbours: Mapping[str, Record], render: Render
) -> tuple[NDArray[np.uint8], RenderInfo, int]:
    """The batch again, and which picture of it is the attempt's."""
    known = {name: attempt_of(other) for name, other in neighbours.items()} | {_name(record): attempt}
    names = _together(record)
    if len(names) > 1 and all(name in known for name in names):
        with contextlib.suppress(RenderFailed):  # an input picture of a neighbour is gone, or there is less memory now
            return *render([known[name] for name in names]), names.index(_name(record))
    return *render([attempt]), 0


def neighbours(records: Iterable[Record], record: Record) -> dict[str, Record]:
    """The records of the attempts that were rendered at once with `record`'s, by their names in `batch`; reads no further than the last."""
    wanted = set(_together(record)) - {_name(record)}
    others: dict[str, Record] = {}
    for other in records if wanted else ():
        if other.kind == "attempt" and (name := _name(other)) in wanted and name not in others and not forgotten(other):
            others[name] = other
            if len(others) == len(wanted):
                break
    return others


def _name(record: Record) -> str:
    """How `batch` names a record's attempt: by its drawing."""
    return f"{record.drawing_id or record.image_id}/{record.attempt}"


def _together(record: Record) -> tuple[str, ...]:
    """What was rendered at once with a record's attempt, itself included, in order; nothing where the record does not say so."""
    chunk: list[str] = []
    for name in (*record.batch, CHUNK_END):
        if name != CHUNK_END:
            chunk.append(name)
        elif _name(record) in chunk:
            return tuple(chunk)
        else:
            chunk = []
    return ()


def known_mark_keys(trust: Path | None, job_keys: str | None) -> tuple[tuple[MarkKey, ...], tuple[str, ...]]:
    """The watermark keys that may have made a job's marks, and in words what could not be read of them.

    trust: of --trust, which then is all; else the key set that job.json names, as far as it can be read here, and the user's own. The
    output may name a key set because a key is taken by the id in the record, and nothing is believed for its sake. Raises: KeysError.
    """
    if trust is not None:
        return keys.load_trust(trust).mark_keys, ()
    readable: list[MarkKey] = []
    unread: list[str] = []
    own = str(keys.default_folder().absolute())
    for folder in filter(None, (job_keys, own if os.path.isdir(own) else None)):
        try:
            readable += keys.mark_keys(Path(folder))
        except (KeysError, OSError, RuntimeError) as error:  # OSError: a folder of somebody else; RuntimeError: of no user at all
            unread.append(f"the key set {folder} cannot be read here: {error.what if isinstance(error, KeysError) else error}")
    return tuple(readable), tuple(unread)


def mark_key(record: Record, mark_keys: Sequence[MarkKey]) -> MarkKey | None:
    """The key of the mark that the record names; None for a picture without one.

    Raises: KeysError when it is not among these, UserError for a mark of a version that is not made here.
    """
    if record.watermark_payload is None:
        return None
    where = record.object_key or ""
    if record.watermark_version not in VERSIONS:
        what = f"the picture is marked by version {record.watermark_version} of the watermark, which this program does not make"
        raise UserError(what, where, "use the renderfarm that made it")
    for key in mark_keys:
        if key.key_id == record.watermark_key_id:
            return key
    what = f"the picture is marked with watermark key {record.watermark_key_id}, which is not at hand: nothing can be compared without it"
    raise KeysError(what, where, "name a trust folder that holds this key as *.markkey: --trust DIR")
