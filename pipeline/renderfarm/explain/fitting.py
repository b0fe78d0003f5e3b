"""Which rows of a brief a job can render, and at which size they are drawn: the rest are faults of theirs, and the others are planned.

A size that is no multiple of the model's step is planned at the next one up. A job that cannot cut refuses it before it starts; the warning
of the row says so.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from renderfarm import manifest
from renderfarm.errors import JobError
from renderfarm.job import JobSettings
from renderfarm.manifest import Rules
from renderfarm.manifest.faults import Fault
from renderfarm.models import Resolved
from renderfarm.resolve.survey import Refuser
from renderfarm.schema import PromptRow


@dataclass(frozen=True, slots=True)
class Fit:
    """`rows`: the manifest of the rows that fit, as they were said; `drawn`: the same at the sizes that are drawn; `places`: of each."""

    rows: Path
    drawn: Path
    places: Sequence[int]
    faults: tuple[Fault, ...]


def fit(rows: Path, rules: Rules, job: JobSettings, weights: Resolved, places: Sequence[int], unit: str) -> Fit:
    """Looks at the good rows of `rows`; what it writes lies beside it, and only where it differs. Raises: ManifestError."""
    refuser = Refuser(job, weights)
    taken, faults, sizes = bytearray(), list[Fault](), list[tuple[int, int] | None]()
    for shard in manifest.read(str(rows), rules):
        for row in shard.rows:
            size = _drawn(row, job, weights.size_multiple)
            try:
                refuser.look(row if size is None else replace(row, width=size[0], height=size[1]))
                taken.append(1)
            except JobError as error:
                faults.append(Fault(places[len(taken)], row.id, None, f"the job cannot render it: {error.what}", error.remedy, unit))
                taken.append(0)
            sizes.append(size)
    fits = drawn = rows
    if faults and any(taken):
        fits = drawn = rows.with_name("fits.parquet")
        manifest.write_raw(fits, (raw for raw, took in zip(_raws(rows), taken, strict=True) if took))
    if any(size for size, took in zip(sizes, taken, strict=True) if took):
        drawn = rows.with_name("drawn.parquet")
        cut = (size for size, took in zip(sizes, taken, strict=True) if took)
        manifest.write_raw(drawn, (raw if size is None else raw | _sides(size) for raw, size in zip(_raws(fits), cut, strict=True)))
    return Fit(fits, drawn, array("q", (place for place, took in zip(places, taken, strict=True) if took)), tuple(faults))


def _drawn(row: PromptRow, job: JobSettings, multiple: int) -> tuple[int, int] | None:
    """The size at which a row is drawn where that is not the one that it says."""
    width, height = row.width or job.defaults.width, row.height or job.defaults.height
    drawn = -(-width // multiple) * multiple, -(-height // multiple) * multiple
    return drawn if drawn != (width, height) else None


def _sides(size: tuple[int, int]) -> dict[str, Any]:
    return {"width": size[0], "height": size[1]}


def _raws(rows: Path) -> Iterator[dict[str, Any]]:
    for some in manifest.raw_rows(str(rows)):
        yield from some
