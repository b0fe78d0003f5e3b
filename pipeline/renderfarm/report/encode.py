"""Values of the log → text that is safe inside a script, and object keys → links that are safe in a page. Pure.

Everything a manifest says is hostile until it has passed through here or through the page's `textContent`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any
from urllib.parse import quote

from renderfarm.output import PICTURES, THUMBS
from renderfarm.schema import Adapter, Box, Input, ObjectCount, Record, Subject, Verdict, forgotten

Plain = dict[str, Any]
"""One record as JSON, fields at None or () left out. "" stays: as `text` it means "no text wanted"."""

LINKED_PREFIXES = (*PICTURES, THUMBS)
_SAFE_INTEGER = 2**53 - 1  # ECMA-262 §21.1.2.6: a JavaScript number is exact up to here; a 64-bit seed is not


def plain(record: Record) -> Plain:
    """The record as JSON values. Integers that JavaScript cannot hold, and NaN or infinities, become strings."""
    values = ((name, getattr(record, name)) for name in _FIELDS)
    said = {name: _json(value) for name, value in values if value is not None and value != ()}
    return said | {"row_id": FORGOTTEN, "prompt": FORGOTTEN} if forgotten(record) else said


FORGOTTEN = "(forgotten)"
_FIELDS = tuple(f.name for f in dataclasses.fields(Record) if f.name != "salt")


def _json(value: Any) -> Any:
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return value if -_SAFE_INTEGER <= value <= _SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Box):
        return [value.x0, value.y0, value.x1, value.y1]
    if isinstance(value, ObjectCount):
        return [value.name, value.count]
    if isinstance(value, Adapter | Subject):
        return [_json(item) for item in dataclasses.astuple(value)]
    if isinstance(value, Input):
        return [value.role, value.digest, value.uri or FORGOTTEN, _json(value.boxes)]
    if isinstance(value, Verdict):
        fields = ((f, getattr(value, f)) for f in ("check", "outcome", "reason", "score", "threshold", "boxes"))
        return {name: _json(item) for name, item in fields if item is not None and item != ()}
    assert isinstance(value, tuple | list), f"a record holds a {type(value).__name__}"
    return [_json(item) for item in value]


def script_json(value: Any) -> str:
    """`value` as JSON that is also a JavaScript literal and may stand in a script element: ASCII, no `<`, `>`, `&`.

    Escaping `<` keeps `</script>` and `<!--` from ending the element (HTML Standard §13.2.5.4, script data state);
    U+2028 and U+2029 are escaped with everything else that is not ASCII. Objects never have keys of a manifest's
    choosing (tags are pairs), so `__proto__` is only ever a string.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def href(key: str | None) -> str | None:
    """The link from `report/` to the object under `key`, or None where there is no object that the report may show.

    A key's segments are percent-encoded row ids already (`images/a%2Fb/0-….png`) and the file really has that name,
    so the link encodes the `%` again (`../images/a%252Fb/0-….png`): a browser decodes once.
    A key outside the picture folders, or with an empty, `.` or `..` segment, gets no link: no storage writes one.
    """
    if not key or not key.startswith(LINKED_PREFIXES):
        return None
    segments = key.split("/")
    if any(segment in ("", ".", "..") or "\\" in segment for segment in segments):
        return None
    return "../" + "/".join(quote(segment, safe="", errors="replace") for segment in segments)
