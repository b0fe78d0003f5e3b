"""What people write in a source, as the manifest's values: `24` in a cell, `mug:2; box:1` or `2 mug, 1 box`, a column `tag.campaign`.

Pure.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from renderfarm.errors import NotUnderstood
from renderfarm.manifest.columns import COLUMNS, FRACTIONS, LIST_OF_ADAPTERS, TEXTS
from renderfarm.manifest.rows import object_reasons
from renderfarm.manifest.types import Reason
from renderfarm.schema import ObjectCount
from renderfarm.wording.objects import Wanted
from renderfarm.wording.objects import wanted as wanted_in
from renderfarm.wording.texts import says_none

TAG_PREFIX = "tag."
NO_TEXT = '""'
"""What a spreadsheet's cell holds to say: no text wanted. An empty cell says nothing."""

_INT_BITS = {"seed": 63}
LITERAL_CHARS_MAX = 20_000
INCLUDE, EXCLUDE = "include", "exclude"
"""GenEval's columns: at least so many of a class are right; so many or more are wrong."""
_BESIDE = ("color", "position")
_PROGRAMS_NOTHING = frozenset({"nan", "null", "nil", "#n/a"})
"""What programs write for nothing: no text is wanted, but the cell stays, so that somebody sees it."""


def known_key(key: str) -> bool:
    """Whether a source may have a column of this name."""
    return key in (*COLUMNS, LIST_OF_ADAPTERS, INCLUDE, EXCLUDE) or (key.startswith(TAG_PREFIX) and len(key) > len(TAG_PREFIX))


def convert(cells: Mapping[str, Any]) -> tuple[dict[str, Any], list[Reason]]:
    """One row of a source as plain values for Arrow, and what in it could not be understood (None stands in its place).

    Values are texts from CSV and templates, and what JSON knows from JSONL. Unknown keys are left out.
    """
    values: dict[str, Any] = {}
    reasons: list[Reason] = []
    tags: dict[str, str] = {}
    excluded: Any = None
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
            elif key == INCLUDE:
                values["objects"] = [*(values.get("objects") or []), *(_objects(value, ":min") or [])]
                tags |= _beside(value)
            elif key == EXCLUDE:
                excluded = value
            else:
                values[key] = _value(key, value)
        except NotUnderstood as error:
            column = "objects" if key in (INCLUDE, EXCLUDE) else key if key in COLUMNS else "tags"
            reasons.append((column, error.what, error.remedy))
    if excluded is not None:
        try:
            values["objects"] = _excluded(values.get("objects") or [], excluded)
        except NotUnderstood as error:
            reasons.append(("objects", error.what, error.remedy))
    if tags:
        values["tags"] = list(tags.items())
    return values, reasons


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
    if column == "text" and value is False:
        return ""  # a spreadsheet's FALSE
    if not isinstance(value, str):
        raise NotUnderstood(f"{value!r} is no text", "put it in quotation marks")
    _refuse_half_characters(value)
    if column == "text":
        return "" if says_none(value.strip()) and value.strip().casefold() not in _PROGRAMS_NOTHING else value
    return value if value or column in ("id", "prompt", "objects") else None


def _refuse_half_characters(value: str) -> None:
    """Raises: NotUnderstood for a surrogate without its other half, which JSON can say and UTF-8 cannot."""
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise NotUnderstood("holds half a character (a lone surrogate)", "remove it")


def _whole(column: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON and spreadsheets write 2.0
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,30}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotUnderstood(f"{value!r} is no whole number", "write digits only, for example 24")
    if abs(value) >= 2 ** _INT_BITS.get(column, 31):
        raise NotUnderstood(f"{value} is out of range", "use a smaller number")
    return value


