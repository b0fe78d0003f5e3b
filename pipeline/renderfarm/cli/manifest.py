"""`manifest build`, `check` and `show`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from renderfarm import brief, manifest
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import NotStored, UserError
from renderfarm.job import load_job
from renderfarm.manifest import BadRow, Rules
from renderfarm.schema import Doubt, Fault


def _rules(args: argparse.Namespace) -> Rules:
    if args.job is None:
        return Rules()
    job = load_job(args.job)
    return Rules(adapters=frozenset(job.model.adapters), forbidden_words=job.forbidden_words, control=job.model.controlnet is not None)


def build(args: argparse.Namespace) -> int:
    """Build a manifest; 2 with every fault when there is one, and then nothing is written."""
    logs.configure(quiet=True)
    report = brief.build(args.source, args.out, _rules(args), args.strict)
    for note in report.notes:
        say(f"{args.source}: {note}", file=sys.stderr)
    for fault in sorted([*report.faults, *report.warnings], key=lambda fault: fault.row or 0):
        say(fault, file=sys.stderr)
    counts = _counts(len(report.faults), len(report.warnings))
    if report.faults or (report.warnings and args.strict):
        say(f"renderfarm: {counts}, nothing was written", file=sys.stderr)
        return UserError.exit_code
    say(f"{args.out}: {report.rows} rows" + (f", {counts}" if report.warnings else ""))
    return 0


def check(args: argparse.Namespace) -> int:
    """All faults and warnings; 2 when there is a fault, or with --strict a warning."""
    logs.configure(quiet=True)
    faults = warnings = 0
    try:
        for fault in manifest.check(args.manifest, _rules(args), brief.warners()):
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
            given = {name: value for name, value in asdict(row).items() if value not in (None, (), "") and name not in ("id", "prompt")}
            say(f"{number:>6}  {row.id}  {row.prompt}  {json.dumps(given, ensure_ascii=False) if given else ''}".rstrip())
    return 0
