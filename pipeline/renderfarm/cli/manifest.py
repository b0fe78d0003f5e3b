"""`manifest build`, `check` and `show`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from renderfarm import manifest
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import NotStored, UserError
from renderfarm.job import load_job
from renderfarm.manifest import BadRow, Rules
from renderfarm.schema import Fault


def _rules(args: argparse.Namespace) -> Rules:
    if args.job is None:
        return Rules()
    job = load_job(args.job)
    return Rules(adapters=frozenset(job.model.adapters), forbidden_words=job.forbidden_words, control=job.model.controlnet is not None)


def build(args: argparse.Namespace) -> int:
    """Build a manifest; 2 with every fault when there is one, and then nothing is written."""
    logs.configure(quiet=True)
    report = manifest.build(args.source, args.out)
    for fault in report.faults:
        say(fault, file=sys.stderr)
    if report.faults:
        say(f"renderfarm: {len(report.faults)} fault(s), nothing was written", file=sys.stderr)
        return UserError.exit_code
    say(f"{args.out}: {report.rows} rows")
    return 0


def check(args: argparse.Namespace) -> int:
    """All faults; 2 when there is one."""
    logs.configure(quiet=True)
    count = 0
    try:
        for fault in manifest.check(args.manifest, _rules(args)):
            count += 1
            say_json(asdict(fault)) if args.json else say(fault)
    except NotStored:
        count += 1
        missing = Fault(None, None, None, f"no such manifest: {args.manifest}", "check the path")
        say_json(asdict(missing)) if args.json else say(missing)
    if not args.json:
        say(f"{count} fault(s)" if count else f"{args.manifest}: {manifest.count(args.manifest)} rows, no fault")
    return UserError.exit_code if count else 0


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
