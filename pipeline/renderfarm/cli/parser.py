"""Every command's arguments, help and example. A handler is named as `module:function` and imported only when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from renderfarm.cli.say import printable
from renderfarm.version import __version__

EXIT_CODES = """\
exit codes:
  0   done, everything that was asked for is accepted
  2   the job, manifest or arguments are wrong; nothing was rendered
  3   finished, but some images are exhausted or failed
  4   the audit has findings, or the log is damaged
  5   the honest answer is no: no mark, not identified, differs, a check rejects
  6   another driver owns this output
  75  paused (window closed, drained, storage away): run again to go on
  1   anything unforeseen
"""

Subparsers = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Parser(argparse.ArgumentParser):
    """Shows a wrong argument as one line; the parsers of the commands are of this class too."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="renderfarm",
        description="Turns a Parquet file of prompts into images that are marked, checked, stored and provable.",
        epilog=f"example:\n  renderfarm render jobs/mockups.yaml\n  renderfarm audit outputs/mockups\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"renderfarm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _render,
        _plan,
        _preview,
        _schedule,
        _status,
        _report,
        _gc,
        _audit,
        _identify,
        _reproduce,
        _recheck,
        _review,
        _provenance,
        _manifest,
        _check,
        _watermark,
        _keys,
        _job,
    ):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, handler: str, text: str, example: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(metavar="COMMAND", required=True)


def _bounded(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}")
        return value

    number.__name__ = "whole number"
    return number


def _job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", type=Path, help="the job file (YAML)")
    parser.add_argument("--manifest", metavar="M", help="another manifest than the job names")
    parser.add_argument("--output", metavar="O", help="another output than the job names")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="override one field of the job"
    )
    parser.add_argument("--skip-invalid", action="store_true", help="render the good rows, record the bad ones as failed")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _render(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "render", "render:render", "render what is not rendered yet", "renderfarm render jobs/mockups.yaml --limit 8"
    )
    _job_arguments(parser)
    parser.add_argument("--limit", metavar="N", type=_bounded(1, 1 << 40), help="this call renders at most N images")
    parser.add_argument(
        "--until", metavar="HH:MM", help="drain so that everything is committed by this local time, or moment (2026-11-26T06:00:00+01:00)"
    )
    parser.add_argument("--retry-failed", action="store_true", help="open failed images again")
    parser.add_argument("--address", metavar="RAY", help="an existing Ray cluster (auto, HOST:PORT); default: this machine")
    _json(parser)


def _plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "plan", "render:plan", "count images and batches and estimate the time", "renderfarm plan jobs/mockups.yaml"
    )
    _job_arguments(parser)
    _json(parser)


def _preview(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "preview",
        "preview:preview",
        "render a few rows with few steps into one contact sheet",
        "renderfarm preview jobs/mockups.yaml -n 8",
    )
    parser.add_argument("job", metavar="JOB", type=Path, help="the job file (YAML)")
    parser.add_argument("-n", metavar="ROWS", type=_bounded(1, 1000), default=8, help="how many rows, evenly from the manifest (default 8)")
    parser.add_argument("--steps", metavar="S", type=_bounded(1, 500), default=8, help="at most so many denoising steps (default 8)")
    parser.add_argument("--manifest", metavar="M", help="another manifest than the job names")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to put it; default: a new temporary folder")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="override one field of the job"
    )
    parser.add_argument("--address", metavar="RAY", help="an existing Ray cluster; default: this machine")
    _json(parser)


def _schedule(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "schedule",
        "schedule:schedule",
        "run jobs in the windows that they name",
        "renderfarm schedule jobs/nightly.yaml --next 3",
    )
    parser.add_argument("jobs", metavar="JOB", nargs="+", type=Path, help="job files with a `schedule:`")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--once", action="store_true", help="run the window that is open now, or opens within five minutes, then end")
    what.add_argument("--next", metavar="N", type=_bounded(1, 1000), dest="coming", help="show the next N windows and run nothing")
    what.add_argument("--systemd", metavar="DIR", help="write a systemd service and timer for each job; -: to stdout")
    what.add_argument("--kubernetes", metavar="DIR", help="write a Kubernetes CronJob for each job; -: to stdout")
    parser.add_argument("--address", metavar="RAY", help="an existing Ray cluster for every run (auto, HOST:PORT)")
    parser.add_argument("--ignore-grace", action="store_true", help="start however late: who calls has judged `grace` already")
    parser.add_argument("--image", metavar="IMAGE", help="container image for --kubernetes (default renderfarm:VERSION)")
    parser.add_argument(
        "--success",
        metavar="CODES",
        type=_codes,
        default=(),
        help="with --once: exit codes to answer with 0 when the window is over, for services that know only 0 (for example 3,75)",
    )
    _json(parser)


def _codes(text: str) -> tuple[int, ...]:
    codes = tuple(int(part) for part in text.split(","))
    if not all(0 <= code <= 255 for code in codes):
        raise argparse.ArgumentTypeError("must be 0 to 255")
    return codes


