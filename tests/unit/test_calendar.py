"""Windows on the clock, with fixed clocks: every night of a year, both changes of Berlin's clocks, times that are skipped or come twice."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.errors import JobError
from renderfarm.job import load_job
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.run.stop import seconds_until
from renderfarm.schedule.calendar import Window, window_at, windows

BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def first(schedule: ScheduleSettings, after: str) -> tuple[str, str]:
    """The first window after a UTC time, as local times with their offset."""
    window = next(windows(schedule, utc(after)))
    return window.opens.isoformat(timespec="minutes"), window.closes.isoformat(timespec="minutes")


def berlin(**values: str) -> ScheduleSettings:
    return ScheduleSettings(timezone="Europe/Berlin", **values)


def hours(window: Window) -> float:
    return (window.closes.astimezone(dt.UTC) - window.opens.astimezone(dt.UTC)).total_seconds() / 3600


NIGHT = berlin(window="22:00-06:00")


def test_a_night_is_eight_hours_but_seven_and_nine_when_clocks_change() -> None:
    year = list(itertools.islice(windows(NIGHT, utc("2026-01-01T12:00")), 365))
    assert all((w.opens.strftime("%H:%M"), w.closes.strftime("%H:%M")) == ("22:00", "06:00") for w in year)
    odd = {w.opens.date().isoformat(): hours(w) for w in year if hours(w) != 8}
    assert odd == {"2026-03-28": 7.0, "2026-10-24": 9.0}
    assert len({w.opens.date() for w in year}) == 365


def test_a_length_is_elapsed_time_whatever_the_clocks_do() -> None:
    schedule = berlin(cron="0 22 * * *", window="8h")
    assert first(schedule, "2026-03-28T12:00") == ("2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00")
    assert first(schedule, "2026-10-24T12:00") == ("2026-10-24T22:00+02:00", "2026-10-25T05:00+01:00")


def test_an_opening_that_is_skipped_comes_at_the_jump_and_one_that_comes_twice_counts_once() -> None:
    schedule = berlin(cron="30 2 * * *", window="6h")
    assert first(schedule, "2026-03-28T12:00")[0] == "2026-03-29T03:00+02:00"
    found = [w.opens.isoformat(timespec="minutes") for w in itertools.islice(windows(schedule, utc("2026-10-24T12:00")), 2)]
    assert found == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    inside_the_second = utc("2026-10-25T01:15")  # 02:15, for the second time
    assert next(windows(schedule, inside_the_second)).opens.isoformat(timespec="minutes") == "2026-10-26T02:30+01:00"
    open_now = window_at(schedule, inside_the_second)
    assert open_now is not None and open_now.opens.isoformat(timespec="minutes") == "2026-10-25T02:30+02:00"


def test_a_closing_that_is_skipped_is_the_jump_and_of_a_doubled_one_the_first_counts() -> None:
    schedule = berlin(window="22:00-02:30")
    assert first(schedule, "2026-03-28T12:00")[1] == "2026-03-29T03:00+02:00"
    assert first(schedule, "2026-10-24T12:00")[1] == "2026-10-25T02:30+02:00"
    assert window_at(schedule, utc("2026-10-25T01:10")) is None, "02:10 for the second time is after the window"


def test_an_hourly_window_opens_in_both_halves_of_the_doubled_hour() -> None:
    found = [
        w.opens.isoformat(timespec="minutes")
        for w in itertools.islice(windows(berlin(cron="0 * * * *", window="20m"), utc("2026-10-24T23:30")), 3)
    ]
    assert found == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]


def test_weekdays_and_a_window_that_ends_when_the_next_opens() -> None:
    working = berlin(cron="0 22 * * 1-5", window="06:00")
    assert [w.opens.strftime("%a") for w in itertools.islice(windows(working, utc("2026-06-03T00:00")), 6)] == [
        "Wed",
        "Thu",
        "Fri",
        "Mon",
        "Tue",
        "Wed",
    ]
    assert first(berlin(cron="0 6,18 * * *", window="23h"), "2026-06-03T00:00") == ("2026-06-03T06:00+02:00", "2026-06-03T18:00+02:00")
    assert first(berlin(cron="0 22 * * 5"), "2026-06-03T00:00") == ("2026-06-05T22:00+02:00", "2026-06-12T22:00+02:00")
    assert first(berlin(cron="0 6 * * *", window="06:00"), "2026-06-03T00:00") == ("2026-06-03T06:00+02:00", "2026-06-04T06:00+02:00")


@pytest.mark.parametrize(
    ("now", "is_open"),
    [("2026-06-03T19:59:59", False), ("2026-06-03T20:00", True), ("2026-06-04T03:59:59", True), ("2026-06-04T04:00", False)],
)
def test_the_opening_belongs_to_a_window_and_the_closing_does_not(now: str, is_open: bool) -> None:
    assert (window_at(NIGHT, utc(now)) is not None) == is_open


SCHEDULES = st.sampled_from(
    [
        NIGHT,
        berlin(window="01:45-02:15"),
        berlin(window="02:15-03:15"),
        berlin(cron="30 2 * * *", window="25h"),
        berlin(cron="*/20 * * * *", window="5m"),
        berlin(cron="0 1-5 * * 6,0", window="02:30"),
        ScheduleSettings(cron="15 0 * * *", window="90m", timezone="America/Sao_Paulo"),
        ScheduleSettings(cron="45 1 * * *", window="06:00", timezone="Australia/Lord_Howe"),
    ]
)
CHANGES = st.sampled_from(
    ["2026-03-29T01:00", "2026-10-25T01:00", "2026-04-04T15:00", "2026-10-03T15:30", "2018-11-04T03:00", "2026-07-01T00:00"]
)


@settings(deadline=None, max_examples=120)
@given(SCHEDULES, CHANGES, st.integers(-3000, 3000))
def test_windows_follow_one_another_and_what_is_open_is_one_of_them(schedule: ScheduleSettings, change: str, minutes: int) -> None:
    now = utc(change) + dt.timedelta(minutes=minutes)
    coming = list(itertools.islice(windows(schedule, now - dt.timedelta(days=3)), 300))
    for one, following in itertools.pairwise(coming):
        assert one.opens.astimezone(dt.UTC) < one.closes.astimezone(dt.UTC) <= following.opens.astimezone(dt.UTC)
    holding = [w for w in coming if w.holds(now)]
    if coming[-1].opens.astimezone(dt.UTC) > now:
        assert [window_at(schedule, now)] == (holding or [None])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{cron: '61 22 * * *'}", "schedule.cron: not a cron expression: bad minute"),
        ("{cron: nightly}", "five fields"),
        ("{cron: '0 0 22 * * *'}", "five fields"),
        ("{cron: '0 22 31 2 *'}", "not a cron expression"),
        ("{cron: 5}", "quotes"),
        ("{cron: '0 22 * * *', timezone: Berlin}", "no such time zone"),
        ("{cron: '0 22 * * *', timezone: ../../etc/passwd}", "no such time zone"),
        ("{cron: '0 22 * * *', window: 22:00}", "quotes around it"),
        ("{cron: '0 22 * * *', window: '25:00'}", "not a time of day"),
        ("{cron: '0 22 * * *', window: soon}", "not a window"),
        ("{cron: '0 22 * * *', window: 0m}", "at least one minute"),
        ("{cron: '0 22 * * *', window: 8d}", "at most seven days"),
        ("{cron: '0 12 * * *', window: '22:00-06:00'}", "cron opens at 12:00, which is outside the window 22:00-06:00"),
        ("{cron: '0 22 * * *', grace: 30}", "write a unit"),
        ("{cron: '0 22 * * *', grace: later}", "not a length of time"),
        ("{window: 8h}", "nothing says when it opens"),
        ("{}", "nothing says when it opens"),
        ("{corn: '0 22 * * *'}", "did you mean cron?"),
    ],
)
def test_a_mistake_in_a_schedule_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"name: demo\nmanifest: rows.parquet\noutput: out\nschedule: {text}\n")
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert expected.lower() in str(caught.value).lower()


def test_good_schedules_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for text in ("{window: 22:00-06:00}", "{cron: '0 22 * * 1-5', window: '06:00', grace: 1h30m, timezone: Europe/Berlin}", "{cron: '@'}"):
        path.write_text(f"name: demo\nmanifest: rows.parquet\noutput: out\nschedule: {text}\n")
        if "@" in text:
            with pytest.raises(JobError):
                load_job(path)
        else:
            assert load_job(path).schedule is not None


@pytest.mark.parametrize(
    ("now", "clock", "hours"),
    [
        ("2026-03-28T21:00", "06:00", 7.0),  # 22:00 there; clocks go forward in this night
        ("2026-10-24T20:00", "06:00", 9.0),
        ("2026-06-03T20:00", "06:00", 8.0),
        ("2026-06-03T20:00", "22:00", 24.0),
        ("2026-06-03T20:00", "2026-06-04T06:00:00+02:00", 8.0),
        ("2026-06-03T20:00", "2026-06-03T19:00:00+00:00", -1.0),
    ],
)
def test_until_is_the_local_time_of_that_night(monkeypatch: pytest.MonkeyPatch, now: str, clock: str, hours: float) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert seconds_until(clock, utc(now)) == hours * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("clock", ["25:00", "6", "soon", "2026-06-04T06:00:00", "06:00:00", "2026-13-04T06:00:00+00:00", ""])
def test_an_until_that_is_none_is_refused(clock: str) -> None:
    with pytest.raises(ValueError):
        seconds_until(clock)
