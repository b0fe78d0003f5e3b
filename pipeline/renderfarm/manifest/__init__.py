"""The manifest: Parquet to prompt rows and faults, and CSV, JSONL or a template to Parquet."""

from __future__ import annotations

from renderfarm.manifest.build import build, write
from renderfarm.manifest.cells import wanted_objects
from renderfarm.manifest.columns import arrow_schema
from renderfarm.manifest.read import Running, check, count, digest, raw_rows, read, read_on, show
from renderfarm.manifest.rows import row_digest
from renderfarm.manifest.types import BadRow, BuildReport, Rules, Shard

__all__ = [
    "BadRow",
    "BuildReport",
    "Rules",
    "Running",
    "Shard",
    "arrow_schema",
    "build",
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
]
