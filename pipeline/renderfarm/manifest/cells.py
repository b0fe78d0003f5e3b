"""What people write in a source, as the manifest's values: `24` in a cell, `mug:2; box:1` or `2 mug, 1 box`, a column `tag.campaign`.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from renderfarm.manifest.columns import COLUMNS, FRACTIONS, LIST_OF_ADAPTERS, TEXTS
from renderfarm.manifest.rows import object_reasons
from renderfarm.manifest.types import Reason
from renderfarm.schema import ObjectCount

TAG_PREFIX = "tag."
NO_TEXT = '""'
"""What a spreadsheet's cell holds to say: no text wanted. An empty cell says nothing."""

_INT_BITS = {"seed": 63}
_COUNT_FIRST = re.compile(r"([0-9]{1,9})(?:\s*[x×])?\s+(.*\S)")
_OWN_NUMBER = re.compile(r"(?:^|(?<=\s))[0-9]+(?:\s+|$)")
_NUMBERED = re.compile(
    r"(?:seat|seater|piece|pack|door|drawer|tier|person|way|burner|wheel|inch|foot|ft|[cm]?m|[cm]?l|oz|k?g|lit(?:re|er))\s+\S", re.I
)
"""What a number before it counts within one thing (a 2 seater sofa, a 6 pack), as often as things."""


def known_key(key: str) -> bool:
    """Whether a source may have a column of this name."""
    return key in (*COLUMNS, LIST_OF_ADAPTERS) or (key.startswith(TAG_PREFIX) and len(key) > len(TAG_PREFIX))


def convert(cells: Mapping[str, Any]) -> tuple[dict[str, Any], list[Reason]]:
    """One row of a source as plain values for Arrow, and what in it could not be understood (None stands in its place).

    Values are texts from CSV and templates, and what JSON knows from JSONL. Unknown keys are left out.
    """
    values: dict[str, Any] = {}
    reasons: list[Reason] = []
    tags: dict[str, str] = {}
    for key, value in cells.items():
        if not known_key(key) or value is None:
            continue
        try:
            if key.startswith(TAG_PREFIX):
                tags |= _tag(key.removeprefix(TAG_PREFIX), value)
            elif key == LIST_OF_ADAPTERS:
                values["adapter"] = _text(key, ", ".join(map(str, value)) if isinstance(value, list) else value)
            elif key == "tags":
                tags |= _tags(value)
            else:
                values[key] = _value(key, value)
        except _NotUnderstoodError as error:
            reasons.append((key if key in COLUMNS else "tags", error.what, error.remedy))
    if tags:
        values["tags"] = list(tags.items())
    return values, reasons


class _NotUnderstoodError(Exception):
    """A value that this column cannot hold; becomes a Reason within this module."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy


def _value(column: str, value: Any) -> Any:
    if column in TEXTS:
        return _text(column, value)
    if column == "objects":
        return _objects(value)
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
    return _fraction(value) if column in FRACTIONS else _whole(column, value)


def _text(column: str, value: Any) -> str | None:
    if not isinstance(value, str):
        raise _NotUnderstoodError(f"{value!r} is no text", "put it in quotation marks")
    _refuse_half_characters(value)
    if column == "text":
        return "" if value.strip() == NO_TEXT else value
    return value if value or column in ("id", "prompt", "objects") else None


def _refuse_half_characters(value: str) -> None:
    """Raises: _NotUnderstoodError for a surrogate without its other half, which JSON can say and UTF-8 cannot."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise _NotUnderstoodError("holds half a character (a lone surrogate)", "remove it")


def _whole(column: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,30}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _NotUnderstoodError(f"{value!r} is no whole number", "write digits only, for example 24")
    if abs(value) >= 2 ** _INT_BITS.get(column, 31):
        raise _NotUnderstoodError(f"{value} is out of range", "use a smaller number")
    return value


def _fraction(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _NotUnderstoodError(f"{value!r} is no number", "write it like 7.5, with a point") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotUnderstoodError(f"{value!r} is no number", "write it like 7.5")
    return float(value) if abs(value) < 1e300 else float("inf")


def wanted_objects(value: Any) -> tuple[ObjectCount, ...]:
    """What one value of `objects` asks for, in any form that a source may hold; () for an empty one.

    Raises:
        ValueError: it cannot be understood or asks for what cannot be counted; its text says what to write.
    """
    try:
        objects = _objects(value) or []
    except _NotUnderstoodError as error:
        raise ValueError(f"{error.what}; {error.remedy}") from None
    for _, what, remedy in object_reasons({"objects": objects}):
        raise ValueError(f"{what}; {remedy}")
    return tuple(ObjectCount(entry["class"], entry["count"]) for entry in objects)


def _objects(value: Any) -> list[dict[str, Any]] | None:
    """`mug:2; box` or `2 mug, 1 box` or {"mug": 2} or [{"class": "mug", "count": 2}], the last two also as text. In a text `;`, `,` and a
    new line separate alike, and each part may be said in either way."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _NotUnderstoodError("no JSON list of objects", 'write [{"class": "mug", "count": 2}], or mug:2; box:1') from None
    if isinstance(value, str):
        pairs = [_counted(part.strip()) for part in re.split(r"[;,\r\n]", value) if part.strip()]
    elif isinstance(value, dict):
        pairs = [(_text("objects", name) or "", number) for name, number in value.items()]
    elif isinstance(value, list) and all(isinstance(o, dict) and set(o) == {"class", "count"} for o in value):
        pairs = [(_text("objects", o["class"]) or "", o["count"]) for o in value]
    else:
        raise _NotUnderstoodError("no list of objects", 'write "mug:2; box:1" in a cell, {"mug": 2, "box": 1} in JSON')
    return [{"class": name, "count": _whole("objects", number)} for name, number in pairs] or None


def _counted(part: str) -> tuple[str, str]:
    """(class, count) of `mug:2`, `2 mug`, `2x mug` or `mug`. Raises: _NotUnderstoodError where a number may be either."""
    name, colon, number = part.rpartition(":")
    if colon:
        return name.strip(), number.strip()
    counted = _COUNT_FIRST.fullmatch(part)
    number, name = counted.groups() if counted else ("1", part)
    inner = _OWN_NUMBER.search(name)
    if inner or (counted and _NUMBERED.match(name)):
        remedy = "write each class with its count behind a colon: mug:2; box:1"
        if not (counted and inner):  # there is one number only
            count, rest = (inner.group().strip(), name.replace(inner.group(), "").strip()) if inner else (number, name)
            remedy = f"write {part}:1, or {rest or 'mug'}:{count}"
        raise _NotUnderstoodError(f"in {part!r} a number may be a count or part of a name", remedy)
    return name, number


def _tags(value: Any) -> dict[str, str]:
    if value == "":
        return {}
    if not isinstance(value, dict):
        remedy = 'make a column for each tag, such as tag.campaign; in JSON write {"campaign": "spring"}'
        raise _NotUnderstoodError("no map of tags", remedy)
    tags: dict[str, str] = {}
    for key, entry in value.items():
        tags |= _tag(str(key), entry)
    return tags


def _tag(key: str, value: Any) -> dict[str, str]:
    """One tag; none when its value is empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise _NotUnderstoodError(f"the value of {key!r} is {value!r}, and no text", "put it in quotation marks")
    _refuse_half_characters(key + (value or ""))
    return {key: value} if value else {}
