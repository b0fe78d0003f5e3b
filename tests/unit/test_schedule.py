"""The scheduler on a fixed clock with stand-in runs, and with real processes: once a window, whatever is killed."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from renderfarm.errors import Fenced
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.schedule.calendar import Window
from renderfarm.schedule.runner import UNKNOWN, ChildRun, Entry, Report, Runner, last_json
from renderfarm.schedule.serve import Processes, Service, command
from renderfarm.schedule.state import Memory, Place
from tests.waiting import wait_for

NIGHT = ScheduleSettings(window="22:00-06:00", timezone="Europe/Berlin", grace="30m")
RESULT: dict[str, object] = {"accepted": 1, "paused": True}


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@dataclass
class FakeChild:
    pid: int = 7
    code: int | None = None
    answer: dict[str, object] | None = None
    asked: list[str] = field(default_factory=list)

    def poll(self) -> int | None:
        return self.code

    def drain(self) -> None:
        self.asked.append("drain")

    def kill(self) -> None:
        self.asked.append("kill")

    def result(self) -> dict[str, object] | None:
        return self.answer


@dataclass
class FakeHost:
    """`runner.RunHost` whose runs end when the test says so."""

    started: list[Window] = field(default_factory=list)
    child: FakeChild | None = None
    alive: FakeChild | None = None

    def start(self, entry: Entry, window: Window) -> ChildRun | None:
        if self.alive is not None:
            return None
        self.started.append(window)
        self.child = FakeChild()
        return self.child

    def adopt(self, entry: Entry) -> ChildRun | None:
        found, self.alive = self.alive, None
        return found


@dataclass
class Bench:
    """One job, its place and a clock."""

    folder: Path
    schedule: ScheduleSettings = NIGHT
    host: FakeHost = field(default_factory=FakeHost)
    now: dt.datetime = field(default_factory=lambda: utc("2026-06-03T12:00"))
    grace: bool = True

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new scheduler; the old one is gone."""
        self.folder.mkdir(exist_ok=True)
        entry = Entry("demo", "job.yaml", "out", self.schedule)
        self.runner = Runner(entry, Place(self.folder, "demo", "out"), self.host, grace=self.grace)

    def at(self, text: str, *, stopping: bool = False) -> list[str]:
        """Events of one step at a UTC time."""
        self.now = utc(text)
        return [report.event for report in self.runner.step(self.now, stopping=stopping)]

    def ends(self, code: int, result: dict[str, object] | None = None) -> None:
        assert self.host.child is not None
        self.host.child.code, self.host.child.answer = code, result


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state")


def test_a_job_starts_once_a_window_and_again_in_the_next(bench: Bench) -> None:
    assert bench.at("2026-06-03T19:59:59") == []
    assert bench.at("2026-06-03T20:00") == ["started"]
    assert bench.at("2026-06-03T20:00:01") == []
    bench.ends(0, RESULT)
    assert bench.at("2026-06-03T21:00") == ["ended"]
    assert bench.at("2026-06-03T21:00:01") == bench.at("2026-06-04T03:59") == bench.at("2026-06-04T12:00") == []
    assert bench.at("2026-06-04T20:00:00") == ["started"]
    assert [window.opens.hour for window in bench.host.started] == [22, 22]


@pytest.mark.parametrize("code", [0, 3, 2, 4, 6, 75])
def test_what_ends_with_a_result_or_a_fault_waits_for_the_next_window(bench: Bench, code: int) -> None:
    bench.at("2026-06-03T20:00")
    bench.ends(code, RESULT)
    assert bench.at("2026-06-03T21:00") == ["ended"]
    bench.begin()
    assert bench.at("2026-06-03T23:00") == []
    assert bench.at("2026-06-04T20:00") == ["started"]


def test_a_storage_that_was_away_is_tried_again_in_the_window_after_growing_pauses(bench: Bench) -> None:
    bench.at("2026-06-03T20:00")
    for minute, pause_s in enumerate([30, 120, 300, 900, 900, 900], start=10):
        bench.ends(75)
        ended = next(iter(bench.runner.step(utc(f"2026-06-03T{20 + minute // 10}:{minute % 10 * 5:02}:00"))))
        assert ended.event == "again" and ended.at is not None
        now = utc(f"2026-06-03T{20 + minute // 10}:{minute % 10 * 5:02}:00")
        assert (ended.at - now).total_seconds() == pause_s
        assert [r.event for r in bench.runner.step(ended.at - dt.timedelta(seconds=1))] == []
        assert [r.event for r in bench.runner.step(ended.at)] == ["resumed"]


