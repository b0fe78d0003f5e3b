"""What the log says of each image and of the newest plan: its parts folded in order. Holds about 100 bytes an image.

An image is *accepted* if it has an accepted attempt, *failed* if its last attempt failed, and *exhausted* if as many attempts were
rejected as the job allows; otherwise it *remains*. A person's word on an attempt (`review`) replaces what the checks said.

Only images of the newest plan count. A `superseded` record takes an image out, a `reinstated` one brings it back. A driver that changes
the plan writes the superseded records first, then the plan, then the reinstated ones: so
`planned == accepted + exhausted + failed + remaining` holds at every commit. Decides nothing; reads no file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from renderfarm.errors import LogDamaged
from renderfarm.log.pdqs import Pdqs
from renderfarm.records.salts import KnownSalts
from renderfarm.schema import PLAIN_VERSION, REVIEW

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "kind", "version", "plan_digest", "manifest_digest", "settings_digest", "planned", "statement", "signed",
    "image_id", "row_id", "salt", "attempt", "outcome", "verdicts", "pdq", "finished_us",
)  # fmt: skip
"""The record columns that a state is folded from."""

_FOLDED = tuple(name for name in COLUMNS if name != "verdicts")
_ACCEPTED, _FAILED, _SUPERSEDED = 1, 2, 4
_REJECTED_SHIFT, _LAST_SHIFT, _CHOSEN_SHIFT = 3, 23, 43
"""An image in 63 bits: flags, rejected attempts, the last attempt's number, the accepted attempt's number; 20 bits each."""
_COUNT = 0xFFFFF
REASONS_MAX = 5_000

Standing = Literal["accepted", "exhausted", "failed", "remaining"]


class CountsDiffer(LogDamaged):
    """More images have an end than the newest plan has images."""


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """The newest plan record."""

    plan_digest: str
    manifest_digest: str | None
    settings_digest: str | None
    planned: int


@dataclass(frozen=True, slots=True)
class ImageState:
    """One image, over all its attempts. `last_attempt`: the highest number in the log; `chosen`: that of the accepted one; 0 for none."""

    accepted: bool = False
    failed: bool = False
    superseded: bool = False
    rejected: int = 0
    last_attempt: int = 0
    chosen: int = 0

    def standing(self, attempts_limit: int) -> Standing:
        """Where the image stands when `attempts_limit` rejected attempts exhaust it."""
        if self.accepted:
            return "accepted"
        if self.failed:
            return "failed"
        return "exhausted" if self.rejected >= attempts_limit else "remaining"


@dataclass(frozen=True, slots=True)
class Counts:
    """Images of the newest plan by where they stand."""

    planned: int = 0
    accepted: int = 0
    exhausted: int = 0
    failed: int = 0
    remaining: int = 0

    def __str__(self) -> str:
        parts = f"{self.accepted} accepted + {self.exhausted} exhausted + {self.failed} failed + {self.remaining} remaining"
        return f"{self.planned} planned = {parts}"

    @property
    def done(self) -> bool:
        """Whether no image is left to render."""
        return self.remaining == 0


class LogState:
    """The fold. Feed it the parts in order; ask it any time."""

    def __init__(self) -> None:
        self.plan: RecordedPlan | None = None
        self.rejects: Counter[str] = Counter()
        """Rejected attempts by the checks that rejected them."""
        self.reasons: Counter[tuple[str, str]] = Counter()
        """The same by (check, reason), as far as REASONS_MAX different ones go."""
        self.attempts = 0
        self.failed_attempts = 0
        self.reviews = 0
        """Persons' verdicts."""
        self.twice: list[str] = []
        """Images that were accepted twice; the first hundred."""
        self.salted = True
        """Whether the log began with record version 4 or later."""
        self.salts = KnownSalts()
        self.forgotten = 0
        """Attempts of version 4 or later whose values are gone."""
        self.changing = False
        """Whether the newest change of the plan may be half done: nothing was rendered after it yet."""
        self._saltless: set[bytes] = set()
        """Images of which no record has its values."""
        self.statements: set[bytes] = set()
        """What people said, by the first 16 bytes of the SHA-256 of each signed note."""
        self._spoken: dict[bytes, int] = {}
        """Of each image that a person reviewed, the time of the newest review."""
        self._images: dict[bytes, int] = {}
        self._interned: dict[int, int] = {}
        self._pdqs = Pdqs()

    def fold(self, rows: pa.Table) -> None:
        """Takes in the rows of the next part; `rows` has at least `COLUMNS`.

        Raises: LogDamaged when a row is no record that a driver writes: an attempt without image, a plan without count.
        """
        columns = [rows.column(name).to_pylist() for name in COLUMNS if name != "verdicts"]
        for values in zip(*columns, strict=True):
            self._fold_row(dict(zip(_FOLDED, values, strict=True)))
        self._count_rejects(rows)

    def _count_rejects(self, rows: pa.Table) -> None:
        import pyarrow.compute as pc

        rejected = rows.filter(pc.equal(rows.column("outcome"), "rejected"))  # a person's rejection says so in a verdict, too
        for verdicts in rejected.column("verdicts").to_pylist():
            rejections = {(verdict["check"], verdict["reason"]) for verdict in verdicts if verdict["outcome"] == "rejected"}
            self.rejects.update({check for check, _ in rejections})
            self.reasons.update(rejections if len(self.reasons) < REASONS_MAX else rejections & self.reasons.keys())

    def _fold_row(self, row: dict[str, object]) -> None:
        kind = row["kind"]
        if isinstance(row["signed"], str):
            self.statements.add(statement_key(row["signed"]))
        if kind == "plan":
            self._fold_plan(row)
        elif kind == "attempt":
            self._fold_attempt(row)
        elif kind == "review" or (kind == "statement" and row["statement"] == REVIEW and row["outcome"] is not None):
            self._fold_review(row)
        elif kind == "statement":
            pass  # known or not, it changes no image's state; nor does a review that came too late to
        elif kind in ("superseded", "reinstated"):
            self.changing = True
            key = _image_key(row["image_id"])
            packed = self._images.get(key, 0)
            self._set(key, packed | _SUPERSEDED if kind == "superseded" else packed & ~_SUPERSEDED)
        else:
            raise LogDamaged(f"a record of unknown kind {kind!r}")

    def _fold_plan(self, row: dict[str, object]) -> None:
        planned = row["planned"]
        if not isinstance(planned, int) or planned < 0:
            raise LogDamaged(f"a plan record that plans {planned} images")
        self.changing = True
        manifest, settings = row["manifest_digest"], row["settings_digest"]
        assert manifest is None or isinstance(manifest, str)
        assert settings is None or isinstance(settings, str)
        self.plan = RecordedPlan(str(row["plan_digest"]), manifest, settings, planned)

    def _fold_attempt(self, row: dict[str, object]) -> None:
        key, number, outcome = _image_key(row["image_id"]), row["attempt"], row["outcome"]
        if not isinstance(number, int) or not 0 <= number < 1 << 20:
            raise LogDamaged(f"attempt {number} of image {row['image_id']}")
        packed = self._images.get(key, 0)
        if row["version"] != PLAIN_VERSION and (not packed or self.forgotten):  # an earlier record's values may be gone, and this one's not
            self.salts.add(row["row_id"], row["salt"])
        if isinstance(row["version"], int) and row["version"] > PLAIN_VERSION:
            self.forgotten += row["salt"] is None
            if row["salt"] is not None:
                self._saltless.discard(key)
            elif not packed:
                self._saltless.add(key)
        rejected, last = packed >> _REJECTED_SHIFT & _COUNT, max(packed >> _LAST_SHIFT & _COUNT, number)
        flags, chosen = packed & (_ACCEPTED | _SUPERSEDED), packed >> _CHOSEN_SHIFT
        self.attempts += 1
        self.changing = self.changing and outcome == "failed"  # a row that cannot be planned fails with the plan
        if outcome == "accepted":
            if packed & _ACCEPTED and len(self.twice) < 100:
                self.twice.append(key.hex())
            flags, chosen = flags | _ACCEPTED, number
            self._pdqs.add(row["row_id"], key, row["pdq"])
        elif outcome == "rejected":
            rejected += 1
        elif outcome == "failed":
            flags |= _FAILED
            self.failed_attempts += 1
        else:
            raise LogDamaged(f"an attempt of image {row['image_id']} with outcome {outcome!r}")
        self._set(key, _packed(key, flags, rejected, last, chosen))

    def _fold_review(self, row: dict[str, object]) -> None:
        """A person's word: an accepted attempt leaves the rejected ones, and the other way round; a confirmation changes nothing."""
        key, number, outcome = _image_key(row["image_id"]), row["attempt"], row["outcome"]
        image = _unpack(self._images.get(key, 0))
        if not isinstance(number, int) or not 0 < number < 1 << 20 or outcome not in ("accepted", "rejected"):
            raise LogDamaged(f"a review of attempt {number} of image {row['image_id']} with outcome {outcome!r}")
        self.reviews += 1
        if isinstance(time_us := row["finished_us"], int):
            self._spoken[key] = max(time_us, self._spoken.get(key, 0))
        rejected, chosen = image.rejected, image.chosen
        if outcome == "accepted" and number != chosen:
            if chosen and len(self.twice) < 100:
                self.twice.append(key.hex())
            rejected, chosen = max(0, rejected - 1), number
            self._pdqs.add(row["row_id"], key, row["pdq"])
        elif outcome == "rejected" and number == chosen:
            rejected, chosen = rejected + 1, 0
        flags = self._images.get(key, 0) & (_FAILED | _SUPERSEDED) | (_ACCEPTED if chosen else 0)
        self._set(key, _packed(key, flags, rejected, image.last_attempt, chosen))

    def _set(self, key: bytes, packed: int) -> None:
        self._images[key] = self._interned.setdefault(packed, packed)

    def dump(self) -> dict[str, np.ndarray]:
        """Everything in it as arrays, for a snapshot."""
        plan = dataclasses.asdict(self.plan) if self.plan else None
        sums = {
            "plan": plan,
            "rejects": dict(self.rejects),
            "attempts": self.attempts,
            "failed": self.failed_attempts,
            "reviews": self.reviews,
            "salted": self.salted,
            "forgotten": self.forgotten,
            "changing": self.changing,
        }
        reasons = [[*key, count] for key, count in self.reasons.items()]
        text = json.dumps({**sums, "twice": self.twice, "reasons": reasons}).encode()
        keys = np.frombuffer(b"".join(self._images), np.uint8).reshape(-1, 16)
        values = np.fromiter(self._images.values(), np.int64, len(self._images))
        statements = np.frombuffer(b"".join(sorted(self.statements)), np.uint8).reshape(-1, 16)
        return {
            "said": np.frombuffer(text, np.uint8),
            "images": keys,
            "states": values,
            **self._pdqs.dump(),
            **self.salts.dump(),
            "statements": statements,
            "saltless": np.frombuffer(b"".join(sorted(self._saltless)), np.uint8).reshape(-1, 16),
            "spoken_images": np.frombuffer(b"".join(self._spoken), np.uint8).reshape(-1, 16),
            "spoken": np.fromiter(self._spoken.values(), np.int64, len(self._spoken)),
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray]) -> LogState:
        """`dump` backwards. Raises: KeyError, TypeError or ValueError for arrays of another kind."""
        state, sums = cls(), json.loads(arrays["said"].tobytes())
        state.plan = RecordedPlan(**sums["plan"]) if sums["plan"] else None
        state.rejects, state.twice = Counter(sums["rejects"]), sums["twice"]
        state.reasons = Counter({(check, reason): count for check, reason, count in sums["reasons"]})
        state.attempts, state.failed_attempts, state.reviews = sums["attempts"], sums["failed"], sums["reviews"]
        state.salted, state.forgotten, state.salts = sums["salted"], sums["forgotten"], KnownSalts.restore(arrays)
        state.statements = {key.tobytes() for key in arrays["statements"]}
        state.changing = sums.get("changing", True)
        if state.forgotten:  # a snapshot of an earlier program lacks them: it is not used
            state._saltless = {key.tobytes() for key in arrays["saltless"]}
        if state.reviews:  # nor has it their times
            spoken = arrays["spoken_images"].tobytes()
            state._spoken = {spoken[16 * place : 16 * place + 16]: time_us for place, time_us in enumerate(arrays["spoken"].tolist())}
        keys = arrays["images"].tobytes()
        for place, packed in enumerate(arrays["states"].tolist()):
            state._set(keys[16 * place : 16 * place + 16], packed)
        state._pdqs = Pdqs.restore(arrays)
        return state

    def image(self, image_id: str) -> ImageState:
        """What the log says of one image; an empty state for one it does not know."""
        return _unpack(self._images.get(_image_key(image_id), 0))

    def spoken(self, image_id: str) -> int:
        """When the newest review of this image was signed, in microseconds since 1970 UTC; 0 where nobody reviewed it."""
        return self._spoken.get(_image_key(image_id), 0)

    def images(self) -> Iterator[tuple[str, ImageState]]:
        """Every image of the log, superseded ones too, in the order of their first record."""
        for key, packed in self._images.items():
            yield key.hex(), _unpack(packed)

    def knows(self, key: bytes) -> bool:
        """Whether there is a record of the image with this key, its id as 16 bytes."""
        return key in self._images

    def all_accepted(self, keys: Iterable[bytes]) -> bool:
        """Whether all images with these keys are accepted; looks at no key after the first that is not."""
        known = self._images.get
        return all(known(key, 0) & _ACCEPTED for key in keys)

    def unknown(self) -> bool:
        """Whether images of the plan have lost their values: then their rows have other salts, and so new images."""
        return any(not self._images[key] & _SUPERSEDED for key in self._saltless)

    def superseded(self) -> set[str]:
        """Ids of the images that are in no plan any more."""
        return {key.hex() for key, packed in self._images.items() if packed & _SUPERSEDED}

    def __len__(self) -> int:
        return len(self._images)

    def counts(self, attempts_limit: int) -> Counts:
        """Images of the newest plan by where they stand.

        Raises: CountsDiffer when more images have an end than are planned.
        """
        stands = Counter[str]()
        for packed, images in Counter(self._images.values()).items():
            if not packed & _SUPERSEDED:
                stands[_unpack(packed).standing(attempts_limit)] += images
        planned = self.plan.planned if self.plan else 0
        ended = stands["accepted"] + stands["exhausted"] + stands["failed"]
        if ended + stands["remaining"] > planned:
            known = ended + stands["remaining"]
            raise CountsDiffer(f"{planned} images are planned, but {known} that were not superseded have records")
        return Counts(planned, stands["accepted"], stands["exhausted"], stands["failed"], planned - ended)

    def row_pdqs(self, row_id: str) -> list[str]:
        """PDQ hashes, 64 hex digits each, of the row's accepted images that are not superseded."""
        standing = ((pdq, self._images[image]) for image, pdq in self._pdqs.of_row(row_id))
        return [pdq.hex() for pdq, packed in standing if packed & (_ACCEPTED | _SUPERSEDED) == _ACCEPTED]

    def accepted_pdqs(self) -> np.ndarray:
        """PDQ hashes of all accepted images, superseded ones too: uint8 (n, 32), in log order."""
        return self._pdqs.all()


