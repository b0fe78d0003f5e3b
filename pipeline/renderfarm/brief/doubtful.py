"""Texts that nobody meant: placeholders, a spreadsheet's leftovers, damaged letters; and sizes that are cut or too small. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from renderfarm.brief.foreign import EDIT
from renderfarm.manifest.rows import SPREADSHEET_ERRORS
from renderfarm.manifest.types import Reason
from renderfarm.schema import PromptRow
from renderfarm.sources.types import words
from renderfarm.watermark import supported

_HOLES = re.compile(
    r"\{\{[^{}]*\}\}|\$\{[^{}]*\}|\{%[^{}]*%\}|\{[^{}|]{0,60}\}|<<[^<>]{1,60}>>|%%[^%]{1,60}%%|%[A-Za-z_]\w{1,40}%|@@\w[^@]{0,40}@@|\*\|[^|*]{1,40}\|\*"
    r"|\[\[[^\[\]]{1,60}\]\]|<[A-Za-z][\w ./-]{0,60}>|\b__\w[\w /.-]*?__|(?<!\w)#[A-Z_]{2,30}#(?!\w)"
    r"|(?<![\w%])%[sd]\b|(?<!\w):[a-z]+_[a-z_]+:(?!\w)"
)
_SQUARE = re.compile(r"\[[^\[\]]{0,80}\]")
_FILLERS = re.compile(
    r"\b(?:lorem ipsum|TBD|TBC|TODO|FIXME|XXX+|placeholder|to be (?:defined|confirmed|determined)|insert [\w ]{1,30} here"
    r"|your [\w ]{1,20} here|Platzhalter|Beispieltext|folgt noch)\b"
)
_NOTHING = words("nan null none nil undefined na n/a true false wahr falsch vrai faux nat <na> (null) (leer) (blank) - – — . ? ... … tbd")
"""What programs and people leave in a cell that holds nothing."""
_NO_TEXT = ("nan", "null", "undefined", "true", "<na>", "?")
"""What of these is said where no text is wanted, and still wants a look."""
_ELSEWHERE = re.compile(
    r"(?:see|siehe|s\.|vgl\.?|voir|ver|véase|vedi|zie|cf\.?|per) "
    r"(?:the |im |in |in der |le |el |il |het )?(?:brief\w*|above|below|previous|"
    r"column|row|line|sheet|tab|attach\w*|file|mail|oben|unten|spalte|zeile|anhang|datei|ci-dessus|ci-dessous|arriba|abajo|sopra|sotto|boven|acima)\b.*"
    r"|(?:same as|as) (?:above|before|row|previous)\b.*|d(?:it)?to\.?|ditto\.?|idem|wie oben|wie zeile .*|s\.\s?o\.?|comme ci-dessus"
    r"|igual que arriba|come sopra|als boven|to be (?:defined|confirmed|determined)|t\.?b\.?[dca]\.?|同上|〃|同じ",
    re.I,
)
"""A cell that says where its text stands."""
_FORMULA = re.compile(r"=\s*(?:[A-Z]{1,3}\$?[0-9]|[A-Z.]{2,20}\(|\"|\$[A-Z])|=.*&")
_INSIDE = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, SPREADSHEET_ERRORS), key=len, reverse=True))})(?!\w)")
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_ROUNDED = re.compile(r"[0-9](?:[.,][0-9]+)?E\+[0-9]{1,3}")
_LOST = re.compile(r"[^\W\d_]\?[a-zà-ÿ]")
_ESCAPES = re.compile(r"\\[nrt]|_x000[DA9]_|\\u[0-9a-fA-F]{4}")
_DOUBLED = re.compile(r'""(?=\w)[^"]*(?<=\w)""')
_TAG = re.compile(r"</?(?:br|p|b|i|u|em|strong|span|div|a|li|ul|ol|h[1-6]|font)\b[^<>]*>", re.I)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\u2028\u2029]")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""What shows words in another order than they are read."""
_MAY_BE = re.compile(r"[][{}<>%@*#_$=]|\b(?:lorem|T[BO]|FIX|XXX|Err:|place|to be|insert|your|Platz|Beispiel|folgt)")
"""Without any of it a text holds no placeholder: most are told by this alone."""
_COLUMNS = ("prompt", "negative_prompt", "text")


