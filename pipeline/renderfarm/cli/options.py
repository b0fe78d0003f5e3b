"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from renderfarm.cli.say import printable

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

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


class Parser(argparse.ArgumentParser):
    """Shows a wrong argument as one line; the parsers of the commands are of this class too."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def add_command(commands: Subparsers, name: str, handler: str, text: str, example: str) -> argparse.ArgumentParser:
    """A command that calls `handler`, named as `module:function` of this package and imported only then."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def command_group(commands: Subparsers, name: str, text: str) -> Subparsers:
    """Where commands of two words are added."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(metavar="COMMAND", required=True)


def bounded(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}")
        return value

    number.__name__ = "whole number"
    return number


def job_arguments(parser: argparse.ArgumentParser) -> None:
    """The job file, and what changes it for one call."""
    parser.add_argument("job", metavar="JOB", type=Path, help="the job file (YAML)")
    parser.add_argument("--manifest", metavar="M", help="another manifest than the job names")
    parser.add_argument("--output", metavar="O", help="another output than the job names")
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="override one field of the job"
    )
    parser.add_argument("--skip-invalid", action="store_true", help="render the good rows, record the bad ones as failed")


def json_option(parser: argparse.ArgumentParser) -> None:
    """Results for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def output_argument(parser: argparse.ArgumentParser) -> None:
    """The output that a command reads."""
    parser.add_argument("output", metavar="OUTPUT", help="a folder or s3://bucket/prefix")


def trust_option(parser: argparse.ArgumentParser) -> None:
    """What an auditor believes."""
    parser.add_argument("--trust", metavar="DIR", type=Path, help="folder of public keys and anchors; default: the user's configuration")


def cluster_option(parser: argparse.ArgumentParser) -> None:
    """Where an audit spreads."""
    parser.add_argument("--address", metavar="RAY", help="spread the work over this Ray cluster (auto, HOST:PORT); default: this machine")
