"""What a run may use up. When a budget is crossed someone is told, once; where the job wants it, the run drains and pauses (exit 75).

Counted for this run alone: what earlier runs used up, the log says, and `renderfarm status` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from pipeline.farm.loop import Stop, Tally
from pipeline.job import JobSettings

log = structlog.get_logger("renderfarm")


@dataclass(frozen=True, slots=True)
class Crossed:
    """A budget that is used up. `value`: how much was used when that was seen."""

    budget: str
    limit: float
    value: float
    unit: str

    def __str__(self) -> str:
        return f"budget.{self.budget} is used up: {self.value:g} of {self.limit:g} {self.unit}"


class BudgetStop:
    """`farm.loop.Stop` over another one, and a view of the tally; drains when a budget says so."""

    def __init__(self, job: JobSettings, inner: Stop, tell: Callable[[Crossed], None] = lambda crossed: None) -> None:
        self._job, self._inner, self._tell = job, inner, tell
        self.crossed: dict[str, Crossed] = {}

    def __call__(self, tally: Tally) -> None:
        """Look at the newest tally."""
        for found in self._found(tally):
            if found.budget not in self.crossed:
                self.crossed[found.budget] = found
                then = self._job.budget.then
                log.warning("budget.crossed", budget=found.budget, limit=found.limit, value=found.value, unit=found.unit, then=then)
                self._tell(found)

    def _found(self, tally: Tally) -> Iterator[Crossed]:
        limits, cost = self._job.budget, self._job.cost
        hours = tally.elapsed_s / 3600
        money = hours * max(1, tally.renderers) * (cost.per_hour or 0.0)
        used = (
            ("rejects", limits.rejects, tally.rejected_attempts, "attempts"),
            ("failures", limits.failures, tally.failed_now, "images"),
            ("hours", limits.hours, round(hours, 4), "hours"),
            ("money", limits.money, round(money, 4), cost.currency),
        )
        for name, limit, value, unit in used:
            if limit is not None and value >= limit:
                yield Crossed(name, limit, value, unit)

    @property
    def pauses(self) -> bool:
        """Whether a budget ends this run."""
        return bool(self.crossed) and self._job.budget.then == "pause"

    def draining(self, unit_s: float, commit_s: float = 0.0) -> bool:
        return self.pauses or self._inner.draining(unit_s, commit_s)

    def abandon(self, commit_s: float = 0.0) -> bool:
        return self._inner.abandon(commit_s)

    def over(self) -> bool:
        return self._inner.over()
