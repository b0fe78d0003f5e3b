"""Structlog for the command line: JSON lines on stderr, readable lines on a terminal. Results never go through here.

`RENDERFARM_LOG=debug` in the environment adds a line for every unit that is leased.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog


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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: structlog.PrintLogger(sys.stderr),  # looked up at each line: stderr may be replaced
        cache_logger_on_first_use=False,
    )
