"""`preview`: a few rows, few steps, one contact sheet, in a folder of its own; the job's output is not touched.

The rows become a small manifest, and a copy of the job renders it by the same session and loop as always. Seeds depend on row, index and
attempt alone, so each picture has the noise that the whole job will give it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from itertools import islice
from pathlib import Path

from renderfarm import manifest
from renderfarm.api import Job
from renderfarm.cli import logs, progress
from renderfarm.cli.render import summarise
from renderfarm.cli.say import say
from renderfarm.errors import JobError, ManifestError, NotStored, StorageRefused
from renderfarm.job import JobSettings, load_job
from renderfarm.job.operations import MetricsSettings
from renderfarm.manifest import BadRow
from renderfarm.run.stop import StopSignals
from renderfarm.schema import PromptRow

ROWS_LOOKED_AT = 10_000
"""A preview is drawn from the beginning of the manifest, as far as this, evenly."""
RESET = ("notify", "budget", "witness", "schedule")
"""Sections that are about whole runs: a preview goes by their defaults."""
ROWS_FILE = "preview.parquet"


def preview(args: argparse.Namespace) -> int:
    """0 all accepted, 3 some rejected or failed, 75 interrupted; 2 by exception."""
    logs.configure(quiet=True)
    job = load_job(args.job, args.overrides, manifest=args.manifest)
    rows = chosen(job, args.n)
    folder = _folder(args.output, job)
    small = small_job(job, folder, args.steps)
    manifest.write(folder / ROWS_FILE, [_few_steps(row, job, args.steps) for row in rows])
    say(f"{len(rows)} rows, at most {args.steps} steps, into {folder}", file=sys.stderr)
    stop = StopSignals(None)
    with stop.installed(), progress.live() as view:
        run = Job(small).render(skip_invalid=True, address=args.address, stop=stop, on_progress=view)
    summarise(args, run)
    return run.exit_code


def chosen(job: JobSettings, count: int) -> list[PromptRow]:
    """Good rows, evenly from the beginning of the manifest. Raises: ManifestError where there is none."""
    try:
        shown = manifest.show(job.manifest, 0, ROWS_LOOKED_AT)
        good = [row for _, row in islice(shown, ROWS_LOOKED_AT) if not isinstance(row, BadRow)]
    except (NotStored, StorageRefused) as error:
        raise ManifestError("no such manifest", job.manifest, "check `manifest:` in the job file, or pass --manifest") from error
    if not good:
        raise ManifestError("no row of it can be rendered", job.manifest, "`renderfarm manifest check` names every fault")
    few = min(count, len(good))
    return [good[place * len(good) // few] for place in range(few)]


def small_job(job: JobSettings, folder: Path, steps: int) -> JobSettings:
    """The job as a preview renders it: one attempt an image, every picture kept, nobody told."""
    plain = JobSettings.model_fields
    return job.model_copy(
        update={
            **{name: plain[name].get_default(call_default_factory=True) for name in RESET},
            "name": f"{job.name[:55]}-preview",
            "manifest": str(folder / ROWS_FILE),
            "output": job.output.model_copy(update={"to": str(folder), "rejected": "all"}),
            "defaults": job.defaults.model_copy(update={"steps": min(job.defaults.steps, steps), "images": 1, "of": 1}),
            "checks": job.checks.model_copy(update={"attempts": 1}),
            "farm": job.farm.model_copy(update={"metrics": MetricsSettings()}),
        }
    )


def _few_steps(row: PromptRow, job: JobSettings, steps: int) -> PromptRow:
    return dataclasses.replace(row, steps=min(row.steps or job.defaults.steps, steps), images=1)


def _folder(named: Path | None, job: JobSettings) -> Path:
    """Where the preview goes: never the job's own output. Raises: JobError."""
    if named is None:
        return Path(tempfile.mkdtemp(prefix=f"renderfarm-{job.name}-preview-"))
    folder = named.absolute()
    if str(folder.resolve()) == job.output.to or folder.resolve().is_relative_to(Path(job.output.to)):
        raise JobError("this is the job's own output", f"--output {named}", "name another folder, or none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot be made: {error.strerror}", f"--output {named}", "name a folder that you may write") from error
    return folder
