"""Zstandard frames (RFC 8878), decompressed with the standard library alone; Python has its own decoder from version 3.14 on.

Slow (about a megabyte a second) and strict: no dictionaries, no skippable frames, one frame a call, which is what a Parquet page is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MAGIC = 0xFD2FB528
BLOCK_BYTES_MAX = 1 << 17

Cell = tuple[int, int, int]
"""Of an FSE table: symbol, bits to read, what to add for the next state."""

# RFC 8878 section 3.1.1.3.2.1.1: for each code, the least length and how many extra bits follow.
_LITERALS = [(n, 0) for n in range(16)] + [(16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6)]
_LITERALS += [(1 << bits, bits) for bits in range(7, 17)]
_MATCHES = [(n, 0) for n in range(3, 35)] + [(35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4)]
_MATCHES += [(99, 5)] + [((1 << bits) + 3, bits) for bits in range(7, 17)]
_OFFSETS = [(1 << bits, bits) for bits in range(32)]

# Section 3.1.1.3.2.2: the tables that are used where a block brings none of its own; accuracy, then probabilities.
_LITERALS_USUAL = (6, [4, 3, *[2] * 11, 1, 1, 1, *[2] * 9, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1])
_OFFSETS_USUAL = (5, [*[1] * 6, 2, 2, 2, *[1] * 15, *[-1] * 5])
_MATCHES_USUAL = (6, [1, 4, 3, *[2] * 6, *[1] * 37, *[-1] * 7])


class Malformed(ValueError):
    """The bytes are no Zstandard frame of the kind that is read here."""


def decompress(data: bytes, size: int) -> bytes:
    """The content of one frame, which must have this many bytes. Raises: Malformed."""
    try:
        found = _frame(data, size)
    except (IndexError, KeyError) as error:
        raise Malformed("a Zstandard frame that is cut off or damaged") from error
    if len(found) != size:
        raise Malformed(f"a Zstandard frame of {len(found)} bytes instead of {size}")
    return found


def _frame(data: bytes, size: int) -> bytes:
    """Section 3.1.1."""
    if int.from_bytes(data[:4], "little") != MAGIC:
        raise Malformed("not a Zstandard frame")
    flags = data[4]
    single, checksum = flags >> 5 & 1, flags >> 2 & 1
    if flags & 0b1011:
        raise Malformed("a Zstandard frame with a dictionary or a reserved bit")
    at = 5 + (1 - single) + (single, 2, 4, 8)[flags >> 6]  # the window's size and the content's size are not needed
    state, last = _State(), 0
    while not last:
        header = int.from_bytes(data[at : at + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        at += 3
        taken = 1 if kind == 1 else length
        block = data[at : at + taken]
        if at > len(data) or len(block) != taken or length > BLOCK_BYTES_MAX or kind == 3:
            raise Malformed("a block that is cut off, too large or of a reserved kind")
        if kind == 2:
            _block(block, state)
        else:
            state.out += block * length if kind == 1 else block
        if len(state.out) > size:
            raise Malformed(f"a Zstandard frame of more than {size} bytes")
        at += taken
    if at + 4 * checksum != len(data):
        raise Malformed("bytes behind a Zstandard frame")
    return bytes(state.out)


@dataclass(slots=True)
class _State:
    """What one block hands on to the next: the content so far, the last offsets, the Huffman table, the three FSE tables."""

    out: bytearray = field(default_factory=bytearray)
    recent: list[int] = field(default_factory=lambda: [1, 4, 8])
    huffman: tuple[int, list[tuple[int, int]]] | None = None
    tables: dict[str, tuple[int, list[Cell]]] = field(default_factory=dict)


class _Backward:
    """Bits read from the end of a stream to its beginning; the highest bit that is set marks the end. Before it lie zeros."""

    def __init__(self, data: bytes) -> None:
        if not data or not data[-1]:
            raise Malformed("a bit stream without an end")
        self.data, self.left = data, 8 * (len(data) - 1) + data[-1].bit_length() - 1

    def peek(self, count: int) -> int:
        start = self.left - count
        if start < 0:
            there = max(self.left, 0)
            return (int.from_bytes(self.data[: (there + 7) // 8], "little") & (1 << there) - 1) << (count - there)
        return int.from_bytes(self.data[start >> 3 : (self.left + 7) >> 3], "little") >> (start & 7) & (1 << count) - 1

    def read(self, count: int) -> int:
        value = self.peek(count)
        self.left -= count
        return value


def _block(block: bytes, state: _State) -> None:
    """A compressed block: literals, then sequences that say how to weave them with what was there before."""
    literals, at = _literals(block, state)
    count, at = block[at], at + 1
    if count == 255:
        count, at = int.from_bytes(block[at : at + 2], "little") + 0x7F00, at + 2
    elif count > 127:
        count, at = (count - 128 << 8) + block[at], at + 1
    if not count:
        if at != len(block):
            raise Malformed("bytes behind a block")
        state.out += literals
        return
    modes, at = block[at], at + 1
    for name, shift, usual, accuracy in (
        ("literals", 6, _LITERALS_USUAL, 9), ("offsets", 4, _OFFSETS_USUAL, 8), ("matches", 2, _MATCHES_USUAL, 9)
    ):  # fmt: skip
        mode = modes >> shift & 3
        if mode == 0:
            state.tables[name] = usual[0], _fse_table(*usual)
        elif mode == 1:
            state.tables[name], at = (0, [(block[at], 0, 0)]), at + 1
        elif mode == 2:
            probabilities, used = _fse_probabilities(block[at:], accuracy)
            state.tables[name], at = (probabilities[0], _fse_table(*probabilities)), at + used
    _weave(_Backward(block[at:]), count, literals, state)


def _weave(bits: _Backward, count: int, literals: bytes, state: _State) -> None:
    """Section 3.1.1.4: `count` times some literals, then a copy of what was written before."""
    out, recent, at = state.out, state.recent, 0
    out_max = len(out) + BLOCK_BYTES_MAX
    (by_literals, literal_cells), (by_offsets, offset_cells), (by_matches, match_cells) = (
        state.tables[name] for name in ("literals", "offsets", "matches")
    )
    literal, offset, match = bits.read(by_literals), bits.read(by_offsets), bits.read(by_matches)
    for number in range(count):
        literal_cell, offset_cell, match_cell = literal_cells[literal], offset_cells[offset], match_cells[match]
        base, extra = _OFFSETS[offset_cell[0]]
        distance = base + bits.read(extra)
        base, extra = _MATCHES[match_cell[0]]
        length = base + bits.read(extra)
        base, extra = _LITERALS[literal_cell[0]]
        before = base + bits.read(extra)
        if number + 1 < count:
            literal = literal_cell[2] + bits.read(literal_cell[1])
            match = match_cell[2] + bits.read(match_cell[1])
            offset = offset_cell[2] + bits.read(offset_cell[1])
        if distance > 3:
            recent[:] = [distance - 3, recent[0], recent[1]]
        else:
            which = distance - 1 + (not before)
            chosen = recent[which] if which < 3 else recent[0] - 1
            recent[:] = [chosen, *[old for place, old in enumerate(recent) if place != min(which, 2)]]
        if at + before > len(literals) or not 0 < recent[0] <= len(out) + before or len(out) + before + length > out_max:
            raise Malformed("a sequence that reaches too far")
        out += literals[at : at + before]
        at += before
        start = len(out) - recent[0]
        piece = bytes(out[start : start + length])
        out += (piece * (length // len(piece) + 1))[:length]
    if bits.left:
        raise Malformed("sequences that do not end with their stream")
    out += literals[at:]


def _literals(block: bytes, state: _State) -> tuple[bytes, int]:
    """Section 3.1.1.3.1: the literals, and where the sequences begin."""
    kind, form = block[0] & 3, block[0] >> 2 & 3
    if kind < 2:
        head = (1, 2, 1, 3)[form]
        size = int.from_bytes(block[:head], "little") >> (3 if head == 1 else 4)
        end = head + (1 if kind else size)
        found = block[head:end] * size if kind else block[head:end]
        if len(found) != size:
            raise Malformed("literals that are cut off")
        return found, end
    head, width = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
    said = int.from_bytes(block[:head], "little") >> 4
    size, packed = said & (1 << width) - 1, said >> width
    end = head + packed
    data = block[head:end]
    if len(data) != packed or size > BLOCK_BYTES_MAX:
        raise Malformed("literals that are cut off or too many")
    if kind == 2:
        state.huffman, used = _huffman_table(data)
        data = data[used:]
    if state.huffman is None:
        raise Malformed("literals without a table")
    if form == 0:
        return _huffman(data, size, state.huffman), end
    sizes = [int.from_bytes(data[place : place + 2], "little") for place in (0, 2, 4)]
    edges = [6, 6 + sizes[0], 6 + sizes[0] + sizes[1], 6 + sum(sizes), len(data)]
    each = (size + 3) // 4
    counts = [each, each, each, size - 3 * each]
    streams = (data[start:stop] for start, stop in pairwise(edges))
    return b"".join(_huffman(stream, count, state.huffman) for stream, count in zip(streams, counts, strict=True)), end


def _huffman(data: bytes, count: int, table: tuple[int, list[tuple[int, int]]]) -> bytes:
    width, cells = table
    bits, out = _Backward(data), bytearray()
    for _ in range(count):
        symbol, used = cells[bits.peek(width)]
        out.append(symbol)
        bits.left -= used
    if bits.left:
        raise Malformed("literals that do not end with their stream")
    return bytes(out)


def _huffman_table(data: bytes) -> tuple[tuple[int, list[tuple[int, int]]], int]:
    """Section 4.2.1: the longest code, what each word of that many bits means (symbol, bits), and how many bytes said so."""
    head = data[0]
    if head > 127:
        count = head - 127
        used = 1 + (count + 1) // 2
        weights = [half for byte in data[1:used] for half in (byte >> 4, byte & 15)][:count]
    else:
        used = 1 + head
        weights = _huffman_weights(data[1:used])
    total = sum(1 << weight - 1 for weight in weights if weight)
    width = total.bit_length()
    rest = (1 << width) - total
    if not total or rest & (rest - 1) or width > 11:
        raise Malformed("weights that are no Huffman code")
    weights.append(rest.bit_length())
    cells: list[tuple[int, int]] = []
    for weight in range(1, width + 1):
        for symbol, own in enumerate(weights):
            if own == weight:
                cells += [(symbol, width + 1 - weight)] * (1 << weight - 1)
    if len(cells) != 1 << width or len(weights) > 256:
        raise Malformed("weights that are no Huffman code")
    return (width, cells), used


def _huffman_weights(data: bytes) -> list[int]:
    """Two FSE states take turns until the stream runs out; then the other one still has a weight."""
    (accuracy, probabilities), used = _fse_probabilities(data, 6)
    cells, bits = _fse_table(accuracy, probabilities), _Backward(data[used:])
    states, weights = [bits.read(accuracy), bits.read(accuracy)], list[int]()
    while len(weights) < 255:
        turn = len(weights) & 1
        symbol, count, base = cells[states[turn]]
        weights.append(symbol)
        states[turn] = base + bits.read(count)
        if bits.left < 0:
            weights.append(cells[states[1 - turn]][0])
            return weights
    raise Malformed("too many weights")


def _fse_probabilities(data: bytes, accuracy_max: int) -> tuple[tuple[int, list[int]], int]:
    """Section 4.1.1: accuracy and probabilities, and how many bytes said so."""
    value, at = int.from_bytes(data[:512], "little"), 4
    accuracy = (value & 15) + 5
    if not data or accuracy > accuracy_max:
        raise Malformed("an FSE table of too fine an accuracy")
    remaining, probabilities = 1 << accuracy, list[int]()
    while remaining > 0:
        width = (remaining + 1).bit_length()
        said, low = value >> at & (1 << width) - 1, (1 << width - 1) - 1
        spare = (1 << width) - 2 - remaining
        at += width
        if said & low < spare:
            said, at = said & low, at - 1
        elif said > low:
            said -= spare
        probabilities.append(said - 1)
        remaining -= abs(said - 1)
        zeros = 3 if said == 1 else 0
        while zeros == 3:
            zeros, at = value >> at & 3, at + 2
            probabilities += [0] * zeros
    used = (at + 7) // 8
    if remaining or used > len(data) or len(probabilities) > 256:
        raise Malformed("probabilities that do not add up")
    return (accuracy, probabilities), used


def _fse_table(accuracy: int, probabilities: Sequence[int]) -> list[Cell]:
    """Section 4.1.1: the symbols spread over the states."""
    size = 1 << accuracy
    symbols, high = [0] * size, size - 1
    following = [abs(probability) for probability in probabilities]
    for symbol, probability in enumerate(probabilities):
        if probability == -1:
            symbols[high], high = symbol, high - 1
    place, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, probability in enumerate(probabilities):
        for _ in range(probability):
            symbols[place] = symbol
            place = place + step & size - 1
            while place > high:
                place = place + step & size - 1
    cells = []
    for symbol in symbols:
        count = following[symbol]
        following[symbol] += 1
        bits = accuracy - count.bit_length() + 1
        cells.append((symbol, bits, (count << bits) - size))
    return cells
