"""The pieces of a PNG, JPEG or WebP file, one after the other: the one walker, for metadata and for credentials alike.

It is strict: what is cut off, or lies between two pieces, ends the walk with an error, so that no reader sees a piece that another one
does not. What was walked past before that has been yielded already. Sources: PNG third edition section 5.3 (chunks), ITU-T T.81 annex B
(JPEG markers), RFC 9649 section 2.3 (RIFF chunks).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from renderfarm.errors import PictureError

Container = Literal["png", "jpeg", "webp"]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_APP0, JPEG_APP1, JPEG_APP11, _JPEG_SCAN, _JPEG_END = b"\xe0", b"\xe1", b"\xeb", b"\xda", b"\xd9"


class Piece(NamedTuple):
    """A PNG or RIFF chunk, or a JPEG segment: its type (a JPEG marker's second byte), and where its body lies in the file."""

    kind: bytes
    start: int
    end: int


def container_of(data: bytes) -> Container | None:
    """What the first bytes say that this is."""
    if data.startswith(PNG_SIGNATURE):
        return "png"
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def pieces(data: bytes) -> Iterator[Piece]:
    """The pieces in their order; of a JPEG those before the image data.

    Raises: PictureError, after the last whole piece, for a file that is cut off or malformed, and for none of the three kinds.
    """
    walk = {"png": _png, "jpeg": _jpeg, "webp": _webp}.get(container_of(data) or "")
    if walk is None:
        raise PictureError("not a PNG, JPEG or WebP file")
    for piece in walk(data):
        if piece.end > len(data):
            raise PictureError("the file is cut off")
        yield piece


def _png(data: bytes) -> Iterator[Piece]:
    at, kind = 8, b""
    while kind != b"IEND":
        kind, end = data[at + 4 : at + 8], at + 8 + _number(data, at, 4)
        yield Piece(kind, at + 8, end)
        at = end + 4  # behind a checksum


def _jpeg(data: bytes) -> Iterator[Piece]:
    at = 2
    while (kind := data[at + 1 : at + 2]) not in (_JPEG_SCAN, _JPEG_END):
        length = _number(data, at + 2, 2)
        if data[at] != 0xFF or length < 2:
            raise PictureError("the file is malformed")
        yield Piece(kind, at + 4, at + 2 + length)
        at += 2 + length


def _webp(data: bytes) -> Iterator[Piece]:
    at = 12
    while at < len(data):
        end = at + 8 + _number(data, at + 4, 4, "little")
        yield Piece(data[at : at + 4], at + 8, end)
        at = end + (end - at) % 2  # bodies of odd length are padded


def _number(data: bytes, at: int, length: int, order: Literal["big", "little"] = "big") -> int:
    if at + length > len(data):
        raise PictureError("the file is cut off")
    return int.from_bytes(data[at : at + length], order)
