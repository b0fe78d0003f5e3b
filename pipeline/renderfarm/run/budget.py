"""What may be used up. When a budget is crossed someone is told, once; where the job wants it, the run drains and pauses (exit 75).

A budget of a run counts this run alone. One of a job starts with what earlier runs used up, as the log says it: rejected attempts, images
that failed, and the hours that records cover, at the price of as many renderers as this run has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from renderfarm.job import JobSettings
from renderfarm.log.rate import spent_s
from renderfarm.logs import get_logger
from renderfarm.run.loop import Stop, Tally
from renderfarm.run.session import Session

log = get_logger()


@dataclass(frozen=True, slots=True)
class Crossed:
    """A budget that is used up. `value`: how much was used when that was seen."""

    budget: str
    limit: float
    value: float
    unit: str

    def __str__(self) -> str:
        return f"budget.{self.budget} is used up: {self.value:g} of {self.limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Used:
    """What earlier runs of a job used up."""

    rejects: int = 0
    failures: int = 0
    hours: float = 0.0

    @classmethod
    def by(cls, session: Session) -> Used:
        """What the log says of them; hours are looked for only where the job limits them or money. Raises: StorageAway."""
        limits, state = session.job.budget, session.state
        hours = spent_s(session.storage) / 3600 if limits.hours is not None or limits.money is not None else 0.0
        failures = state.failed_attempts - session.resolved.bad_rows  # rows that cannot be planned use nothing up
        return cls(sum(image.rejected for _, image in state.images()), max(0, failures), hours)


class BudgetStop:
    """`run.loop.Stop` over another one, and a view of the tally; drains when a budget says so."""

    def __init__(self, job: JobSettings, inner: Stop, tell: Callable[[Crossed], None] = lambda crossed: None) -> None:
        self._job, self._inner, self._tell = job, inner, tell
        self.crossed: dict[str, Crossed] = {}
        self._earlier = Used()

    def begin(self, session: Session, tally: Tally) -> None:
        """Where the budget is the job's, count on from what earlier runs used up, which may be all of it."""
        if self._job.budget.per == "job":
            self._earlier = Used.by(session)
            self(tally)

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
        earlier = self._earlier
        hours = earlier.hours + tally.elapsed_s / 3600
        money = hours * max(1, tally.priced or tally.renderers) * (cost.per_hour or 0.0)
        used = (
            ("rejects", limits.rejects, earlier.rejects + tally.rejected_attempts, "attempts"),
            ("in_a_row", limits.in_a_row, tally.failing, "images that failed one after another"),
            ("failures", limits.failures, earlier.failures + tally.failed_now, "images"),
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
