"""From what people write to a manifest: CSV, JSONL or a template in, Parquet out, or every fault and no file.

The rows are converted chunk by chunk into a file beside the target; that file is then checked like any other manifest,
and takes the target's name only when it has no fault. A crash leaves a hidden `.tmp` file and the old manifest.
"""

from __future__ import annotations

import itertools
import os
import secrets
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from renderfarm.errors import ManifestError
from renderfarm.manifest.cells import convert
from renderfarm.manifest.columns import COLUMNS, arrow_schema
from renderfarm.manifest.files import CHUNK_ROWS
from renderfarm.manifest.read import check
from renderfarm.manifest.sources import SourceRow, open_source
from renderfarm.manifest.types import BuildReport, Rules
from renderfarm.schema import Fault, PromptRow


@dataclass(slots=True)
class _Conversion:
    """What was learnt while converting: the place of every row in the source, and what could not be understood."""

    places: array[int] = field(default_factory=lambda: array("q"))
    faults: list[Fault] = field(default_factory=list)
    told: set[tuple[int, str | None]] = field(default_factory=set)


def build(source: Path, out: Path, rules: Rules | None = None) -> BuildReport:
    """Writes the manifest `out` from a .csv, .tsv, .jsonl or .yaml source; nothing when there is any fault.

    Raises: ManifestError for a source that cannot be read as a whole, or a target that cannot be written.
    """
    label, rows = open_source(source)
    scratch = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    conversion = _Conversion()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(scratch, _converted(rows, conversion))
        faults = sorted([*conversion.faults, *_checked(scratch, conversion, rules)], key=lambda fault: fault.row or 0)
        if faults:
            return BuildReport(0, tuple(_placed(fault, label, source, conversion.places) for fault in faults))
        os.replace(scratch, out)
    except OSError as error:
        raise ManifestError(f"cannot be written: {error.strerror}", str(out), "name a file in a folder of yours") from error
    finally:
        scratch.unlink(missing_ok=True)
    return BuildReport(len(conversion.places), ())


def write(out: Path, rows: Iterable[PromptRow]) -> None:
    """Rows that were read from a manifest as a manifest of their own. Raises: ManifestError when it cannot be written."""

    def plain(row: PromptRow) -> dict[str, Any]:
        values = {name: getattr(row, name) for name in COLUMNS}
        return values | {"objects": [{"class": o.name, "count": o.count} for o in row.objects], "tags": list(row.tags)}

    try:
        _write(out, map(plain, rows))
    except OSError as error:
        raise ManifestError(f"cannot be written: {error.strerror}", str(out), "name a file in a folder of yours") from error


def _converted(rows: Iterator[SourceRow], conversion: _Conversion) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        conversion.places.append(row.place)
        values, reasons = convert(row.cells)
        row_id = values.get("id") or None
        if row.broken:
            conversion.faults.append(Fault(number, None, None, row.broken, "then build again"))
            conversion.told.add((number, None))
        for column, what, remedy in reasons:
            conversion.faults.append(Fault(number, row_id, column, what, remedy))
            conversion.told.add((number, column))
        yield values


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Parquet with the manifest's schema and small row groups, so that readers stream it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The check names nulls in required columns, so they must be writable; readers do not see the difference.
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema()], metadata=arrow_schema().metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
            columns = [pa.array([row.get(name) for row in chunk], schema.field(name).type) for name in COLUMNS]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=CHUNK_ROWS)


def _checked(path: Path, conversion: _Conversion, rules: Rules | None) -> Iterator[Fault]:
    """The faults of the written rows, less those that follow from what was told already."""
    for fault in check(str(path), rules):
        if fault.row is None or not {(fault.row, None), (fault.row, fault.column)} & conversion.told:
            yield fault


def _placed(fault: Fault, label: str, source: Path, places: array[int]) -> Fault:
    """The fault with its place in the source, which is what the person edits."""
    if fault.row is None:
        return fault
    what = f"{fault.what} ({label} {places[fault.row]} of {source.name})"
    return Fault(fault.row, fault.row_id, fault.column, what, fault.remedy)
