"""Rows to Parquet with the manifest's schema, in small row groups that readers stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from renderfarm.errors import ManifestError
from renderfarm.manifest.columns import COLUMNS, arrow_schema
from renderfarm.manifest.files import CHUNK_ROWS
from renderfarm.schema import PromptRow


def write(out: Path, rows: Iterable[PromptRow]) -> None:
    """Rows that were read from a manifest as a manifest of their own. Raises: ManifestError when it cannot be written."""

    def plain(row: PromptRow) -> dict[str, Any]:
        values = {name: getattr(row, name) for name in COLUMNS}
        return values | {"objects": [{"class": o.name, "count": o.count} for o in row.objects], "tags": list(row.tags)}

    try:
        write_raw(out, map(plain, rows))
    except OSError as error:
        raise ManifestError(f"cannot be written: {error.strerror}", str(out), "name a file in a folder of yours") from error


def write_raw(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Raw rows, bad ones too, so that `check` can name what is wrong. Raises: OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The check names nulls in required columns, so they must be writable; readers do not see the difference.
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema()], metadata=arrow_schema().metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
            columns = [pa.array([row.get(name) for row in chunk], schema.field(name).type) for name in COLUMNS]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=CHUNK_ROWS)
