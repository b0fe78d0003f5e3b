"""How large a part would become in memory, known before it is decoded.

Parquet stores a repeated text once: 14 kB can stand for 80 GB. The footer bounds what a column may hold; where that bound
is too loose, the column is read as a dictionary, which costs what the file costs, and its size is added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from renderfarm.log.parquet_footer import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

VALUES_MAX = 20_000_000
LOOSE_BYTES = 256 << 20
"""Below this bound a column is not looked at closer: a part of 1,000 rows stays far below."""


def too_large(data: bytes, chunks: Iterable[Chunk], decoded_max: int) -> str | None:
    """Why the part with these column chunks should not be decoded; None when it may.

    Raises: pyarrow.ArrowException, OSError or ValueError for a column that cannot be read.
    """
    bounds: dict[str, int] = {}
    for chunk in chunks:
        values, size, path = chunk.values, chunk.size, chunk.path
        if not 0 <= values <= VALUES_MAX or not 0 <= size <= decoded_max:
            return f"column {path[:80]} says that it has {values} values in {size} bytes"
        repeats = chunk.byte_array and chunk.dictionary
        bounds[path] = bounds.get(path, 0) + (values * size if repeats else size + 8 * values)
    loose = {path for path, bound in bounds.items() if bound > LOOSE_BYTES}
    size = _measured(data, loose) if loose else 0
    return f"more than {decoded_max >> 20} MiB when decoded" if size > decoded_max else None


def _measured(data: bytes, paths: set[str]) -> int:
    """Bytes that these columns hold once decoded. By row group: each has its own dictionaries, and Arrow joins no nested ones."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=sorted(paths), page_checksum_verification=True)
    size = 0
    for column in sorted({path.partition(".")[0] for path in paths}):
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, columns=[column], use_threads=False).column(0).chunks:
                size += _expanded(chunk)
    return size


def _expanded(array: pa.Array) -> int:
    """Bytes that an array holds with every dictionary written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.DictionaryArray):
        lengths = pc.fill_null(pc.binary_length(array.dictionary), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        used = np.bincount(array.indices.drop_null().to_numpy(), minlength=len(lengths))
        return int((used * lengths).sum()) + 4 * len(array)
    if isinstance(array, pa.MapArray):
        return _expanded(array.keys) + _expanded(array.items)
    if isinstance(array, pa.ListArray):
        return _expanded(array.values)
    if isinstance(array, pa.StructArray):
        return sum(_expanded(member) for member in array.flatten())
    return int(array.nbytes)
