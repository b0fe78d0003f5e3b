"""When a job may run: `schedule:` in the job file, checked here so that a mistake is named before a night is lost.

`cron` says when a window opens, `window` when it closes: a time of day (`06:00`), opening and closing times (`22:00-06:00`, then `cron`
may be left out), or a length (`8h`). Nothing here looks at a clock; `renderfarm.schedule.calendar` does.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from renderfarm.job.section import Section

LENGTH_MAX = dt.timedelta(days=7)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_LENGTH = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")
_REFERENCE = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def parse_length(text: str) -> dt.timedelta:
    """`8h`, `1h30m`, `90m`, `45s`, `1d`. Raises: ValueError."""
    match = _LENGTH.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise ValueError("not a length of time: write it as 8h, 90m or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def parse_time(text: str) -> dt.time:
    """`06:00`. Raises: ValueError."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a time of day: write it as 06:00")
    return dt.time(int(match[1]), int(match[2]))


def parse_window(text: str) -> tuple[dt.time | None, dt.time | dt.timedelta]:
    """(opening time, or None; closing time or length). Raises: ValueError."""
    first, dash, last = text.replace("–", "-").partition("-")
    if dash:
        return parse_time(first), parse_time(last)
    if ":" in text:
        return None, parse_time(text)
    try:
        length = parse_length(text)
    except ValueError:
        raise ValueError("not a window: write 22:00-06:00, a closing time (06:00) or a length (8h)") from None
    if not dt.timedelta(minutes=1) <= length <= LENGTH_MAX:
        raise ValueError("a window is at least one minute and at most seven days long")
    return None, length


class ScheduleSettings(Section):
    """When `renderfarm schedule` runs the job."""

    cron: str | None = Field(
        None, description="when a window opens: minute hour day month weekday; may be left out where `window` names both times"
    )
    timezone: str = Field("UTC", description="time zone of `cron` and `window`, for example Europe/Berlin")
    window: str | None = Field(
        None, description="when it closes: 22:00-06:00, 06:00 or a length such as 8h; none: it stays open until the next one opens"
    )
    grace: str | None = Field(
        None,
        description="how late a run may start, for example 30m; none: as long as the window is open. A run that was begun goes on anyway",
    )

    @field_validator("cron", "window", "grace", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):  # YAML 1.1 reads 22:00 as a number of base 60
            raise ValueError("a number says no time: put quotes around it, and write a unit after a length (30m)")
        return value

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if len(value.split()) != 5:
            raise ValueError("not a cron expression: five fields are needed, minute hour day month weekday, for example 0 22 * * 1-5")
        try:
            next(CronSim(value, _REFERENCE))
        except CronSimError as error:
            raise ValueError(f"not a cron expression: {str(error).lower()}; for example 0 22 * * 1-5") from None
        except StopIteration:
            raise ValueError("this cron expression names no day that ever comes") from None
        return value

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no such time zone: write a name of the IANA database, for example Europe/Berlin or UTC") from None
        return value

    @field_validator("window")
    @classmethod
    def _window(cls, value: str | None) -> str | None:
        if value is not None:
            parse_window(value)
        return value

    @field_validator("grace")
    @classmethod
    def _grace(cls, value: str | None) -> str | None:
        if value is not None:
            parse_length(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> ScheduleSettings:
        opening = parse_window(self.window)[0] if self.window is not None else None
        if self.cron is None:
            if opening is None:
                raise ValueError("nothing says when it opens: give cron, or a window with both times such as 22:00-06:00")
        elif opening is not None:
            _refuse_outside(self.cron, opening, self.closing)
        return self

    @property
    def opening(self) -> str:
        """The cron expression at which windows open."""
        if self.cron is not None:
            return self.cron
        assert self.window is not None
        time = parse_window(self.window)[0]
        assert time is not None
        return f"{time.minute} {time.hour} * * *"

    @property
    def closing(self) -> dt.time | dt.timedelta | None:
        """A time of day, a length, or None: until the next one opens."""
        return None if self.window is None else parse_window(self.window)[1]

    @property
    def late_max(self) -> dt.timedelta | None:
        """How late a run may start; None: as long as the window is open."""
        return None if self.grace is None else parse_length(self.grace)

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone."""
        return zoneinfo.ZoneInfo(self.timezone)


def _refuse_outside(cron: str, opens: dt.time, closes: object) -> None:
    """Where `window` names both times, `cron` may choose the days, and a later start, but no time outside. Raises: ValueError."""
    assert isinstance(closes, dt.time)
    found = CronSim(cron, _REFERENCE)
    for hour in sorted(found.hours):
        for minute in sorted(found.minutes):
            time = dt.time(hour, minute)
            inside = opens <= time < closes if opens < closes else time >= opens or time < closes
            if not inside:
                raise ValueError(f"cron opens at {time:%H:%M}, which is outside the window {opens:%H:%M}-{closes:%H:%M}")
