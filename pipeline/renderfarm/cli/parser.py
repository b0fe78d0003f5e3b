"""Every command's arguments, help and example. A handler is named as `module:function` and imported only when it is called."""

from __future__ import annotations

import argparse
from pathlib import Path

from renderfarm.cli.auditing import add_audit, add_identify, add_provenance, add_recheck, add_reproduce, add_review
from renderfarm.cli.evaluating import add_evaluate
from renderfarm.cli.options import (
    EXIT_CODES,
    Parser,
    Subparsers,
    add_command,
    bounded,
    command_group,
    job_arguments,
    json_option,
    output_argument,
)
from renderfarm.version import __version__

SOURCES = ".xlsx, .csv, .tsv, .json, .jsonl, .parquet, .txt (a prompt a line) or .yaml; a folder of .txt; any of them on s3://"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser: argparse.ArgumentParser = Parser(
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
        add_audit,
        add_identify,
        add_reproduce,
        add_recheck,
        add_review,
        add_evaluate,
        add_provenance,
        _manifest,
        _brief,
        _check,
        _watermark,
        _keys,
        _job,
        _models,
    ):
        add(commands)
    return parser


def _render(commands: Subparsers) -> None:
    parser = add_command(
        commands, "render", "render:render", "render what is not rendered yet", "renderfarm render jobs/mockups.yaml --limit 8"
    )
    job_arguments(parser)
    parser.add_argument("--limit", metavar="N", type=bounded(1, 1 << 40), help="this call renders at most N images")
    parser.add_argument(
        "--until", metavar="HH:MM", help="drain so that everything is committed by this local time, or moment (2026-11-26T06:00:00+01:00)"
    )
    parser.add_argument("--retry-failed", action="store_true", help="open failed images again")
    parser.add_argument("--address", metavar="RAY", help="an existing Ray cluster (auto, HOST:PORT); default: this machine")
    json_option(parser)


def _plan(commands: Subparsers) -> None:
    parser = add_command(
        commands, "plan", "render:plan", "count images and batches and estimate the time", "renderfarm plan jobs/mockups.yaml"
    )
    job_arguments(parser)
    json_option(parser)


def _preview(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "preview",
        "preview:preview",
        "render a few rows with few steps into one contact sheet",
        "renderfarm preview jobs/mockups.yaml -n 8",
    )
    parser.add_argument("job", metavar="JOB", type=Path, help="the job file (YAML)")
    parser.add_argument("-n", metavar="ROWS", type=bounded(1, 1000), default=8, help="how many rows, evenly from the manifest (default 8)")
    parser.add_argument("--steps", metavar="S", type=bounded(1, 500), default=8, help="at most so many denoising steps (default 8)")
    parser.add_argument("--manifest", metavar="M", help="another manifest than the job names")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to put it; default: a new temporary folder")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="override one field of the job"
    )
    parser.add_argument("--address", metavar="RAY", help="an existing Ray cluster; default: this machine")
    json_option(parser)


def _schedule(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "schedule",
        "schedule:schedule",
        "run jobs in the windows that they name",
        "renderfarm schedule jobs/nightly.yaml --next 3",
    )
    parser.add_argument("jobs", metavar="JOB", nargs="+", type=Path, help="job files with a `schedule:`")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--once", action="store_true", help="run the window that is open now, or opens within five minutes, then end")
    what.add_argument("--next", metavar="N", type=bounded(1, 1000), dest="coming", help="show the next N windows and run nothing")
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
    json_option(parser)


def _codes(text: str) -> tuple[int, ...]:
    codes = tuple(int(part) for part in text.split(","))
    if not all(0 <= code <= 255 for code in codes):
        raise argparse.ArgumentTypeError("must be 0 to 255")
    return codes


_codes.__name__ = "list of exit codes"


def _status(commands: Subparsers) -> None:
    parser = add_command(commands, "status", "output:status", "counts by state and rejects by reason", "renderfarm status outputs/mockups")
    output_argument(parser)
    json_option(parser)


