"""Arrow columns as canonical fields, column by column: each as arrays, or constants, whose values joined row by row are its bytes.

`canonical` says what the bytes are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    Piece: TypeAlias = "pa.Array | pa.Scalar"

NULL = b"\xff\xff\xff\xff"
_ARROW_BYTES_MAX = 2**31 - 2
"""What the 32-bit offsets of an Arrow array reach (its builders' own limit). A part's columns stay below: `guarded.DECODED_BYTES_MAX`."""


def extend(pieces: list[Piece], more: list[Piece]) -> None:
    """Neighbours that are the same in every row become one."""
    import pyarrow as pa

    for piece in more:
        if isinstance(piece, pa.Scalar) and pieces and isinstance(pieces[-1], pa.Scalar):
            pieces[-1] = scalar(pieces[-1].as_py() + piece.as_py())
        else:
            pieces.append(piece)


def spread(pieces: list[Piece], rows: int) -> list[Piece]:
    """A join of nothing but scalars gives a scalar; one array among them gives an array."""
    import pyarrow as pa

    if any(isinstance(piece, pa.Array) for piece in pieces):
        return pieces
    return [*pieces, pa.array([b""] * rows, pa.binary())]


def scalar(value: bytes) -> pa.Scalar:
    """A constant."""
    import pyarrow as pa

    return pa.scalar(value, pa.binary())


def encode(array: pa.Array) -> list[Piece]:
    """Arrays (or constants) whose values, joined row by row, are the array's canonical fields."""
    import pyarrow as pa

    if array.null_count == len(array):
        return [scalar(NULL)]
    kind = array.type
    if pa.types.is_string(kind):
        return _encode_text(array)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return [_encode_number(array)]
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return _encode_list(array)
    raise ValueError(f"no canonical bytes for a column of type {kind}")


def _encode_text(array: pa.Array) -> list[Piece]:
    import pyarrow as pa

    offsets = offsets_of(array)
    sizes = np.diff(offsets)
    if array.null_count:
        sizes = np.where(_valid(array), sizes, 0xFFFFFFFF)
    elif (sizes == sizes[0]).all():  # most texts of a part are the same in every row: one piece for all
        data = bytes(memoryview(array.buffers()[2] or b"")[offsets[0] : offsets[-1]])
        first = data[: sizes[0]]
        if data.endswith(first) and data == first * len(array):
            return [scalar(struct.pack(">I", sizes[0]) + first)]
    return [_fixed(sizes.astype(">u4").view(np.uint8).reshape(-1, 4)), array.cast(pa.binary())]


def _encode_number(array: pa.Array) -> Piece:
    import pyarrow as pa

    whole = pa.types.is_integer(array.type)
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    cells = np.zeros((len(array), 12), np.uint8)
    cells[:, 3] = 8
    cells[:, 4:] = values.astype(">i8" if whole else ">f8").view(np.uint8).reshape(-1, 8)
    if not array.null_count:
        return scalar(cells[0].tobytes()) if (cells == cells[0]).all() else _fixed(cells)
    valid = _valid(array)
    cells[~valid, :4] = 0xFF
    used = np.repeat(valid[:, None], 12, axis=1)
    used[:, :4] = True
    return _variable(np.where(valid, 12, 4), cells[used])


def _encode_list(array: pa.Array) -> list[Piece]:
    """The elements' bytes lie end to end in the joined child, so a list's bytes are one slice of them: no copy."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.null_count:
        raise ValueError("a list may not be null")
    if array.offset:
        array = pa.concat_arrays([array])
    edges = array.offsets.to_numpy()
    first, last = int(edges[0]), int(edges[-1])
    empty = len(array) and first == last
    if empty:
        return [scalar(b"\0\0\0\0")]
    child = array.values.slice(first, last - first)
    pieces = [piece for member in _members(child) for piece in encode(member)]
    joined = pc.binary_join_element_wise(
        *spread(pieces, len(child)), scalar(b""), options=pc.JoinOptions(null_handling="replace", null_replacement="")
    )
    bounds = offsets_of(joined)[edges - first]
    sizes = np.diff(bounds)
    body = pa.Array.from_buffers(pa.binary(), len(array), [None, pa.py_buffer(bounds.astype(np.int32)), joined.buffers()[2]])
    return [_fixed(sizes.astype(">u4").view(np.uint8).reshape(-1, 4)), body]


def _members(child: pa.Array) -> list[pa.Array]:
    """The arrays that make up a list's elements: the members of a struct, or the values themselves."""
    import pyarrow as pa

    if not pa.types.is_struct(child.type):
        return [child]
    if child.null_count:
        raise ValueError("an element of a list may not be null")
    return list(child.flatten())


def offsets_of(array: pa.Array) -> np.ndarray:
    """Where each value of a text or binary array begins, int64 (n + 1,)."""
    raw = np.frombuffer(array.buffers()[1], np.int32)
    return raw[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _valid(array: pa.Array) -> np.ndarray:
    valid: np.ndarray = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def sizes_of(piece: Piece) -> np.ndarray | int:
    """Bytes of each row of a piece."""
    import pyarrow as pa

    if isinstance(piece, pa.Scalar):
        return len(piece.as_py())
    sizes = np.diff(offsets_of(piece))
    return np.where(_valid(piece), sizes, 0) if piece.null_count else sizes


def _fixed(cells: np.ndarray) -> pa.Array:
    """A binary array from uint8 (n, width)."""
    return _variable(np.full(len(cells), cells.shape[1]), cells)


def _variable(sizes: np.ndarray, data: np.ndarray) -> pa.Array:
    """A binary array from the sizes of its values and their bytes end to end. Raises: ValueError when they are more than Arrow counts."""
    import pyarrow as pa

    if sizes.sum(dtype=np.int64) > _ARROW_BYTES_MAX:
        raise ValueError(f"the rows cannot be encoded: a column of more than {_ARROW_BYTES_MAX} bytes")
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))])
