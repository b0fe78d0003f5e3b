"""`evaluate`: how good an output's pictures are, on the terminal and as a page."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from renderfarm.cli import logs
from renderfarm.cli.progress import PLAIN_EVERY_S
from renderfarm.cli.say import say, say_json
from renderfarm.evaluate.evaluation import Inquiry
from renderfarm.evaluate.evaluation import evaluate as found_of
from renderfarm.evaluate.page import writable, write_page


def evaluate(args: argparse.Namespace) -> int:
    """0 with figures; 2 where there is nothing to evaluate or nothing to do it by."""
    logs.configure(quiet=True)
    if args.out is not None:
        writable(args.out)
    asked = Inquiry(args.output, args.against, args.reference, args.features, args.by, args.boxes, args.sample, args.keep)
    found = found_of(asked, heard())
    if args.out is not None:
        write_page(args.out, found)
    say_json(found.as_json()) if args.json else say(*found.lines())
    if args.out is not None:
        say(f"page: {args.out}", file=sys.stderr if args.json else None)
    return 0


def heard(every_s: float = PLAIN_EVERY_S) -> Callable[[str, int, int], None]:
    """Says on stderr how far the reading is, now and then."""
    last = time.monotonic()

    def on_read(source: str, done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            say(f"{source}: {done} of {of} pictures read", file=sys.stderr)

    return on_read
