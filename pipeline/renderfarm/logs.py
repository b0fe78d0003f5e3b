"""The package's own log. Lines go where the program that uses it sends structlog's; where it sends them nowhere, warnings go to stderr.

Nothing is configured for the whole process: a notebook's results are on stdout, and a host program's structlog is its own.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_WARNINGS: Any = structlog.make_filtering_bound_logger(logging.WARNING)


def get_logger() -> Any:
    """What to log with."""
    return structlog.wrap_logger(None, wrapper_class=_bound, logger_factory_args=("renderfarm",))  # type: ignore[arg-type]


def _bound(logger: Any, processors: Any, context: Any) -> Any:
    """Made for each line, since a host may set structlog up later, and stderr may be replaced."""
    if structlog.is_configured():
        return structlog.get_config()["wrapper_class"](logger, processors=processors, context=context)
    return _WARNINGS(structlog.PrintLogger(sys.stderr), processors=processors, context=context)
