"""`recheck` and `review`: what other thresholds would say, and what a person says."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict

from renderfarm.api import Output
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import UserError
from renderfarm.report.encode import FORGOTTEN
from renderfarm.resolve import JobFile, read_job_file
from renderfarm.review import review as reviews
from renderfarm.review.recheck import Outlook, Recheck, Rejudgement
from renderfarm.storage import Storage, open_storage

DIFFERS = 5
"""Exit code of `recheck` when a verdict would change."""
SHOWN_MAX = 40


def recheck(args: argparse.Namespace) -> int:
    """0 when no verdict would change, 5 when one would."""
    logs.configure(quiet=True)
    storage = open_storage(args.output)
    job = read_job_file(storage)
    again = Recheck.of_job(storage, job, args.overrides)
    turned: list[Rejudgement] = []
    others: list[Rejudgement] = []
    for found in again.changes():
        kept = turned if found.was != found.now else others
        if args.json:
            say_json(asdict(found))
        elif len(kept) < SHOWN_MAX:
            kept.append(found)
    if args.json:
        say_json(again.outlook.as_json())
    else:
        _print_outlook(job.name, args.overrides, [*turned, *others][:SHOWN_MAX], again.outlook)
    return DIFFERS if again.outlook.differs else 0


def _print_outlook(job: str, overrides: list[str], shown: list[Rejudgement], outlook: Outlook) -> None:
    by = " ".join(overrides) or "the job's own settings"
    say(f"{job}: {outlook.attempts} attempts judged again by {by}; {outlook.changed or 'none'} would change")
    if outlook.changed:
        say("  " + ", ".join(f"{n} attempts {was} → {now}" for (was, now), n in outlook.ends.most_common()))
        say(f"  {'check':<12} {'was':<9} {'would be':<9} {'verdicts':>8}")
        for (check, was, now), count in sorted(outlook.verdicts.items()):
            say(f"  {check:<12} {was:<9} {now:<9} {count:>8}")
    for one in shown:
        say(f"{one.row_id or FORGOTTEN} #{one.index} attempt {one.attempt}  {one.image_id}  {one.was} → {one.now}")
        for change in one.changes:
            score = "" if change.score is None else f" score {change.score:g}"
            bars = "" if change.new_threshold is None else f" (threshold {_bar(change.threshold)} → {_bar(change.new_threshold)})"
            say(f"    {change.check}: {change.was} → {change.now},{score}{bars}  {change.reason}".rstrip())
        if one.unscored:
            say(f"    open: {', '.join(one.unscored)} did not look at it")
    if outlook.changed > len(shown):
        say(f"… and {outlook.changed - len(shown)} more: --json lists all")
    say(f"recorded  {outlook.was}")
    say(f"would be  {outlook.now}" + (f"; {outlook.open} of the accepted depend on checks that did not look" if outlook.open else ""))
    for check in sorted({check for check, _ in outlook.unrecorded}):
        reasons = Counter({reason: n for (name, reason), n in outlook.unrecorded.items() if name == check})
        (first, _), *rest = reasons.most_common()
        more = f", and {len(rest)} more reasons" if len(rest) > 1 else "".join(f", {reason}" for reason, _ in rest)
        say(f"no score to judge again: {check}, {reasons.total()} attempts ({first}{more})")
    for note in outlook.notes:
        say(f"note: {note}")


def _bar(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:g}"


def review(args: argparse.Namespace) -> int:
    """0 when the word is in the log or waits in the inbox, or the list is printed; 2 for what cannot be reviewed."""
    logs.configure(quiet=True)
    storage = open_storage(args.output)
    job = read_job_file(storage)
    if args.list:
        return _list(storage, job, args.json)
    needed = (("IMAGE_ID", args.image_id), ("--attempt", args.attempt), ("--by", args.by or args.key))
    missing = [name for name, value in needed if value is None]
    if missing:
        example = "renderfarm review OUTPUT IMAGE_ID --attempt 2 --accept --by NAME"
        raise UserError(f"{', '.join(missing)} is missing", "review", f"write {example}")
    output = Output(args.output)
    word = output.accept if args.outcome == "accepted" else output.reject
    done = word(args.image_id, args.attempt, by=(args.by or "").strip(), note=args.note.strip(), key=args.key, key_set=args.keys)
    record, counts = done.record, done.counts
    if args.json:
        say_json(
            {
                **reviews.brief(record),
                "standing": done.standing,
                "waits": done.waits,
                "trouble": done.trouble or None,
                "counts": asdict(counts),
            }
        )
        return 0
    where = f"{_row(record.row_id)} #{record.index} attempt {record.attempt}"
    if done.trouble:
        say(f"{where}: {record.outcome} by {record.reviewer}; it stays in the inbox ({done.key}) and cannot be taken in: {done.trouble}")
        return 0
    if done.waits:
        say(f"{where}: {record.outcome} by {record.reviewer}; recorded in the inbox, from which the running job takes it in")
        return 0
    said = f"{record.outcome} by {record.reviewer}" if record.outcome else "recorded without effect, it came too late"
    say(f"{where}: {said}; the image is {done.standing}")
    if record.object_key:
        say(f"  {record.object_key}")
    say(counts)
    if counts.remaining and record.outcome == "rejected":
        say("`renderfarm render JOB` renders it again")
    say(f"`renderfarm report {args.output}` brings the page up to date")
    return 0


def _row(row_id: str | None) -> str:
    """A row as people know it, where its values are there."""
    return row_id if row_id is not None else FORGOTTEN


def _list(storage: Storage, job: JobFile, as_json: bool) -> int:
    count = 0
    for image in reviews.waiting(storage, job):
        count += 1
        if as_json:
            say_json(asdict(image))
            continue
        wanted = "" if image.text is None else f"  text {image.text!r}"
        say(f"{_row(image.row_id)} #{image.index}  {image.image_id}  {image.prompt}{wanted}")
        for one in image.attempts:
            state = f"rejected by {one.reviewer}; " if one.reviewer else ""
            place = one.object_key or "no picture kept"
            say(f"  attempt {one.attempt}  {state}{one.reason or FORGOTTEN}  {place}{'' if one.publishable else ' (cannot be published)'}")
    if not as_json:
        say(f"{count} images wait for a person" if count else "no image waits for a person")
    return 0
