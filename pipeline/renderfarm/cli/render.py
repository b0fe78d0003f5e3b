"""`render` and `plan`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from renderfarm.api import Job, Run
from renderfarm.cli import logs, progress
from renderfarm.cli.say import say, say_json
from renderfarm.errors import JobError, Paused
from renderfarm.job import load_job
from renderfarm.resolve import ResolvedJob
from renderfarm.run.loop import Tally
from renderfarm.run.stop import StopSignals, seconds_until


def _load(args: argparse.Namespace) -> Job:
    return Job(load_job(args.job, args.overrides, manifest=args.manifest, output=args.output))


def render(args: argparse.Namespace) -> int:
    """Render what is not final; 0, 3 or 75, and 2 or 6 by exception."""
    logs.configure(quiet=sys.stderr.isatty())
    signals = StopSignals(_window(args.until))
    job = _load(args)
    committed = 0
    with signals.installed(), progress.live() as view:

        def watch(tally: Tally) -> None:
            nonlocal committed
            committed = tally.committed
            view(tally)

        try:
            run = job.render(
                limit=args.limit,
                retry_failed=args.retry_failed,
                skip_invalid=args.skip_invalid,
                address=args.address,
                stop=signals,
                on_plan=_say,
                on_progress=watch,
            )
        except Paused as error:
            if args.json:
                say_json({"paused": True, "away": str(error), "committed": committed})
            raise
    summarise(args, run)
    return run.exit_code


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
    say(
        f"{resolved.job.name}: {resolved.planned} images from {resolved.rows} rows, weights {weights.weights} ({weights.licence})",
        file=sys.stderr,
    )
    for note in resolved.notes:
        say(f"note: {note}", file=sys.stderr)


def summarise(args: argparse.Namespace, run: Run) -> None:
    """What a run came to, and its contact sheet."""
    counts, tally = run.counts, run.tally
    if args.json:
        content = {
            **asdict(counts),
            "attempts": tally.attempts_now,
            "committed": tally.committed,
            "rejects": dict(run.rejects),
            "seconds": round(tally.elapsed_s, 3),
            "seconds_to_first_image": tally.first_image_s and round(tally.first_image_s, 3),
            "cpu_s": {stage: round(cpu, 4) for stage, cpu in sorted(tally.cpu_s.items())},
            "paused": run.paused,
            "report": run.page,
            "notes": list(run.notes),
        }
        say_json(content)
        return
    for note in run.notes:
        say(f"note: {note}", file=sys.stderr)
    if not tally.attempts_now:
        say("nothing is left to render" if not counts.remaining else "nothing was rendered")
    else:
        say(f"{tally.attempts_now} attempts in {tally.elapsed_s:.0f} s, {progress.rate_per_s(tally):.2f} images/s accepted")
    say(counts)
    if run.rejects:
        say("rejected attempts by check: " + ", ".join(f"{name} {count}" for name, count in run.rejects.items()))
    if counts.remaining and run.paused:
        say("paused: run the same command again to go on")
    if run.page:
        say(f"contact sheet: {run.page}")


def plan(args: argparse.Namespace) -> int:
    """Counts, batches and an estimate; writes nothing."""
    logs.configure(quiet=True)
    plan = _load(args).plan(skip_invalid=args.skip_invalid)
    resolved = plan.resolved
    content = {
        "job": resolved.job.name,
        "rows": resolved.rows,
        "bad_rows": resolved.bad_rows,
        "images": plan.images,
        "remaining": plan.remaining,
        "batches": plan.batches,
        "batch_size_max": plan.batch_size,
        "groups": [{**asdict(key), "images": count} for key, count in plan.groups.items()],
        "weights": resolved.weights.weights,
        "weights_digest": resolved.weights.digest,
        "licence": resolved.weights.licence,
        "notes": list(resolved.notes),
        **asdict(plan.estimate),
    }
    if args.json:
        say_json(content)
    else:
        _print_plan(content, resolved)
    return 0


def _print_plan(content: dict[str, object], resolved: ResolvedJob) -> None:
    say(f"{content['images']} images from {content['rows']} rows ({content['bad_rows']} bad), {content['remaining']} not rendered yet")
    say(f"weights {content['weights']}, licence {content['licence']}, SHA-256 {str(content['weights_digest'])[:16]}…")
    for note in resolved.notes:
        say(f"note: {note}")
    say(f"{content['batches']} batches of at most {content['batch_size_max']}:")
    groups = content["groups"]
    assert isinstance(groups, list)
    for group in groups:
        extras = (f", adapter {group['adapter']}" if group["adapter"] else "") + (", ControlNet" if group["has_control"] else "")
        say(
            f"  {group['images']:>8} images  {group['width']}x{group['height']}, {group['steps']} steps, "
            f"guidance {group['guidance']}{extras}"
        )
    if not content["remaining"]:
        say("nothing is left to render")
    elif isinstance(content["hours"], float):
        hours = content["hours"]
        time_left = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"
        cost = f", {content['cost']}" if content["cost"] else ""
        say(f"about {time_left}, {content['renderer_hours']} renderer hours{cost}, {content['rate_from']}")
    else:
        say("no rate was measured yet for these weights: render some with --limit 8, then plan again")
