"""`status`, `report` and `gc`: what an output says of itself, from its parts alone."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from renderfarm import report as pages
from renderfarm.api import Output
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import StorageRefused, UserError
from renderfarm.log import reading
from renderfarm.log.orphans import orphans, still_old
from renderfarm.log.rate import last_rate
from renderfarm.report.encode import FORGOTTEN
from renderfarm.resolve import read_job_file
from renderfarm.statements import inbox
from renderfarm.storage import Storage, leftovers, open_storage

REASONS_EACH = 3
"""Reasons that `status` shows of each check, the most frequent first."""

OLDER_MIN_HOURS = 2
"""A commit may come an hour after what it commits was stored, and wait for a storage that stays away."""


def status(args: argparse.Namespace) -> int:
    """Counts by state, rate, ETA, rejects by reason."""
    logs.configure(quiet=True)
    storage = open_storage(args.output)
    job = read_job_file(storage)
    state = reading.read_state(storage)
    summary = pages.summary_of(job.name, job.attempts, state)
    rate = last_rate(storage)
    inboxed = sum(1 for _ in inbox.keys(storage))
    left_s = summary.remaining / rate if rate and summary.remaining else None
    if args.json:
        content = {
            "job": job.name,
            "planned": summary.planned,
            "accepted": summary.accepted,
            "exhausted": summary.exhausted,
            "failed": summary.failed,
            "remaining": summary.remaining,
            "attempts": state.attempts,
            "rejects": dict(state.rejects),
            "reasons": [{"check": check, "reason": reason, "count": count} for check, reason, count in summary.reasons],
            "reviews": state.reviews,
            "statements": len(state.statements),
            "inbox": inboxed,
            "rate_per_s": rate and round(rate, 4),
            "eta_s": left_s and round(left_s),
        }
        say_json(content)
        return 0
    say(
        f"{job.name}: {summary.planned} planned = {summary.accepted} accepted + {summary.exhausted} exhausted + {summary.failed} failed + "
        f"{summary.remaining} remaining"
    )
    say(f"{state.attempts} attempts recorded" + (f", last rate {rate:.2f} images/s" if rate else ""))
    if left_s:
        say(f"about {left_s / 3600:.2f} hours left at that rate")
    for name, count in state.rejects.most_common():
        say(f"  rejected by {name}: {count}")
        for reason, times in [(reason, times) for check, reason, times in summary.reasons if check == name][:REASONS_EACH]:
            say(f"    {times:>6} × {reason or FORGOTTEN}")
    if state.reviews:
        say(f"{state.reviews} verdicts by people")
    if inboxed:
        say(f"{inboxed} statements of people wait in the inbox; the audit names those that cannot be taken in")
    return 0


def report(args: argparse.Namespace) -> int:
    """Write the contact sheet over the whole log."""
    logs.configure(quiet=True)
    say(Output(args.output).report())
    return 0


def _removed(storage: Storage, key: str) -> tuple[bool, str]:
    """Remove an object; whether it is gone, and why not: a policy or a lock may keep it."""
    try:
        storage.delete(key)
    except StorageRefused as error:
        return False, f"kept, as the storage refuses to remove it: {error.what}"
    except ValueError:
        return False, "kept, as no program of ours names an object so: remove it by hand"
    return True, ""


def gc(args: argparse.Namespace) -> int:
    """Orphans older than some hours: listed, or removed with --delete."""
    logs.configure(quiet=True)
    storage = open_storage(args.output)
    read_job_file(storage)
    if args.delete and not args.older_than >= OLDER_MIN_HOURS:
        what = "what a running job has stored and not committed yet would be removed"
        raise UserError(what, "--older-than", f"keep what is younger than {OLDER_MIN_HOURS} hours")
    before_s = time.time() - args.older_than * 3600
    count = size = 0
    for found in itertools.chain(orphans(storage, before_s), leftovers(storage, before_s)):
        if args.delete and not still_old(storage, found, before_s):
            continue
        removed, why = _removed(storage, found.key) if args.delete else (False, "")
        count, size = count + (not why), size + (0 if why else found.size)
        say_json({"key": found.key, "bytes": found.size, "removed": removed}) if args.json else say(found.key)
        if why:
            say(f"note: {why}", file=sys.stderr)
    if not args.json:
        say(f"{count} orphans, {size} bytes" + (" removed" if args.delete else "; remove them with --delete" if count else ""))
    return 0