def _report(commands: Subparsers) -> None:
    parser = add_command(commands, "report", "output:report", "write the contact sheet again", "renderfarm report outputs/mockups")
    output_argument(parser)


def _gc(commands: Subparsers) -> None:
    parser = add_command(
        commands, "gc", "output:gc", "list or remove orphans: pictures that no record names", "renderfarm gc outputs/mockups --delete"
    )
    output_argument(parser)
    parser.add_argument("--delete", action="store_true", help="remove them; without it they are only listed")
    parser.add_argument(
        "--older-than", metavar="HOURS", type=float, default=24.0, help="only orphans older than this (default 24, at least 2)"
    )
    json_option(parser)


def _manifest(commands: Subparsers) -> None:
    group = command_group(commands, "manifest", "build, check and show manifests")
    build = add_command(
        group,
        "build",
        "manifest:build",
        "spreadsheet, table, list of prompts or template → Parquet",
        "renderfarm manifest build brief.xlsx -o manifests/brief.parquet",
    )
    build.add_argument("source", metavar="SRC", help=SOURCES)
    build.add_argument("-o", "--out", metavar="M", type=Path, required=True, help="the Parquet file to write")
    build.add_argument("--skip-invalid", action="store_true", help="write the rows without faults, and say which were left out")
    _reading(build)
    check = add_command(
        group, "check", "manifest:check", "all faults and warnings of a manifest", "renderfarm manifest check manifests/mockups.parquet"
    )
    check.add_argument("manifest", metavar="M", help="a Parquet file or folder, or an s3:// URI; or any source that `build` takes")
    _reading(check)
    json_option(check)
    show = add_command(
        group, "show", "manifest:show", "print rows of a manifest", "renderfarm manifest show manifests/mockups.parquet -n 5"
    )
    show.add_argument("manifest", metavar="M", help="a Parquet file or folder, or an s3:// URI")
    show.add_argument("-n", metavar="ROWS", type=bounded(1, 1_000_000), default=20, help="how many rows (default 20)")
    show.add_argument("--from", metavar="ROW", type=bounded(0, 1 << 40), default=0, dest="first", help="the first row, from 0")
    json_option(show)


def _reading(parser: argparse.ArgumentParser, job: bool = True) -> None:
    """How a source is read, and what its rows are held against."""
    if job:
        parser.add_argument("--job", metavar="JOB", type=Path, help="also check against this job's adapters, forbidden words and model")
    parser.add_argument("--strict", action="store_true", help="warnings are faults")
    parser.add_argument(
        "--map",
        metavar="NAME=COLUMN",
        action="append",
        default=[],
        help="what a column means: a column of the manifest, tag.NAME, or - to leave it out",
    )
    parser.add_argument("--map-from", metavar="FILE", type=Path, help="a file with one NAME=COLUMN a line")
    parser.add_argument(
        "--id-from",
        metavar="FROM",
        default="",
        help="where ids come from: row (its number), prompt, a column's name, or several with commas between",
    )
    parser.add_argument("--sheet", metavar="NAME", default="", help="the sheet of a workbook")
    parser.add_argument("--styles", metavar="FILE", type=Path, help="a list of styles that the column `style` names: .csv or .json")
    parser.add_argument(
        "--wildcards", metavar="DIR", type=Path, help="a folder of lists for __name__ in prompts: name.txt, one text a line"
    )
    parser.add_argument(
        "--variants", metavar="N", type=bounded(1, 1_000_000), help="of a prompt's {a|b} and __name__, N at random; default: all"
    )
    parser.add_argument("--variants-seed", metavar="S", type=bounded(0, 1 << 62), default=0, help="the seed of --variants (default 0)")
    parser.add_argument(
        "--variant-rows-max", metavar="ROWS", type=bounded(0, 1 << 31), default=100_000, help="rows that variants may add (default 100000)"
    )


