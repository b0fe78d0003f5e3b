"""The records of one image → its line in the sheet, and counts over all lines → the filters that the page offers. Pure.

A *line* is what the sheet, its search and its filters need of an image; the full records are loaded when it is clicked.
Lines are arrays, so that 10,000 of them weigh a few megabytes; `LINE` names the places and data.js mirrors it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from renderfarm.log.state import ImageState, Standing
from renderfarm.report.encode import Plain, href
from renderfarm.report.spool import REVIEWS, ImageRecords

STATES: tuple[Standing, ...] = ("accepted", "exhausted", "failed", "remaining")
OUTCOMES = ("rejected", "flagged", "not_run")
"""Outcomes that a person may want to filter for, in the order of their codes."""

LINE = (
    "image_id", "row_id", "index", "state", "superseded", "prompt", "text", "tags", "attempts", "thumb",
    "marks", "reasons",
)  # fmt: skip
PROMPT_CHARS_MAX = 2000
"""The sheet searches this much of a prompt; the record behind the click has all of it."""
TAG_KEYS_MAX = 30
TAG_VALUES_MAX = 200
"""A tag with more values than this (an SKU) is found by search, not by a menu of thousands."""


def state_of(attempts: Sequence[Plain], attempts_limit: int) -> Standing:
    """Where the image stands after these attempts, in log order."""
    outcomes = [attempt.get("outcome") for attempt in attempts]
    rejected = outcomes.count("rejected")
    state = ImageState(accepted="accepted" in outcomes, failed=outcomes[-1] == "failed", rejected=rejected)
    return state.standing(attempts_limit)


def shown_attempt(attempts: Sequence[Plain]) -> Plain:
    """The attempt that stands for the image: the accepted one, else the newest with a thumb, else the newest."""
    for attempt in attempts:
        if attempt.get("outcome") == "accepted":
            return attempt
    with_thumb = [attempt for attempt in attempts if attempt.get("thumb_key")]
    return with_thumb[-1] if with_thumb else attempts[-1]


class Sheet:
    """Turns images into lines one by one and counts for the filters; its memory does not grow with the images."""

    def __init__(self, attempts_limit: int) -> None:
        self._attempts_limit = attempts_limit
        self._checks: dict[str, int] = {}
        self._marks: Counter[tuple[str, str]] = Counter()
        self._states: Counter[str] = Counter()
        self._tags: dict[str, Counter[str] | None] = {}
        self._models: Counter[tuple[tuple[str, str], ...]] = Counter()

    def line(self, image: ImageRecords) -> list[Any]:
        """One image's line, in the order of `LINE`; counted."""
        state = state_of(image.attempts, self._attempts_limit)
        shown, newest = shown_attempt(image.attempts), image.attempts[-1]
        marks = _marks(image.attempts, shown)
        self._count(image, state, marks, shown)
        tags = newest.get("tags", [])
        return [
            newest.get("image_id", ""), newest.get("row_id", ""), newest.get("index", 0),
            STATES.index(state), int(image.superseded),
            newest.get("prompt", "")[:PROMPT_CHARS_MAX], newest.get("text", ""), tags,
            len(image.attempts), href(shown.get("thumb_key")) or "",
            [self._check_number(check) * len(OUTCOMES) + OUTCOMES.index(outcome) for check, outcome in marks],
            _reasons(image.attempts, shown),
        ]  # fmt: skip

    def filters(self) -> dict[str, Any]:
        """What the page offers to filter by, with counts over the images of the newest plan (superseded ones apart)."""
        return {
            "states": [[name, self._states[name]] for name in (*STATES, "flagged", "superseded")],
            "checks": [[check, [self._marks[check, outcome] for outcome in OUTCOMES]] for check in self._checks],
            "tags": [[key, sorted(values.items()) if values else None] for key, values in sorted(self._tags.items())],
        }

    def models(self) -> list[dict[str, Any]]:
        """Each model that rendered a shown picture, most used first, with what kind of model it is."""
        return [
            {**dict(fields), "images": count, **dict(zip(("kind", "note"), model_kind(dict(fields)), strict=True))}
            for fields, count in self._models.most_common()
        ]

    def _check_number(self, check: str) -> int:
        return self._checks.setdefault(check, len(self._checks))

    def _count(self, image: ImageRecords, state: Standing, marks: Iterable[tuple[str, str]], shown: Plain) -> None:
        if image.superseded:
            self._states["superseded"] += 1
            return
        self._states[state] += 1
        self._states["flagged"] += any(outcome == "flagged" for _, outcome in marks)
        self._marks.update(marks)
        if shown.get("weights"):
            names = ("weights", "weights_revision", "weights_digest", "weights_licence", "device")
            self._models[tuple((name, str(shown[name])) for name in names if name in shown)] += 1
        for key, value in image.attempts[-1].get("tags", []):
            self._count_tag(key, value)

    def _count_tag(self, key: str, value: str) -> None:
        if key not in self._tags:
            if len(self._tags) >= TAG_KEYS_MAX:
                return
            self._tags[key] = Counter()
        values = self._tags[key]
        if values is not None:
            values[value] += 1
            if len(values) > TAG_VALUES_MAX:
                self._tags[key] = None


def _marks(attempts: Sequence[Plain], shown: Plain) -> list[tuple[str, str]]:
    """(check, outcome) pairs to filter by: a rejection in any attempt, a flag or a `not_run` on the shown one."""
    marks: dict[tuple[str, str], None] = {}
    for attempt in attempts:
        for verdict in attempt.get("verdicts", []):
            outcome = verdict["outcome"]
            if outcome == "rejected" or (outcome in OUTCOMES and attempt is shown):
                marks[verdict["check"], outcome] = None
    return list(marks)


def _reasons(attempts: Sequence[Plain], shown: Plain) -> list[str]:
    """Why attempts did not pass, oldest first, and what the shown one was flagged for; equal sentences once."""
    reasons: dict[str, None] = {}
    for attempt in attempts:
        rejections = [v.get("reason", "") for v in attempt.get("verdicts", []) if v["outcome"] == "rejected"]
        if attempt.get("outcome") != "accepted":
            reasons.update(dict.fromkeys(rejections or [attempt.get("reason", "")]))
        else:
            reasons.update({f"accepted by {who}{': ' * bool(note)}{note}": None for outcome, who, note, _ in attempt.get(REVIEWS, [])[-1:]})
    reasons.update(dict.fromkeys(v.get("reason", "") for v in shown.get("verdicts", []) if v["outcome"] == "flagged"))
    return [reason for reason in reasons if reason]


def model_kind(fields: Mapping[str, str]) -> tuple[str, str]:
    """(kind, sentence) for a model whose pictures nobody should mistake for production; both "" for any other."""
    name = fields.get("weights", "").casefold()
    if "stand-in" in name:  # "starter (random stand-in)" in the records of older outputs
        return "stand-in", "Stand-in model: random weights. The pictures show that the pipeline works, no more."
    if name == "starter":
        return "starter", (
            "Starter model: the small weights that come with Renderfarm, for trying it out. "
            "They draw a few simple objects; name real weights in the job before showing pictures to a client."
        )
    return "", ""
