"""In which encoding a text file is written: what its byte order mark says, else UTF-8, else a guess that is said.

A file that is UTF-8 but for some bytes is refused: read otherwise, every other accent in it would be spoilt. The file is read once in
pieces, so that its size does not matter.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from renderfarm.errors import ManifestError
from renderfarm.sources.types import Brief

_PIECE = 1 << 20
_ESCAPED = re.compile("[\udc80-\udcff]")
"""How Python writes a byte that is no UTF-8."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CANDIDATES = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "mac_roman", "koi8_r",
    "cp932", "gb18030", "big5", "cp949", "euc_jp", "cp437", "cp850",
]  # fmt: skip
"""What spreadsheets and editors of the last decades have written."""
_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŠšŽž“”‘’„‚«»‹›–—…€£™®©°·•×¡¿º½¼\xa0")
_MARKS_OF_TYPE = "“”„‘’‚«»‹›–—…€§°"
_LETTERS = {
    "pl": "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ",
    "cs": "áčďéěíňóřšťúůýžÁČĎÉĚÍŇÓŘŠŤÚŮÝŽäĺľôŕÄĽÔ",
    "hu": "áéíóöőúüűÁÉÍÓÖŐÚÜŰ",
    "hr": "čćđšžČĆĐŠŽ",
    "ro": "ăâîşţĂÂÎŞŢ",
    "tr": "çğıöşüâîûÇĞİÖŞÜ",
}
"""The letters beyond ASCII of languages whose encodings differ from each other in a few of them."""
_NEAR = ("iso8859_15", "cp1250", "iso8859_2", "cp1254")
_INSIDE = re.compile(r"[^\W\d_][¿¡«»][^\W\d_]")
"""What stands in no word: the sign of a wrong guess."""
_BINARY = (
    (b"PK\x03\x04", "a zip archive, as workbooks are", "name it .xlsx if it is a workbook"),
    (b"\xd0\xcf\x11\xe0", "an old or a password-protected Office file", "save it as .xlsx, or as 'CSV UTF-8'"),
    (b"PAR1", "Parquet", "name it .parquet"),
    (b"%PDF", "a PDF", "save the table as .xlsx, or as 'CSV UTF-8'"),
    (b"\x1f\x8b", "compressed", "unpack it first"),
)


@dataclass(frozen=True, slots=True)
class _Bad:
    """The first byte that is no UTF-8 and its line; how many characters beyond ASCII are UTF-8 (`sound`), and how many bytes are not."""

    byte: int
    line: int
    sound: int
    bytes: int


def encoding_of(path: Path, source: Brief) -> str:
    """The encoding's name for Python; a guess is a doubt of the source.

    Raises: ManifestError for what is no text, for UTF-8 with bytes in it that are none, and for what cannot be guessed; OSError.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for mark, kind, remedy in _BINARY:
        if head.startswith(mark):
            raise ManifestError(f"this is no text but {kind}", str(path), remedy)
    if head.count(0) > len(head) // 4:
        even, odd = head[::2].count(0), head[1::2].count(0)
        return "utf-16-be" if even > odd else "utf-16-le"
    bad = _first_bad(path)
    if bad is None:
        return "utf-8"
    if bad.sound >= bad.bytes:
        what = f"UTF-8 but for some bytes: the first is {bad.byte:#04x} in line {bad.line}"
        raise ManifestError(what, str(path), "write that line anew, or save the whole as 'CSV UTF-8'")
    guess = _guessed(path)
    if guess is None:
        what = f"not UTF-8 text (byte {bad.byte:#04x} in line {bad.line}), nor of an encoding that can be told"
        raise ManifestError(what, str(path), "save it as UTF-8; spreadsheets call it 'CSV UTF-8'")
    what = f"read as {guess.replace('cp125', 'Windows-125')}, which is a guess: byte {bad.byte:#04x} in line {bad.line} is no UTF-8"
    source.doubt(what, "look at the accents in `manifest show`; spreadsheets save 'CSV UTF-8'")
    return guess


def head_of(path: Path, size: int = _PIECE) -> str:
    """The beginning of a text file by its byte order mark, else as UTF-8; what is none stands as U+FFFD. Raises: OSError."""
    with path.open("rb") as file:
        head = file.read(size)
    name = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    return head.decode(name, "replace")


def _first_bad(path: Path) -> _Bad | None:
    """The first byte that is no UTF-8. What follows it is looked at too, for the characters that are."""
    first: tuple[int, int] | None = None
    sound = bad = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    line = 1
    for piece in _pieces(path):
        text = decoder.decode(piece)
        if not text.isascii():
            wrong = _ESCAPED.findall(text)
            bad += len(wrong)
            sound += sum(char > "\x7f" for char in text) - len(wrong)
            if wrong and first is None:
                first = (ord(wrong[0]) - 0xDC00, line + _line_ends(text[: text.index(wrong[0])]))
        line += _line_ends(text)
    rest = decoder.decode(b"", True)
    if rest and first is None:
        first = (ord(rest[0]) - 0xDC00, line)
    return _Bad(*first, sound, bad + len(rest)) if first else None


def _line_ends(text: str) -> int:
    """Of each kind: \\n, \\r\\n, and \\r alone as old Macs wrote it."""
    return max(text.count("\n"), text.count("\r"))


def _guessed(path: Path) -> str | None:
    from charset_normalizer import from_bytes

    told = bytearray()
    for piece in _pieces(path):
        told += b"\n".join(row for row in piece.split(b"\n") if not row.isascii())
        if len(told) > 1 << 16:
            break
    sample = bytes(told[: 1 << 16])
    if _is_western(sample):
        return "cp1252"
    near = [name for name in _NEAR if _is_near(sample, name)]
    if len(near) == 1:
        return near[0]
    best = from_bytes(sample, cp_isolation=near or _CANDIDATES).best()
    return best.encoding if best else next(iter(near), None)


def _is_near(sample: bytes, encoding: str) -> bool:
    """Whether an encoding gives nothing beyond ASCII but the letters of one language and typographic marks."""
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    other = {char for char in text if char > "\x7f"} - set(_MARKS_OF_TYPE)
    if encoding == "iso8859_15":
        return "€" in text and other <= _WESTERN
    return bool(other) and any(other <= set(letters) for letters in _LETTERS.values())


def _is_western(sample: bytes) -> bool:
    """Whether Windows-1252, the commonest by far, gives Latin words with Western letters and typographic marks only.

    Asked first, because a detector of encodings takes its Eastern sister for `crème brûlée` (measured on charset-normalizer 3.5).
    """
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    other = [char for char in text if char > "\x7f"]
    letters = sum(char.isalpha() and char <= "\x7f" for char in text)
    western = all(char in _WESTERN for char in other) and not _INSIDE.search(text)
    return western and letters > 2 * sum(char.isalpha() for char in other)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
