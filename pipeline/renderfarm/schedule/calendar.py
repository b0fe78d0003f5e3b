"""Windows on the clock, daylight saving included. Pure: the time is an argument.

Openings follow Debian's cron (cronsim): a fixed time that a change of clocks skips comes at the jump, one that comes twice counts once. A
closing time that is skipped is the jump as well; of one that comes twice the first counts, so that a window never ends late. Lengths are
elapsed time. A window ends at the latest when the next one opens.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from cronsim import CronSim

from renderfarm.job.schedule import ScheduleSettings

_LOOK_BACK = (dt.timedelta(minutes=90), dt.timedelta(days=1), dt.timedelta(days=8), dt.timedelta(days=40), dt.timedelta(days=400))
_MINUTE = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Open from `opens` (included) to `closes` (excluded); both in the schedule's time zone."""

    opens: dt.datetime
    closes: dt.datetime

    def holds(self, now: dt.datetime) -> bool:
        """Whether it is open."""
        return self.opens.astimezone(dt.UTC) <= now.astimezone(dt.UTC) < self.closes.astimezone(dt.UTC)

    def left(self, now: dt.datetime) -> dt.timedelta:
        """Time until it closes; negative afterwards."""
        return self.closes.astimezone(dt.UTC) - now.astimezone(dt.UTC)

    def since(self, now: dt.datetime) -> dt.timedelta:
        """Time since it opened; negative before."""
        return now.astimezone(dt.UTC) - self.opens.astimezone(dt.UTC)


def openings(schedule: ScheduleSettings, after: dt.datetime) -> Iterator[dt.datetime]:
    """Every time at which a window opens, later than `after`."""
    floor = after.astimezone(dt.UTC)
    try:
        for opening in CronSim(schedule.opening, after.astimezone(schedule.zone)):
            moment = opening.astimezone(dt.UTC)
            if moment > floor:  # in a doubled hour cronsim may begin with one that is over
                floor = moment
                yield moment.astimezone(schedule.zone)
    except OverflowError:  # the end of the calendar
        return


def windows(schedule: ScheduleSettings, after: dt.datetime) -> Iterator[Window]:
    """Every window that opens after `after`."""
    coming = openings(schedule, after)
    here = next(coming, None)
    while here is not None:
        following = next(coming, None)
        yield _window(schedule, here, following)
        here = following


def window_at(schedule: ScheduleSettings, now: dt.datetime) -> Window | None:
    """The window that is open now."""
    for back in _LOOK_BACK:
        latest = None
        for opens in openings(schedule, now - back):
            if opens.astimezone(dt.UTC) > now.astimezone(dt.UTC):
                break
            latest = opens
        if latest is not None:
            window = _window(schedule, latest, next(openings(schedule, latest), None))
            return window if window.holds(now) else None
    return None


def _window(schedule: ScheduleSettings, opens: dt.datetime, following: dt.datetime | None) -> Window:
    closing = schedule.closing
    if closing is None:
        ends = [following or dt.datetime.max.replace(tzinfo=dt.UTC)]
    elif isinstance(closing, dt.timedelta):
        ends = [opens.astimezone(dt.UTC) + closing]
    else:
        ends = [_next_time(opens, closing, schedule.zone)]
    if following is not None:
        ends.append(following)
    earliest = min(end.astimezone(dt.UTC) for end in ends)
    return Window(opens, earliest.astimezone(schedule.zone) if following is not None else earliest)


def _next_time(after: dt.datetime, time: dt.time, zone: ZoneInfo) -> dt.datetime:
    """The first moment later than `after` at which clocks show `time`, or jump over it."""
    day = after.astimezone(zone).date()
    for distance in range(3):
        for fold in (0, 1):
            moment = _moment(day + dt.timedelta(days=distance), time, zone, fold)
            if moment.astimezone(dt.UTC) > after.astimezone(dt.UTC):
                return moment
    raise AssertionError("every time of day comes within two days")


def _moment(day: dt.date, time: dt.time, zone: ZoneInfo, fold: int) -> dt.datetime:
    naive = dt.datetime.combine(day, time)
    while True:
        moment = naive.replace(tzinfo=zone, fold=fold)
        there_and_back = moment.astimezone(dt.UTC).astimezone(zone)
        if there_and_back.replace(tzinfo=None) == naive:
            return moment
        naive += _MINUTE  # a time that clocks jump over: the jump itself is the first that exists
