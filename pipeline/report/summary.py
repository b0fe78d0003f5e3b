"""What the report is told about the job as a whole; everything else it derives from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Summary:
    """The job's counts, as `status` knows them: they include images that no record speaks of yet.

    `planned == accepted + exhausted + failed + remaining`. `rejects_by_reason` counts rejected attempts by check.
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
