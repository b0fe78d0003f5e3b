"""Verdicts → what becomes of the attempt, and whether another follows. Pure.

Any rejection rejects the attempt; a flag or a check that did not run does not. Each retry takes the next attempt number, and with it the
next seed, until the limit: it always ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.schema import AttemptOutcome, Verdict


def judge(verdicts: Sequence[Verdict]) -> tuple[AttemptOutcome, str]:
    """Outcome of one attempt, and the reason: the rejecting checks' own words."""
    reasons = [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if verdict.outcome == "rejected"]
    return ("rejected", "; ".join(reasons)) if reasons else ("accepted", "")


def next_attempt(rejected: int, failed: int, limit: int, *, retry_failed: bool = False) -> int | None:
    """The number of the next attempt, or None when the image is final.

    `rejected` and `failed` count the recorded attempts of an image that has none accepted. A failed image stays closed unless
    `retry_failed`; failures do not use up the limit on rejections.
    """
    if rejected >= limit or (failed and not retry_failed):
        return None
    return rejected + failed + 1


def best_rejected(scores: Iterable[tuple[int, Sequence[Verdict]]]) -> int:
    """Of (attempt number, verdicts), the attempt with the fewest rejections, then the highest sum of scores over thresholds."""

    def rank(item: tuple[int, Sequence[Verdict]]) -> tuple[int, float, int]:
        number, verdicts = item
        rejections = sum(verdict.outcome == "rejected" for verdict in verdicts)
        margin = sum(v.score - v.threshold for v in verdicts if v.score is not None and v.threshold is not None)
        return (-rejections, margin, -number)

    return max(scores, key=rank)[0]
