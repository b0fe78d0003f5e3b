"""From what people write to a manifest: CSV, JSONL or a template in, Parquet out, or every fault and no file.

The rows are converted chunk by chunk into a file beside the target; that file is then checked like any other manifest,
and takes the target's name only when it has no fault. A crash leaves a hidden `.tmp` file and the old manifest.
"""

from __future__ import annotations

import os
import secrets
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from renderfarm import manifest
from renderfarm.brief.sources import SourceRow, open_source
from renderfarm.brief.warnings import warners
from renderfarm.errors import ManifestError
from renderfarm.manifest.cells import convert
from renderfarm.manifest.types import BuildReport, Rules
from renderfarm.schema import Doubt, Fault


@dataclass(slots=True)
class _Conversion:
    """What was learnt while converting: the place of every row in the source, and what could not be understood."""

    places: array[int] = field(default_factory=lambda: array("q"))
    faults: list[Fault] = field(default_factory=list)
    told: set[tuple[int, str | None]] = field(default_factory=set)


def build(source: Path, out: Path, rules: Rules | None = None, strict: bool = False) -> BuildReport:
    """Writes the manifest `out` from a .csv, .tsv, .jsonl or .yaml source; nothing when there is any fault, or with `strict` a warning.

    Raises: ManifestError for a source that cannot be read as a whole, or a target that cannot be written.
    """
    label, rows = open_source(source)
    scratch = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    conversion = _Conversion()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_raw(scratch, _converted(rows, conversion))
        told = sorted([*conversion.faults, *_checked(scratch, conversion, rules)], key=lambda fault: fault.row or 0)
        placed = [_placed(fault, label, conversion.places) for fault in told]
        warnings = tuple(fault for fault in placed if isinstance(fault, Doubt))
        faults = tuple(fault for fault in placed if not isinstance(fault, Doubt))
        if faults or (strict and warnings):
            return BuildReport(0, faults, warnings, seen=len(conversion.places))
        os.replace(scratch, out)
    except OSError as error:
        raise ManifestError(f"cannot be written: {error.strerror}", str(out), "name a file in a folder of yours") from error
    finally:
        scratch.unlink(missing_ok=True)
    return BuildReport(len(conversion.places), (), warnings, seen=len(conversion.places))


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


def _checked(path: Path, conversion: _Conversion, rules: Rules | None) -> Iterator[Fault]:
    """The faults and warnings of the written rows, less those that follow from what was told already."""
    for fault in manifest.check(str(path), rules, warners(), conversion.places):
        if fault.row is None or not {(fault.row, None), (fault.row, fault.column)} & conversion.told:
            yield fault


def _placed(fault: Fault, label: str, places: array[int]) -> Fault:
    """The fault with its place in the source, which is what the person edits."""
    return fault if fault.row is None else replace(fault, row=places[fault.row], unit=label)
