"""Structlog for the command line: JSON lines on stderr, readable lines on a terminal. Results never go through here.

`RENDERFARM_LOG=debug` in the environment adds a line for every unit that is leased.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog
from structlog.typing import EventDict

from renderfarm.cli.say import printable


def configure(*, quiet: bool = False) -> None:
    """Set up logging once. `quiet`: only warnings, for when a live view owns the terminal."""
    terminal = sys.stderr.isatty()
    level = logging.DEBUG if os.environ.get("RENDERFARM_LOG") == "debug" else logging.WARNING if quiet else logging.INFO
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_escaped] if terminal else []),  # JSON escapes them itself
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: structlog.PrintLogger(sys.stderr),  # looked up at each line: stderr may be replaced
        cache_logger_on_first_use=False,
    )


def _escaped(logger: object, method: str, event: EventDict) -> EventDict:
    """What servers, files and libraries said, as a terminal may see it."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}
