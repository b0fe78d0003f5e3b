"""Recorded scores judged by other thresholds: what would change. Renders nothing, looks at no picture, writes nothing.

Every check says in one place what a score is held against (`checks.base.Bars`). Here the recorded scores are held against the bars of
other settings. What was not recorded is said, never guessed. A check has no score where another check had rejected the picture before it
looked; an attempt that passes all checks that did look is then *open*, not accepted. A person's word stands, whatever the thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from renderfarm.checks import duplicates, registry, text
from renderfarm.checks.base import Bars, Check, Rejudged
from renderfarm.errors import JobError
from renderfarm.job import load_checks
from renderfarm.job.checks import ChecksSettings
from renderfarm.log import reading
from renderfarm.log.state import Counts, ImageState
from renderfarm.output import JOB_FILE
from renderfarm.resolve import JobFile
from renderfarm.schema import REVIEW, ObjectCount, Outcome, PromptRow
from renderfarm.storage import Storage

COLUMNS = (
    "kind", "statement", "planned", "image_id", "row_id", "index", "attempt", "outcome", "prompt", "text", "objects", "verdicts",
    "commitment", "salt",
)  # fmt: skip

Ending = Literal["accepted", "rejected", "failed", "open"]
"""`open`: nothing that was scored rejects it, and a check that did not run would have to look."""


@dataclass(frozen=True, slots=True)
class Change:
    """One verdict that other thresholds turn round."""

    check: str
    was: Outcome
    now: Outcome
    score: float | None
    threshold: float | None
    new_threshold: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Rejudgement:
    """One attempt with a verdict that changes. `unscored`: checks that did not look, on which an `open` attempt depends."""

    image_id: str
    row_id: str
    index: int
    attempt: int
    was: Ending
    now: Ending
    changes: tuple[Change, ...]
    unscored: tuple[str, ...] = ()


@dataclass(slots=True)
class Outlook:
    """What the whole log comes to. `ends` counts attempts with a changed verdict by what they were and would be; `unrecorded` verdicts
    without a score by (check, why)."""

    attempts: int = 0
    changed: int = 0
    ends: Counter[tuple[Ending, Ending]] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, Outcome, Outcome]] = field(default_factory=Counter)
    unrecorded: Counter[tuple[str, str]] = field(default_factory=Counter)
    forgotten: int = 0
    """Attempts of which nobody knows any more what was asked: they stay as recorded."""
    notes: list[str] = field(default_factory=list)
    was: Counts = field(default_factory=Counts)
    now: Counts = field(default_factory=Counts)
    open: int = 0
    """Images among `now.accepted` that depend on a check that did not look."""

    @property
    def differs(self) -> bool:
        """Whether a verdict, or the state of an image, would be another."""
        return bool(self.changed) or self.was != self.now

    def as_json(self) -> dict[str, object]:
        """Plain JSON values: the sums, with what was not recorded."""
        verdicts = sorted(self.verdicts.items())
        return {
            "attempts": self.attempts,
            "changed": self.changed,
            "verdicts": [{"check": check, "was": was, "now": now, "count": count} for (check, was, now), count in verdicts],
            "images": {"was": asdict(self.was), "now": asdict(self.now), "open": self.open},
            "unrecorded": [{"check": check, "reason": why, "count": count} for (check, why), count in sorted(self.unrecorded.items())],
            "notes": self.notes,
        }


class Recheck:
    """One pass over a log. Iterate `changes()` to its end, then read `outlook`."""

    def __init__(self, storage: Storage, recorded_limit: int, settings: ChecksSettings) -> None:
        self.outlook = Outlook()
        self._storage = storage
        self._limits = (recorded_limit, settings.attempts)
        self._settings = settings
        self._judges = _judges(settings, self.outlook.notes)
        self._images = _ImageTrails()

    @classmethod
    def of_job(cls, storage: Storage, job: JobFile, changes: Sequence[str] = ()) -> Recheck:
        """An output by its job's checks with these changes, each written as for `--set`. Raises: JobError naming every mistake."""
        return cls(storage, job.attempts, load_checks(job.checks, changes, f"{storage.uri}/{JOB_FILE}"))

    def changes(self) -> Iterator[Rejudgement]:
        """Every attempt with a verdict that changes, in log order. Raises: LogDamaged, StorageAway."""
        for _, table in reading.tables(self._storage, COLUMNS, values_hold=True):
            for row in table.select(COLUMNS).to_pylist():  # type: ignore[attr-defined]
                if row["kind"] != "attempt":
                    self._images.move(row)
                    continue
                rejudgement = self._rejudged(row)
                self._images.add(row["image_id"], rejudgement)
                if rejudgement.changes:
                    self.outlook.changed += 1
                    self.outlook.ends[rejudgement.was, rejudgement.now] += 1
                    yield rejudgement
        if self._settings.text.second_look and any(self.outlook.verdicts["text", "accepted", worse] for worse in ("rejected", "flagged")):
            self.outlook.notes.append(text.READ_ONCE)
        if self.outlook.forgotten:
            self.outlook.notes.append(f"{self.outlook.forgotten} attempts stay as recorded: what they were asked for was forgotten")
        self.outlook.was, self.outlook.now, self.outlook.open = self._images.counts(*self._limits)

    def _rejudged(self, record: Mapping[str, Any]) -> Rejudgement:
        """One recorded attempt by the new settings; one that was never rendered stays failed."""
        place = (record["image_id"], record["row_id"] or "", record["index"] or 0, record["attempt"])
        self.outlook.attempts += 1
        if record["outcome"] == "failed":
            return Rejudgement(*place, "failed", "failed", ())
        objects = tuple(ObjectCount(item["name"], item["count"]) for item in record["objects"])
        row = PromptRow(place[1], record["prompt"] or "", text=record["text"], objects=objects)
        if record["commitment"] is not None and record["salt"] is None:
            self.outlook.forgotten += 1
            return Rejudgement(*place, record["outcome"], record["outcome"], ())
        changes, outcomes, waiting = [], [], []
        for verdict in record["verdicts"]:
            name, was, score = verdict["check"], verdict["outcome"], verdict["score"]
            now, threshold = self._outcome(verdict, row)
            outcomes.append(now)
            if was == "not_run":
                skipped = verdict["reason"] == registry.REJECTED_EARLIER
                waits = self._looks(name, row)
                if waits and (skipped or self._judges[name] is not None):
                    self.outlook.unrecorded[name, verdict["reason"]] += 1
                waiting += [name] if waits and skipped else []
            if now != was:
                self.outlook.verdicts[name, was, now] += 1
                changes.append(Change(name, was, now, score, verdict["threshold"], threshold, verdict["reason"]))
        for name in self._judges.keys() - {verdict["check"] for verdict in record["verdicts"]}:
            if name != duplicates.NAME or record["outcome"] == "accepted":
                self.outlook.unrecorded[name, "it was not among the job's checks"] += 1
        end: Ending = "rejected" if "rejected" in outcomes else "open" if waiting else "accepted"
        return Rejudgement(*place, record["outcome"], end, tuple(changes), tuple(waiting) if end == "open" else ())

    def _looks(self, name: str, row: PromptRow) -> bool:
        """Whether a check would look at a picture of this row."""
        if name not in self._judges or name == duplicates.NAME:
            return False
        bars = self._judges[name]
        return bars is None or bars(row) is not None

    def _outcome(self, verdict: Mapping[str, Any], row: PromptRow) -> tuple[Outcome, float | None]:
        """What a recorded verdict becomes, and the bar. One without a score stays; one of a check that is off now says nothing."""
        name, was, score = verdict["check"], verdict["outcome"], verdict["score"]
        if was == "not_run" or (score is None and name in self._judges):
            return was, None
        if name not in self._judges:
            return (was, verdict["threshold"]) if name not in ChecksSettings.model_fields else ("not_run", None)
        judge = self._judges[name]
        if name == duplicates.NAME:
            where = duplicates.OWN_ROW if verdict["reason"].endswith(duplicates.OWN_ROW) else duplicates.OTHER_ROW
            bars = Bars() if was == "accepted" else duplicates.bars(self._settings.duplicates, where)
        elif judge is not None:
            bars = judge(row)
        else:
            return was, verdict["threshold"]
        return ("not_run", None) if bars is None else bars.outcome(score)


