"""What the report is told about the job as a whole; everything else it derives from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from renderfarm.log.state import LogState

REASONS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Summary:
    """The job's counts, as `status` knows them: they include images that no record speaks of yet.

    `planned == accepted + exhausted + failed + remaining`. `rejects_by_reason` counts rejected attempts by check; `reasons` are the most
    frequent (check, reason, count).
    `rate_per_s` is images accepted per second; `attempts_limit` is `checks.attempts`, when an image is exhausted.
    Times are microseconds since 1970 UTC; None: the first start and the last end in the records.
    """

    job: str
    planned: int
    accepted: int
    exhausted: int
    failed: int
    remaining: int
    rejects_by_reason: Mapping[str, int] = field(default_factory=dict)
    rate_per_s: float | None = None
    attempts_limit: int = 1
    started_us: int | None = None
    finished_us: int | None = None
    reasons: Sequence[tuple[str, str, int]] = ()


def summary_of(job: str, attempts_limit: int, state: LogState, rate_per_s: float | None = None) -> Summary:
    """The job's counts from its log. Raises: CountsDiffer when they do not add up."""
    counts = state.counts(attempts_limit)
    return Summary(
        job=job,
        planned=counts.planned,
        accepted=counts.accepted,
        exhausted=counts.exhausted,
        failed=counts.failed,
        remaining=counts.remaining,
        rejects_by_reason=dict(state.rejects),
        reasons=[(*key, count) for key, count in state.reasons.most_common(REASONS_SHOWN)],
        rate_per_s=rate_per_s,
        attempts_limit=attempts_limit,
    )
