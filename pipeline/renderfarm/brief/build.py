"""From what people bring to a manifest: any source in, Parquet out, or every fault and no file.

The rows are made chunk by chunk into a file beside the target; that file is then checked like any other manifest, and takes the target's
name only when it has no fault. A crash leaves a hidden `.tmp` file and the old manifest.
"""

from __future__ import annotations

import itertools
import os
import secrets
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from renderfarm import manifest
from renderfarm.brief.rows import Maker
from renderfarm.brief.warnings import warners
from renderfarm.errors import ManifestError, first_line
from renderfarm.job import JobSettings
from renderfarm.manifest.faults import Doubt, Fault
from renderfarm.manifest.types import BuildReport, Rules
from renderfarm.sources.opening import SUFFIXES, open_source
from renderfarm.sources.types import Brief, ReadAs

TOLD_MAX = 10_000
"""Faults that are kept as a rule, and as many warnings; more are counted."""


SAID_CHARS_MAX = 400
"""Characters of a message."""


@dataclass(slots=True)
class _Conversion:
    """What was learnt while converting: the place of every row in the source, and what could not be understood."""

    unit: str
    told_max: int
    places: array[int] = field(default_factory=lambda: array("q"))
    faults: list[Fault] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    told: set[tuple[int, str | None]] = field(default_factory=set)
    seen: int = 0
    bad: bytearray = field(default_factory=bytearray)
    more_faults: int = 0
    more_doubts: int = 0

    def add(self, fault: Fault) -> None:
        """Keeps it with its place in the source, which is what the person edits, or counts it."""
        placed = replace(fault, what=_cut(fault.what), remedy=_cut(fault.remedy))
        if fault.row is not None:
            placed = replace(placed, row=self.places[fault.row], unit=self.unit)
        if fault.row is not None and not isinstance(fault, Doubt):
            self.bad[fault.row] = 1
        if isinstance(placed, Doubt):
            if len(self.doubts) < self.told_max:
                self.doubts.append(placed)
            else:
                self.more_doubts += 1
        elif len(self.faults) < self.told_max:
            self.faults.append(placed)
        else:
            self.more_faults += 1


def build(
    source: str | Path,
    out: Path,
    rules: Rules | None = None,
    *,
    strict: bool = False,
    skip_invalid: bool = False,
    reading: ReadAs | None = None,
    job: JobSettings | None = None,
    told_max: int = TOLD_MAX,
) -> BuildReport:
    """Writes the manifest `out` from any source; nothing when there is any fault, or with `strict` a warning. `skip_invalid`: rows with
    faults are left out, and those that have none are written. `told_max`: faults that are kept, and as many warnings.

    Raises: ManifestError for a source that cannot be read as a whole, or a target that cannot be written.
    """
    if out.suffix.lower() in SUFFIXES - {".parquet"} or (Path(source).exists() and out.exists() and os.path.samefile(source, out)):
        raise ManifestError("this is a source and no manifest: it is not written over", str(out), "name a file that ends in .parquet")
    scratch = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        report, bad = _made(str(source), scratch, rules, reading or ReadAs(), job, told_max)
        if skip_invalid and 0 < sum(bad) < len(bad) and all(fault.row is not None for fault in report.faults):
            _leave_out(scratch, bad)
            places = array("q", (place for place, wrong in zip(report.places, bad, strict=True) if not wrong))
            report = replace(report, rows=len(places), places=places)
        elif report.faults or (strict and report.warnings):
            return replace(report, rows=0)
        os.replace(scratch, out)
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else first_line(error)
        raise ManifestError(f"cannot be written: {what}", str(out), "name a file in a folder of yours") from error
    finally:
        scratch.unlink(missing_ok=True)
    return report


def check_source(
    source: str | Path, rules: Rules | None = None, reading: ReadAs | None = None, job: JobSettings | None = None
) -> BuildReport:
    """What `build` would say of a source; nothing is written. Raises: ManifestError."""
    with tempfile.TemporaryDirectory(prefix="renderfarm-brief-") as folder:
        return _made(str(source), Path(folder) / "m.parquet", rules, reading or ReadAs(), job, TOLD_MAX)[0]


def _made(
    uri: str, scratch: Path, rules: Rules | None, reading: ReadAs, job: JobSettings | None, told_max: int
) -> tuple[BuildReport, bytearray]:
    """The rows at `scratch`, what is said of them, and which of them have faults (1)."""
    with open_source(uri, reading) as source:
        conversion = _Conversion(source.unit, told_max)
        maker = Maker(reading, source)
        manifest.write_raw(scratch, _converted(source, maker, conversion))
        conversion.unit = source.unit
    for fault in manifest.check(str(scratch), rules, warners(job), conversion.places):
        # What follows from what was told already is not told again.
        if fault.row is None or not {(fault.row, None), (fault.row, fault.column)} & conversion.told:
            conversion.add(fault)
    notes = [*source.notes, *maker.notes()]
    for more, what in ((conversion.more_faults, "fault"), (conversion.more_doubts, "warning")):
        if more:
            notes.append(f"{more} more {what}(s) are not shown")
    faults = tuple(sorted(conversion.faults, key=_place))
    doubts = tuple(sorted([*source.doubts, *conversion.doubts], key=_place))
    report = BuildReport(len(conversion.places), faults, doubts, tuple(notes), conversion.seen, conversion.unit, conversion.places)
    report = replace(report, faults_more=conversion.more_faults, warnings_more=conversion.more_doubts)
    return report, conversion.bad


def _leave_out(scratch: Path, bad: bytearray) -> None:
    """Writes the file again without its bad rows."""
    good = scratch.with_name(f"{scratch.name}.good")
    rows = itertools.chain.from_iterable(manifest.raw_rows(str(scratch)))
    try:
        manifest.write_raw(good, (row for row, wrong in zip(rows, bad, strict=True) if not wrong))
        os.replace(good, scratch)
    finally:
        good.unlink(missing_ok=True)


def _cut(text: str) -> str:
    """A message without the rest of a cell that holds a page."""
    return text if len(text) <= SAID_CHARS_MAX else f"{text[: SAID_CHARS_MAX // 2]} … {text[-SAID_CHARS_MAX // 2 :]}"


def _place(fault: Fault) -> int:
    return fault.row or 0


def _converted(source: Brief, maker: Maker, conversion: _Conversion) -> Iterator[dict[str, Any]]:
    for said in source.rows:
        conversion.seen += 1
        conversion.unit = source.unit
        for made in maker.rows(said):
            number = len(conversion.places)
            conversion.places.append(made.place)
            conversion.bad.append(0)
            row_id = made.values.get("id") or None
            if made.broken:
                conversion.add(Fault(number, None, None, made.broken, "then build again"))
                conversion.told.add((number, None))
            for column, what, remedy in made.reasons:
                conversion.add(Fault(number, row_id, column, what, remedy))
                if len(conversion.told) < 10 * TOLD_MAX:
                    conversion.told.add((number, column))
            for column, what, remedy in made.doubts:
                conversion.add(Doubt(number, row_id, column, what, remedy))
            yield made.values
