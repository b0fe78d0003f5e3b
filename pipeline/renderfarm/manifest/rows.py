"""One row: from plain values to a PromptRow, or to every reason why not; and its digest.

A raw row is a dict from column to what Arrow gave: str, int, float, None; `objects` a list of dicts, `tags` a list of
pairs. A text that was no UTF-8 stands as `bytes`. Pure: no file, no Arrow, no job.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import struct
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from renderfarm.manifest.adapters import Parts, parse
from renderfarm.manifest.columns import FRACTIONS, REQUIRED, TEXTS, WHOLES, nearest
from renderfarm.manifest.types import Reason, Rules
from renderfarm.schema import ObjectCount, PromptRow

ID_CHARS_MAX = 200
TAG_CHARS_MAX = 1000
OBJECT_COUNT_MAX = 100
GUIDANCE_MAX = 100.0
SEED_MAX = 2**63 - 1

# Unicode Standard Annex 9, table 4 and section 2: the characters that reorder what a person reads.
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ID_ILLEGAL = re.compile(f"[\x00-\x1f\x7f-\x9f{_BIDI}]")
_ABSENT = {"id": "give the row an id of its own", "prompt": "say what the picture shows, or remove the row"}
_CLASS_ILLEGAL = re.compile("[,;:\r\n]")
"""What separates classes and counts where people write them: inside one, it is two that were not told apart."""
SPREADSHEET_ERRORS = frozenset({
    "#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "#FIELD!", "#BLOCKED!", "#CONNECT!",
    "#UNKNOWN!", "#BUSY!", "#PYTHON!", "#EXTERNAL!", "#ERROR!", "#GETTING_DATA", "#BEZUG!", "#NV", "#WERT!", "#ZAHL!", "#ÜBERLAUF!",
    "#NOM?", "#VALEUR!", "#NOMBRE!", "#¡REF!", "#¿NOMBRE?", "#¡VALOR!", "#¡DIV/0!", "#¡NUM!", "#N/D", "#RIF!", "#NOME?", "#VALORE!",
    "Err:502", "Err:504", "Err:508", "Err:509", "Err:510", "Err:511", "Err:522",
})  # fmt: skip
"""What a cell shows where its formula failed, in the languages of Excel, LibreOffice and Google's sheets."""
_TEXT_ILLEGAL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


def examine(raw: Mapping[str, Any], rules: Rules) -> tuple[PromptRow | None, list[Reason]]:
    """The row, or None and everything that is wrong with it. Duplicate ids are not seen from here."""
    reasons = [*_text_reasons(raw), *_number_reasons(raw, rules), *object_reasons(raw), *_tag_reasons(raw)]
    reasons += _rule_reasons(raw, rules)
    return (None, reasons) if reasons else (_prompt_row(raw), [])


def legal_id(value: object) -> bool:
    """Whether this is an id that a row may bear."""
    return isinstance(value, str) and next(_id_reasons(value), None) is None


def row_digest(row: PromptRow) -> str:
    """SHA-256 of what the row says, as 64 hex digits: the same for the same row in any file, order of columns, or
    width of integers.
    """
    values: dict[str, Any] = {name: getattr(row, name) for name in (*TEXTS, *WHOLES, *FRACTIONS)}
    values["objects"] = [[o.name, o.count] for o in row.objects]
    values["tags"] = [list(pair) for pair in sorted(row.tags)]
    return _digest(values)


def raw_digest(raw: Mapping[str, Any]) -> str:
    """The digest of a row that may be bad; equal to `row_digest` where it is good."""
    values = {name: raw.get(name) for name in (*TEXTS, *WHOLES)}
    values |= {name: shortest(raw[name]) for name in FRACTIONS if raw.get(name) is not None}
    values["objects"] = [[o.get("class"), o.get("count")] if isinstance(o, dict) else o for o in _items(raw, "objects")]
    values["tags"] = sorted([list(pair) for pair in _items(raw, "tags") if _is_pair(pair)], key=repr)
    return _digest(values)


_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=repr).encode


def _digest(values: dict[str, Any]) -> str:
    """JSON with sorted keys, nulls and empty lists left out, numbers in their shortest form."""
    stated = {name: value for name, value in values.items() if value is not None and value != []}
    return hashlib.sha256(_canonical(stated).encode()).hexdigest()


def _prompt_row(raw: Mapping[str, Any]) -> PromptRow:
    values = {name: value for name, value in raw.items() if value is not None}
    for name in FRACTIONS:
        if name in values:
            values[name] = shortest(values[name])
    if "objects" in values:
        values["objects"] = tuple(ObjectCount(entry["class"], entry["count"]) for entry in values["objects"])
    if "tags" in values:
        values["tags"] = tuple(sorted(values["tags"]))
    return PromptRow(**values)


