"""The same schedule for someone else's clock: a systemd service and timer, or a Kubernetes CronJob.

Both call `renderfarm schedule JOB --once`, so that windows, daylight saving and locks are judged in one place; their own clock only has to
wake it. A timer that is late, early by less than five minutes, or fires twice does no harm.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cronsim import CronSim

from renderfarm.errors import INCOMPLETE, PAUSED, JobError
from renderfarm.job import JobSettings
from renderfarm.schedule.calendar import windows
from renderfarm.schedule.runner import OVERDUE_S, Entry
from renderfarm.version import __version__

STOP_S = 900
"""What a drain may take before the service manager kills: the units in flight and a commit."""
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
KEY_FILES = [
    *({"key": name, "path": name} for name in ("certificate.key", "certificates.pem", "log.skey", "watermark.key")),
    *({"key": f"trust-{name}", "path": f"trust/{name}"} for name in ("anchors.pem", "log.vkey", "watermark.markkey")),
]
"""A key set as a secret's items: its keys cannot hold a slash."""
METRICS_PORT = "renderfarm"
"""The port's name, by which infra/kubernetes/podmonitor.yaml finds it."""
NAME_MAX = 52
"""Kubernetes adds eleven characters to a CronJob's name for its jobs."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write. `notes`: what its reader must do for it to work."""

    name: str
    text: str
    notes: tuple[str, ...] = ()


class _PlainDumper(yaml.SafeDumper):
    """YAML for people: no anchors, texts of several lines as they are."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _text)


def default_image() -> str:
    """The image that infra/Dockerfile builds."""
    return f"renderfarm:{__version__}"


def systemd(entry: Entry, address: str | None = None) -> list[File]:
    """A service and its timer. Raises: JobError where systemd cannot say what cron says."""
    stem = f"renderfarm-{entry.name}"
    words = [_executable(), "schedule", entry.job, "--once", *(["--address", address] if address is not None else [])]
    longest = _lengths(entry)[1]
    limit = f"RuntimeMaxSec={round(longest.total_seconds() + OVERDUE_S[-1] + STOP_S)}\n" if entry.schedule.closing is not None else ""
    service = f"""\
[Unit]
Description=Renderfarm job {_plain(entry.name)}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={" ".join(map(_word, words))}
# {INCOMPLETE}: finished, some images are exhausted or failed. {PAUSED}: paused, goes on in the next window.
SuccessExitStatus={INCOMPLETE} {PAUSED}
# Only the scheduler gets SIGTERM: it asks its run to drain, once. A second SIGTERM to the run would abandon what is in flight.
KillMode=mixed
TimeoutStopSec={STOP_S}
{limit}{_user()}# Storage credentials, webhook URLs: one NAME=value a line, readable by root only.
EnvironmentFile=-%E/renderfarm/{entry.name}.env
Environment=XDG_STATE_HOME=%S
StateDirectory=renderfarm
NoNewPrivileges=yes
"""
    calendar = "".join(f"OnCalendar={line}\n" for line in on_calendar(entry.schedule.opening, entry.schedule.timezone))
    timer = f"""\
[Unit]
Description=Windows of renderfarm job {_plain(entry.name)}

[Timer]
{calendar}# A window that opened while the machine was off is used as far as it is still open and `grace` allows.
Persistent=yes
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
    return [File(f"{stem}.service", service), File(f"{stem}.timer", timer)]


