"""`audit`, `identify`, `reproduce` and `provenance`: what an auditor calls."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from renderfarm import keys, notes
from renderfarm.api import Output, identify_pictures, trusted
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import UserError
from renderfarm.identify.identify import Answer
from renderfarm.identify.lookup import Match
from renderfarm.keys import Trust
from renderfarm.schema import forgotten

NO = 5
"""Exit code of an honest no."""


def audit(args: argparse.Namespace) -> int:
    """0 without findings, 4 with."""
    logs.configure(quiet=True)
    since = _read(args.since) if args.since is not None else None
    trust = _with_witnesses(trusted(args.trust), args.witness)
    report = Output(args.output).audit(trust=trust, quick=args.quick, sample=args.sample, seed=args.seed, since=since, address=args.address)
    say_json(report.as_dict()) if args.json else say(*report.lines())
    return report.exit_code


def _with_witnesses(trust: Trust | None, named: Sequence[str]) -> Trust | None:
    """Trust with the witnesses of --witness added."""
    if not named:
        return trust
    found = dict(trust.witness_keys) if trust is not None else {}
    for item in named:
        lines = [item] if "+" in item and not Path(item).is_file() else _read(Path(item)).decode("ascii", "replace").splitlines()
        kept = (line for line in lines if line.strip() and not line.startswith("#"))
        found |= dict(keys.parse_public(line, "--witness", notes.COSIGNATURE) for line in kept)
    return dataclasses.replace(trust or Trust({}, b"", ()), witness_keys=found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), "name a file that you may read") from error


def identify(args: argparse.Namespace) -> int:
    """0 when every picture is identified, 5 when one is not."""
    logs.configure(quiet=True)
    code = 0
    for answer in identify_pictures(args.images, args.outputs, trust=args.trust, address=args.address):
        say_json(answer.as_json(), flush=True) if args.json else say(*_answer(answer), flush=True)
        code = code if answer.identified else NO
    return code


def _answer(answer: Answer) -> list[str]:
    lines = [f"{answer.picture}: {answer.sureness}{', trusted' if answer.trusted else ''}", f"  {answer.reason}"]
    for match in answer.matches[:3]:
        record = match.record
        row, prompt, seed = ("forgotten",) * 3 if forgotten(record) else (record.row_id, record.prompt, record.seed)
        lines.append(
            f"  record {record.image_id} attempt {record.attempt} ({_outcome(match)}), row {row} index {record.index}, job {record.job}"
        )
        lines.append(f"    prompt: {prompt}")
        place = (match.review or record).object_key or record.object_key or "no picture kept"
        lines.append(f"    rendered {match.rendered} by {record.weights}, seed {seed}, {place}")
    return [*lines, *(f"  note: {note}" for note in answer.notes)]


def _outcome(match: Match) -> str:
    if match.review is None:
        return str(match.record.outcome)
    note = f": {match.review.reason}" if match.review.reason else ""
    return f"{match.record.outcome} by the checks, {match.review.outcome} by {match.review.reviewer}{note}"


def reproduce(args: argparse.Namespace) -> int:
    """0 bit-identical or within two grey levels, 5 different; 2 where the key of its mark is not at hand."""
    logs.configure(quiet=True)
    outcome = Output(args.output).reproduce(args.image_id, trust=args.trust, on_note=lambda note: say(f"note: {note}", file=sys.stderr))
    say_json(outcome.as_json()) if args.json else say(*outcome.lines())
    return 0 if outcome.same else NO


def export(args: argparse.Namespace) -> int:
    """The records by filter, as a file."""
    from renderfarm.log.export import Filter
    from renderfarm.log.export import export as write

    logs.configure(quiet=True)
    tags = []
    for tag in args.tag:
        key, sign, value = tag.partition("=")
        if not sign:
            raise UserError(f"not a tag: {tag!r}", "--tag", "write KEY=VALUE")
        tags.append((key, value))
    since, until = (_moment(text, option) for text, option in ((args.since, "--from"), (args.until, "--until")))
    wanted = Filter(tuple(tags), args.outcome, args.rejected_for, args.weights, since, until)
    count = write(Output(args.output).logged(), args.out, wanted)
    say(f"{args.out}: {count} records")
    return 0


def _moment(text: str | None, option: str) -> dt.datetime | None:
    if text is None:
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"not a date: {text!r}", option, "write YYYY-MM-DD, or YYYY-MM-DDTHH:MM with a time zone if not UTC") from error


def prove(args: argparse.Namespace) -> int:
    """A bundle for one image, or for two checkpoints, to a file or stdout."""
    from renderfarm.log import proofs as bundle
    from renderfarm.log.find import image_named

    logs.configure(quiet=True)
    storage = Output(args.output).logged()
    if args.since is None:
        data = bundle.prove(storage, image_named(storage, args.image_id))
    else:
        data = bundle.prove_consistency(storage, _read(args.since))
    if args.out is None:
        say_json(json.loads(data), indent=1)
    else:
        try:
            args.out.write_bytes(data)
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", str(args.out), "choose another place") from error
        say(args.out)
    return 0


def verify(args: argparse.Namespace) -> int:
    """0 when the bundle proves what it says under a trusted key, 4 when not."""
    from renderfarm.log import proofs as bundle

    logs.configure(quiet=True)
    trust = trusted(args.trust)
    keys, people = (trust.log_keys, trust.person_keys) if trust is not None else (None, None)
    result = bundle.verify_any(_read(args.bundle), keys, people)
    say(*result.lines())
    return 0 if result.ok else 4
