"""The manifest: Parquet to prompt rows, faults and warnings, and rows to Parquet."""

from __future__ import annotations

from renderfarm.manifest.cells import wanted_objects
from renderfarm.manifest.columns import arrow_schema
from renderfarm.manifest.read import Running, check, count, digest, raw_rows, read, read_on, show
from renderfarm.manifest.rows import row_digest
from renderfarm.manifest.types import BadRow, BuildReport, Reason, Rules, Shard, Warner
from renderfarm.manifest.write import write, write_raw

__all__ = [
    "BadRow",
    "BuildReport",
    "Reason",
    "Rules",
    "Running",
    "Shard",
    "Warner",
    "arrow_schema",
    "check",
    "count",
    "digest",
    "raw_rows",
    "read",
    "read_on",
    "row_digest",
    "show",
    "wanted_objects",
    "write",
    "write_raw",
]
