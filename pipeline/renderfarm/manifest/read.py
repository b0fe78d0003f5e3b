"""Reading and judging a manifest: shards of good and bad rows, all faults, digests.

Two passes over the file: the ids alone, to find those that several rows share, then the rows. Both stream; what grows
with the manifest is 16 bytes a row during the first pass. A fault is a value; only what makes the whole file unusable
is raised.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from renderfarm.errors import ManifestError
from renderfarm.manifest.columns import REQUIRED
from renderfarm.manifest.faults import Doubt, Fault
from renderfarm.manifest.files import ManifestFile, chunks, survey
from renderfarm.manifest.rows import examine, legal_id, raw_digest
from renderfarm.manifest.types import BadRow, Rules, Shard, Warner
from renderfarm.schema import PromptRow

if TYPE_CHECKING:
    from renderfarm.manifest.duplicates import Twin, Twins

_TWIN_REMEDY = "give each row an id of its own; ids name the images"


def read(uri: str, rules: Rules | None = None, running: Running | None = None) -> Iterator[Shard]:
    """The manifest's rows in shards of some thousand, in order; every row is in exactly one shard, as good or as bad.

    All rows that share an id are bad, since nothing says which of them is meant. The first pass is done when this
    returns. `running` takes in every row on the way, so that its digest needs no pass of its own.

    Raises: ManifestError for what makes the file unusable as a whole: nothing there, no Parquet, a missing, unknown or
    mistyped column, no rows; StorageRefused, StorageAway.
    """
    files = _usable(uri)
    return _shards(files, _twins(files), rules or Rules(), running)


def read_on(uri: str, rules: Rules, passed: Callable[[list[dict[str, Any]]], bool]) -> Iterator[Shard]:
    """`read` for a manifest that was read before and had no bad row: shards of whose raw rows `passed` says so are left out unjudged.

    Raises: as `read`.
    """
    from renderfarm.manifest.duplicates import Twins

    return _shards(_usable(uri), Twins(), rules, passed=passed)


def _usable(uri: str) -> list[ManifestFile]:
    """Every file of the manifest. Raises: ManifestError for a fault of a whole file, and where there is no row."""
    files = survey(uri)
    faults = [*itertools.chain.from_iterable(file.faults for file in files)]
    if not faults and not sum(file.rows for file in files):
        faults = [_no_rows()]
    if faults:
        raise _unusable(uri, faults)
    return files


def check(uri: str, rules: Rules | None = None, warners: Sequence[Warner] = (), places: Sequence[int] = ()) -> Iterator[Fault]:
    """Every fault of the manifest: first those of its files, then those of its rows, in order; and among them, as `Doubt`, what `warners`
    say of its rows. `places`: the number of each row where people see it, if not its number here.

    Columns that can be read are judged even where others cannot. Raises: StorageRefused, StorageAway.
    """
    try:
        files = survey(uri)
    except ManifestError as error:
        yield Fault(None, None, None, f"{error.where}: {error.what}", error.remedy)
        return
    for file in files:
        yield from file.faults
    if not any(file.faults for file in files) and not sum(file.rows for file in files):
        yield _no_rows()
    try:
        for shard in _shards(files, _twins(files), rules or Rules(), places=places, warners=warners):
            told = itertools.chain(itertools.chain.from_iterable(bad.faults for bad in shard.bad), shard.doubts)
            yield from sorted(told, key=lambda fault: fault.row or 0)
    except ManifestError as error:
        yield Fault(None, None, None, f"{error.where}: {error.what}", error.remedy)


class Running:
    """SHA-256 over rows' digests in order: of what a manifest says, not of its Parquet bytes."""

    def __init__(self) -> None:
        self._running = hashlib.sha256(b"renderfarm manifest 1\n")

    def update(self, raws: Iterable[dict[str, Any]]) -> None:
        """Takes in the next raw rows."""
        for raw in raws:
            self._running.update(bytes.fromhex(raw_digest(raw)))

    def hexdigest(self) -> str:
        """64 hex digits over all rows so far."""
        return self._running.hexdigest()


def raw_rows(uri: str) -> Iterator[list[dict[str, Any]]]:
    """Raw rows in order, some thousand at a time, unjudged. Raises: as `read`."""
    for file in _usable(uri):
        for _, raws in chunks(file):
            yield raws


def digest(uri: str) -> str:
    """The digest of a whole manifest, 64 hex digits. Raises: ManifestError, StorageRefused, StorageAway."""
    running = Running()
    for raws in raw_rows(uri):
        running.update(raws)
    return running.hexdigest()


def count(uri: str) -> int:
    """How many rows the footers promise. Raises: ManifestError, StorageRefused, StorageAway."""
    return sum(file.rows for file in survey(uri))