_codes.__name__ = "list of exit codes"


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="a folder or s3://bucket/prefix")


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", metavar="DIR", type=Path, help="folder of public keys and anchors; default: the user's configuration")


def _cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="RAY", help="spread the work over this Ray cluster (auto, HOST:PORT); default: this machine")


def _status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "status", "output:status", "counts by state and rejects by reason", "renderfarm status outputs/mockups")
    _output(parser)
    _json(parser)


def _report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "report", "output:report", "write the contact sheet again", "renderfarm report outputs/mockups")
    _output(parser)


def _gc(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "gc", "output:gc", "list or remove orphans: pictures that no record names", "renderfarm gc outputs/mockups --delete"
    )
    _output(parser)
    parser.add_argument("--delete", action="store_true", help="remove them; without it they are only listed")
    parser.add_argument(
        "--older-than", metavar="HOURS", type=float, default=24.0, help="only orphans older than this (default 24, at least 2)"
    )
    _json(parser)


def _audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    example = "renderfarm audit outputs/mockups --trust ~/.config/renderfarm/keys/trust"
    parser = _command(commands, "audit", "audit:audit", "re-derive every claim of an output, name each finding", example)
    _output(parser)
    _trust(parser)
    parser.add_argument("--quick", action="store_true", help="signatures, tree, counts and presence; no object is opened")
    parser.add_argument("--sample", metavar="N", type=_bounded(0, 1 << 40), help="open only N objects, drawn at random")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the sample")
    parser.add_argument("--since", metavar="CHECKPOINT", type=Path, help="a checkpoint kept from before: catches a rewritten history")
    parser.add_argument(
        "--witness", metavar="KEY", action="append", default=[], help="a witness that must have cosigned: its public key, or a file of them"
    )
    _cluster(parser)
    _json(parser)


def _identify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "identify", "audit:identify", "any copy of an image → its record", "renderfarm identify stray.jpg --in outputs/mockups"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="a picture, or a folder of them")
    parser.add_argument(
        "--in", metavar="OUTPUT", action="append", required=True, dest="outputs", help="an output to look in; may be repeated"
    )
    _trust(parser)
    _cluster(parser)
    _json(parser)


def _reproduce(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "reproduce",
        "audit:reproduce",
        "render an image again from its record and compare",
        "renderfarm reproduce outputs/mockups IMAGE_ID",
    )
    _output(parser)
    parser.add_argument("image_id", metavar="IMAGE_ID", help="32 hex digits, or the row id and index as ROW:INDEX")
    what = "folder with the key of its watermark; default: the job's key set where it can be read, and the user's configuration"
    parser.add_argument("--trust", metavar="DIR", type=Path, help=what)
    _json(parser)


def _recheck(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "recheck",
        "review:recheck",
        "judge the recorded scores by other thresholds: what would change (exit 0: nothing, 5: something)",
        "renderfarm recheck outputs/mockups --set checks.text.min_score=.8",
    )
    _output(parser)
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="one setting of the checks; may be repeated"
    )
    _json(parser)


def _review(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "review",
        "review:review",
        "a person's word on an attempt: accept or reject it, or list what waits for one",
        'renderfarm review outputs/mockups --list\n  renderfarm review outputs/mockups IMAGE_ID --attempt 2 --accept --by "Ada Lovelace"',
    )
    _output(parser)
    parser.add_argument("image_id", metavar="IMAGE_ID", nargs="?", help="32 hex digits, or the row id and index as ROW:INDEX")
    parser.add_argument("--attempt", metavar="K", type=_bounded(1, 1 << 20), help="which attempt of the image")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--accept", action="store_const", const="accepted", dest="outcome", help="deliver this attempt's picture")
    what.add_argument("--reject", action="store_const", const="rejected", dest="outcome", help="take it back, or confirm that it is bad")
    what.add_argument("--list", action="store_true", help="exhausted images that wait for a person, with their attempts")
    parser.add_argument("--by", metavar="NAME", help="who says so; the name goes into the signed log")
    parser.add_argument("--note", metavar="TEXT", default="", help="why")
    parser.add_argument("--keys", metavar="DIR", type=Path, help="key set that signs it, in place of the job's own or the user's")
    _json(parser)


