"""Verdicts → what becomes of the attempt, and whether another follows. Pure.

Any rejection rejects the attempt; a flag or a check that did not run does not. Each retry takes the next attempt number, and with it the
next seed, until the limit: it always ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from renderfarm.schema import AttemptOutcome, Verdict


def judge(verdicts: Sequence[Verdict]) -> tuple[AttemptOutcome, str]:
    """Outcome of one attempt, and the reason: the rejecting checks' own words."""
    reasons = [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if verdict.outcome == "rejected"]
    return ("rejected", "; ".join(reasons)) if reasons else ("accepted", "")


def next_attempt(rejected: int, failed: bool, last: int, limit: int, *, retry_failed: bool = False) -> int | None:
    """The number of the next attempt, or None when the image is final.

    `rejected` counts the recorded rejections of an image that has nothing accepted, `failed` says that its last attempt failed, `last` is
    the highest attempt number in the log. A failed image stays closed unless `retry_failed`; failures use up no rejections.
    """
    if rejected >= limit or (failed and not retry_failed):
        return None
    return last + 1


FARM_FAULT = "by the farm: "
"""How the reason of a failed attempt begins that the image may not be to blame for: a worker that died, hung, or ran out of memory."""
REOPENED_MAX = 3
"""So many failures by the farm's fault open again by themselves: an image that takes workers down does not do so every night."""


def farm_fault(reason: str) -> str:
    """The reason of an attempt that failed by the farm's fault."""
    return reason if reason.startswith(FARM_FAULT) else FARM_FAULT + reason


def cause_of(reason: str) -> str:
    """Where the fault of a failed attempt lay, as records of version 4 say it (`Record.cause`)."""
    return "farm" if reason.startswith(FARM_FAULT) else "render"


def reopens(failed_attempts: int, cause: str) -> bool:
    """Whether an image opens again by itself, after so many failed attempts, the last of this cause."""
    return cause == "farm" and failed_attempts <= REOPENED_MAX


BEST = "best"
"""The verdict by which the best of several renderings of an image is told from the others that pass."""
ASKED = ("text", "counts", "judge", "score")
"""Checks that say how well a picture shows what was asked for, the most telling first."""


def fitness(verdicts: Sequence[Verdict]) -> tuple[float, ...]:
    """How good an attempt is among others of its image that pass too: fewer flags first, then the checks of what was asked for, one after
    the other, by a hundredth (by their digits for the last, which differs by less), then the larger sum of scores over their thresholds."""
    scores = {verdict.check: verdict.score for verdict in verdicts if verdict.score is not None}
    told = [scores.get(name, 0.0) if name == ASKED[-1] else round(scores.get(name, 0.0), 2) for name in ASKED]
    return (-float(sum(verdict.outcome == "flagged" for verdict in verdicts)), *told, rank(verdicts)[1])


def rank(verdicts: Sequence[Verdict]) -> tuple[int, float]:
    """How good a rejected attempt is: fewer rejections first, then the larger sum of scores over their thresholds."""
    rejections = sum(verdict.outcome == "rejected" for verdict in verdicts)
    margin = sum(v.score - v.threshold for v in verdicts if v.score is not None and v.threshold is not None)
    return (-rejections, margin)
