"""The same schedule for systemd and Kubernetes: their own tools accept it, their clock means the same moments, and the commands exist."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from renderfarm.cli import main
from renderfarm.cli.parser import build_parser
from renderfarm.errors import SUCCESS, JobError
from renderfarm.job import load_job
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.schedule.calendar import windows
from renderfarm.schedule.runner import Entry
from renderfarm.schedule.units import File, default_image, kubernetes, on_calendar, systemd

VERSION = "1.33.1"
"""A Kubernetes release whose CronJobs know time zones and pod failure policies."""
SYSTEMD = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed here")

CRONS = ["0 22 * * *", "30 21 * * 1-5", "*/15 * * * *", "0 1 1,15 * *", "0 22 * * 0,6", "5 4 L * *", "0 22 13 * 5", "0 3 */2 6-8 7"]


def written(folder: Path, schedule: str, name: str = "night.ly_job") -> Path:
    path = folder / "a job.yaml"
    path.write_text(f"name: {name}\nmanifest: s3://b/rows.parquet\noutput: s3://b/out\nschedule: {schedule}\n")
    return path


def entry_of(path: Path) -> tuple[Entry, Any]:
    job = load_job(path)
    assert job.schedule is not None
    return Entry(job.name, str(path), job.output.to, job.schedule), job


def cronjob(file: File) -> tuple[dict[str, Any], dict[str, Any]]:
    config, cron = yaml.safe_load_all(file.text)
    return config, cron


@needs_systemd
@pytest.mark.parametrize("cron", CRONS)
def test_systemd_means_the_same_moments(cron: str) -> None:
    assert SYSTEMD is not None
    schedule = ScheduleSettings(cron=cron, timezone="Europe/Berlin")
    after = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    ours = [int(w.opens.timestamp()) for w in itertools.islice(windows(schedule, after), 6)]
    theirs: set[int] = set()
    for line in on_calendar(cron, "Europe/Berlin"):
        shown = subprocess.run(
            [SYSTEMD, "calendar", "--iterations=6", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC", line],
            capture_output=True,
            text=True,
            env={"TZ": "UTC"},
        )
        assert shown.returncode == 0, shown.stderr
        stamps = [
            text.split(": ", 1)[1] for text in shown.stdout.splitlines() if "UTC" in text or "Next elapse" in text or "Iteration" in text
        ]
        theirs |= {
            int(dt.datetime.strptime(s, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=dt.UTC).timestamp()) for s in stamps if s.endswith("UTC")
        }
    assert set(ours) <= theirs, (ours, sorted(theirs))
    assert min(theirs) == ours[0]


def test_what_others_cannot_say_is_refused(tmp_path: Path) -> None:
    for cron in ("0 22 LW * *", "0 22 * * 5#3", "0 22 * * 5L"):
        with pytest.raises(JobError, match="systemd has no word"):
            on_calendar(cron, "UTC")
        entry, job = entry_of(written(tmp_path, f"{{cron: '{cron}', window: 8h}}"))
        with pytest.raises(JobError, match="Kubernetes has no word"):
            kubernetes(entry, job, "i")


def options(text: str) -> dict[str, list[str]]:
    """A unit's settings, whatever their section."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_a_unit_counts_our_successes_and_drains_once(tmp_path: Path) -> None:
    path = written(tmp_path, "{window: 22:00-06:00, timezone: Europe/Berlin}")
    service, timer = systemd(entry_of(path)[0], "auto")
    found = options(service.text)
    assert {0, *map(int, found["SuccessExitStatus"][0].split())} == set(SUCCESS)
    assert (found["KillMode"], options(timer.text)["Persistent"]) == (["mixed"], ["yes"])
    assert int(found["RuntimeMaxSec"][0]) > 9 * 3600, "the night with two third hours is nine hours long"
    words = shlex.split(found["ExecStart"][0])
    args = build_parser().parse_args(words[1:])
    assert (args.handler, args.jobs, args.once, args.address) == ("schedule:schedule", [path], True, "auto")
    assert "RuntimeMaxSec" not in systemd(entry_of(written(tmp_path, "{cron: '0 22 * * *'}"))[0])[0].text


