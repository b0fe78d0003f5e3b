"""What a Parquet footer says of its column chunks, read here because Arrow's own accessor ends the process on some malformed ones.

pyarrow 26 builds the metadata of a column chunk outside any exception handler. A level histogram of the wrong length (found by flipping
bits of footers) is an abort there, not an error. So the footer is walked first, strictly and within its bounds, and what would trip that
code is refused. Reading pages is safe: there Arrow's exceptions become ours.

Format: apache/parquet-format `parquet.thrift` (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, SizeStatistics) in the Thrift
compact protocol.

There are two ways through the same bytes. The long way goes field by field, and would do alone. The short way takes the schema and the
columns' orders by comparison and each column chunk by one regular expression, as our writer lays them out; whatever differs goes the long
way. A test holds the two together. The short way stays because it was measured: without it a walk (73 chunks) takes 8 times as long, a
quick audit of parts of one record 1.7 times the CPU, and opening such a log for writing 1.24 times. Parts of 100,000 rows do not care.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

MAGIC = b"PAR1"
CHUNKS_MAX = 100_000
DEPTH_MAX = 16

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = frozenset({_I16, _I32, _I64})
_BYTE_ARRAY = 6
_FILE_FIELDS = frozenset(range(1, 8))
"""All but encryption, which a part has none of."""
_CHUNK_FIELDS = frozenset({2, 3})
"""`file_offset` and `meta_data`: no other file, no page index, no encryption."""

_VARINT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_THREE = rb"(?:\x15%s\x15%s\x15%s\x00)" % (_VARINT, _VARINT, _VARINT)
_PATTERNS = {
    b"v": _VARINT,
    b"encodings": b"|".join(b"\\x%x5" % count + _VARINT * count for count in range(1, 5)),
    b"encoding_stats": b"|".join(b"\\x%xc" % count + _THREE * count for count in range(1, 5)),
    b"histogram": b"|".join(b"\\x%x6" % count + _VARINT * count for count in range(6)),
}
_USUAL = re.compile(
    rb"\x26%(v)s\x1c\x15(%(v)s)"  # file_offset, meta_data; type
    rb"\x19(?:%(encodings)s)\x19(.{3,150}?)\x15%(v)s"  # encodings, path_in_schema, codec
    rb"\x16(%(v)s)\x16(%(v)s)\x16%(v)s\x26%(v)s"  # num_values, the sizes, data_page_offset
    rb"(?:(\x26)%(v)s\x29|\x49)(?:%(encoding_stats)s)"  # dictionary_page_offset, encoding_stats
    rb"(?:\x3c(?:\x16%(v)s\x19|\x29)(%(histogram)s)\x19(%(histogram)s)\x00)?\x00\x00" % _PATTERNS,  # size_statistics
    re.DOTALL,
)
"""A column chunk as our writer lays it out. Each byte says what follows it, so nothing else can be read into what matches; only
where the path ends is found by trying, and checked by `_path`."""

_SCHEMAS: deque[bytes] = deque(maxlen=4)
"""Schemas that were walked lately, byte for byte."""
SCHEMA_BYTES_MAX = 1 << 16


@dataclass(slots=True)
class Chunk:
    """One column chunk as the footer states it. `definition` and `repetition`: lengths of its level histograms, 0 for none."""

    physical: int = -1
    byte_array: bool = False
    path: str = ""
    values: int = 0
    size: int = 0
    dictionary: bool = False
    statistics: bool = False
    definition: int = 0
    repetition: int = 0


def column_chunks(data: bytes, shortcuts: bool = True) -> list[Chunk]:
    """The column chunks of a Parquet file, row group by row group. shortcuts: False goes the long way alone, for the test.

    Raises: ValueError for a footer that is malformed or unusual.
    """
    length = int.from_bytes(data[-8:-4], "little")
    if len(data) < 12 or data[:4] != MAGIC or data[-4:] != MAGIC or not 0 < length <= len(data) - 12:
        raise ValueError("no Parquet footer")
    walk = _Walk(data[len(data) - 8 - length : len(data) - 8], shortcuts)
    try:
        return walk.file()
    except IndexError:
        raise ValueError("the footer is cut off") from None


class _Walk:
    """A place in the footer, moved forward. Running off the end is an IndexError."""

    def __init__(self, data: bytes, shortcuts: bool = False) -> None:
        self.data = data
        self.shortcuts = shortcuts
        self.at = 0
        self.chunks: list[Chunk] = []

    def file(self) -> list[Chunk]:
        self.fields({2: self.schema, 4: self.row_groups, 7: self.orders}, _FILE_FIELDS, 0)
        return self.chunks

    def schema(self, kind: int) -> None:
        """The schema, which says nothing here: Arrow reads it."""
        start = self.at
        for known in tuple(_SCHEMAS) if self.shortcuts else ():
            if kind == _LIST and self.data.startswith(known, start):
                self.at = start + len(known)
                return
        self.skip(kind, 1)
        if kind == _LIST and self.at - start <= SCHEMA_BYTES_MAX:
            _SCHEMAS.append(self.data[start : self.at])

    def orders(self, kind: int) -> None:
        """The columns' orders, which are the same for every column of ours."""
        start, count = self.at, self.list_of(kind, _STRUCT)
        if self.shortcuts and self.data.startswith(usual := b"\x1c\x00\x00" * count, self.at):
            self.at += len(usual)
        else:
            self.at = start
            self.skip(kind, 1)

    def row_groups(self, kind: int) -> None:
        for _ in range(self.list_of(kind, _STRUCT)):
            self.fields({1: self.columns}, None, 1)

    def columns(self, kind: int) -> None:
        for _ in range(self.list_of(kind, _STRUCT)):
            if len(self.chunks) >= CHUNKS_MAX:
                raise ValueError(f"more than {CHUNKS_MAX} column chunks")
            usual = _USUAL.match(self.data, self.at) if self.shortcuts else None
            path = _path(usual[2]) if usual is not None else None
            if usual is not None and path is not None:
                self.chunks.append(_chunk(usual, path))
                self.at = usual.end()
                continue
            chunk = Chunk()
            self.chunks.append(chunk)
            present = self.fields({3: lambda kind, chunk=chunk: self.column(kind, chunk)}, _CHUNK_FIELDS, 2)  # type: ignore[misc]
            if 3 not in present:
                raise ValueError("a column chunk without metadata")

    def column(self, kind: int, chunk: Chunk) -> None:
        """A ColumnMetaData."""
        if kind != _STRUCT:
            raise ValueError("a column chunk's metadata is no struct")
        readers: dict[int, Callable[[int], object]] = {
            1: lambda kind: setattr(chunk, "physical", self.integer(kind)),
            3: lambda kind: setattr(chunk, "path", self.path(kind)),
            5: lambda kind: setattr(chunk, "values", self.integer(kind)),
            6: lambda kind: setattr(chunk, "size", self.integer(kind)),
            11: self.integer,
            16: lambda kind: self.sizes(kind, chunk),
        }
        present = self.fields(readers, None, 3)
        chunk.dictionary, chunk.statistics = 11 in present, 12 in present
        chunk.byte_array = chunk.physical == _BYTE_ARRAY

    def path(self, kind: int) -> str:
        """The names that lead to a column, joined by dots."""
        return ".".join(self.binary().decode("utf-8", "replace") for _ in range(self.list_of(kind, _BINARY)))

    def sizes(self, kind: int, chunk: Chunk) -> None:
        """A SizeStatistics: the lengths of its histograms."""
        if kind != _STRUCT:
            raise ValueError("size statistics that are no struct")
        readers = {2: lambda kind: self.histogram(kind, chunk, "repetition"), 3: lambda kind: self.histogram(kind, chunk, "definition")}
        self.fields(readers, None, 4)

    def histogram(self, kind: int, chunk: Chunk, name: str) -> None:
        count = self.list_of(kind, _I64)
        for _ in range(count):
            self.varint()
        setattr(chunk, name, count)

    def fields(self, wanted: Mapping[int, Callable[[int], object]], known: frozenset[int] | None, depth: int) -> set[int]:
        """Walks a struct's fields, gives the wanted ones to their readers, and says which were there. Each may be there once."""
        data, number, present = self.data, 0, set[int]()
        while True:
            head = data[self.at]
            self.at += 1
            if head == 0:
                return present
            kind, delta = head & 15, head >> 4
            number = number + delta if delta else self.integer(_I16)
            if number in present or (known is not None and number not in known):
                raise ValueError(f"field {number} where none is expected")
            present.add(number)
            read = wanted.get(number)
            if read is not None:
                read(kind)
            else:
                self.skip(kind, depth + 1)

    def skip(self, kind: int, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise ValueError("nested too deep")
        if kind in _INTEGERS:
            self.varint()
        elif kind == _BINARY:
            self.binary()
        elif kind in (_LIST, _SET):
            inner = self.data[self.at] & 15
            count = self.list_of(kind, inner)
            if inner in _INTEGERS:
                for _ in range(count):
                    self.varint()
                return
            for _ in range(count):
                self.skip(inner if inner not in (_TRUE, _FALSE) else _BYTE, depth + 1)
        elif kind == _STRUCT:
            self.fields({}, None, depth)
        elif kind in (_BYTE, _DOUBLE):
            self.at += 1 if kind == _BYTE else 8
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"type {kind} where none is expected")

    def list_of(self, kind: int, inner: int) -> int:
        """The length of a list whose elements must be of this type."""
        head = self.data[self.at]
        self.at += 1
        count = head >> 4
        if count == 15:
            count = self.varint()
        if kind not in (_LIST, _SET) or head & 15 != inner or count > len(self.data):
            raise ValueError("not the list that is expected")
        return count

    def binary(self) -> bytes:
        size = self.varint()
        content = self.data[self.at : self.at + size]
        if len(content) != size:
            raise IndexError
        self.at += size
        return content

    def integer(self, kind: int) -> int:
        if kind not in _INTEGERS:
            raise ValueError("not a number")
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def varint(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        if byte < 128:
            self.at = at + 1
            return byte
        value, shift = byte & 127, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 127) << shift
            if byte < 128:
                self.at = at + 1
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")


@lru_cache(maxsize=1024)
def _path(data: bytes) -> str | None:
    """The path that is written here; None if it is not a list of names that ends with these bytes."""
    walk = _Walk(data)
    try:
        path = walk.path(_LIST)
    except (ValueError, IndexError):
        return None
    return path if walk.at == len(data) else None


def _chunk(usual: re.Match[bytes], path: str) -> Chunk:
    """The column chunk that `_USUAL` matched."""
    physical, _, values, size, dictionary, repetition, definition = usual.groups()
    lengths = (definition[0] >> 4, repetition[0] >> 4) if definition else (0, 0)
    kind = _number(physical)
    return Chunk(kind, kind == _BYTE_ARRAY, path, _number(values), _number(size), dictionary is not None, False, *lengths)


def _number(varint: bytes) -> int:
    """A number in zigzag."""
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 127
    return (value >> 1) ^ -(value & 1)
