"""`evaluate`: how good an output's pictures are, on the terminal and as a page; and how far a model's pictures move with the wording."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from renderfarm import manifest
from renderfarm.api import Job, Run
from renderfarm.cli import logs, progress
from renderfarm.cli.preview import chosen, small_job
from renderfarm.cli.progress import PLAIN_EVERY_S
from renderfarm.cli.say import say, say_json
from renderfarm.errors import PAUSED, UserError
from renderfarm.evaluate.evaluation import Evaluation, Inquiry, evaluate_fragility
from renderfarm.evaluate.evaluation import evaluate as found_of
from renderfarm.evaluate.fragility import fragile_rows
from renderfarm.evaluate.page import writable, write_page
from renderfarm.job import JobSettings, load_job
from renderfarm.job.checks import ChecksSettings
from renderfarm.models.features import FeatureNet
from renderfarm.run.stop import StopSignals

ROWS = 16
ROWS_FILE = "fragility.parquet"
_OF_OUTPUTS = ("reference", "against", "by", "boxes", "sample", "keep")


def evaluate(args: argparse.Namespace) -> int:
    """0 with figures; 2 where there is nothing to evaluate or nothing to do it by; 75 where the rendering of --fragility was stopped."""
    logs.configure(quiet=True)
    if args.out is not None:
        writable(args.out)
    if args.fragility is not None:
        return _fragility(args)
    if args.rows is not None or args.overrides:
        raise UserError(
            "this goes with --fragility", "--rows" if args.rows is not None else "--set", "add --fragility JOB, or leave it out"
        )
    if args.output is None:
        raise UserError("no output named", "evaluate", "name an output or a folder of pictures, or --fragility JOB")
    asked = Inquiry(args.output, args.against, args.reference, args.features, args.by, args.boxes, args.sample, args.keep)
    return _say(args, found_of(asked, heard()))


def _say(args: argparse.Namespace, found: Evaluation) -> int:
    if args.out is not None:
        write_page(args.out, found)
    say_json(found.as_json()) if args.json else say(*found.lines())
    if args.out is not None:
        say(f"page: {args.out}", file=sys.stderr if args.json else None)
    return 0


def _fragility(args: argparse.Namespace) -> int:
    """Renders the rows of a job said otherwise into an output of their own, as any run does, and measures it."""
    if odd := [name for name in _OF_OUTPUTS if getattr(args, name) is not None]:
        raise UserError("this does not go with --fragility", f"--{odd[0]}", "leave it out, and evaluate the output apart")
    if args.features is None:
        raise UserError(
            "there is nothing to compare pictures by", "--fragility", "give --features WEIGHTS: a folder with CLIP, SigLIP or DINOv2"
        )
    job = load_job(args.fragility, args.overrides)
    FeatureNet(args.features)  # before anything is rendered
    rows = fragile_rows(chosen(job, args.rows or ROWS), job)
    folder = _folder(args.output, job)
    small = fragile_job(job, folder)
    manifest.write(folder / ROWS_FILE, rows)
    say(f"{len(rows)} pictures, into {folder}", file=sys.stderr)
    stop = StopSignals(None)
    with stop.installed(), progress.live() as view:
        run: Run = Job(small).render(stop=stop, on_progress=view)
    if run.paused and run.counts.remaining:
        say("paused: the same command with this OUTPUT goes on", file=sys.stderr)
        return PAUSED
    return _say(args, evaluate_fragility(str(folder), args.features, heard()))


def fragile_job(job: JobSettings, folder: Path) -> JobSettings:
    """The job as it is rendered for this: all steps, no check (a picture that was rejected would be one of other noise), nobody told."""
    unchecked = {
        name: {"enabled": False} for name, field in ChecksSettings.model_fields.items() if "enabled" in _fields_of(field.annotation)
    }
    small = small_job(job, folder, job.defaults.steps)
    name = f"{job.name[:53]}-fragility"
    update = {"name": name, "manifest": str(folder / ROWS_FILE), "checks": ChecksSettings.model_validate({"attempts": 1, **unchecked})}
    return small.model_copy(update=update)


def _fields_of(kind: object) -> dict[str, object]:
    fields: dict[str, object] = getattr(kind, "model_fields", {})
    return fields


def _folder(named: str | None, job: JobSettings) -> Path:
    """Where the pictures go: never the job's own output. Raises: UserError."""
    if named is None:
        return Path(tempfile.mkdtemp(prefix=f"renderfarm-{job.name}-fragility-"))
    folder = Path(named).expanduser().absolute()
    if "://" in named or str(folder.resolve()) == job.output.to or folder.resolve().is_relative_to(Path(job.output.to)):
        what = "a bucket cannot hold these pictures" if "://" in named else "this is the job's own output"
        raise UserError(what, named, "name another folder, or none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot be made: {error.strerror}", named, "name a folder that you may write") from error
    return folder


def heard(every_s: float = PLAIN_EVERY_S) -> Callable[[str, int, int], None]:
    """Says on stderr how far the reading is, now and then."""
    last = time.monotonic()

    def on_read(source: str, done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            say(f"{source}: {done} of {of} pictures read", file=sys.stderr)

    return on_read
