"""Arguments → calls → exit codes. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import cast

from renderfarm.cli.parser import build_parser
from renderfarm.cli.say import say
from renderfarm.errors import RenderfarmError

Handler = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code as `renderfarm --help` lists them."""
    sys.excepthook = _unforeseen
    args = build_parser().parse_args(argv)
    try:
        return _handler(args.handler)(args)
    except RenderfarmError as error:
        first, *more = error.lines()
        say(f"renderfarm: {first}", *more, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("renderfarm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `renderfarm … | head` is no error; the pipe must not be flushed again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of what nobody foresaw (exit 1). A message may hold anything: its further lines stand behind a bar."""
    for part in traceback.format_exception(kind, error, trace):
        first, *more = part.rstrip("\n").split("\n")
        bar = "" if part.startswith(("Traceback", "  File", "\n")) else "  | "
        say(first, *(bar + line for line in more), file=sys.stderr)


def _handler(name: str) -> Handler:
    module, _, function = name.partition(":")
    return cast(Handler, getattr(importlib.import_module(f"renderfarm.cli.{module}"), function))
