"""Any copy of a picture → the record of its making, and how sure that is. Reads logs, imports no writer.

Four kinds of evidence, the strongest first:

1. *Credential*: if it is still in the file and intact, it names a record by the digest of its claim. Certain, when it
   leads to a trusted root certificate and the record lies in a part that a trusted key signed.
2. *Watermark*: survives re-encoding, scaling and cropping, and carries 44 bits of a hash. In a log of four million
   pictures one picture in four million shares its bits with another, so records that share them are told apart by their
   looks. A mark can be lifted off one picture and laid over another by whoever tries hard: so the copy is laid over the
   stored picture, which also shows what was changed in it.
3. *Source*: another program edited the picture and kept our credential inside its own: a lead.
4. *Looks* (PDQ): never more than a lead. Another rendering of the same prompt may look the same.

Where these speak against one another the answer is none of them but the contradiction (`contradictions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from renderfarm.audit.fanout import FanOut, chunked
from renderfarm.audit.pictures import Beliefs
from renderfarm.credential import CredentialFinding
from renderfarm.errors import PictureError
from renderfarm.identify import lookup
from renderfarm.identify.contradictions import DIFFERENT, contradictions, shows
from renderfarm.identify.evidence import Evidence, gather
from renderfarm.identify.lookup import How, Match
from renderfarm.keys import Trust
from renderfarm.pictures import ENDINGS, read_file
from renderfarm.records.tables import as_dict
from renderfarm.storage import Storage
from renderfarm.watermark.types import Reading

Sureness = Literal["certain", "strong", "contradicted", "lead", "none"]
"""`certain`: a believed credential and a believed log agree. `strong`: one thing is missing from that, such as the
credential, and nothing speaks against it. `contradicted`: the evidence speaks against itself, as in a forgery. `lead`: worth a person's
look. `none`: nothing found."""

PART_MIN = 0.25
"""Share of a copy's area that must show the record's picture for more than a lead: a small part may have been put in."""

WHOLE_COVER = 0.9
"""From here on a copy is said to show the picture, without how much of it."""
CLEARER = 16
"""Bits by which the best of several records with one payload must beat the next."""

NAME_A_PICTURE = "name a picture, or a folder with pictures"
BATCH = 32
"""Pictures that share one pass over the logs."""
HERE_MAX = 16
"""From so many pictures on, starting processes for them saves time."""
CHUNK = 4
"""Pictures that a worker takes at a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one picture is.

    `matches`: the records, best first; `trusted`: whether the first lies in a log that a trusted key signed.
    """

    picture: str
    sureness: Sureness
    by: How | None
    trusted: bool
    reason: str
    matches: tuple[Match, ...] = ()
    contradictions: tuple[str, ...] = ()
    finding: CredentialFinding | None = None
    reading: Reading | None = None
    notes: tuple[str, ...] = ()

    @property
    def identified(self) -> bool:
        """Whether there is an answer rather than a lead (the command's exit code)."""
        return self.sureness in ("certain", "strong")

    def as_json(self) -> dict[str, Any]:
        """The answer as plain JSON values."""
        row = {name: getattr(self, name) for name in ("picture", "identified", "sureness", "by", "trusted", "reason")}
        row["credential"] = _present(dataclasses.asdict(self.finding)) if self.finding else None
        row["watermark"] = _reading_json(self.reading)
        row["matches"] = [{**_match_json(match), "record": as_dict(match.record)} for match in self.matches]
        row["contradictions"] = list(self.contradictions)
        row["rendered"] = self.matches[0].rendered if self.matches else None
        row["notes"] = list(self.notes)
        return row


def identify(picture: bytes | Path, outputs: Sequence[Storage], trust: Trust | None, name: str = "picture") -> Answer:
    """What one picture is. Without `trust` no watermark can be read, and nothing is more than self-consistent.

    A file that is no picture is answered, not raised. Raises: StorageAway; PictureError when the path cannot be read.
    """
    (answer,) = identify_all([(name, picture) if isinstance(picture, bytes) else picture], outputs, trust)
    return answer


def identify_all(
    pictures: Iterable[Path | tuple[str, bytes]],
    outputs: Sequence[Storage],
    trust: Trust | None,
    fan_out: FanOut | None = None,
    here_max: int = HERE_MAX,
) -> Iterator[Answer]:
    """One answer per picture, in order. Pictures are taken in batches that share one pass over each log.

    fan_out: where many pictures, and long logs, are read, by default in this process.
    """
    look = Look(Beliefs.of(trust))
    remaining = iter(pictures)
    first = list(islice(remaining, here_max))
    many = fan_out is not None and len(first) == here_max
    chunks = chunked(map(_opened, chain(first, remaining)), CHUNK)
    batch: list[Evidence | Answer] = []
    for looked_at in fan_out(look, chunks) if many and fan_out is not None else map(look, chunks):
        batch += looked_at
        if len(batch) >= BATCH:
            yield from _answers(batch, outputs, trust, fan_out)
            batch = []
    yield from _answers(batch, outputs, trust, fan_out)


def pictures_in(path: Path) -> Iterator[Path]:
    """The file itself, or every file with a picture's ending below a folder, sorted.

    Raises: PictureError when there is none.
    """
    if path.is_dir():
        pictures = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
        if not pictures:
            raise PictureError("there is no picture in this folder", str(path), NAME_A_PICTURE)
        yield from pictures
    elif path.exists():
        yield path
    else:
        raise PictureError("there is no such file", str(path), NAME_A_PICTURE)


def _opened(picture: Path | tuple[str, bytes]) -> tuple[str, bytes]:
    """Name and bytes. Raises: PictureError when the path cannot be read."""
    return (str(picture), read_file(picture)) if isinstance(picture, Path) else picture


@dataclass(frozen=True, slots=True)
class Look:
    """The task: the evidence of a chunk of pictures, or the answer for a file that is none."""

    beliefs: Beliefs

    def __call__(self, chunk: tuple[tuple[str, bytes], ...]) -> list[Evidence | Answer]:
        looked_at: list[Evidence | Answer] = []
        for name, data in chunk:
            try:
                looked_at.append(gather(data, name, self.beliefs))
            except PictureError as error:
                looked_at.append(Answer(name, "none", None, False, error.what))
        return looked_at


def _answers(
    batch: Sequence[Evidence | Answer], outputs: Sequence[Storage], trust: Trust | None, fan_out: FanOut | None
) -> Iterator[Answer]:
    pictures = [item for item in batch if isinstance(item, Evidence)]
    matches: list[list[Match]] = [[] for _ in pictures]
    notes: list[str] = []
    if pictures:
        for storage in outputs:
            more, trouble = lookup.matches(storage, pictures, trust, fan_out)
            notes += trouble
            for mine, theirs in zip(matches, more, strict=True):
                mine += theirs
    ready = iter(zip(pictures, matches, strict=True))
    for item in batch:
        if isinstance(item, Answer):
            yield item
        else:
            picture, candidates = next(ready)
            yield dataclasses.replace(decide(picture, candidates), notes=tuple(notes))


def decide(picture: Evidence, candidates: Sequence[Match]) -> Answer:
    """The answer for one picture from all candidates of all outputs. Pure."""
    claimed = [match for match in candidates if match.how == "credential"]
    marked = [match for match in candidates if match.how == "watermark"]
    alike = [match for match in candidates if match.how == "likeness"]
    answer = None
    if claimed and picture.finding.state != "invalid":
        answer = _by_credential(picture, claimed)
    if marked and (answer is None or not answer.identified):
        answer = _better(answer, _by_watermark(picture, marked))
    made_from = [match for match in candidates if match.how == "source"]
    if answer is None and made_from:
        answer = _by_source(picture, made_from)
    if answer is None and alike:
        answer = _by_looks(picture, alike)
    if answer is None:
        answer = Answer(picture.name, "none", None, False, _nothing(picture))
    if against := contradictions(picture, candidates):
        answer = dataclasses.replace(answer, sureness="contradicted", reason="; ".join(against), contradictions=against)
    others = tuple(match for match in candidates if not _listed(match, answer.matches))
    return dataclasses.replace(answer, finding=picture.finding, reading=picture.reading, matches=answer.matches + _ranked(others))


def _by_credential(picture: Evidence, claimed: Sequence[Match]) -> Answer:
    best, *_ = ranked = _ranked(claimed)
    believed = _believed(picture.finding, best)
    trusted = best.log == "trusted"
    if best.log == "damaged" or not best.claim_holds:
        reason = "the credential names this record, but the record was altered: audit the output"
        return Answer(picture.name, "lead", "credential", False, reason, ranked)
    if believed and trusted:
        since = "; its certificate expired since" if picture.finding.state == "expired" else ""
        reason = f"the credential is intact and trusted, and names this record of a trusted log{since}"
        return Answer(picture.name, "certain", "credential", True, reason, ranked)
    lacking = "its signer is not trusted" if not believed else "no trusted key signed the log"
    reason = f"the credential is intact and names this record, but {lacking}"
    return Answer(picture.name, "strong", "credential", trusted, reason, ranked)


def _believed(finding: CredentialFinding, match: Match) -> bool:
    """Whether the credential's signer is trusted, or was when the signed log says that the picture was finished."""
    if finding.state != "expired":
        return finding.state == "trusted"
    return (finding.valid_from_us or 0) <= match.record.finished_us <= (finding.valid_until_us or 0)


def _by_watermark(picture: Evidence, marked: Sequence[Match]) -> Answer:
    best, *rest = ranked = _ranked(marked)
    rivals = [match for match in rest if _who(match) != _who(best)]
    trusted = best.log == "trusted"
    key = f"watermark under key {picture.reading.key_id if picture.reading else ''}"
    if best.log == "damaged":
        return Answer(picture.name, "lead", "watermark", False, f"the {key} leads to a record of a damaged log", ranked)
    if rivals and not _clearer(picture, best, rivals[0]):
        count = 1 + len({_who(match) for match in rivals})
        reason = f"the {key} leads to {count} records with the same 44 bits, and their looks do not decide between them"
        return Answer(picture.name, "lead", "watermark", trusted, reason, ranked)
    shown = shows(picture, best)
    part = "" if picture.whole else "; this copy is cropped, scaled or turned"
    if shown is None and not (picture.whole and best.overlay is None):
        unsure = "how alike they look does not decide" if best.overlay else "the stored picture is not there to be compared"
        reason = f"the {key} leads to this record{part}; {unsure}{_broken(picture)}"
        return Answer(picture.name, "lead", "watermark", trusted, reason, ranked)
    little = best.overlay is not None and best.overlay.cover < PART_MIN
    log = "" if trusted else ", but no trusted key signed the log"
    reason = f"the {key} leads to this record{log}{part}{_changed(best)}{_broken(picture)}"
    return Answer(picture.name, "lead" if little else "strong", "watermark", trusted, reason, ranked)


def _changed(match: Match) -> str:
    """How the copy differs from the stored picture, as the end of a sentence."""
    if match.overlay is None:
        return ""
    cover, places = match.overlay.cover, len(match.overlay.altered)
    said = f"; {cover:.0%} of it shows that picture" if cover < WHOLE_COVER else ""
    where = "one place" if places == 1 else f"{places} places"
    return said + (f"; it differs in {where}, {match.overlay.altered_share:.1%} of what both show" if places else "")


def _broken(picture: Evidence) -> str:
    """That a credential is there and broken, as the end of a sentence."""
    return f"; its credential is broken: {picture.finding.reason}" if picture.finding.state == "invalid" else ""


def _by_source(picture: Evidence, made_from: Sequence[Match]) -> Answer:
    ranked = _ranked(made_from)
    who = f"{picture.finding.signer or 'somebody'} ({picture.finding.state})"
    reason = f"by its credential, {who} made this picture out of this record's"
    return Answer(picture.name, "lead", "source", ranked[0].log == "trusted", reason, ranked)


def _by_looks(picture: Evidence, alike: Sequence[Match]) -> Answer:
    ranked = _ranked(alike)
    best = ranked[0]
    colours = {True: " and so do its colours", False: ", in other colours", None: ""}[best.colours]
    bits = f"{best.distance} of 256 bits differ"
    reason = f"neither credential nor watermark; its shape is like this record's ({bits}){colours}{_broken(picture)}"
    return Answer(picture.name, "lead", "likeness", best.log == "trusted", reason, ranked)


def _nothing(picture: Evidence) -> str:
    reasons = []
    if picture.finding.state == "absent":
        reasons.append("no credential")
    elif picture.finding.claim_digest:
        reasons.append(f"a credential ({picture.finding.state}) whose record is not in these outputs")
    else:
        reasons.append(f"a credential ({picture.finding.state}) of another program")
    if picture.reading is None:
        reasons.append("no watermark key to look with")
    elif picture.payload:
        reasons.append(f"a watermark whose record ({picture.payload}) is not in these outputs")
    else:
        reasons.append("no watermark under the keys at hand")
    return ", ".join((*reasons, "and nothing that looks like it"))


def _better(first: Answer | None, second: Answer) -> Answer:
    order = ("certain", "strong", "contradicted", "lead", "none")
    return second if first is None or order.index(second.sureness) < order.index(first.sureness) else first


def _ranked(matches: Sequence[Match]) -> tuple[Match, ...]:
    """Believed logs first, then what looks most alike, then accepted before rejected attempts."""
    logs = ("trusted", "self-consistent", "damaged")

    def order(match: Match) -> tuple[int, bool, int, bool]:
        distance = 256 if match.distance is None else match.distance
        return logs.index(match.log), match.colours is False, distance, match.outcome != "accepted"

    return tuple(sorted(matches, key=order))


def _who(match: Match) -> tuple[str | None, int | None]:
    return match.record.image_id, match.record.attempt


def _listed(match: Match, matches: Sequence[Match]) -> bool:
    return any((match.output, *_who(match)) == (other.output, *_who(other)) for other in matches)


def _clearer(picture: Evidence, best: Match, next_best: Match) -> bool:
    if not picture.whole or best.distance is None or next_best.distance is None:
        return False
    return best.distance < DIFFERENT and best.distance + CLEARER <= next_best.distance


def _reading_json(reading: Reading | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    row: dict[str, Any] = {"present": reading.present, "false_alarm": reading.false_alarm}
    if reading.present and reading.payload:
        row |= {"record": reading.payload.record, "key_id": reading.key_id, "version": reading.version, "confidence": reading.confidence}
        row["geometry"] = dataclasses.asdict(reading.geometry) if reading.geometry else None
    return row


def _match_json(match: Match) -> dict[str, Any]:
    names = ("how", "output", "part", "log", "distance", "colours", "claim_holds", "outcome", "rendered")
    overlay = dataclasses.asdict(match.overlay) if match.overlay else None
    return {**{name: getattr(match, name) for name in names}, "overlay": overlay, "review": as_dict(match.review) if match.review else None}


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
