"""`schedule`: jobs in their windows, or the same schedule for systemd or Kubernetes."""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import JobError, RenderfarmError, UserError
from renderfarm.job import JobSettings, load_job
from renderfarm.run.telling import Teller
from renderfarm.schedule import units
from renderfarm.schedule.calendar import Window, window_at, windows
from renderfarm.schedule.runner import UNKNOWN, Entry, Report, meaning
from renderfarm.schedule.serve import Service, command
from renderfarm.schedule.state import default_folder


def schedule(args: argparse.Namespace) -> int:
    """Run until told to stop: 0, or 75 where a run was cut short. With --once: the run's code."""
    entries, jobs = _entries(args.jobs)
    if args.success and not args.once:
        raise UserError("only --once answers with a run's exit code", "--success", "add --once, or leave --success out")
    if args.coming is not None:
        logs.configure(quiet=True)
        return _show_coming(entries, args.coming, as_json=args.json)
    if args.systemd is not None:
        return _write(args.systemd, [file for entry in entries for file in units.systemd(entry, args.address)], args.json)
    if args.kubernetes is not None:
        image = args.image or units.default_image()
        return _write(args.kubernetes, [units.kubernetes(e, j, image, args.address) for e, j in zip(entries, jobs, strict=True)], args.json)
    logs.configure()
    extra = ["--address", args.address] if args.address is not None else []

    tellers = {job.name: Teller(job) for job in jobs}
    files = {entry.name: Path(entry.job) for entry in entries}

    def tell(report: Report) -> None:
        say_json(_as_json(report), flush=True) if args.json else say(_line(report), flush=True)
        untold = untold_by_its_run(report, files[report.name])
        if untold:
            tellers[report.name].beside("failed", untold, exit_code=report.code)

    service = Service(entries, default_folder(), tell, lambda entry, window: command(entry, window, extra), grace=not args.ignore_grace)
    code = service.run(once=args.once)
    for teller in tellers.values():
        teller.join()
    return 0 if code in args.success and not service.asked else code


def untold_by_its_run(report: Report, path: Path) -> str:
    """What nobody would hear of, for there was no run, it was killed, or it could not read who is to be told; empty for all else."""
    if report.event in ("missed", "barren") or (report.code is not None and report.code < 0):
        return _line(report).partition(": ")[2]
    if report.code == UserError.exit_code:
        try:
            load_job(path)
        except RenderfarmError as error:
            return f"failed: {error}"
    return ""


def _entries(paths: Sequence[Path]) -> tuple[list[Entry], list[JobSettings]]:
    """Raises: JobError where a job has no schedule, or two write one output."""
    entries: dict[str, Entry] = {}
    jobs = []
    for path in paths:
        job = load_job(path)
        if job.schedule is None:
            example = "schedule: {window: 22:00-06:00, timezone: Europe/Berlin}"
            raise JobError("the job names no schedule", str(path), f"add one, for example `{example}`")
        other = entries.get(job.output.to)
        if other is not None:
            raise JobError(f"writes the same output as {other.job}", str(path), "name each job once, and give each its own output")
        entries[job.output.to] = Entry(job.name, str(path.absolute()), job.output.to, job.schedule)
        jobs.append(job)
    return list(entries.values()), jobs


def _show_coming(entries: Sequence[Entry], count: int, *, as_json: bool) -> int:
    now = dt.datetime.now(dt.UTC)
    for entry in entries:
        here = window_at(entry.schedule, now)
        for window in itertools.islice(itertools.chain([here] if here else [], windows(entry.schedule, now)), count):
            content = {"job": entry.name, **_window_json(window), "open": window.holds(now)}
            text = f"{entry.name}: {_window_text(window)}{'  open now' if window.holds(now) else ''}"
            say_json(content) if as_json else say(text)
    return 0


def _window_json(window: Window) -> dict[str, object]:
    seconds = window.left(window.opens).total_seconds()
    return {"opens": window.opens.isoformat(), "closes": window.closes.isoformat(), "seconds": round(seconds)}


def _window_text(window: Window) -> str:
    seconds = round(window.left(window.opens).total_seconds())
    length = f"{seconds // 3600} h {seconds // 60 % 60:02} min"
    return f"{window.opens:%a %Y-%m-%d %H:%M:%S%z} to {window.closes:%a %H:%M:%S%z} ({length})"


def _as_json(report: Report) -> dict[str, object]:
    content: dict[str, object] = {"at": dt.datetime.now(dt.UTC).isoformat(), "event": report.event, "job": report.name}
    if report.window is not None:
        content["window"] = _window_json(report.window)
    if report.code is not None:
        content |= {"exit_code": None if report.code == UNKNOWN else report.code, "meaning": meaning(report.code)}
    if report.pid:
        content["pid"] = report.pid
    if report.result is not None:
        content["result"] = report.result
    if report.at is not None:
        content["again_at"] = report.at.isoformat()
    return content


def _line(report: Report) -> str:
    window = _window_text(report.window) if report.window is not None else "none"
    who = f"process {report.pid}" if report.pid else "where nothing here can end it"
    said = {
        "next": f"window {window}",
        "started": f"started, process {report.pid}, window {window}",
        "resumed": f"goes on, process {report.pid}, window {window}",
        "waiting": f"a run is alive already, {who}: waiting for it",
        "barren": "the whole window went by, paused, without a single commit: a person must look why",
        "missed": f"missed: later than `grace` allows, window {window}",
        "overdue": f"still running after its window, {who}{': ending it' if report.pid else ''}",
    }
    if report.code is not None:
        ending = f"; tried again at {report.at:%H:%M:%S%z}" if report.at is not None else ""
        exited = "" if report.code == UNKNOWN else f" (exit {report.code})"
        return f"{report.name}: run ended, {meaning(report.code)}{exited}{ending}{_counts(report.result)}"
    return f"{report.name}: {said[report.event]}"


def _counts(result: dict[str, object] | None) -> str:
    if result is None:
        return ""
    return "; " + ", ".join(f"{result.get(name)} {name}" for name in ("accepted", "exhausted", "failed", "remaining"))


def _write(folder: str, files: Sequence[units.File], as_json: bool) -> int:
    """Print the files, or write them into a folder and print their paths."""
    logs.configure(quiet=True)
    for file in files:
        for note in file.notes:
            say(f"note: {note}", file=sys.stderr)
        if folder == "-":
            content = {"file": file.name, "text": file.text}
            say_json(content) if as_json else say(f"# {file.name}", *file.text.split("\n"))
            continue
        path = Path(folder) / file.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", str(path), "choose another folder") from error
        say_json({"file": str(path)}) if as_json else say(path)
    return 0