@pytest.mark.parametrize("code", [1, -9, -11])
def test_a_run_that_crashes_is_started_three_times_and_then_left(bench: Bench, code: int) -> None:
    bench.at("2026-06-03T20:00")
    events = []
    for hour in (21, 22, 23):
        bench.ends(code)
        events += bench.at(f"2026-06-03T{hour}:00") + bench.at(f"2026-06-03T{hour}:30")
    assert events == ["again", "resumed", "again", "resumed", "ended"]
    assert len(bench.host.started) == 3
    assert bench.at("2026-06-04T20:00") == ["started"]


def test_nothing_is_tried_again_when_the_window_would_be_over(bench: Bench) -> None:
    bench.at("2026-06-03T20:00")
    bench.ends(75)
    assert bench.at("2026-06-04T03:59:10") == ["ended", "barren"]
    assert bench.at("2026-06-04T03:59:45") == []


@pytest.mark.parametrize(("committed", "said"), [(0, ["ended", "barren"]), (7, ["ended"])])
def test_a_window_that_ends_paused_without_a_single_commit_is_said(bench: Bench, committed: int, said: list[str]) -> None:
    """Pausing is success to systemd and Kubernetes: nobody else would say it."""
    bench.at("2026-06-03T20:00")
    bench.ends(75, {"paused": True, "away": "the bucket is away", "committed": committed})
    assert bench.at("2026-06-03T20:05") == ["again"]
    assert bench.at("2026-06-03T20:10") == ["resumed"]
    bench.ends(75, {"paused": True, "committed": 0})
    assert bench.at("2026-06-04T03:59:40") == said


def test_a_late_start_is_missed_beyond_grace_and_only_for_that_window(bench: Bench) -> None:
    assert bench.at("2026-06-03T20:30:01") == ["missed"]
    assert bench.at("2026-06-03T20:31") == []
    bench.begin()
    assert bench.at("2026-06-03T20:32") == []
    assert bench.at("2026-06-04T20:30") == ["started"]


def test_without_grace_and_where_it_is_ignored_any_moment_of_the_window_will_do(tmp_path: Path) -> None:
    easy = ScheduleSettings(window="22:00-06:00", timezone="Europe/Berlin")
    assert Bench(tmp_path / "a", easy).at("2026-06-04T03:00") == ["started"]
    assert Bench(tmp_path / "b", grace=False).at("2026-06-04T03:00") == ["started"]
    assert Bench(tmp_path / "c", easy).at("2026-06-04T03:59:31") == [], "half a minute is not worth a start"


def test_a_killed_scheduler_goes_on_in_its_window_whatever_grace_says(bench: Bench) -> None:
    assert bench.at("2026-06-03T20:00") == ["started"]
    bench.begin()  # killed, and its run with it
    assert bench.at("2026-06-03T23:00") == ["resumed"]
    bench.begin()
    assert bench.at("2026-06-04T04:00") == [], "the window is over"


def test_a_run_that_outlived_its_scheduler_is_waited_for(bench: Bench) -> None:
    bench.at("2026-06-03T20:00")
    bench.host.alive = FakeChild(pid=99)
    alive = bench.host.alive
    bench.begin()
    assert bench.at("2026-06-03T23:00") == ["waiting"]
    assert bench.at("2026-06-03T23:01") == []
    assert len(bench.host.started) == 1
    alive.code = UNKNOWN
    assert bench.at("2026-06-03T23:02") == ["ended", "resumed"]


def test_a_stop_drains_and_the_next_scheduler_goes_on(bench: Bench) -> None:
    bench.at("2026-06-03T20:00")
    bench.ends(75, RESULT)
    assert bench.at("2026-06-03T21:00", stopping=True) == ["ended"]
    bench.begin()
    assert bench.at("2026-06-03T21:05") == ["resumed"]
    bench.ends(0, RESULT)
    assert bench.at("2026-06-03T21:06", stopping=True) == ["ended"]
    bench.begin()
    assert bench.at("2026-06-03T21:07") == []


def test_a_run_that_outlives_its_window_is_asked_twice_and_killed(bench: Bench) -> None:
    bench.at("2026-06-03T20:00")
    child = bench.host.child
    assert child is not None
    assert bench.at("2026-06-04T04:00:59") == []
    assert bench.at("2026-06-04T04:01:00") == ["overdue"]
    assert bench.at("2026-06-04T04:09:59") == ["overdue"]
    assert bench.at("2026-06-04T04:10:00") == ["overdue"]
    assert child.asked == ["drain", "drain", "kill"]
    child.code = -9
    assert bench.at("2026-06-04T04:10:01") == ["ended"]


