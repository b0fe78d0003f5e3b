"""The manifest: Parquet to prompt rows and faults, and CSV, JSONL or a template to Parquet."""

from __future__ import annotations

from pipeline.manifest.build import build, write
from pipeline.manifest.cells import wanted_objects
from pipeline.manifest.columns import arrow_schema
from pipeline.manifest.read import Running, check, count, digest, raw_rows, read, read_on, show
from pipeline.manifest.rows import row_digest
from pipeline.manifest.types import BadRow, BuildReport, Rules, Shard

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