def _packed(key: bytes, flags: int, rejected: int, last: int, chosen: int) -> int:
    """`_unpack` backwards. `last` and `chosen` are attempts' numbers, which were checked.

    Raises: LogDamaged for more rejected attempts than fit. No driver writes them: `checks.attempts` is 20 at most, and each rejection is
    an attempt with a number of its own.
    """
    if rejected > _COUNT:
        raise LogDamaged(f"image {key.hex()} has more than {_COUNT} rejected attempts: no driver writes so many")
    return flags | rejected << _REJECTED_SHIFT | last << _LAST_SHIFT | chosen << _CHOSEN_SHIFT


def _unpack(packed: int) -> ImageState:
    return ImageState(
        bool(packed & _ACCEPTED),
        bool(packed & _FAILED),
        bool(packed & _SUPERSEDED),
        packed >> _REJECTED_SHIFT & _COUNT,
        packed >> _LAST_SHIFT & _COUNT,
        packed >> _CHOSEN_SHIFT,
    )


def statement_key(signed: str) -> bytes:
    """What names a person's statement: 16 bytes of the SHA-256 of its signed note."""
    return hashlib.sha256(signed.encode("utf-8", "surrogatepass")).digest()[:16]


def _image_key(image_id: object) -> bytes:
    """An image id, 32 hex digits, as 16 bytes. Raises: LogDamaged when it is something else."""
    try:
        key = bytes.fromhex(image_id) if isinstance(image_id, str) and len(image_id) == 32 else b""
    except ValueError:
        key = b""
    if len(key) != 16 or key.hex() != image_id:
        raise LogDamaged(f"not an image id: {image_id!r:.60}")
    return key
