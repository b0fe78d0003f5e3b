"""Sources: any file that people bring → rows with named cells, and what is said of the file as a whole."""

from __future__ import annotations

from renderfarm.sources.headers import parsed_mapping, plain
from renderfarm.sources.opening import open_source
from renderfarm.sources.types import Brief, ReadAs, SourceRow

__all__ = ["Brief", "ReadAs", "SourceRow", "open_source", "parsed_mapping", "plain"]