def _fraction(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise NotUnderstood(f"{value!r} is no number", "write it like 7.5, with a point") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotUnderstood(f"{value!r} is no number", "write it like 7.5")
    return float(value) if abs(value) < 1e300 else float("inf")


def wanted_objects(value: Any) -> tuple[ObjectCount, ...]:
    """What one value of `objects` asks for, in any form that a source may hold; () for an empty one.

    Raises:
        ValueError: it cannot be understood or asks for what cannot be counted; its text says what to write.
    """
    try:
        objects = _objects(value) or []
    except NotUnderstood as error:
        raise ValueError(f"{error.what}; {error.remedy}") from None
    for _, what, remedy in object_reasons({"objects": objects}):
        raise ValueError(f"{what}; {remedy}")
    return tuple(ObjectCount(entry["class"], entry["count"]) for entry in objects)


def _objects(value: Any, bound: str = "") -> list[dict[str, Any]] | None:
    """`mug:2; box` or `2 mugs, a box` or {"mug": 2} or [{"class": "mug", "count": 2}], the last two also as text. In a text `;`, `,` and a
    new line separate alike, and each part may be said in either way. `bound`: what a plain count means, `:min` in GenEval's `include`."""
    if isinstance(value, str) and len(value) > LITERAL_CHARS_MAX:
        raise NotUnderstood(f"{len(value)} characters of objects", f"use {LITERAL_CHARS_MAX} at most")
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = _literal(value)
    if isinstance(value, str):
        if says_none(value):
            return None
        wanted = [one for part in re.split(r"[;,；，、\r\n]", value) if part.strip() for one in wanted_in(part)]
        wanted = [Wanted(one.name, one.low, None if bound and one.high == one.low else one.high) for one in wanted]
        return [entry for one in wanted for entry in _entries(one)] or None
    if isinstance(value, dict):
        bounds = ((name, number if isinstance(number, dict) else {"count": number}) for name, number in value.items())
        value = [{"class": name, **said} for name, said in bounds]
    if not isinstance(value, list) or not all(isinstance(entry, dict | str) for entry in value):
        raise NotUnderstood("no list of objects", 'write "mug:2; box:1" in a cell, {"mug": 2, "box": 1} in JSON')
    entries: list[dict[str, Any]] = []
    for entry in value:
        entries += _objects(entry, bound) or [] if isinstance(entry, str) else _stated(entry, bound)
    return entries or None


def _beside(value: Any) -> dict[str, str]:
    """A tag that keeps what GenEval says beside counts: colours and positions, which the prompt speaks of as well."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = _literal(value)
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    said = any(set(entry) & set(_BESIDE) for entry in entries)
    return {INCLUDE: json.dumps(value, ensure_ascii=False, separators=(",", ":"))} if said else {}


def _literal(text: str) -> Any:
    """A list or an object in JSON, or as Python prints it, which is how pandas writes one into CSV."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise NotUnderstood("no JSON list of objects", 'write [{"class": "mug", "count": 2}], or mug:2; box:1') from None


def _stated(entry: dict[str, Any], bound: str) -> list[dict[str, Any]]:
    """One object of JSON: a class with `count`, or with `min` and `max`. What GenEval says beside (`color`, `position`) is no count."""
    if "class" not in entry or not set(entry) & {"count", "min", "max"} or set(entry) - {"class", "count", "min", "max", *_BESIDE}:
        raise NotUnderstood("no list of objects", 'write [{"class": "mug", "count": 2}], or {"class": "mug", "min": 1, "max": 2}')
    name = _text("objects", entry["class"]) or ""
    counts = {key: entry[key] for key in ("count", "min", "max") if key in entry and (key == "count" or entry[key] is not None)}
    if "count" in counts and isinstance(counts["count"], str):
        return [stated for one in wanted_in(f"{name}:{counts['count']}") for stated in _entries(one)]
    suffix = {"count": ":max" if counts.get("count") == 0 and not bound else bound, "min": ":min", "max": ":max"}
    return [{"class": name + suffix[key], "count": _whole("objects", number)} for key, number in counts.items()]


def _entries(one: Wanted) -> list[dict[str, Any]]:
    """The manifest's entries for so many things of a class."""
    if one.low == one.high and one.low:
        return [{"class": one.name, "count": one.low}]
    low = [{"class": f"{one.name}:min", "count": one.low}] if one.low else []
    return low + ([] if one.high is None else [{"class": f"{one.name}:max", "count": one.high}])


def _excluded(entries: list[dict[str, Any]], value: Any) -> list[dict[str, Any]]:
    """Objects with GenEval's `exclude` over them: so many of a class, or more, are wrong."""
    least = {entry["class"].removesuffix(":min"): entry["count"] for entry in entries}
    for entry in _objects(value, ":min") or []:
        name, most = entry["class"].removesuffix(":min"), entry["count"] - 1
        if least.get(name) == most and f"{name}:max" not in least:
            entries = [one for one in entries if one["class"] not in (name, f"{name}:min")] + [{"class": name, "count": most}]
        else:
            entries = [*entries, {"class": f"{name}:max", "count": most}]
    return entries


def _tags(value: Any) -> dict[str, str]:
    if value == "":
        return {}
    if not isinstance(value, dict):
        remedy = 'make a column for each tag, such as tag.campaign; in JSON write {"campaign": "spring"}'
        raise NotUnderstood("no map of tags", remedy)
    tags: dict[str, str] = {}
    for key, entry in value.items():
        tags |= _tag(str(key), entry)
    return tags


def _tag(key: str, value: Any) -> dict[str, str]:
    """One tag; none when its value is empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise NotUnderstood(f"the value of {key!r} is {value!r}, and no text", "put it in quotation marks")
    _refuse_half_characters(key + (value or ""))
    return {key: value} if value else {}