def _brief(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "brief",
        "brief:run",
        "what will be rendered and checked, before it costs anything",
        "renderfarm brief brief.xlsx --job job.yaml -o brief.html",
    )
    parser.add_argument("source", metavar="SRC", help=f"{SOURCES}; or a manifest")
    parser.add_argument("--job", metavar="JOB", type=Path, required=True, help="the job file (YAML)")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="override one field of the job"
    )
    parser.add_argument("-o", "--out", metavar="PAGE.html", type=Path, help="also write a page that opens from disk, with every row")
    _reading(parser, job=False)


def _check(commands: Subparsers) -> None:
    parser = add_command(commands, "check", "tools:check", "the quality filters on any picture", 'renderfarm check sign.png --text "OPEN"')
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=Path, help="pictures")
    parser.add_argument("--prompt", metavar="P", default="", help="the prompt they were made from")
    parser.add_argument("--text", metavar="T", help='the text they must show; "" for none')
    parser.add_argument("--objects", metavar="O", help="what they must show so many times: mug:2; box:1, or 2 mug, 1 box, or JSON")
    parser.add_argument("--from", metavar="FILE.jsonl", type=Path, dest="source", help="lines with path, prompt, text and objects")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="one setting of the checks, as in a job file"
    )
    json_option(parser)


def _watermark(commands: Subparsers) -> None:
    group = command_group(commands, "watermark", "the mark on any picture")
    embed = add_command(
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
    read = add_command(
        group, "read", "tools:watermark_read", "read the mark of pictures", "renderfarm watermark read stray.jpg --key-file mark.key"
    )
    read.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="pictures")
    read.add_argument("--key-file", metavar="F", type=Path, action="append", default=[], help="file with the key; may be repeated")
    _mark_method(read)
    json_option(read)


def _mark_method(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", metavar="M", default="renderfarm-tile", help="renderfarm-tile (the default) or trustmark")
    command.add_argument("--weights", metavar="DIR", type=Path, help="folder with TrustMark's two ONNX files; never fetched")


def _keys(commands: Subparsers) -> None:
    group = command_group(commands, "keys", "key sets and trust folders")
    init = add_command(group, "init", "tools:keys_init", "make a development key set and its trust folder", "renderfarm keys init keys/")
    init.add_argument("folder", metavar="DIR", type=Path, help="a folder that does not exist or is empty")
    example = 'renderfarm keys person "Ada Lovelace" -o people/'
    person = add_command(group, "person", "tools:keys_person", "make a key with which a person signs what they say", example)
    person.add_argument("name", metavar="NAME", help="whose key it is, as it will stand in the log")
    person.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="folder for NAME.skey (private) and NAME.person")


def _job(commands: Subparsers) -> None:
    group = command_group(commands, "job", "the job file")
    schema = add_command(group, "schema", "tools:job_schema", "every field of a job file", "renderfarm job schema")
    json_option(schema)


def _models(commands: Subparsers) -> None:
    json_option(add_command(commands, "models", "models:models", "which pipelines are known, equal and refused", "renderfarm models"))
    group = command_group(commands, "model", "weights, before a job names them")
    example = "renderfarm model check own.safetensors --config sdxl/ --adapter style.safetensors"
    checked = add_command(group, "check", "models:check", "what weights are and how they would be loaded, without loading them", example)
    checked.add_argument("weights", metavar="WEIGHTS", help="a local folder, a .safetensors file, or a Hub id")
    checked.add_argument("--adapter", metavar="FILE", action="append", default=[], help="an adapter that must fit them; may be given again")
    checked.add_argument("--config", metavar="DIR", help="for a single file: a local diffusers folder with what it lacks")
    checked.add_argument("--revision", metavar="COMMIT", help="for a Hub id: the full commit hash")
    json_option(checked)


def commands_of(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return [path]
    return [found for group in groups for name, inner in group.choices.items() for found in commands_of(inner, (*path, name))]
