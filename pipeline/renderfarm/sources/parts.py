"""The XML of a workbook's parts, in pieces: no tree, and no entities that a part declares itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO
from xml.parsers import expat

from renderfarm.errors import ManifestError
from renderfarm.sources.types import CELL_CHARS_MAX

_PIECE = 1 << 16
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")

Start = Callable[[str, Mapping[str, str]], None]
End = Callable[[str, str], None]


def read_part(part: IO[bytes], name: str, where: str, start: Start, end: End) -> Iterator[None]:
    """Reads a part, and comes back after each piece. `start` gets an element's name and attributes, `end` its name and the text since
    the last tag; names are without their prefix. Of a text that is far too long for a cell, the beginning is kept.

    Raises: ManifestError for entities of its own; expat.ExpatError.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    texts: list[str] = []
    chars = 0

    def started(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal chars
        if texts:
            texts.clear()
            chars = 0
        start(tag.rpartition(":")[2], attributes)

    def ended(tag: str) -> None:
        nonlocal chars
        if texts:
            end(tag.rpartition(":")[2], "".join(texts))
            texts.clear()
            chars = 0
        else:
            end(tag.rpartition(":")[2], "")

    def said(text: str) -> None:
        nonlocal chars
        if chars <= CELL_CHARS_MAX:
            texts.append(text)
            chars += len(text)

    def declared(*_: object) -> None:
        raise ManifestError(f"{name} declares entities of its own", where, "save the workbook again")

    parser.StartElementHandler, parser.EndElementHandler = started, ended
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = said, declared
    while piece := part.read(_PIECE):
        parser.Parse(piece, False)
        yield
    parser.Parse(b"", True)
    yield


def unescaped(text: str) -> str:
    """A cell's text with `_x000D_` as the character that it stands for."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text) if "_x" in text else text
