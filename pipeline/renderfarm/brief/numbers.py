"""Numbers as people write them in cells: what can only be one number is taken, what may be two is refused with both. Pure."""

from __future__ import annotations

import re
from typing import Any

from renderfarm.errors import NotUnderstood
from renderfarm.sources.shown import Number

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_ZEROS = re.compile(r"([+-]?[0-9]{1,18})[.,](?:0{1,2}|0{4,12})")
"""512.0, 512.00, not 512.000: three zeros may be thousands."""
_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:([.,'’ \u00a0\u202f])[0-9]{3})+(?:[.,]0{1,2})?")
_POWER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
_UNIT = re.compile(r"([0-9]{1,9})\s*(?:px|pixels?|pt|images?|pictures?|variants?|variations?|bilder?|steps?|x)\b.*", re.I)
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_EUROPEAN = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+")


def whole(value: Any) -> Any:
    """A whole number from what a cell of a whole column holds; what is none of these forms, as it is. Raises: NotUnderstood."""
    if isinstance(value, Number):
        value = value.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, str):
        return value
    if _WHOLE.fullmatch(value := value.strip()):
        return int(value)
    if match := _ZEROS.fullmatch(value):
        return int(match.group(1))
    if _POWER.fullmatch(value):
        raise NotUnderstood(f"{value!r} may be a longer number that was rounded", "write all its digits: 100000")
    if match := _GROUPS.fullmatch(value):
        mark = match.group(1)
        digits = re.sub(r"[.,]0{1,2}$", "", value) if re.search(r"[.,][0-9]{1,2}$", value) else value
        plain = digits.replace(mark, "")
        if mark not in ".," or value.count(mark) > 1 or digits != value:
            return int(re.sub(r"[^0-9+-]", "", plain))
        raise NotUnderstood(f"{value!r} may be {plain} or {value.replace(',', '.')}", f"write {plain}, without a separator")
    if match := _UNIT.fullmatch(value):
        raise NotUnderstood(f"{value!r} is no whole number", f"write {match.group(1)}")
    return value


def fraction(value: Any, decimal_comma: bool) -> Any:
    """A number from what a cell of a fractional column holds, as `whole`. `decimal_comma`: the cells are not separated by commas."""
    if isinstance(value, Number):
        return value.value
    if not isinstance(value, str):
        return value
    value = value.strip()
    if decimal_comma and _EUROPEAN.fullmatch(value):
        return float(value.replace(".", "").replace(",", "."))
    if _COMMA.fullmatch(value):
        if not decimal_comma:
            raise NotUnderstood(f"{value!r} may be {value.replace(',', '.')} or {value.replace(',', '')}", "write it with a point: 7.5")
        return float(value.replace(",", "."))
    return value
