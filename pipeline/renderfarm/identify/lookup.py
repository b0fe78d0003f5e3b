"""Finds the records that a picture's evidence leads to, in one pass over the log of an output.

Five columns of each part are read; only parts with a match are read whole and verified. So millions of records and many pictures take one
pass and little memory. What is found are candidates: `identify` decides between them.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from renderfarm.audit.fanout import FanOut, chunked, reachable, storage_here
from renderfarm.checks.duplicates import confirms
from renderfarm.credential.claim import timestamp
from renderfarm.errors import NotStored, PictureError, StorageRefused
from renderfarm.identify.evidence import Evidence
from renderfarm.keys import Trust
from renderfarm.log import parts, reading
from renderfarm.pictures import BYTES_MAX, decode, hamming, pdq
from renderfarm.pictures.fingerprints import forms_of_signature, planes_of
from renderfarm.pictures.registration import Overlay, lay_over
from renderfarm.records.canonical import claim_digest
from renderfarm.records.tables import from_table, review_rows
from renderfarm.schema import Record, is_review
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

How = Literal["credential", "watermark", "source", "likeness"]
"""`source`: the credential of a picture that this one was made from."""

LogState = Literal["trusted", "self-consistent", "damaged"]
"""Of the part that holds a record: signed by a key we trust; signed by some key, and unaltered since; neither."""

COLUMNS = ("kind", "statement", "claim_digest", "watermark_payload", "pdq", "pdq_quality")
LEADS_MAX, OVERLAYS_MAX = 5, 4
SPREAD_FROM_BYTES = 128 << 20
"""Below this much Parquet, half a million records, starting processes takes longer than it saves."""
CHUNK = 32
"""Parts that a worker takes at a time."""
MATCHES_MAX = 64
"""Records kept per picture that share its payload or claim digest; a forger could write more into a log of his own."""


@dataclass(frozen=True, slots=True)
class Match:
    """A record that some evidence leads to.

    distance: bits between the picture's PDQ hash, turned as fits best, and the record's, None where it has none;
    colours: whether the colour thumbnails agree as well, None where that cannot be said; claim_holds: whether the
    record's own fields give the claim digest that it states.
    """

    how: How
    output: str
    part: int
    log: LogState
    distance: int | None
    colours: bool | None
    claim_holds: bool
    record: Record
    review: Record | None = None
    """The newest word of a person on this attempt, from a part that verified."""
    overlay: Overlay | None = None
    """The copy laid over the stored picture; None where that is gone, altered, or not looked for."""

    @property
    def outcome(self) -> str | None:
        """What became of the attempt: a person's word, else the checks'."""
        return (self.review or self.record).outcome

    @property
    def rendered(self) -> str:
        """When the attempt was finished, by the log: ISO 8601, UTC."""
        return timestamp(self.record.finished_us)

    @property
    def files(self) -> set[str]:
        """SHA-256, hex, of the files that the log knows of this attempt: as it was stored, and as a person's word moved it."""
        return {one.file_sha256 for one in (self.record, self.review) if one and one.file_sha256}

    @property
    def object_key(self) -> str | None:
        """Where the picture lies: a review may have moved it."""
        return (self.review or self.record).object_key or self.record.object_key


@dataclass(slots=True)
class _Sought:
    """What was found so far for one picture in one output: (part, row) by kind of evidence, and the nearest looks
    as a heap."""

    named: list[tuple[int, int, How]] = field(default_factory=list)
    near: list[tuple[int, int, int]] = field(default_factory=list)

    def take(self, other: _Sought) -> None:
        """Takes in what was found in later parts."""
        self.named += other.named[: MATCHES_MAX - len(self.named)]
        for lead in other.near:
            self.offer(lead)

    def offer(self, lead: tuple[int, int, int]) -> None:
        """A lead, as (bits, part, row) that all count backwards: the farthest falls out first, then the latest."""
        (heapq.heappush if len(self.near) < LEADS_MAX else heapq.heappushpop)(self.near, lead)

    def rows(self) -> Iterator[tuple[int, int, How]]:
        named = set()
        for part, row, how in self.named:
            named.add((part, row))
            yield part, row, how
        for _, part, row in sorted(self.near, reverse=True):
            if (-part, -row) not in named:
                yield -part, -row, "likeness"