@functools.lru_cache(maxsize=4096)
def shortest(value: Any) -> Any:
    """A number as the shortest decimal that float32 tells apart, so that 7.1 is 7.1 from a float and from a double
    column.
    """
    try:
        exact = struct.unpack("<f", struct.pack("<f", value))[0] + 0.0  # -0.0 becomes 0.0
    except (OverflowError, struct.error):
        return value
    if not math.isfinite(exact):
        return repr(value)
    for digits in range(1, 10):
        near = float(f"{exact:.{digits}g}")
        if struct.pack("<f", near) == struct.pack("<f", exact):
            return near
    return exact


def _items(raw: Mapping[str, Any], column: str) -> list[Any]:
    value = raw.get(column)
    return value if isinstance(value, list) else []


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and value[1] is not None


def _text_reasons(raw: Mapping[str, Any]) -> Iterator[Reason]:
    for column in REQUIRED:
        if raw.get(column) is None:
            yield column, "missing", _ABSENT[column]
    for column, value in raw.items():
        if isinstance(value, bytes):
            yield column, "not UTF-8 text", "save the source as UTF-8 and build the manifest again"
        elif isinstance(value, str):
            yield from _id_reasons(value) if column == "id" else _string_reasons(column, value)


def _string_reasons(column: str, value: str) -> Iterator[Reason]:
    if column == "prompt" and not value.strip():
        yield column, "empty", _ABSENT[column]
    elif bad := _TEXT_ILLEGAL.search(value):
        yield column, f"holds the control character {_named(bad.group())}", "remove it"
    elif value.strip() in SPREADSHEET_ERRORS:
        yield column, f"{value.strip()!r} is a spreadsheet's error", "mend the formula, or put its value there"
    elif value == "" and column in ("adapter", "init_image", "mask_image", "control_image"):
        yield column, "empty", "leave it null when there is none"


def _id_reasons(value: str) -> Iterator[Reason]:
    if value == "":
        yield "id", "empty", _ABSENT["id"]
    elif value.strip() in SPREADSHEET_ERRORS:
        yield "id", f"{value.strip()!r} is a spreadsheet's error", "mend the formula, or put its value there"
    if len(value) > ID_CHARS_MAX:
        yield "id", f"{len(value)} characters long", f"use {ID_CHARS_MAX} at most"
    if bad := _ID_ILLEGAL.search(value):
        kind = "bidirectional" if bad.group() in _BIDI else "control"
        yield "id", f"holds the {kind} character {_named(bad.group())}", "remove it"


def _named(char: str) -> str:
    name = unicodedata.name(char, "NUL" if char == "\0" else "")
    return f"U+{ord(char):04X}{' ' + name if name else ''}"


def _number_reasons(raw: Mapping[str, Any], rules: Rules) -> Iterator[Reason]:
    for column in ("width", "height"):
        if (value := raw.get(column)) is not None:
            yield from _size_reasons(column, value, rules)
    limits = {"steps": (1, rules.steps_max), "images": (1, rules.images_max), "seed": (0, SEED_MAX)}
    for column, (low, high) in limits.items():
        if (value := raw.get(column)) is not None and not low <= value <= high:
            gap = "; leave it null to have one derived" if column == "seed" else ""
            yield column, f"{value} is out of range", f"use {low} to {high}{gap}"
    for column, top in (("guidance", GUIDANCE_MAX), ("strength", 1.0)):
        if (value := raw.get(column)) is not None and not 0 <= value <= top:
            yield column, f"{value} is out of range", f"use a number from 0 to {top:g}"


def _size_reasons(column: str, value: int, rules: Rules) -> Iterator[Reason]:
    """A size that is no multiple of the model's step is drawn larger and cut: `brief.warnings` says so, and `resolve` who can."""
    if not rules.size_min <= value <= rules.size_max:
        yield column, f"{value} pixels is out of range", f"use {rules.size_min} to {rules.size_max}"


def object_reasons(raw: Mapping[str, Any]) -> Iterator[Reason]:
    """What is wrong with the objects of a raw row. A class may have a least and a most (`mug:min`, `mug:max`), or one whole count."""
    seen: dict[str, dict[str, int]] = {}
    for entry in _items(raw, "objects"):
        name = entry.get("class") if isinstance(entry, dict) else None
        count = entry.get("count") if isinstance(entry, dict) else None
        thing, bound = (name[:-4], name[-4:]) if isinstance(name, str) and name.endswith((":min", ":max")) else (name, "")
        least = 0 if bound == ":max" else 1
        if not isinstance(thing, str) or not thing.strip() or _TEXT_ILLEGAL.search(thing):
            yield "objects", "an object has no readable class", "name what is to be counted, for example mug"
            continue
        bounds = seen.setdefault(thing, {})
        if bad := _CLASS_ILLEGAL.search(thing):
            yield "objects", f"the class {thing!r} holds {bad.group()!r}", "give each class an entry of its own: mug:2; box:1"
        elif bound in bounds or "" in bounds or (bound == "" and bounds):
            yield "objects", f"{thing!r} is named twice", "name each class once, with its whole count"
        elif count is None or not least <= count <= OBJECT_COUNT_MAX:
            written = "null" if count is None else str(count)
            yield "objects", f"the count of {thing!r} is {written}", f"use {least} to {OBJECT_COUNT_MAX}"
        else:
            bounds[bound] = count
            if bounds.get(":min", 0) > bounds.get(":max", OBJECT_COUNT_MAX):
                yield "objects", f"of {thing!r} at least {bounds[':min']} and at most {bounds[':max']} are wanted", "turn them round"
        bounds.setdefault(bound, 0)


