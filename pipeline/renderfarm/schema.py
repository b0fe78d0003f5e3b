"""Every row that crosses a file or a process: prompt rows, attempts, verdicts, records.

A row is a frozen dataclass here; its Arrow schema stands beside it in `arrow_schema` so that this module imports in a millisecond.
Nothing here reads or writes a file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

MANIFEST_VERSION = 1
RECORD_VERSION = 4
"""What a new output is written in. Version 2 added reviews, 3 control images, 4 salted values, drawings and statements. Earlier ones are
read as they were written."""

PLAIN_VERSION = 3
"""What an output that began before version 4 is carried on in: its ids and digests have no salt."""

Outcome = Literal["accepted", "rejected", "flagged", "not_run"]
"""One check's answer. `flagged` lets the image pass and shows it to a person."""

AttemptOutcome = Literal["accepted", "rejected", "failed"]
"""What became of one attempt: published, kept for review, or never rendered."""

RecordKind = Literal["plan", "attempt", "superseded", "reinstated", "review", "statement"]
"""`plan`: the intent changed. `superseded` / `reinstated`: a logged image left, or came back into, the newest plan. `statement`: a person's
signed word, of a type; `review`, as a kind, is a person's word in records up to version 3. The newest word on an attempt counts."""

REVIEW, APPROVAL, SAMPLE, DELIVERY, WITHDRAWAL, ERASURE = "review", "approval", "sample", "delivery", "withdrawal", "erasure"
STATEMENTS = (REVIEW, APPROVAL, SAMPLE, DELIVERY, WITHDRAWAL, ERASURE)
"""Types of statements that this program knows. Others are kept and shown."""


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """One entry of `objects`: `count` things of a class are wanted. The canonical `name` is the class, or the class with `:min` or `:max`
    behind it where `count` is the least or the most (GenEval's `include` and `exclude`); no class holds a colon."""

    name: str
    count: int

    @property
    def thing(self) -> str:
        """The class alone."""
        return self.name.rpartition(":")[0] if self.name.endswith((":min", ":max")) else self.name

    @property
    def low(self) -> int:
        """The fewest that are right."""
        return 0 if self.name.endswith(":max") else self.count

    @property
    def high(self) -> int | None:
        """The most that are right, None for any number of more."""
        return None if self.name.endswith(":min") else self.count

    def __str__(self) -> str:
        if self.high == 0:
            return f"no {self.thing}"
        bound = "at least " if self.high is None else "at most " if self.low == 0 else ""
        return f"{bound}{self.count} {self.thing}"


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One row of a manifest. None means: the job's setting. `text` None: taken from the prompt; "" means no text wanted."""

    id: str
    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    images: int | None = None
    text: str | None = None
    objects: tuple[ObjectCount, ...] = ()
    adapter: str | None = None
    init_image: str | None = None
    mask_image: str | None = None
    strength: float | None = None
    tags: tuple[tuple[str, str], ...] = ()
    control_image: str | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in image pixels, x right, y down; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """Weights laid over the model's: the job's name for them, SHA-256 of the file in hex, and how strong."""

    name: str
    digest: str
    weight: float