def _provenance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "provenance", "the log for others: export, prove, verify")
    parser = _command(
        group,
        "export",
        "audit:export",
        "the records as Parquet, CSV or JSON lines",
        "renderfarm provenance export outputs/mockups -o log.csv --tag campaign=spring",
    )
    _output(parser)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="a .parquet, .csv or .jsonl file")
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], help="only records with this tag")
    parser.add_argument("--outcome", choices=("accepted", "rejected", "failed"), help="only attempts with this outcome")
    parser.add_argument("--rejected-for", metavar="CHECK", help="only attempts that this check rejected")
    parser.add_argument("--weights", metavar="NAME", help="only attempts that this model rendered")
    parser.add_argument("--from", metavar="DATE", dest="since", help="only attempts finished from then on (YYYY-MM-DD or ISO 8601, UTC)")
    parser.add_argument("--until", metavar="DATE", help="only attempts finished before then")
    prove = _command(
        group,
        "prove",
        "audit:prove",
        "a bundle that proves one image's records, or that the log continues a checkpoint",
        "renderfarm provenance prove outputs/mockups IMAGE_ID -o proof.json",
    )
    _output(prove)
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument("image_id", metavar="IMAGE_ID", nargs="?", help="32 hex digits, or the row id and index as ROW:INDEX")
    what.add_argument("--since", metavar="CHECKPOINT", type=Path, help="prove that the log begins with the log of this checkpoint")
    prove.add_argument("-o", "--out", metavar="FILE", type=Path, help="where to write it; default: stdout")
    verify = _command(
        group, "verify", "audit:verify", "check a bundle without the output", "renderfarm provenance verify proof.json --trust trust/"
    )
    verify.add_argument("bundle", metavar="BUNDLE", type=Path, help="what `prove` wrote")
    _trust(verify)


def _manifest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "manifest", "build, check and show manifests")
    build = _command(
        group,
        "build",
        "manifest:build",
        "CSV, JSONL or a YAML template → Parquet",
        "renderfarm manifest build manifests/mockups.yaml -o manifests/mockups.parquet",
    )
    build.add_argument("source", metavar="SRC", type=Path, help="a .csv, .jsonl, .yaml or .yml file")
    build.add_argument("-o", "--out", metavar="M", type=Path, required=True, help="the Parquet file to write")
    check = _command(
        group, "check", "manifest:check", "report all faults of a manifest", "renderfarm manifest check manifests/mockups.parquet"
    )
    check.add_argument("manifest", metavar="M", help="a Parquet file or folder, or an s3:// URI")
    check.add_argument("--job", metavar="JOB", type=Path, help="also check against this job's adapters and forbidden words")
    _json(check)
    show = _command(group, "show", "manifest:show", "print rows of a manifest", "renderfarm manifest show manifests/mockups.parquet -n 5")
    show.add_argument("manifest", metavar="M", help="a Parquet file or folder, or an s3:// URI")
    show.add_argument("-n", metavar="ROWS", type=_bounded(1, 1_000_000), default=20, help="how many rows (default 20)")
    show.add_argument("--from", metavar="ROW", type=_bounded(0, 1 << 40), default=0, dest="first", help="the first row, from 0")
    _json(show)


def _check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "check", "tools:check", "the quality filters on any picture", 'renderfarm check sign.png --text "OPEN"')
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=Path, help="pictures")
    parser.add_argument("--prompt", metavar="P", default="", help="the prompt they were made from")
    parser.add_argument("--text", metavar="T", help='the text they must show; "" for none')
    parser.add_argument("--objects", metavar="O", help="what they must show so many times: mug:2; box:1, or 2 mug, 1 box, or JSON")
    parser.add_argument("--from", metavar="FILE.jsonl", type=Path, dest="source", help="lines with path, prompt, text and objects")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="one setting of the checks, as in a job file"
    )
    _json(parser)


def _watermark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "watermark", "the mark on any picture")
    embed = _command(
        group,
        "embed",
        "tools:watermark_embed",
        "mark pictures",
        "renderfarm watermark embed a.png --id 0123456789a --key-file mark.key -o marked/",
    )
    embed.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="pictures")
    embed.add_argument("--id", metavar="HEX", required=True, dest="record", help="11 hex digits")
    embed.add_argument("--key-file", metavar="F", type=Path, help="file with the key; default: the environment's RENDERFARM_MARK_KEY")
    embed.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="folder for the marked pictures (PNG)")
    _mark_method(embed)
    read = _command(
        group, "read", "tools:watermark_read", "read the mark of pictures", "renderfarm watermark read stray.jpg --key-file mark.key"
    )
    read.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="pictures")
    read.add_argument("--key-file", metavar="F", type=Path, action="append", default=[], help="file with the key; may be repeated")
    _mark_method(read)
    _json(read)


def _mark_method(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", metavar="M", default="renderfarm-tile", help="renderfarm-tile (the default) or trustmark")
    command.add_argument("--weights", metavar="DIR", type=Path, help="folder with TrustMark's two ONNX files; never fetched")


def _keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "keys", "key sets and trust folders")
    init = _command(group, "init", "tools:keys_init", "make a development key set and its trust folder", "renderfarm keys init keys/")
    init.add_argument("folder", metavar="DIR", type=Path, help="a folder that does not exist or is empty")


def _job(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "job", "the job file")
    schema = _command(group, "schema", "tools:job_schema", "every field of a job file", "renderfarm job schema")
    _json(schema)


def commands_of(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return [path]
    return [found for group in groups for name, inner in group.choices.items() for found in commands_of(inner, (*path, name))]
