"""Where the evidence of one picture speaks against itself, in words. Pure.

Every honest copy agrees with itself as far as its evidence goes: a copy that was encoded anew lost its credential or broke it, and one that
a platform signed anew holds ours within its own. So a broken credential contradicts nothing, and neither does a foreign one that claims
no record of ours. An intact one is about exactly these bytes: it was put there by whoever holds its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from renderfarm.identify.evidence import Evidence
from renderfarm.identify.lookup import Match

DIFFERENT = 96
"""PDQ bits from which two whole pictures do not show the same: four standard deviations below unrelated ones' 128."""
UNLIKE = 0.8
"""Correlation, of a copy laid over the stored picture, below which it does not show it; from `registration.ALIKE` it does."""
NO_MODEL = {
    "digitalCapture": "a camera took it", "computationalCapture": "a camera took it", "negativeFilm": "it was taken on film",
    "positiveFilm": "it was taken on film", "print": "it is a scan of a print", "digitalArt": "a person drew it",
    "digitalCreation": "a person made it", "humanEdits": "a person edited a photograph", "minorHumanEdits": "a person edited a photograph",
}  # fmt: skip
"""IPTC's digital source types in which no model has a part, as what they say."""


def shows(picture: Evidence, match: Match) -> bool | None:
    """Whether the picture shows what the record's does; None where that cannot be said."""
    if match.overlay is not None:
        return True if match.overlay.shown else False if match.overlay.alike < UNLIKE else None
    return None if match.distance is None or not picture.whole else match.distance < DIFFERENT


def contradictions(picture: Evidence, candidates: Sequence[Match]) -> tuple[str, ...]:
    """Each contradiction as a sentence without its full stop."""
    return tuple(_found(picture, candidates))


def _found(picture: Evidence, candidates: Sequence[Match]) -> Iterator[str]:
    finding = picture.finding
    marked = [match for match in candidates if match.how == "watermark"]
    intact = finding.state in ("trusted", "expired", "untrusted")
    claimed = [match for match in candidates if match.how == "credential"] if intact else []
    signer = f"{finding.signer or 'somebody'} ({finding.state})"
    if intact and finding.image_id:
        yield from _two_records(picture, marked)
    told = [NO_MODEL.get(kind) for kind in finding.source_types] if intact else []
    kept = any(match.how == "source" for match in candidates)  # somebody placed our picture in a work of theirs, and says so
    if told and all(told) and picture.payload and not kept:
        yield f"the credential of {signer} says that {told[0]}, and the picture carries our watermark"
    files = [match.files for match in claimed if match.files]
    if files and not any(picture.digest in known for known in files):
        yield f"the credential of {signer} is intact and names this record, but the record's file is another one"
    for how, what in (("credential", "credential names"), ("watermark", "watermark leads to")):
        looks = {shows(picture, match) for match in (claimed if how == "credential" else marked)}
        if looks and looks <= {False}:
            copied = ": the mark may have been copied" if how == "watermark" else ""
            yield f"the {what} a record whose picture looks otherwise than this one{copied}"


def _two_records(picture: Evidence, marked: Sequence[Match]) -> Iterator[str]:
    """The credential is about one record of ours, the mark about another."""
    finding, named = picture.finding, f"{picture.finding.image_id}/{picture.finding.attempt}"
    if finding.watermark_payload and picture.payload and finding.watermark_payload != picture.payload:
        yield f"the credential says that the picture carries the mark {finding.watermark_payload}, and it carries {picture.payload}"
    elif marked and named not in (ids := sorted({f"{match.record.image_id}/{match.record.attempt}" for match in marked})):
        yield f"the credential names {named}, the watermark {' or '.join(ids[:3])}"
