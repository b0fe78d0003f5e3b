"""Which images a part speaks of, as a tree: so it can be shown that *these* are all records of an image, and not only that they are there.

An entry is an image id (16 bytes) and the number of a row that speaks of it (4 bytes, big endian): the row's `image_id`, and that of each
of its subjects. The entries of a part are sorted, each there once, and cut into pages of sixteen, the last one shorter. A page is a leaf of
the part's index tree (as in `tree`), and its root is in the part's leaf from version 4 on. That an image is not spoken of is shown by the
page where it would stand, or by two neighbours. Pure.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.log.tree import leaf_hash, tree_root

if TYPE_CHECKING:
    import pyarrow as pa

ENTRY_BYTES = 20
PAGE_ENTRIES = 16


def pages(columns: pa.Table) -> list[bytes]:
    """The pages of a part, from its columns `image_id` and `subjects`. An id that is not 32 lower-case hex digits has no entry."""
    import pyarrow.compute as pc

    rows = np.arange(columns.num_rows)
    words, fits = id_words(columns.column("image_id"))
    found = [(words[fits], rows[fits])]
    subjects = columns.column("subjects").combine_chunks()
    about = pc.struct_field(subjects.flatten(), "image_id")
    if len(about):
        words, fits = id_words(about)
        found.append((words[fits], pc.list_parent_indices(subjects).to_numpy()[fits]))
    ids, numbers = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    entries = np.empty((len(ids), ENTRY_BYTES), np.uint8)
    entries[:, :16] = ids.astype(">u8").view(np.uint8).reshape(-1, 16)
    entries[:, 16:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    order = np.lexsort((numbers, ids[:, 1], ids[:, 0]))
    entries = entries[order]
    fresh = np.ones(len(entries), bool)
    fresh[1:] = (entries[1:] != entries[:-1]).any(axis=1)
    data = entries[fresh].tobytes()
    size = ENTRY_BYTES * PAGE_ENTRIES
    return [data[at : at + size] for at in range(0, len(data), size)]


def index_root(columns: pa.Table) -> bytes:
    """Root of a part's index tree, 32 bytes."""
    return tree_root([leaf_hash(page) for page in pages(columns)])


_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def id_words(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Ids of 32 lower-case hex digits as two words, uint64 (n, 2), and which of them are well formed, bool (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    usual = hex_words(column, 32)
    if usual is not None:
        return usual, np.ones(len(usual), bool)
    good = pc.fill_null(pc.equal(pc.binary_length(column), 32), False)
    usable = pc.if_else(good, column, "g" * 32)
    if isinstance(usable, pa.ChunkedArray):
        usable = usable.combine_chunks()
    data = np.frombuffer(usable.buffers()[2], np.uint8, 32 * len(usable)) if len(usable) else np.zeros(0, np.uint8)
    digits = _NIBBLE[data].reshape(-1, 32)
    fits = (digits != 255).all(axis=1)
    bytes_ = (digits[:, 0::2] << 4) | (digits[:, 1::2] & 15)
    return np.ascontiguousarray(bytes_).view(">u8").astype(np.uint64).reshape(-1, 2), fits


def hex_words(column: pa.ChunkedArray | pa.Array, digits: int) -> np.ndarray | None:
    """The words of texts that are all of so many lower-case hex digits, uint64 (n, digits / 16); None if one is not."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count or not len(array):
        return None
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    if (np.diff(offsets) != digits).any():
        return None
    text = bytes(memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])
    try:
        data = binascii.unhexlify(text)
    except ValueError:
        return None
    lower = binascii.hexlify(data) == text
    return np.frombuffer(data, ">u8").reshape(-1, digits // 16).astype(np.uint64) if lower else None