@dataclass(frozen=True, slots=True)
class _Pass:
    """What some parts hold: for each picture what was found, the parts with persons' words, and what could not be read."""

    sought: list[_Sought]
    reviewed: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def matches(
    storage: Storage, pictures: Sequence[Evidence], trust: Trust | None, fan_out: FanOut | None = None
) -> tuple[list[list[Match]], list[str]]:
    """For each picture its candidates in this output, and what could not be read of the log.

    fan_out: where a long log is read; None, or a short one: in this process. Raises: StorageAway.
    """
    whole_log = _everything(storage, pictures, fan_out)
    sought, reviewed, notes = whole_log.sought, whole_log.reviewed, whole_log.notes
    wanted: dict[int, list[tuple[int, int, How]]] = defaultdict(list)
    for place, item in enumerate(sought):
        for part, row, how in item.rows():
            wanted[part].append((place, row, how))
    matched: list[list[Match]] = [[] for _ in pictures]
    for number, file in reading.fetch_parts(storage, sorted(wanted)):
        try:
            whole = parts.read_part(file, number)
        except parts.PartDamaged as error:
            notes.append(f"{storage.uri}: {error}")
            continue
        if whole.values is not None:
            notes.append(f"{storage.uri}: {whole.values}")
        log = _log_state(whole, trust)
        for place, row, how in wanted[number]:
            (record,) = from_table(whole.table.slice(row, 1))
            matched[place].append(_match(pictures[place], how, storage.uri, number, log, record))
    words = _reviews(storage, reviewed, {match.record.image_id for candidates in matched for match in candidates})
    judged = [[replace(match, review=words.get(match.record.claim_digest or "")) for match in candidates] for candidates in matched]
    return [_laid_over(storage, picture, candidates) for picture, candidates in zip(pictures, judged, strict=True)], notes


def _laid_over(storage: Storage, picture: Evidence, candidates: list[Match]) -> list[Match]:
    """The candidates that credential or mark name, the copy laid over the nearest few of them: a forger can name many."""
    named = [match for match in candidates if match.how in ("credential", "watermark")]
    nearest = sorted(named, key=lambda match: (match.log != "trusted", 256 if match.distance is None else match.distance))[:OVERLAYS_MAX]
    return [replace(match, overlay=_overlay(storage, picture, match)) if match in nearest else match for match in candidates]


def _overlay(storage: Storage, picture: Evidence, match: Match) -> Overlay | None:
    if picture.pixels is None or match.object_key is None:
        return None
    if picture.digest in match.files:
        return Overlay(1.0, 1.0)
    try:
        data = storage.get(match.object_key, BYTES_MAX)
        if hashlib.sha256(data).hexdigest() not in match.files:
            return None
        original = decode(data)
    except (NotStored, PictureError, StorageRefused, ValueError):  # gone, damaged, not for us to read, or a key that is none
        return None
    place = picture.reading.geometry if picture.reading else None
    return lay_over(picture.pixels, original, place.scale if place else None)


def _everything(storage: Storage, pictures: Sequence[Evidence], fan_out: FanOut | None) -> _Pass:
    """One pass over the whole log, in chunks of it where there are many hands."""
    listing = reading.list_parts(storage)
    if fan_out is None or listing.size < SPREAD_FROM_BYTES or not reachable(storage):
        return _one_pass(storage.uri, reading.decoded(storage, listing.numbers, _columns, with_values=False), pictures)
    together = _Pass([_Sought() for _ in pictures])
    bare = tuple(replace(picture, pixels=None) for picture in pictures)  # a scan of the log looks at no pixels
    for later in fan_out(ScanParts(storage.uri, bare), chunked(listing.numbers, CHUNK)):
        for mine, theirs in zip(together.sought, later.sought, strict=True):
            mine.take(theirs)
        together.reviewed.extend(later.reviewed)
        together.notes.extend(later.notes)
    return together


@dataclass(frozen=True, slots=True)
class ScanParts:
    """The task: what the parts of these numbers hold of these pictures."""

    uri: str
    pictures: tuple[Evidence, ...]

    def __call__(self, numbers: tuple[int, ...]) -> _Pass:
        fetched = reading.fetch_parts(storage_here(self.uri), numbers, with_values=False)
        return _one_pass(self.uri, ((number, _columns(number, file)) for number, file in fetched), self.pictures)


def _one_pass(uri: str, read: Iterable[tuple[int, pa.Table | parts.PartDamaged]], pictures: Sequence[Evidence]) -> _Pass:
    import pyarrow.compute as pc

    leads = _Pass([_Sought() for _ in pictures])
    for number, table in read:
        if isinstance(table, parts.PartDamaged):
            leads.notes.append(f"{uri}: {table}")
        else:
            _scan(table, number, pictures, leads.sought)
            if pc.any(review_rows(table)).as_py():
                leads.reviewed.append(number)
    return leads