def on_calendar(cron: str, timezone: str) -> list[str]:
    """A cron expression as systemd.time(7) calendar events; two where cron means either of two days. Raises: JobError."""
    parsed = CronSim(cron, dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    minutes, hours, months = _numbers(parsed.minutes, range(60)), _numbers(parsed.hours, range(24)), _numbers(parsed.months, range(1, 13))
    days, weekdays = _days(parsed.days), _weekdays(parsed.weekdays)
    if days is None or weekdays is None:
        raise JobError(f"systemd has no word for {cron!r}", "schedule.cron", "use plain days (1-31, L) and weekdays (1-5) there")
    clock = f"{hours}:{minutes}:00 {timezone}"
    by_day = f"*-{months}{days} {clock}"
    by_weekday = f"{weekdays} *-{months}-* {clock}"
    if days == "-*":
        return [by_weekday if weekdays else by_day]
    if not weekdays:
        return [by_day]
    return [f"{weekdays} {by_day}"] if parsed.day_and else [by_day, by_weekday]


def _numbers(values: Iterable[int], every: range) -> str:
    numbers = sorted(values)
    return "*" if numbers == list(every) else ",".join(f"{value:02}" for value in numbers)


def _days(days: set[int]) -> str | None:
    if days == {CronSim.LAST}:
        return "~01"
    return None if min(days) < 0 else f"-{_numbers(days, range(1, 32))}"


def _weekdays(weekdays: Iterable[object]) -> str | None:
    """Names in the order of the week; "" for all of them."""
    numbers = {day % 7 for day in weekdays if isinstance(day, int)}
    if any(not isinstance(day, int) for day in weekdays):
        return None
    return "" if len(numbers) == 7 else ",".join(DAYS[day] for day in sorted(numbers))


def _executable() -> str:
    beside = Path(sys.executable).with_name("renderfarm")
    return str(beside) if beside.exists() else shutil.which("renderfarm") or "/usr/local/bin/renderfarm"


def _word(text: str) -> str:
    """One word of ExecStart (systemd.service(5), command lines; systemd.unit(5), specifiers); what would end its line as bytes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = "".join(c if c.isprintable() else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in escaped)
    plain = all(char.isalnum() or char in "/._-:=,%$@+" for char in escaped)
    return escaped if plain else f'"{escaped}"'


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _user() -> str:
    return "User=renderfarm\n" if os.geteuid() == 0 else f"User={getpass.getuser()}\n"


def _lengths(entry: Entry) -> tuple[dt.timedelta, dt.timedelta]:
    """The shortest and the longest window of the next two years, daylight saving included."""
    coming = itertools.islice(windows(entry.schedule, dt.datetime.now(dt.UTC)), 800)
    lengths = [window.left(window.opens) for window in coming]
    return min(lengths), max(lengths)


def kubernetes(entry: Entry, job: JobSettings, image: str, address: str | None = None) -> File:
    """A ConfigMap with the job file and a CronJob that runs it. Raises: JobError where Kubernetes cannot say what cron says.

    `grace` is the CronJob's `startingDeadlineSeconds`; a pod that takes over from one that was drained must start however late.
    """
    name = _object_name(entry.name)
    shortest, longest = _lengths(entry)
    late_max = entry.schedule.late_max if entry.schedule.late_max is not None else shortest
    labels = {"app.kubernetes.io/name": "renderfarm", "app.kubernetes.io/instance": name}
    spec: dict[str, object] = {
        "schedule": _standard_cron(entry.schedule.opening),
        "timeZone": entry.schedule.timezone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": max(60, round(late_max.total_seconds())),
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": labels}, "spec": _job_spec(entry, job, name, image, address, longest, labels)},
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"job.yaml": Path(entry.job).read_text()},
    }
    cronjob = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "labels": labels}, "spec": spec}
    text = yaml.dump_all([config, cronjob], Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=140)
    return File(f"{name}.yaml", text, tuple(_kubernetes_notes(name, job)))


def _job_spec(
    entry: Entry, job: JobSettings, name: str, image: str, address: str | None, longest: dt.timedelta, labels: dict[str, str]
) -> dict[str, object]:
    success = f"{INCOMPLETE},{PAUSED}"
    extra = ["--address", address] if address is not None else []
    container: dict[str, object] = {
        "name": "renderfarm",
        "image": image,
        "args": [
            "renderfarm",
            "schedule",
            "/etc/renderfarm/job/job.yaml",
            "--once",
            "--ignore-grace",
            "--success",
            success,
            "--json",
            *extra,
        ],
        "env": [
            {"name": "RENDERFARM_KEYS", "value": "/etc/renderfarm/keys"},
            {"name": "HOME", "value": "/tmp"},
            {"name": "XDG_STATE_HOME", "value": "/tmp/state"},
            {"name": "XDG_CACHE_HOME", "value": "/tmp/cache"},
        ],
        "envFrom": [{"secretRef": {"name": "renderfarm-environment", "optional": True}}],
        "resources": {"requests": {"cpu": "8", "memory": "32Gi"}, "limits": {"memory": "32Gi", "nvidia.com/gpu": 1}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "job", "mountPath": "/etc/renderfarm/job", "readOnly": True},
            {"name": "keys", "mountPath": "/etc/renderfarm/keys", "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    if job.farm.metrics.port:
        container["ports"] = [{"name": METRICS_PORT, "containerPort": job.farm.metrics.port}]
    spec: dict[str, object] = {
        "backoffLimit": 3,
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "renderfarm", "operator": "In", "values": [2, 4, 6]}},
                # Drained because its node goes away: another pod goes on in the same window.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "Ignore", "onExitCodes": {"containerName": "renderfarm", "operator": "In", "values": [PAUSED]}},
            ]
        },
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": STOP_S,
                "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
                "containers": [container],
                "volumes": [
                    {"name": "job", "configMap": {"name": name}},
                    {"name": "keys", "secret": {"secretName": "renderfarm-keys", "defaultMode": 0o440, "items": KEY_FILES}},
                    {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},
                    {"name": "scratch", "emptyDir": {}},
                ],
            },
        },
    }
    if entry.schedule.closing is not None:
        spec = {"activeDeadlineSeconds": round(longest.total_seconds() + OVERDUE_S[-1] + STOP_S), **spec}
    return spec


def _kubernetes_notes(name: str, job: JobSettings) -> Iterator[str]:
    yield f"{name}.yaml needs the secrets renderfarm-keys and renderfarm-environment (infra/kubernetes/secrets.yaml)"
    if job.farm.metrics.port and job.farm.metrics.host.startswith("127."):
        yield "farm.metrics.host is loopback: Prometheus cannot scrape the pod; 0.0.0.0 lets it"
    places = {"manifest": job.manifest, "output.to": job.output.to, "keys": job.keys or "", "model.weights": job.model.weights}
    for field, value in places.items():
        if value.startswith("/"):
            yield f"{field} is the local path {value}: it must be in the image or on a volume, or be an s3:// URI"


def _object_name(job: str) -> str:
    name = "renderfarm-" + job.replace(".", "-").replace("_", "-").strip("-")
    if len(name) > NAME_MAX:
        name = f"{name[: NAME_MAX - 9].rstrip('-')}-{hashlib.sha256(job.encode()).hexdigest()[:8]}"
    return name


def _standard_cron(cron: str) -> str:
    """The expression in the words that Kubernetes knows (github.com/robfig/cron, ParseStandard): Sunday is 0. Raises: JobError."""
    minute, hour, day, month, weekday = cron.upper().split()
    parsed = CronSim(cron, dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    if _weekdays(parsed.weekdays) is None or min(parsed.days) < 0:
        raise JobError(f"Kubernetes has no word for {cron!r}", "schedule.cron", "use plain days (1-31) and weekdays (1-5) there")
    if "7" in weekday:
        numbers = sorted({each % 7 for each in parsed.weekdays if isinstance(each, int)})
        weekday = "*" if len(numbers) == 7 else ",".join(map(str, numbers))
    return f"{minute} {hour} {day} {month} {weekday}"