@dataclass(frozen=True, slots=True)
class Input:
    """A picture that went in. `role`: init, mask, control, reference, product …; `boxes`: where it lies in the drawing, if anywhere.

    `uri` is where it was read from, None where that was forgotten.
    """

    role: str
    digest: str
    uri: str | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement is about: one record by its leaf hash, 64 hex digits, and the image that it speaks of."""

    image_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check's answer on one attempt. `score` is compared with `threshold`; the reason is for a marketing person."""

    check: str
    outcome: Outcome
    reason: str = ""
    score: float | None = None
    threshold: float | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture to deliver, with everything that changes its pixels by intent, resolved from row and job.

    `image_id`: 32 hex digits, derived. `seed` is the seed of attempt 1. `salt`: 32 hex digits of the row, "" in an output without salts
    (record versions 1 to 3). `drawing_id`: what the model is asked; images that share it are drawn once.
    """

    image_id: str
    row_id: str
    row_digest: str
    index: int
    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    text: str | None
    objects: tuple[ObjectCount, ...]
    adapter: str | None
    init_image: str | None
    init_digest: str | None
    mask_image: str | None
    mask_digest: str | None
    strength: float | None
    tags: tuple[tuple[str, str], ...]
    control_image: str | None = None
    control_digest: str | None = None
    drawing_id: str = ""
    salt: str = ""

    @property
    def record_version(self) -> int:
        """The version of the records of its attempts."""
        return RECORD_VERSION if self.salt else PLAIN_VERSION

    def inputs(self) -> tuple[Input, ...]:
        """The pictures that go in, with their digests."""
        named = (
            ("init", self.init_image, self.init_digest),
            ("mask", self.mask_image, self.mask_digest),
            ("control", self.control_image, self.control_digest),
        )
        return tuple(Input(role, digest, uri) for role, uri, digest in named if digest is not None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rendering of an image with one seed. `number` counts from 1."""

    image: PlannedImage
    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class RenderInfo:
    """What the renderer knows about the pixels it made; the same for every attempt of a batch.

    `settings`: (dotted name, value as compact JSON with sorted keys) of everything else that changed pixels, sorted by name. Where nothing
    stands, it was as diffusers has it by default. An open list: a reader keeps names that it does not know.
    """

    weights: str
    weights_revision: str
    weights_digest: str
    weights_licence: str
    scheduler: str
    dtype: str
    device: str
    driver: str
    torch_version: str
    diffusers_version: str
    batch: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    """Every setting that changed pixels and has no field of its own: (dotted name, compact JSON), sorted."""
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the provenance log, of any version. `record_fields(version)` says which fields its canonical bytes cover, in which
    order.

    From version 4 on the `VALUE_FIELDS` are no part of these bytes. They lie beside the log, and a salted hash stands for them all,
    `commitment`: so they can be forgotten, and nothing that is signed changes. Then `salt` and texts are None, lists are empty, reasons "".

    A review (a statement of that type from version 4 on) repeats what the attempt's record says of picture and mark, names the attempt by
    its claim digest, and says where the picture lies now (`object_key`) and which file is no longer part of the delivery
    (`withdrawn_key`). `signed`: a person's statement as a signed note, from version 4 on.

    Times are microseconds since 1970 UTC. `pdq` is 64 hex digits, `signature` base64 (what confirms a near-duplicate: colour and layout).
    The fields after `claim_digest` are known only once the credential is in the file; `claim_digest` covers all fields before it.
    """

    kind: RecordKind
    version: int = RECORD_VERSION
    job: str = ""
    plan_digest: str = ""
    # plan
    manifest_digest: str | None = None
    settings_digest: str | None = None
    planned: int | None = None
    # attempt: intent
    image_id: str | None = None
    row_id: str | None = None
    row_digest: str | None = None
    index: int | None = None
    attempt: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    text: str | None = None
    objects: tuple[ObjectCount, ...] = ()
    adapter: str | None = None
    init_image: str | None = None
    init_digest: str | None = None
    mask_image: str | None = None
    mask_digest: str | None = None
    strength: float | None = None
    tags: tuple[tuple[str, str], ...] = ()
    control_image: str | None = None
    control_digest: str | None = None
    # the same from version 4 on: salted values, what the model was asked, and what was made of the drawing
    salt: str | None = None
    commitment: str | None = None
    drawing_id: str | None = None
    drawing_digest: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    adapters: tuple[Adapter, ...] = ()
    inputs: tuple[Input, ...] = ()
    format: str | None = None
    locale: str | None = None
    crop: tuple[Box, ...] = ()
    layers_digest: str | None = None
    texts: tuple[tuple[str, str], ...] = ()
    alt: str | None = None
    # attempt: how it was rendered
    weights: str | None = None
    weights_revision: str | None = None
    weights_digest: str | None = None
    weights_licence: str | None = None
    scheduler: str | None = None
    dtype: str | None = None
    device: str | None = None
    driver: str | None = None
    renderfarm_version: str | None = None
    torch_version: str | None = None
    diffusers_version: str | None = None
    batch: tuple[str, ...] = ()
    # attempt: what the checks said
    outcome: AttemptOutcome | None = None
    cause: str | None = None
    """Of a failed attempt from version 4 on, where the fault lay: `row` cannot be planned, `render` cannot be drawn, `farm` is sick."""
    reason: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    watermark_method: str | None = None
    watermark_version: int | None = None
    watermark_key_id: str | None = None
    watermark_payload: str | None = None
    pdq: str | None = None
    pdq_quality: int | None = None
    signature: str | None = None
    started_us: int | None = None
    finished_us: int = 0
    # statement: who, about what, and the delivered file that a review takes back
    statement: str | None = None
    subjects: tuple[Subject, ...] = ()
    signed: str | None = None
    reviewer: str | None = None
    reviewed_digest: str | None = None
    withdrawn_key: str | None = None
    claim_digest: str | None = None
    # after the credential
    media_type: str | None = None
    file_sha256: str | None = None
    file_bytes: int | None = None
    object_key: str | None = None
    thumb_key: str | None = None


AFTER_CREDENTIAL = ("claim_digest", "media_type", "file_sha256", "file_bytes", "object_key", "thumb_key")
"""Record fields that the claim digest cannot cover, because they depend on it."""

RECORD_FIELDS = tuple(f.name for f in dataclasses.fields(Record))

_ADDED = {"reviewer": 2, "reviewed_digest": 2, "withdrawn_key": 2, "control_image": 3, "control_digest": 3}
_SINCE_4 = (
    "salt", "commitment", "drawing_id", "drawing_digest", "settings", "adapters", "inputs", "format", "locale", "crop", "layers_digest",
    "texts", "alt", "cause", "statement", "subjects", "signed",
)  # fmt: skip
_UNTIL_3 = tuple(name for name in RECORD_FIELDS if name not in _SINCE_4)

_FIELDS_4 = (
    "kind", "version", "job", "plan_digest", "manifest_digest", "settings_digest", "planned",
    "image_id", "drawing_id", "row_digest", "index", "attempt", "commitment",
    "width", "height", "steps", "guidance", "strength", "settings", "adapters", "inputs",
    "format", "locale", "crop", "layers_digest", "drawing_digest",
    "weights", "weights_revision", "weights_digest", "weights_licence", "scheduler", "dtype", "device", "driver",
    "renderfarm_version", "torch_version", "diffusers_version", "batch",
    "outcome", "cause", "verdicts", "watermark_method", "watermark_version", "watermark_key_id", "watermark_payload",
    "pdq", "pdq_quality", "signature", "started_us", "finished_us",
    "statement", "subjects", "signed", "reviewer", "reviewed_digest", "withdrawn_key",
    *AFTER_CREDENTIAL,
)  # fmt: skip

VALUE_FIELDS = (
    "row_id", "prompt", "negative_prompt", "seed", "text", "objects", "tags", "input_uris", "texts", "alt", "reason", "reasons",
)  # fmt: skip
"""What a record of version 4 commits to, in the order of the committed bytes. `input_uris` are those of `inputs`, `reasons` those of
`verdicts`: reasons quote what a picture should show, and a seed follows from the row's id."""


def record_fields(version: int) -> tuple[str, ...]:
    """The fields that the canonical bytes of a record of this version cover, in order.

    Raises: ValueError for a version that this program does not know.
    """
    if not 1 <= version <= RECORD_VERSION:
        raise ValueError(f"records of version {version}; this program knows 1 to {RECORD_VERSION}")
    if version >= 4:
        return _FIELDS_4
    return tuple(name for name in _UNTIL_3 if _ADDED.get(name, 1) <= version)


def inputs_of(record: Record) -> tuple[Input, ...]:
    """The pictures that went into an attempt, of a record of any version."""
    if record.version >= 4:
        return record.inputs
    named = (
        ("init", record.init_image, record.init_digest),
        ("mask", record.mask_image, record.mask_digest),
        ("control", record.control_image, record.control_digest),
    )
    return tuple(Input(role, digest, uri) for role, uri, digest in named if digest is not None)


def forgotten(record: Record) -> bool:
    """Whether a record's values were taken away: its prompt, row, texts and reasons."""
    return record.commitment is not None and record.salt is None


def is_review(record: Record) -> bool:
    """Whether it is a person's word on an attempt, of any version."""
    return record.kind == "review" or (record.kind == "statement" and record.statement == REVIEW)
