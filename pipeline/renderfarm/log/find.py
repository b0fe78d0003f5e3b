"""Which image a person means, and its records. Only the columns that say so are read, so millions of records take seconds.

What values say (rows, prompts) is held against what the records commit to; nothing else is verified here: `audit` and `proofs` do that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from renderfarm.errors import UserError
from renderfarm.log import parts, reading
from renderfarm.log.parts import PartFile
from renderfarm.records.tables import from_table
from renderfarm.schema import Record
from renderfarm.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

_HEX = frozenset("0123456789abcdef")


def image_named(storage: Storage, name: str) -> str:
    """The id of the image that is meant: by its id, 32 hex digits, or by ROW:INDEX, the newest one that is still in the plan.

    Raises: UserError when it is neither, or no such image is in the log; LogDamaged for a part that cannot be read, or values that are
    not what it commits to; StorageAway.
    """
    if len(name) == 32 and set(name) <= _HEX:
        return name
    row_id, colon, index = name.rpartition(":")
    if not colon or not index.isdecimal() or len(index) > 9:
        remedy = "take all 32 hex digits from the report or an export, or the row's id and the index as ROW:INDEX"
        raise UserError(f"not the name of an image: {name!r:.80}", storage.uri, remedy)
    known: dict[str, bool] = {}
    for rows, moves in _at(storage, row_id, int(index)):
        known |= dict.fromkeys(rows, True)
        known |= {image: kind == "reinstated" for kind, image in moves if image in known}
    current = [image for image, planned in known.items() if planned]
    if not current:
        what = "this image is no longer in the plan; older ones have ids" if known else f"no image {name!r:.80} in this output"
        raise UserError(what, storage.uri, "`renderfarm provenance export` lists the images of an output")
    return current[-1]


def records_of(storage: Storage, images: frozenset[str], by: str = "image_id") -> Iterator[Record]:
    """As `placed_records_of`, without the parts."""
    return (record for _, record in placed_records_of(storage, images, by))


def placed_records_of(storage: Storage, images: frozenset[str], by: str = "image_id") -> Iterator[tuple[int, Record]]:
    """Every record of these images with its part's number, in log order; `by`: "drawing_id" for every record of these drawings.

    Raises: LogDamaged for a part that cannot be read, or values that are not what it commits to; StorageAway.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(images), pa.string())

    def look(number: int, file: PartFile) -> pa.Table | None:
        table = parts.read_columns(file, number, (by,))[1]
        rows = pc.indices_nonzero(pc.is_in(table.column(by), value_set=wanted))
        return parts.trusted_values(reading.with_its_values(storage, number, file), number).table.take(rows) if len(rows) else None

    for number, table in reading.decoded(storage, None, look, with_values=False):
        if table is not None:
            yield from ((number, record) for record in from_table(table))


def _at(storage: Storage, row_id: str, index: int) -> Iterator[tuple[list[str], list[tuple[str, str]]]]:
    """Of each part: the images at this place, and what came into the plan or left it, as (kind, image). Raises: as `image_named`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moving = pa.array(["superseded", "reinstated"])

    def look(number: int, file: PartFile) -> tuple[list[str], list[tuple[str, str]]]:
        table = parts.read_columns(file, number, ("kind", "image_id", "row_id", "index"))[1]
        moves = table.filter(pc.is_in(table.column("kind"), value_set=moving))
        here = pc.and_(pc.equal(table.column("row_id"), row_id), pc.equal(table.column("index"), index))
        attempts = pc.and_(pc.equal(table.column("kind"), "attempt"), pc.fill_null(here, False))
        images = table.filter(attempts).column("image_id").drop_null().to_pylist()
        if images:
            parts.require_values(file, number)  # whoever alters a row's id would lead us to another picture
        return images, list(zip(moves.column("kind").to_pylist(), moves.column("image_id").to_pylist(), strict=True))

    for _, place in reading.decoded(storage, None, look):
        yield place