def _tag_reasons(raw: Mapping[str, Any]) -> Iterator[Reason]:
    keys: set[str] = set()
    for entry in _items(raw, "tags"):
        key, value = entry if isinstance(entry, tuple) else (None, None)
        if not isinstance(key, str) or not key.strip():
            yield "tags", "a tag has no readable name", "give it a name such as campaign"
            continue
        if key in keys:
            yield "tags", f"{key!r} is there twice", "keep one of them"
        keys.add(key)
        if not isinstance(value, str):
            written = "null" if value is None else "not UTF-8 text"
            yield "tags", f"the value of {key!r} is {written}", "give it a text, or leave the tag out"
        elif value.strip() in SPREADSHEET_ERRORS:
            yield "tags", f"the value of {key!r} is a spreadsheet's error {value.strip()!r}", "mend the formula, or empty the cell"
        elif max(len(key), len(value)) > TAG_CHARS_MAX or _TEXT_ILLEGAL.search(key + value):
            what = f"{key[:40]!r} is too long or holds a control character"
            yield "tags", what, f"use {TAG_CHARS_MAX} plain characters at most"


def _rule_reasons(raw: Mapping[str, Any], rules: Rules) -> Iterator[Reason]:
    prompt, adapter = raw.get("prompt"), raw.get("adapter")
    if isinstance(prompt, str) and len(prompt) > rules.prompt_chars_max:
        remedy = f"use {rules.prompt_chars_max} at most; models read some hundred"
        yield "prompt", f"{len(prompt)} characters long", remedy
    try:
        named: Parts = parse(adapter) if isinstance(adapter, str) and adapter else ()
    except ValueError as error:
        named = ()
        yield "adapter", str(error), "name each once, with commas between: lcm, style:0.8"
    known = rules.adapters
    for name, _ in named:
        if known is not None and name not in known:
            yield "adapter", f"the job has no adapter {name!r}", _adapter_remedy(name, known)
    if raw.get("control_image") and rules.control is False:
        yield "control_image", "the job has no ControlNet", "set model.controlnet in the job, or leave this null"
    if "init_image" not in raw or raw["init_image"] is None:
        for column in ("mask_image", "strength"):
            if raw.get(column) is not None:
                yield column, "has no init_image to work on", "add init_image, or leave this null"
    for column in ("prompt", "text") if rules.forbidden_words else ():
        value = raw.get(column)
        if isinstance(value, str) and (word := forbidden_word(value, rules.forbidden_words)) is not None:
            remedy = "say it in other words; the job lists what it forbids"
            yield column, f"holds the forbidden word {word!r}", remedy


def _adapter_remedy(adapter: str, known: frozenset[str]) -> str:
    if not known:
        return "add it to the job's adapters, or leave this null"
    meant = nearest(adapter, known)
    names = repr(meant) if meant else " or ".join(repr(name) for name in sorted(known)[:5])
    return f"use {names}, or add it to the job's adapters"


def forbidden_word(text: str, words: tuple[str, ...]) -> str | None:
    """The first forbidden word in a text, as it stands there; None for none.

    Whole words only: `ass` is not in `glass`. Case, accents, the form of Unicode, invisible characters and the width of blanks do not
    count: accented, full-width and bold letters, and a soft hyphen inside, are found.
    """
    pattern = _forbidden(words)
    if not pattern.search(_folded(text)):
        return None
    letters = [(letter, place) for place, char in enumerate(text) for letter in _folded_char(char)]
    folded = [(letter, place) for at, (letter, place) in enumerate(letters) if letter != " " or (at and letters[at - 1][0] != " ")]
    match = pattern.search("".join(letter for letter, _ in folded))
    return text[folded[match.start()][1] : folded[match.end() - 1][1] + 1] if match else None


def _folded(text: str) -> str:
    """Compatibility forms decomposed, accents and invisible characters gone, case folded, each run of blanks one blank."""
    return " ".join("".join(map(_folded_char, text)).split())


@functools.lru_cache(maxsize=4096)
def _folded_char(char: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    letters = (c for c in decomposed if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    return "".join(" " if c.isspace() else c for c in letters)


@functools.lru_cache(maxsize=16)
def _forbidden(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the words, whole."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(_folded(word)) for word in words)})(?!\w)")
