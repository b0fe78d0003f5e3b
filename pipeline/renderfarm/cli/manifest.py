"""`manifest build`, `check` and `show`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from renderfarm import brief, manifest
from renderfarm.brief import ReadAs, parsed_mapping, plain
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import ManifestError, NotStored, UserError
from renderfarm.job import JobSettings, load_job
from renderfarm.manifest import BadRow, BuildReport, Rules
from renderfarm.manifest.faults import Doubt, Fault

SAME_SHOWN_MAX = 10
"""How often the same is said of different rows."""


def _job(args: argparse.Namespace) -> JobSettings | None:
    return load_job(args.job) if args.job is not None else None


def rules_of(job: JobSettings | None) -> Rules:
    """What a job asks of rows."""
    if job is None:
        return Rules()
    return Rules(adapters=frozenset(job.model.adapters), forbidden_words=job.forbidden_words, control=job.model.controlnet is not None)


def reading_of(args: argparse.Namespace, job: JobSettings | None) -> ReadAs:
    """How the source is to be read. Raises: UserError for a mapping that says nothing, or a file of it that cannot be read."""
    lines: list[str] = []
    if args.map_from is not None:
        try:
            lines = args.map_from.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            what = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is no UTF-8 text"
            raise ManifestError(what, str(args.map_from), "write one NAME=COLUMN a line") from error
    shared = parsed_mapping([line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")], str(args.map_from))
    mapping = parsed_mapping(args.map)
    made = args.id_from in ("row", "prompt") or "," in args.id_from
    if args.id_from and not made:
        mapping[plain(args.id_from)] = "id"
    return ReadAs(
        mapping=mapping,
        shared=shared,
        id_from=args.id_from if made else "",
        sheet=args.sheet,
        styles=args.styles,
        wildcards=args.wildcards,
        variants=args.variants,
        variants_seed=args.variants_seed,
        rows_made_max=args.variant_rows_max,
        pixels=job.defaults.width * job.defaults.height if job else ReadAs().pixels,
    )


def build(args: argparse.Namespace) -> int:
    """Build a manifest; 2 with every fault when there is one, and then nothing is written."""
    logs.configure(quiet=True)
    job = _job(args)
    reading = reading_of(args, job)
    report = brief.build(args.source, args.out, rules_of(job), strict=args.strict, skip_invalid=args.skip_invalid, reading=reading, job=job)
    say_report(report, args.source, sys.stderr)
    if not report.rows:
        say(f"renderfarm: {report.seen} rows in, {report.counts}, nothing was written", file=sys.stderr)
        return UserError.exit_code
    say(
        f"{args.out}: {report.rows} rows of {report.seen} in the source"
        + (f", {report.counts}" if report.warnings or report.faults else "")
    )
    return 0


def check(args: argparse.Namespace) -> int:
    """All faults and warnings; 2 when there is a fault, or with --strict a warning."""
    logs.configure(quiet=True)
    read_as_said = bool(args.map or args.map_from or args.id_from or args.sheet or args.styles or args.wildcards or args.variants)
    if read_as_said or _is_source(args.manifest):
        return _check_source(args)
    job, faults, warnings = _job(args), 0, 0
    try:
        for fault in manifest.check(args.manifest, rules_of(job), brief.warners(job)):
            warned = isinstance(fault, Doubt)
            faults, warnings = faults + (not warned), warnings + warned
            _tell(fault, args.json)
    except NotStored:
        faults += 1
        _tell(Fault(None, None, None, f"no such manifest: {args.manifest}", "check the path"), args.json)
    if not args.json:
        rows = "" if faults else f"{args.manifest}: {manifest.count(args.manifest)} rows, "
        say(rows + (_counts(faults, warnings) if faults or warnings else "no fault"))
    return UserError.exit_code if faults or (warnings and args.strict) else 0


def _is_source(uri: str) -> bool:
    """Whether this is something that `build` takes, and no manifest."""
    path = Path(uri)
    if path.suffix.lower() in ("", ".parquet"):
        return path.is_dir() and not any(path.glob("**/*.parquet")) and any(path.glob("*.txt"))
    return uri.startswith("s3://") or path.is_file()


def _check_source(args: argparse.Namespace) -> int:
    job = _job(args)
    report = brief.check_source(args.manifest, rules_of(job), reading_of(args, job), job)
    if args.json:
        for fault in _in_order(report):
            _tell(fault, as_json=True)
    else:
        say_report(report, args.manifest, sys.stdout)
        say(f"{args.manifest}: {report.seen} rows, {report.counts}")
    return UserError.exit_code if report.faults or (report.warnings and args.strict) else 0


def say_report(report: BuildReport, source: str, file: TextIO) -> None:
    """Notes, and faults and warnings in the order of the rows; the same of many rows is shown of some."""
    for note in report.notes:
        say(f"{source}: {note}", file=file)
    alike: dict[tuple[str, str, str], int] = {}
    for fault in _in_order(report):
        kind = (type(fault).__name__, fault.what, fault.remedy)
        alike[kind] = alike.get(kind, 0) + 1
        if alike[kind] <= SAME_SHOWN_MAX:
            say(fault, file=file)
    for (_, what, _), number in alike.items():
        if number > SAME_SHOWN_MAX:
            say(f"and {number - SAME_SHOWN_MAX} more say: {what[:100]} (`manifest check --json` lists all)", file=file)


def _in_order(report: BuildReport) -> list[Fault]:
    return sorted([*report.faults, *report.warnings], key=lambda fault: fault.row or 0)


def _tell(fault: Fault, as_json: bool) -> None:
    say_json({**asdict(fault), "warning": isinstance(fault, Doubt)}) if as_json else say(fault)


def _counts(faults: int, warnings: int) -> str:
    """What stands in the last line."""
    return f"{faults} fault(s)" + (f", {warnings} warning(s)" if warnings else "")


def show(args: argparse.Namespace) -> int:
    """Rows as text or JSON lines."""
    logs.configure(quiet=True)
    for number, row in manifest.show(args.manifest, args.first, args.n):
        if args.json:
            say_json({"row": number, **asdict(row)})
        elif isinstance(row, BadRow):
            say(f"{number:>6}  {row.row_id}  BAD: " + "; ".join(str(fault) for fault in row.faults))
        else:
            given = {name: value for name, value in asdict(row).items() if value not in (None, ()) and name not in ("id", "prompt")}
            if row.objects:
                given["objects"] = [str(one) for one in row.objects]
            say(f"{number:>6}  {row.id}  {row.prompt}  {json.dumps(given, ensure_ascii=False) if given else ''}".rstrip())
    return 0
