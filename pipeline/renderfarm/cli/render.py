"""`render` and `plan`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, replace

from renderfarm import report
from renderfarm.cli import logs, progress
from renderfarm.cli.estimate import estimate
from renderfarm.engines import engine_for
from renderfarm.errors import JobError
from renderfarm.job import JobSettings, load_job
from renderfarm.log import reading
from renderfarm.log.rate import last_rate
from renderfarm.models.fingerprint import cache_folder
from renderfarm.plan import BatchKey, batch_key
from renderfarm.resolve import ResolvedJob, resolve_job
from renderfarm.run import session as farm
from renderfarm.run.budget import BudgetStop
from renderfarm.run.loop import Tally
from renderfarm.run.metrics import Metrics, serving
from renderfarm.run.stop import StopSignals, seconds_until
from renderfarm.run.telling import Teller

REPORT_ATTEMPTS_MAX = 200_000
"""Beyond this many attempts a run leaves the report to `renderfarm report`."""


def _load(args: argparse.Namespace) -> JobSettings:
    return load_job(args.job, args.overrides, manifest=args.manifest, output=args.output)


def render(args: argparse.Namespace) -> int:
    """Render what is not final; 0, 3 or 75, and 2 or 6 by exception."""
    logs.configure(quiet=sys.stderr.isatty())
    signals = StopSignals(_window(args.until))
    job = _load(args)
    open_engine = engine_for(job, args.address)
    teller = Teller(job)
    teller.warn_early()
    with teller.failures():
        resolved = resolve_job(job, skip_invalid=args.skip_invalid)
        _say(resolved)
        stop, metrics = BudgetStop(job, signals, teller.crossed), Metrics(job.name)
        with signals.installed(), serving(metrics, job):
            session = farm.open_session(resolved)
            stop.begin(session, Tally(resolved.planned))
            limit = 0 if stop.pauses else args.limit  # a job that has used up its budget starts no worker
            with progress.live() as view:
                watch = watched_by(view, metrics, stop)
                result = farm.run(session, farm.RunOptions(limit, args.retry_failed), open_engine, stop, watch)
            result = replace(result, paused=result.paused or (stop.pauses and result.counts.remaining > 0))
            reason = "; ".join(map(str, stop.crossed.values())) if result.paused and stop.pauses else ""
            if reason:
                result = replace(result, notes=(*result.notes, reason))
            summarise(args, session, result)
            teller.ended(result, reason)
    return result.exit_code


def watched_by(*views: progress.View) -> progress.View:
    """All of them, in this order."""

    def watch(tally: Tally) -> None:
        for view in views:
            view(tally)

    return watch


def _window(until: str | None) -> float | None:
    if until is None:
        return None
    try:
        return seconds_until(until)
    except ValueError as error:
        raise JobError(
            f"not a time of day: {until!r}",
            "--until",
            "write HH:MM, for example 06:00, or a moment with its offset: 2026-11-26T06:00:00+01:00",
        ) from error


def _say(resolved: ResolvedJob) -> None:
    """What will render, before it does: model and licence by name, and what the user should know."""
    weights = resolved.weights
    print(
        f"{resolved.job.name}: {resolved.planned} images from {resolved.rows} rows, weights {weights.weights} ({weights.licence})",
        file=sys.stderr,
    )
    for warning in weights.warnings:
        print(f"note: {warning}", file=sys.stderr)


def summarise(args: argparse.Namespace, session: farm.Session, result: farm.RunResult) -> None:
    """What a run came to, and its contact sheet."""
    counts, tally = result.counts, result.tally
    page = _write_report(session)
    if args.json:
        content = {
            **asdict(counts),
            "attempts": tally.attempts_now,
            "rejects": dict(session.state.rejects),
            "seconds": round(tally.elapsed_s, 3),
            "seconds_to_first_image": tally.first_image_s and round(tally.first_image_s, 3),
            "cpu_s": {stage: round(cpu, 4) for stage, cpu in sorted(tally.cpu_s.items())},
            "paused": result.paused,
            "report": page,
            "notes": list(result.notes),
        }
        print(json.dumps(content))
        return
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if not tally.attempts_now:
        print("nothing is left to render" if not counts.remaining else "nothing was rendered")
    else:
        print(f"{tally.attempts_now} attempts in {tally.elapsed_s:.0f} s, {progress.rate_per_s(tally):.2f} images/s accepted")
    print(counts)
    if session.state.rejects:
        print("rejected attempts by check: " + ", ".join(f"{name} {count}" for name, count in session.state.rejects.most_common()))
    if counts.remaining and result.paused:
        print("paused: run the same command again to go on")
    if page:
        print(f"contact sheet: {page}")


def _write_report(session: farm.Session) -> str | None:
    """The contact sheet over everything in the log; None where that takes too long to do it after every run."""
    state = session.state
    if state.attempts > REPORT_ATTEMPTS_MAX:
        return None
    summary = report.summary_of(session.job.name, session.job.checks.attempts, state, last_rate(session.storage))
    return f"{session.storage.uri}/{report.write(session.storage, reading.records(session.storage), summary)}"


def plan(args: argparse.Namespace) -> int:
    """Counts, batches and an estimate; writes nothing."""
    logs.configure(quiet=True)
    resolved = resolve_job(_load(args), skip_invalid=args.skip_invalid)
    groups: Counter[BatchKey] = Counter(batch_key(image) for image in resolved.images())
    unit = farm.unit_size(resolved.job)
    left, rate = farm.outlook(resolved)
    content = {
        "job": resolved.job.name,
        "rows": resolved.rows,
        "bad_rows": resolved.bad_rows,
        "images": resolved.planned,
        "remaining": left,
        "batches": sum(-(-count // unit) for count in groups.values()),
        "batch_size_max": unit,
        "groups": [{**asdict(key), "images": count} for key, count in groups.most_common()],
        "weights": resolved.weights.weights,
        "weights_digest": resolved.weights.digest,
        "licence": resolved.weights.licence,
        **asdict(estimate(resolved.job, resolved.weights.digest, groups, left, rate, cache_folder())),
    }
    if args.json:
        print(json.dumps(content))
    else:
        _print_plan(content, resolved)
    return 0


def _print_plan(content: dict[str, object], resolved: ResolvedJob) -> None:
    print(f"{content['images']} images from {content['rows']} rows ({content['bad_rows']} bad), {content['remaining']} not rendered yet")
    print(f"weights {content['weights']}, licence {content['licence']}, SHA-256 {str(content['weights_digest'])[:16]}…")
    for warning in resolved.weights.warnings:
        print(f"note: {warning}")
    print(f"{content['batches']} batches of at most {content['batch_size_max']}:")
    groups = content["groups"]
    assert isinstance(groups, list)
    for group in groups:
        extras = (f", adapter {group['adapter']}" if group["adapter"] else "") + (", ControlNet" if group["has_control"] else "")
        print(
            f"  {group['images']:>8} images  {group['width']}x{group['height']}, {group['steps']} steps, "
            f"guidance {group['guidance']}{extras}"
        )
    if not content["remaining"]:
        print("nothing is left to render")
    elif isinstance(content["hours"], float):
        hours = content["hours"]
        time_left = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"
        cost = f", {content['cost']}" if content["cost"] else ""
        print(f"about {time_left}, {content['renderer_hours']} renderer hours{cost}, {content['rate_from']}")
    else:
        print("no rate was measured yet for these weights: render some with --limit 8, then plan again")