def placeholders(row: PromptRow) -> Iterator[Reason]:
    """What somebody meant to fill in, and what programs leave where nothing was."""
    for column, value in _texts(row):
        bare = value.strip().strip("\"'")
        if bare.casefold() in _NOTHING and not (column == "text" and bare.casefold() not in _NO_TEXT):
            yield column, f"{value!r} is what programs leave where nothing is", "say what is wanted, or empty the cell"
        elif column == "prompt" and not any(char.isalpha() for char in value):
            yield column, f"{value!r} holds no word", "say what the picture shows"
        elif _FORMULA.match(value):
            yield column, f"{value[:40]!r} is a formula that nobody computed", "put its value there"
        if len(bare) < 60 and _ELSEWHERE.fullmatch(bare):
            yield column, f"{value!r} says that the words stand elsewhere", "put them here"
        if not _MAY_BE.search(value):
            continue
        if found := _INSIDE.search(value):
            yield column, f"holds a spreadsheet's error {found.group()!r}", "mend the formula"
        for found in _HOLES.finditer(value):
            if not _TAG.fullmatch(found.group()):
                yield column, f"{found.group()!r} looks like a placeholder", "put in what it stands for"
        for found in _SQUARE.finditer(value):
            # In lettering brackets are lettering, unless they are all of it.
            meant = found.group() == bare if column == "text" else not EDIT.fullmatch(found.group())
            if meant and any(map(str.isalpha, found.group())) and not _HOLES.match(value, found.start() - 1 if found.start() else 0):
                yield column, f"{found.group()!r} looks like a placeholder", "put in what it stands for, or write it without brackets"
        if found := _FILLERS.search(value):
            yield column, f"{found.group()!r} says that something is missing", "put it in"


def identity(row: PromptRow) -> Iterator[Reason]:
    """Ids, and numbers of articles in tags, that a spreadsheet has changed."""
    for column, value in (("id", row.id), *(("tags", value) for _, value in row.tags)):
        if _ROUNDED.fullmatch(value.strip()):
            yield column, f"{value!r} is a longer number that the spreadsheet rounded", "format its cells as text, and write it anew"
        elif column == "id" and value.strip().casefold() in _NOTHING:
            yield column, f"{value!r} is what programs leave where nothing is", "give the row an id of its own"


def damaged(row: PromptRow) -> Iterator[Reason]:
    """Letters that were read in a wrong encoding, entities and tags of HTML, characters that nobody sees."""
    for column, value in _texts(row):
        if "\ufffd" in value:
            yield column, "holds the mark of a lost character (\ufffd)", "write the word anew"
        elif (mended := _mended(value)) is not None:
            yield column, f"letters that were read in a wrong encoding: {value[:60]!r}", f"did you mean {mended[:60]!r}?"
        if found := _LOST.search(value) or _ESCAPES.search(value) or _DOUBLED.search(value):
            yield column, f"{found.group()!r} looks like a letter that was lost, or a mark that was never read", "write it as it is meant"
        if "&" in value and (found := next((e for e in _ENTITY.finditer(value) if html.unescape(e.group()) != e.group()), None)):
            yield column, f"{found.group()!r} is HTML for {html.unescape(found.group())!r}", "write the character itself"
        if "<" in value and (found := _TAG.search(value)):
            yield column, f"{found.group()!r} is a tag of HTML", "remove it"
        if found := _TURNING.search(value):
            yield column, f"shows words in another order than they are read (U+{ord(found.group()):04X})", "remove the character"
        if found := _BREAKS.search(value):
            yield column, f"holds a line break that few programs know (U+{ord(found.group()):04X})", "write a blank, or a plain line break"
        if (
            column != "negative_prompt"
            and (found := _INVISIBLE.search(value))
            and not re.search("[\u0900-\u0dff\u0600-\u06ff]|\u200d", value)
        ):
            yield column, f"holds an invisible character (U+{ord(found.group()):04X})", "remove it, if it is not meant"


def too_small(row: PromptRow) -> Iterator[Reason]:
    """Sizes that are drawn larger and cut, and those that cannot carry the mark."""
    if row.width is None or row.height is None:
        return
    size = f"{row.width}x{row.height}"
    if row.width % 8 or row.height % 8:
        drawn = f"{-(-row.width // 8) * 8}x{-(-row.height // 8) * 8}"
        yield (
            "width",
            f"{size} is no multiple of 8: it is drawn as {drawn} and cut to {size}",
            f"write {drawn} if that is as good: a job that cannot cut is refused before it starts",
        )
    if not supported(row.width, row.height):
        remedy = "use 256 pixels at least on the short side, or set mark.allow_unmarked: true in the job"
        yield "width", f"{size} is too small to carry the mark", remedy


def _texts(row: PromptRow) -> Iterator[tuple[str, str]]:
    for column in _COLUMNS:
        if value := getattr(row, column):
            yield column, value


def _mended(value: str) -> str | None:
    """What ftfy makes of mojibake; None where there is none."""
    if value.isascii():
        return None
    from ftfy import fix_encoding

    mended = fix_encoding(value)
    return mended if mended != value else None