@needs_systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    assert SYSTEMD is not None
    path = written(tmp_path, "{window: 22:00-06:00, timezone: Europe/Berlin}", "nightly")
    files = systemd(entry_of(path)[0])
    for file in files:
        (tmp_path / file.name).write_text(file.text)
    shown = subprocess.run([SYSTEMD, "verify", "--man=no", *(str(tmp_path / file.name) for file in files)], capture_output=True, text=True)
    ours = [line for line in shown.stderr.splitlines() if str(tmp_path) in line or "renderfarm-" in line]
    assert (shown.returncode, ours) == (0, []), shown.stderr


@pytest.mark.parametrize("schedule", ["{window: 22:00-06:00, timezone: Europe/Berlin, grace: 30m}", "{cron: '0 22 * * 5-7'}"])
def test_kubernetes_accepts_the_cronjob(tmp_path: Path, schedule: str) -> None:
    path = written(tmp_path, schedule)
    entry, job = entry_of(path)
    config, cron = cronjob(kubernetes(entry, job, "registry.example/renderfarm:1"))
    for document in (config, cron):
        kubernetes_validate.validate(document, VERSION, strict=True)
    assert config["data"]["job.yaml"] == path.read_text()
    spec, inner = cron["spec"], cron["spec"]["jobTemplate"]["spec"]
    assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", entry.schedule.timezone)
    pod = inner["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a pod failure policy needs it"
    container = pod["containers"][0]
    assert "command" not in container, "the image's entry point reaps what Ray leaves and passes SIGTERM on"
    args = build_parser().parse_args(container["args"][1:])
    assert (container["args"][0], args.handler, args.once, args.ignore_grace) == ("renderfarm", "schedule:schedule", True, True)
    assert {0, *args.success} == set(SUCCESS)
    if entry.schedule.closing is None:
        assert "activeDeadlineSeconds" not in inner
        assert spec["schedule"] == "0 22 * * 0,5,6"
    else:
        assert inner["activeDeadlineSeconds"] > 9 * 3600
        assert (spec["schedule"], spec["startingDeadlineSeconds"]) == ("0 22 * * *", 1800)


def test_names_are_what_kubernetes_takes(tmp_path: Path) -> None:
    for name in ("a" * 63, "a.b_c-", "x"):
        entry, job = entry_of(written(tmp_path, "{window: 22:00-06:00}", name))
        _, cron = cronjob(kubernetes(entry, job, default_image()))
        made = cron["metadata"]["name"]
        assert len(made) <= 52 and made.replace("-", "").isalnum() and not made.endswith("-")


def test_the_command_writes_prints_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "{window: 22:00-06:00, timezone: Europe/Berlin}", "nightly")
    assert main(["schedule", str(path), "--systemd", str(tmp_path / "units"), "--json"]) == 0
    listed = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert [Path(file).name for file in listed] == ["renderfarm-nightly.service", "renderfarm-nightly.timer"]
    assert all(Path(file).read_text() for file in listed)
    assert main(["schedule", str(path), "--kubernetes", "-"]) == 0
    assert "concurrencyPolicy: Forbid" in capsys.readouterr().out
    assert main(["schedule", str(path), "--next", "3", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["job"] for line in shown] == ["nightly"] * 3
    assert all(line["closes"] > line["opens"] for line in shown)
    assert main(["schedule", str(written(tmp_path, "{cron: '0 0 1 1 *'}")), "--next", "2"]) == 0
    assert ["open now" in line for line in capsys.readouterr().out.splitlines()] == [True, False]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["{schedule}", "{schedule}", "--next", "1"], "writes the same output"),
        (["{none}", "--once"], "names no schedule"),
        (["{schedule}", "--success", "3"], "only --once"),
        (["/no/such/job.yaml"], "no such job file"),
        (["{schedule}", "--systemd", "{schedule}/x"], "cannot be written"),
    ],
)
def test_what_is_wrong_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], expected: str) -> None:
    none = tmp_path / "none.yaml"
    none.write_text("name: demo\nmanifest: rows.parquet\noutput: out\n")
    path = written(tmp_path, "{window: 22:00-06:00}")
    assert main(["schedule", *(arg.format(schedule=path, none=none) for arg in args)]) == 2
    said = capsys.readouterr().err
    assert expected in said and "remedy:" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "args", [["--next", "0"], ["--success", "x", "--once"], ["--success", "999", "--once"], ["--once", "--next", "1"], []]
)
def test_wrong_arguments_end_with_2(tmp_path: Path, args: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["schedule", *([str(tmp_path / "x")] if args else []), *args])
    assert ended.value.code == 2