def test_when_clocks_change_a_job_starts_once_at_its_hour(tmp_path: Path) -> None:
    schedule = ScheduleSettings(cron="30 2 * * *", window="20m", timezone="Europe/Berlin")
    for folder, day, expected in [("spring", "2026-03-29T00:00", ["01:00"]), ("autumn", "2026-10-24T22:00", ["00:30"])]:
        bench, begun = Bench(tmp_path / folder, schedule), []
        for minute in range(0, 6 * 60):
            now = utc(day) + dt.timedelta(minutes=minute)
            for report in bench.runner.step(now):
                if report.event == "started":
                    begun.append(f"{now:%H:%M}")
                    bench.ends(0, RESULT)
        assert begun == expected


def test_what_is_remembered_survives_damage(tmp_path: Path) -> None:
    place = Place(tmp_path, "demo", "out")
    place.remember(Memory("2026", 2, 1, True, 75, "x"))
    assert place.recall() == Memory("2026", 2, 1, True, 75, "x")
    next(tmp_path.glob("*.json")).write_text("{")
    assert place.recall() == Memory()


def test_two_schedulers_cannot_have_one_output_and_others_may(tmp_path: Path) -> None:
    one = Place(tmp_path, "demo", "out")
    one.claim()
    with pytest.raises(Fenced, match="another scheduler on this host"):
        Place(tmp_path, "demo", "out").claim()
    other = Place(tmp_path, "demo", "elsewhere")
    other.claim()
    one.release()
    Place(tmp_path, "demo", "out").claim()


def test_the_command_of_a_run_is_one_that_the_parser_knows() -> None:
    from renderfarm.cli.parser import build_parser
    from renderfarm.run.stop import seconds_until

    window = Window(utc("2026-06-03T20:00"), utc("2026-06-04T04:00"))
    words = command(Entry("demo", "/jobs/demo.yaml", "out", NIGHT), window, ["--address", "auto"])
    assert words[:4] == [sys.executable, "-P", "-m", "renderfarm.cli"]
    args = build_parser().parse_args(words[4:])
    assert (str(args.job), args.json, args.address) == ("/jobs/demo.yaml", True, "auto")
    assert seconds_until(args.until, utc("2026-06-04T03:00")) == 3600
    unending = command(Entry("demo", "j", "out", ScheduleSettings(cron="0 22 * * *")), window)
    assert "--until" not in unending


def test_the_result_is_the_last_line() -> None:
    assert last_json('noise\n{"accepted": 3}\n') == {"accepted": 3}
    assert last_json("") is last_json("[1]") is last_json("oops") is None


# --- real processes ---

ALWAYS = ScheduleSettings(cron="* * * * *", window=None)
SLEEPS = """
import signal, sys, time
def drain(number, frame):
    print('{"paused": true}')
    sys.exit(75)
signal.signal(signal.SIGTERM, drain)
print(1, flush=True)
time.sleep(60)
"""


def started(folder: Path, code: str) -> tuple[Place, ChildRun]:
    folder.mkdir(exist_ok=True)
    place = Place(folder, "demo", "out")
    entry, window = Entry("demo", "j", "out", ALWAYS), Window(utc("2026-01-01T00:00"), utc("2026-01-02T00:00"))
    child = Processes({"out": place}, lambda e, w: [sys.executable, "-c", code]).start(entry, window)
    assert child is not None
    return place, child


def test_a_real_run_holds_its_lock_and_another_scheduler_adopts_it(tmp_path: Path) -> None:
    place, child = started(tmp_path, SLEEPS)
    wait_for(lambda: place.printed.read_text())
    host = Processes({"out": Place(tmp_path, "demo", "out")}, lambda e, w: ["false"])
    entry, window = Entry("demo", "j", "out", ALWAYS), Window(utc("2026-01-01T00:00"), utc("2026-01-02T00:00"))
    assert host.start(entry, window) is None, "a second run was started"
    adopted = host.adopt(entry)
    assert adopted is not None and (adopted.pid, adopted.poll()) == (child.pid, None)
    adopted.drain()
    wait_for(lambda: child.poll() is not None)
    assert (child.poll(), child.result(), adopted.poll()) == (75, {"paused": True}, UNKNOWN)
    assert host.adopt(entry) is None


