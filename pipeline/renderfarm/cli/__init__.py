"""Arguments → calls → exit codes. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from renderfarm.cli.parser import build_parser
from renderfarm.errors import RenderfarmError

Handler = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code as `renderfarm --help` lists them."""
    args = build_parser().parse_args(argv)
    try:
        return _handler(args.handler)(args)
    except RenderfarmError as error:
        print(f"renderfarm: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("renderfarm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `renderfarm … | head` is no error; the pipe must not be flushed again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _handler(name: str) -> Handler:
    module, _, function = name.partition(":")
    return cast(Handler, getattr(importlib.import_module(f"renderfarm.cli.{module}"), function))