def _reviews(storage: Storage, numbers: Sequence[int], images: set[str | None]) -> dict[str, Record]:
    """The newest word on each attempt of these images, by the claim digest of the attempt; damaged parts have none."""
    newest: dict[str, Record] = {}
    for number, file in reading.fetch_parts(storage, numbers) if images else ():
        try:
            whole = parts.read_part(file, number)
        except parts.PartDamaged:
            continue
        if _log_state(whole, None) == "damaged":
            continue
        for record in from_table(whole.table):
            if is_review(record) and record.image_id in images and record.reviewed_digest:
                newest[record.reviewed_digest] = record
    return newest


def _columns(number: int, file: parts.PartFile) -> pa.Table | parts.PartDamaged:
    try:
        return parts.read_columns(file, number, COLUMNS)[1]
    except parts.PartDamaged as error:
        return error


def _scan(table: pa.Table, number: int, pictures: Sequence[Evidence], sought: Sequence[_Sought]) -> None:
    import pyarrow.compute as pc

    attempts = np.asarray(pc.equal(table["kind"], "attempt").to_numpy(zero_copy_only=False), dtype=bool)
    for column, how, values in (
        ("claim_digest", "credential", [item.finding.claim_digest for item in pictures]),
        ("claim_digest", "source", [item.finding.source_claim_digest for item in pictures]),
        ("watermark_payload", "watermark", [item.payload for item in pictures]),
    ):
        asked = [value for value in values if value]
        if not asked:
            continue
        hit = pc.is_in(table[column], value_set=_strings(asked)).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(np.asarray(hit, dtype=bool) & attempts).tolist():
            value = table[column][row].as_py()
            for item, stated in zip(sought, values, strict=True):
                if stated == value and len(item.named) < MATCHES_MAX:
                    item.named.append((number, row, how))  # type: ignore[arg-type]
    _scan_looks(table, number, attempts, pictures, sought)


def _scan_looks(table: pa.Table, number: int, attempts: Any, pictures: Sequence[Evidence], sought: Sequence[_Sought]) -> None:
    """The nearest pictures by PDQ, where both hashes are of good enough quality to mean anything."""
    quality = table["pdq_quality"].fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(attempts & (quality >= pdq.QUALITY_MIN))
    texts = table["pdq"].take(rows).to_pylist()
    good = [place for place, text in enumerate(texts) if _is_hash(text)]
    if not good:
        return
    hashes = pdq.packed([texts[place] for place in good])
    for picture, item in zip(pictures, sought, strict=True):
        if picture.quality < pdq.QUALITY_MIN:
            continue
        bits = hamming.distances(hashes, picture.forms).min(axis=1)
        for place in np.flatnonzero(bits <= pdq.NEAR).tolist():
            item.offer((-int(bits[place]), -number, -int(rows[good[place]])))


def _is_hash(text: str | None) -> bool:
    return text is not None and len(text) == pdq.HEX_DIGITS and all(c in "0123456789abcdef" for c in text)


def _strings(values: list[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(sorted(set(values)), pa.string())


def _log_state(part: parts.Part, trust: Trust | None) -> LogState:
    try:
        parts.check_rows(part)
        if trust:
            try:
                parts.check_head(part.footer, trust.log_keys)
                return "trusted"
            except parts.PartDamaged:
                pass
        parts.check_head(part.footer, parts.embedded_keys(part.footer))
        return "self-consistent"
    except parts.PartDamaged:
        return "damaged"


def _match(picture: Evidence, how: How, output: str, part: int, log: LogState, record: Record) -> Match:
    distance, colours = None, None
    if _is_hash(record.pdq) and min(record.pdq_quality or 0, picture.quality) >= pdq.QUALITY_MIN:
        bits = hamming.distances(pdq.packed([str(record.pdq)]), picture.forms)[0].tolist()
        distance = min(bits)
        colours = _same_colours(picture.colours, record.signature, bits.index(distance))
    return Match(how, output, part, log, distance, colours, claim_digest(record) == record.claim_digest, record)


def _same_colours(ours: str, theirs: str | None, form: int) -> bool | None:
    """Whether the colour thumbnails agree, ours mirrored and turned as `form` says."""
    try:
        return confirms(forms_of_signature(ours)[form], planes_of(theirs or ""))
    except ValueError:
        return None
