"""The log for others: records by filter, as Parquet, CSV or JSON lines. Streams; verifies nothing (`audit` does).

In CSV, lists are JSON text, and a text that a spreadsheet would run as a formula is led by an apostrophe.
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from renderfarm.errors import UserError
from renderfarm.log import parts, reading
from renderfarm.records.tables import as_dict, from_table, view_schema
from renderfarm.schema import RECORD_FIELDS
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA = re.compile("[\\s\u200b-\u200f\u2060\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n]")
"""What a spreadsheet runs at a text's beginning, behind blanks, breaks and what nobody sees; East Asian ones take full-width signs too."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which attempts and reviews: all that is given must hold. Times are those at which an attempt was finished, `until` exclusive."""

    tags: tuple[tuple[str, str], ...] = ()
    outcome: str | None = None
    rejected_for: str | None = None
    weights: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is asked: then plans and superseded images come too."""
        return self == Filter()


def export(storage: Storage, path: Path, wanted: Filter) -> int:
    """Writes the records that `wanted` lets through to `path`, by its suffix; how many there are.

    The file appears when it is whole. Raises: UserError for another suffix or a place that cannot be written;
    LogDamaged for a part that cannot be read; StorageAway.
    """
    writer = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}.get(path.suffix.lower())
    if writer is None:
        raise UserError(f"no format for {path.suffix or 'a name without suffix'}", str(path), "end it in .parquet, .csv or .jsonl")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            count = writer(file, _chosen(storage, wanted))
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", str(path), "choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return count


def _chosen(storage: Storage, wanted: Filter) -> Iterator[pa.Table]:
    for number, file in reading.fetch_parts(storage):
        table = parts.trusted_values(file, number).table
        yield table if wanted.everything else matching(table, wanted)


def matching(table: pa.Table, wanted: Filter) -> pa.Table:
    """The rows of a part that the filter lets through."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keep = pc.is_in(table.column("kind"), value_set=pa.array(["attempt", "review", "statement"]))
    for name, value in (("outcome", wanted.outcome), ("weights", wanted.weights)):
        if value is not None:
            keep = pc.and_(keep, pc.fill_null(pc.equal(table.column(name), value), False))
    if wanted.since is not None:
        keep = pc.and_(keep, pc.greater_equal(table.column("finished_us"), _microseconds(wanted.since)))
    if wanted.until is not None:
        keep = pc.and_(keep, pc.less(table.column("finished_us"), _microseconds(wanted.until)))
    table = table.filter(keep)
    nested: list[tuple[str, Callable[[Any], bool]]] = []
    if wanted.tags:
        nested.append(("tags", lambda tags: set(wanted.tags) <= set(tags)))
    if wanted.rejected_for is not None:
        nested.append(("verdicts", lambda verdicts: any(_rejects(item, wanted.rejected_for) for item in verdicts)))
    for name, test in nested:
        table = table.filter(pa.array([test(value) for value in table.column(name).to_pylist()], pa.bool_()))
    return table


def _rejects(verdict: dict[str, Any], check: str | None) -> bool:
    return bool(verdict["outcome"] == "rejected" and verdict["check"] == check)


def _microseconds(moment: dt.datetime) -> int:
    """A time without zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return int(aware.timestamp() * 1_000_000)


def _parquet(file: IO[bytes], tables: Iterator[pa.Table]) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(file, view_schema(), compression="zstd") as writer:
        for table in tables:
            if table.num_rows:
                writer.write_table(table.cast(view_schema()))
                count += table.num_rows
    return count


def _json_lines(file: IO[bytes], tables: Iterator[pa.Table]) -> int:
    count = 0
    for table in tables:
        for record in from_table(table):
            file.write((json.dumps(as_dict(record), ensure_ascii=False) + "\n").encode())
            count += 1
    return count


def _csv(file: IO[bytes], tables: Iterator[pa.Table]) -> int:
    import io

    count = 0
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    writer = csv.writer(text)
    writer.writerow(RECORD_FIELDS)
    for table in tables:
        for record in from_table(table):
            row = as_dict(record)
            writer.writerow([_cell(row.get(name)) for name in RECORD_FIELDS])
            count += 1
    text.detach()
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and _FORMULA.match(value):
        return "'" + value
    return value