def test_a_command_that_cannot_be_started_counts_as_a_crash(tmp_path: Path) -> None:
    host = Processes({"out": Place(tmp_path, "demo", "out")}, lambda e, w: ["/no/such/program"])
    child = host.start(Entry("demo", "j", "out", ALWAYS), Window(utc("2026-01-01T00:00"), utc("2026-01-02T00:00")))
    assert child is not None and child.poll() == 1
    assert host.adopt(Entry("demo", "j", "out", ALWAYS)) is None


def test_a_state_folder_that_is_removed_while_a_run_lives_ends_nothing(tmp_path: Path) -> None:
    place, child = started(tmp_path / "state", "print('{}')")
    shutil.rmtree(tmp_path / "state")
    wait_for(lambda: child.poll() is not None)
    assert child.result() is None
    host = Processes({"out": place}, lambda e, w: [sys.executable, "-c", "print('{\"a\": 1}')"])
    again = host.start(Entry("demo", "j", "out", ALWAYS), Window(utc("2026-01-01T00:00"), utc("2026-01-02T00:00")))
    assert again is not None
    wait_for(lambda: again.poll() is not None)
    assert again.result() == {"a": 1}


SERVICE = """
import sys
from pathlib import Path
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.schedule.runner import Entry
from renderfarm.schedule.serve import Service
folder, code = sys.argv[1:]
entry = Entry("demo", "j", "out", ScheduleSettings(cron="0 0 1 1 *"))
tell = lambda report: print(report.event, report.pid or "", report.code if report.code is not None else "", flush=True)
sys.exit(Service([entry], Path(folder), tell, lambda e, w: [sys.executable, "-c", code]).run())
"""


def test_a_killed_scheduler_leaves_its_run_and_sigterm_reaches_it_through_the_next(tmp_path: Path) -> None:
    """SIGKILL of the scheduler in the middle of a window: its run lives on, the next scheduler waits for it and passes SIGTERM on."""
    code = SLEEPS
    first = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path), code], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    said = list(itertools.islice(first.stdout, 2))
    assert [line.split()[0] for line in said] == ["next", "started"]
    run_pid = int(said[1].split()[1])
    place = Place(tmp_path, "demo", "out")
    wait_for(lambda: place.printed.read_text())
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    os.kill(run_pid, 0)  # it is alive
    second = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path), code], stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    said = list(itertools.islice(second.stdout, 2))
    assert [line.split()[:2] for line in said][1] == ["waiting", str(run_pid)]
    third = subprocess.run([sys.executable, "-c", SERVICE, str(tmp_path), code], capture_output=True, text=True, timeout=60)
    assert third.returncode == 1 and "another scheduler on this host" in third.stderr
    second.send_signal(signal.SIGTERM)
    out, _ = second.communicate(timeout=30)
    assert (out.split()[0], second.returncode) == ("ended", 0)
    lock = place.lock_run()
    assert lock is not None, "the run is still alive"
    os.close(lock)


@pytest.mark.parametrize(("code", "expected"), [("print('{}'); raise SystemExit(3)", 3), ("raise SystemExit(0)", 0)])
def test_once_ends_with_the_runs_code(tmp_path: Path, code: str, expected: int) -> None:
    reports: list[Report] = []
    entry = Entry("demo", "j", "out", ScheduleSettings(cron="0 0 1 1 *"))
    service = Service([entry], tmp_path, reports.append, lambda e, w: [sys.executable, "-c", code])
    assert service.run(once=True) == expected
    assert [report.event for report in reports] == ["next", "started", "ended"]


def test_a_stop_while_a_run_waits_to_be_tried_again_ends_with_75(tmp_path: Path) -> None:
    entry = Entry("demo", "j", "out", ScheduleSettings(cron="0 0 1 1 *"))

    def tell(report: Report) -> None:
        service.asked += report.event == "again"

    service = Service([entry], tmp_path, tell, lambda e, w: [sys.executable, "-c", "raise SystemExit(75)"])
    assert service.run(once=True) == 75


def test_once_with_no_window_near_ends_at_once_and_well(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    hour = (now + dt.timedelta(hours=5)).hour
    entry = Entry("demo", "j", "out", ScheduleSettings(cron=f"0 {hour} * * *", window="1h"))
    reports: list[Report] = []
    assert Service([entry], tmp_path, reports.append, lambda e, w: ["false"]).run(once=True) == 0
    assert [report.event for report in reports] == ["next"]