def show(uri: str, first: int = 0, limit: int = 20) -> Iterator[tuple[int, PromptRow | BadRow]]:
    """Rows `first` to `first + limit - 1` with their numbers; duplicate ids are not looked for.

    Raises: ManifestError, StorageRefused, StorageAway.
    """
    for file in survey(uri):
        if file.faults:
            raise _unusable(uri, list(file.faults))
        if file.first_row + file.rows <= first or file.first_row >= first + limit:
            continue
        for start, raws in chunks(file):
            if start >= first + limit:
                return
            for row, raw in enumerate(raws, start):
                if first <= row < first + limit:
                    yield row, _judge(file, row, raw, None, Rules())


def _no_rows() -> Fault:
    return Fault(None, None, None, "holds no rows", "add a row for each picture that is wanted")


def _unusable(uri: str, faults: list[Fault]) -> ManifestError:
    """The faults of a manifest's files as one error."""
    if len(faults) == 1:
        column = f"column {faults[0].column}: " if faults[0].column else ""
        return ManifestError(column + faults[0].what, uri, faults[0].remedy)
    remedy = "mend what is named above; `renderfarm manifest check` tells when all is well"
    return ManifestError("cannot be used as it is", uri, remedy, [str(fault) for fault in faults])


def _twins(files: list[ManifestFile]) -> Twins:
    from renderfarm.manifest.duplicates import find_twins

    def ids() -> Iterator[list[str | None]]:
        for file in files:
            for _, raws in chunks(file, ("id",)):
                yield [raw["id"] if isinstance(raw.get("id"), str) and raw["id"] else None for raw in raws]

    return find_twins(ids, sum(file.rows for file in files))


def _shards(
    files: list[ManifestFile],
    twins: Twins,
    rules: Rules,
    running: Running | None = None,
    passed: Callable[[list[dict[str, Any]]], bool] | None = None,
    places: Sequence[int] = (),
    warners: Sequence[Warner] = (),
) -> Iterator[Shard]:
    read = ((file, *chunk) for file in files for chunk in chunks(file))
    for number, (source, start, raws) in enumerate(read):
        if running is not None:
            running.update(raws)
        if passed is None or not passed(raws):
            rows: list[PromptRow] = []
            bad: list[BadRow] = []
            doubts: list[Doubt] = []
            for row, raw in enumerate(raws, start):
                judged = _judge(source, row, raw, twins.of(row), rules, places)
                if isinstance(judged, BadRow):
                    bad.append(judged)
                else:
                    rows.append(judged)
                if warners:
                    doubts += _doubts(row, raw, judged, warners)
            assert len(rows) + len(bad) == len(raws), "every row is in exactly one count"
            yield Shard(number, tuple(rows), tuple(bad), tuple(doubts))


def _doubts(number: int, raw: dict[str, Any], judged: PromptRow | BadRow, warners: Sequence[Warner]) -> Iterator[Doubt]:
    """What the warners say of a row. Of a bad one they see the texts, and a column with a fault has enough said of it."""
    row, faulty = judged, set[str | None]()
    if isinstance(row, BadRow):
        faulty = {fault.column for fault in row.faults}
        texts = {name: raw[name] for name in ("negative_prompt", "text") if isinstance(raw.get(name), str)}
        row = PromptRow(row.faults[0].row_id or "", raw["prompt"] if isinstance(raw.get("prompt"), str) else "", **texts)
    for warner in warners:
        if isinstance(judged, BadRow) and getattr(warner, "of_whole_rows", False):
            continue
        for column, what, remedy in warner(row):
            if column not in faulty:
                yield Doubt(number, row.id or None, column, what, remedy)


def _judge(
    file: ManifestFile, row: int, raw: dict[str, Any], twin: Twin | None, rules: Rules, places: Sequence[int] = ()
) -> PromptRow | BadRow:
    """One row as good or bad. What its file lacks as a whole is said once, for the file, and not again for each row."""
    good, reasons = examine(raw, rules)
    reasons = [reason for reason in reasons if reason[0] not in REQUIRED or reason[0] in file.columns]
    if twin is not None:
        more = f" and {twin.others - 1} more" if twin.others > 1 else ""
        other = places[twin.other] if places else twin.other
        reasons.append(("id", f"row {other}{more} has the same id", _TWIN_REMEDY))
    if good is not None and not reasons:
        return good
    digest, row_id = raw_digest(raw), raw.get("id")
    if twin is not None:
        digest = hashlib.sha256(f"{digest} twin {twin.place}".encode()).hexdigest()
    if not legal_id(row_id):
        digest = hashlib.sha256(f"{digest} row {row}".encode()).hexdigest()
    name = str(row_id) if legal_id(row_id) else f"row-{row}-{digest[:12]}"
    place = f" (row {row - file.first_row} of {file.name})" if file.name else ""
    shown_id = row_id if isinstance(row_id, str) and row_id else None
    faults = tuple(Fault(row, shown_id, column, what + place, remedy) for column, what, remedy in reasons)
    return BadRow(row, name, digest, faults)
