"""The Parquet files of a log, read with the standard library alone: just the encodings that they use (docs/formats.md, section 6).

apache/parquet-format: the footer and page headers in Thrift's compact protocol, data pages of version 1, PLAIN and RLE_DICTIONARY values,
levels in the RLE and bit-packing hybrid, pages raw or in Zstandard. Anything else is refused, never guessed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import unzstd

MAGIC = b"PAR1"
RAW, ZSTD = 0, 6
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
DATA_PAGE, DICTIONARY_PAGE = 0, 2
VALUES_MAX = 20_000_000
DEPTH_MAX = 16

PHYSICAL = {"int": 2, "float": 5, "text": 6}
"""Parquet's numbers of INT64, DOUBLE and BYTE_ARRAY."""


class Malformed(ValueError):
    """The bytes are no Parquet file of the kind that is read here."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column that holds values. `top`: the definition level of a value that is there; `lists`: for each list around it, from the
    outside, the definition level from which on it has an element."""

    path: tuple[str, ...]
    kind: str
    top: int
    lists: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One element of the schema: `repetition` 0 required, 1 optional, 2 repeated; `kind` None for a group."""

    name: str
    repetition: int
    kind: str | None
    children: int


@dataclass(frozen=True, slots=True)
class File:
    """A file's key-value metadata, its number of rows, and for each leaf's path one value (or list) a row."""

    metadata: tuple[tuple[str, str], ...]
    rows: int
    columns: dict[tuple[str, ...], list[Any]]


def footer(data: bytes) -> dict[int, Any]:
    """FileMetaData, its fields by number. Raises: Malformed."""
    size = int.from_bytes(data[-8:-4], "little")
    if len(data) < 12 or data[:4] != MAGIC or data[-4:] != MAGIC or not 0 < size <= len(data) - 12:
        raise Malformed("not a Parquet file")
    try:
        return _Thrift(data[:-8], len(data) - 8 - size).struct()
    except IndexError:
        raise Malformed("its footer is cut off") from None


def metadata(found: dict[int, Any]) -> tuple[tuple[str, str], ...]:
    """The key-value pairs of a footer, in order. Raises: Malformed."""
    try:
        return tuple((pair[1].decode(), pair[2].decode()) for pair in found.get(5, []))
    except (KeyError, AttributeError, UnicodeDecodeError, TypeError) as error:
        raise Malformed("its key-value metadata are malformed") from error


def read(data: bytes, schema: Sequence[Node], leaves: Sequence[Leaf]) -> File:
    """A whole file that must have this schema, and these leaves in it. Raises: Malformed."""
    found = footer(data)
    try:
        elements = [(e[4].decode(), e.get(3, 0), e.get(1), e.get(5, 0)) for e in found[2]]
        wanted = [(node.name, node.repetition, PHYSICAL.get(node.kind or ""), node.children) for node in schema]
        if elements[1:] != wanted:
            raise Malformed("its columns are not those of a record")
        columns: dict[tuple[str, ...], list[Any]] = {leaf.path: [] for leaf in leaves}
        for group in found[4]:
            if len(group[1]) != len(leaves):
                raise Malformed("a row group without all columns")
            for chunk, leaf in zip(group[1], leaves, strict=True):
                some = _column(data, chunk[3], leaf)
                if len(some) != group[3]:
                    raise Malformed(f"column {'.'.join(leaf.path)} has not the rows of its group")
                columns[leaf.path] += some
        rows = int(found[3])
        if any(len(values) != rows for values in columns.values()):
            raise Malformed("its row groups do not add up")
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError, struct.error, unzstd.Malformed) as error:
        raise Malformed(f"it does not decode: {error}") from error
    return File(metadata(found), rows, columns)


def _column(data: bytes, chunk: dict[int, Any], leaf: Leaf) -> list[Any]:
    """The rows of one column chunk."""
    if tuple(name.decode() for name in chunk[3]) != leaf.path or chunk[1] != PHYSICAL[leaf.kind] or 12 in chunk:
        raise Malformed(f"column {'.'.join(leaf.path)} is another one, or carries statistics")
    at, wanted, dictionary = min(chunk[9], chunk.get(11, chunk[9])), chunk[5], list[Any]()
    if not 0 <= wanted <= VALUES_MAX or not 0 < at < len(data):
        raise Malformed(f"column {'.'.join(leaf.path)} has {wanted} values at byte {at}")
    repetitions, definitions, values = list[int](), list[int](), list[Any]()
    while len(definitions) < wanted:
        thrift = _Thrift(data, at)
        head = thrift.struct()
        at = thrift.at + head[3]
        packed = data[thrift.at : at]
        if len(packed) != head[3] or (4 in head and zlib.crc32(packed) != head[4] & 0xFFFFFFFF):
            raise Malformed("a page that is cut off or damaged")
        page = _unpacked(packed, head[2], chunk[4])
        if head[1] == DICTIONARY_PAGE and not dictionary:
            dictionary = _plain(page, leaf.kind, head[7][1])
        elif head[1] == DATA_PAGE and 0 < head[5][1] <= wanted - len(definitions):
            count, encoding = head[5][1], head[5][2]
            some, page = _levels(page, len(leaf.lists), count)
            repetitions += some
            some, page = _levels(page, leaf.top, count)
            definitions += some
            there = some.count(leaf.top)
            if encoding == PLAIN:
                values += _plain(page, leaf.kind, there)
            elif encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
                values += [dictionary[place] for place in _hybrid(page[1:], page[0], there)] if there else []
            else:
                raise Malformed(f"values in encoding {encoding}")
        else:
            raise Malformed("a page of a kind that a log does not have")
    return _rows(repetitions, definitions, iter(values), leaf)


def _unpacked(packed: bytes, size: int, codec: int) -> bytes:
    if codec not in (RAW, ZSTD) or not 0 <= size <= 1 << 30:
        raise Malformed(f"a page in codec {codec} of {size} bytes")
    page = packed if codec == RAW else unzstd.decompress(packed, size)
    if len(page) != size:
        raise Malformed("a page of another size than it says")
    return page


def _levels(page: bytes, highest: int, count: int) -> tuple[list[int], bytes]:
    """Levels at the head of a data page, and what follows them; none are written where only 0 is possible."""
    if not highest:
        return [0] * count, page
    size = int.from_bytes(page[:4], "little")
    return _hybrid(page[4 : 4 + size], highest.bit_length(), count), page[4 + size :]


def _hybrid(data: bytes, width: int, count: int) -> list[int]:
    """`count` whole numbers of `width` bits: runs of one value, or groups of eight packed values."""
    if width > 32:
        raise Malformed(f"numbers of {width} bits")
    found, at, mask = list[int](), 0, (1 << width) - 1
    while len(found) < count:
        head, at = _varint(data, at)
        if head & 1:
            for _ in range(min(head >> 1, (count - len(found) + 7) // 8)):
                group = int.from_bytes(data[at : at + width], "little")
                at += width
                found += [group >> place & mask for place in range(0, 8 * width, width)] if width else [0] * 8
        else:
            size = (width + 7) // 8
            found += [int.from_bytes(data[at : at + size], "little")] * min(head >> 1, count - len(found))
            at += size
        if at > len(data) or not head >> 1:
            raise Malformed("levels or indices that are cut off")
    return found[:count]


def _plain(page: bytes, kind: str, count: int) -> list[Any]:
    if kind != "text":
        if not 0 <= 8 * count <= len(page):
            raise Malformed("numbers that are cut off")
        return list(struct.unpack_from(f"<{count}{'q' if kind == 'int' else 'd'}", page))
    found, at = list[str](), 0
    for _ in range(min(count, len(page))):
        size = int.from_bytes(page[at : at + 4], "little")
        text = page[at + 4 : at + 4 + size]
        if at + 4 > len(page) or len(text) != size:
            raise Malformed("texts that are cut off")
        found.append(text.decode())
        at += 4 + size
    if len(found) != count:
        raise Malformed("texts that are cut off")
    return found


def _rows(repetitions: Sequence[int], definitions: Sequence[int], values: Iterator[Any], leaf: Leaf) -> list[Any]:
    """Values and levels → one value a row, or one list (of lists): Dremel's assembly for one column."""
    rows: list[Any] = []
    around: list[list[Any]] = [rows] + [rows] * len(leaf.lists)  # the list that is open at each depth; rows themselves at depth 0
    for repetition, definition in zip(repetitions, definitions, strict=True):
        depth = repetition
        while depth < len(leaf.lists):
            inner: list[Any] = []
            around[depth].append(inner)
            around[depth + 1] = inner
            if definition < leaf.lists[depth]:
                break
            depth += 1
        else:
            around[depth].append(next(values) if definition == leaf.top else None)
    return rows


class _Thrift:
    """A place in bytes of Thrift's compact protocol. Structs become dictionaries by field number. Running off the end is an IndexError."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            if number in found or depth > DEPTH_MAX:
                raise Malformed("a footer or page header with a field twice, or too deep")
            found[number] = head & 15 == 1 if head & 15 in (1, 2) else self._value(head & 15, depth + 1)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise Malformed(f"a footer or page header with type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise IndexError("cut off")
        self.at += count
        return found

    def _varint(self) -> int:
        value, self.at = _varint(self.data, self.at)
        return value

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise Malformed("a number of more than 64 bits")