_BarsOf = Callable[[PromptRow], Bars | None]


def _judges(settings: ChecksSettings, notes: list[str]) -> dict[str, _BarsOf | None]:
    """The enabled checks by name with what says their bars, None where nothing does; not prepared, so no model is loaded."""
    try:
        built: Sequence[Check] = registry.build(settings)
    except JobError as error:
        built = registry.build(settings.model_copy(update={"plugins": {}}))
        notes.append(f"verdicts of plug-ins stay as recorded: {error.what}")
    notes += [f"verdicts of {c.name} stay as recorded: it does not say how a score is judged" for c in built if not isinstance(c, Rejudged)]
    judges: dict[str, _BarsOf | None] = {check.name: check.bars if isinstance(check, Rejudged) else None for check in built}
    if settings.duplicates.enabled:
        judges[duplicates.NAME] = None  # their bars depend on where the twin was found
        notes.append("a near-duplicate is judged against what was accepted then; which twins other decisions would leave was not recorded")
    return judges


_Trail = tuple[tuple[int, Ending, Ending], ...]


class _ImageTrails:
    """Each image as (attempt, was, now) of its attempts, most of them equal and so held once."""

    def __init__(self) -> None:
        self._trails: dict[str, _Trail] = {}
        self._known: dict[_Trail, _Trail] = {}
        self._superseded: set[str] = set()
        self._planned = 0

    def add(self, image_id: str, rejudgement: Rejudgement) -> None:
        self._set(image_id, (*self._trails.get(image_id, ()), (rejudgement.attempt, rejudgement.was, rejudgement.now)))

    def move(self, row: Mapping[str, Any]) -> None:
        """A plan, an image that leaves it or comes back, or a person's word, which stands in both judgements."""
        kind, image_id, outcome = row["kind"], row["image_id"], row["outcome"]
        if kind == "plan":
            self._planned = row["planned"] or 0
        elif kind == "review" or row["statement"] == REVIEW:
            trail = self._trails.get(image_id, ())
            self._set(image_id, tuple((n, outcome, outcome) if n == row["attempt"] else (n, was, now) for n, was, now in trail))
        elif kind == "superseded":
            self._superseded.add(image_id)
        elif kind == "reinstated":
            self._superseded.discard(image_id)

    def _set(self, image_id: str, trail: _Trail) -> None:
        self._trails[image_id] = self._known.setdefault(trail, trail)

    def counts(self, was_limit: int, now_limit: int) -> tuple[Counts, Counts, int]:
        """Images by state before and after, and how many of the accepted ones are open."""
        groups = Counter(trail for image_id, trail in self._trails.items() if image_id not in self._superseded)
        before, after = Counter[str](), Counter[str]()
        undecided = 0
        for trail, images in groups.items():
            before[_standing([was for _, was, _ in trail], was_limit)] += images
            after[_standing([now for *_, now in trail], now_limit)] += images
            ends = [now for *_, now in trail]
            undecided += images * ("open" in ends and "accepted" not in ends)
        return _counts(self._planned, before), _counts(self._planned, after), undecided


def _standing(ends: Sequence[Ending], limit: int) -> str:
    accepted = "accepted" in ends or "open" in ends
    return ImageState(accepted, ends[-1] == "failed", rejected=ends.count("rejected")).standing(limit)


def _counts(planned: int, stands: Counter[str]) -> Counts:
    ended = stands["accepted"] + stands["exhausted"] + stands["failed"]
    return Counts(planned, stands["accepted"], stands["exhausted"], stands["failed"], max(0, planned - ended))
