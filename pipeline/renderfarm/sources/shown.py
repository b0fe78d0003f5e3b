"""A spreadsheet's number as it is shown: number formats of ECMA-376, part 1, section 18.8.30 and 18.8.31, as far as briefs have them.

What no person would see otherwise is shown in the plain form of a number. Separators are those of the format, point and comma: which ones a
person's own program shows, no workbook says. Pure.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_BUILT_IN = {
    "0": "General", "1": "0", "2": "0.00", "3": "#,##0", "4": "#,##0.00", "9": "0%", "10": "0.00%", "11": "0.00E+00", "12": "# ?/?",
    "13": "# ??/??", "14": "yyyy-mm-dd", "15": "d-mmm-yy", "16": "d-mmm", "17": "mmm-yy", "18": "h:mm AM/PM", "19": "h:mm:ss AM/PM",
    "20": "h:mm", "21": "h:mm:ss", "22": "yyyy-mm-dd h:mm", "37": "#,##0", "38": "#,##0", "39": "#,##0.00", "40": "#,##0.00",
    "45": "mm:ss", "46": "[h]:mm:ss", "47": "mm:ss.0", "48": "##0.0E+0", "49": "@",
}  # fmt: skip
"""14 and 22 are shown in the order of a person's own country, which no workbook says: here the order that nobody reads wrongly."""
_TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|_.|\*.|\[(?:\$([^\]\-]*)[^\]]*|(h+|m+|s+)|[^\]]*)\]|(AM/PM|A/P)|(General)|(y+|m+|d+|h+|s+(?:\.0+)?)|(E[+-])|([0#?.,]+)|([%@/])|(.)',
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a sheet: its value, and the text that a person sees, which may be a date."""

    value: float
    text: str
    is_date: bool = False


@functools.lru_cache(maxsize=1 << 14)
def shown(value: float, code: str, epoch_1904: bool = False) -> Number:
    """The number with its text, by a format code."""
    if code == "General":
        return Number(value, general(value))
    text, is_date = _shown(value, code, epoch_1904)
    return Number(value, text, is_date)


def built_in(number: str) -> str:
    """The code of a built-in format; of one that is not known, the plain one."""
    return _BUILT_IN.get(number, "General")


def general(value: float) -> str:
    """As a cell without a format shows it: eleven digits at most."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e11:
        return str(int(value))
    text = f"{value:.10g}".replace("e", "E")
    return re.sub(r"E([+-])0?(\d)$", r"E\g<1>0\2", text)


def _shown(value: float, code: str, epoch_1904: bool) -> tuple[str, bool]:
    sections = _sections(code)
    section = sections[0]
    if len(sections) > 1 and value < 0:
        section, value = sections[1], -value
    elif len(sections) > 2 and value == 0:
        section = sections[2]
    tokens = _tokens(section)
    if any(token.group(6) or token.group(10) == "@" for token in tokens) or re.search(r"\[[<>=]", code):
        return "".join(_literal(t) or (general(value) if t.group(6) or t.group(10) == "@" else "") for t in tokens) or general(value), False
    if any(token.group(7) or token.group(4) for token in tokens):
        return _date(value, tokens, epoch_1904), True
    if any(token.group(10) == "/" for token in tokens):
        return general(value), False
    return _number(value, tokens), False


@functools.lru_cache(maxsize=1024)
def _sections(code: str) -> tuple[str, ...]:
    return tuple(re.findall(r'((?:"[^"]*"|\\.|\[[^\]]*\]|[^;])*)(?:;|$)', code)[:4]) or ("General",)


@functools.lru_cache(maxsize=1024)
def _tokens(section: str) -> tuple[re.Match[str], ...]:
    return tuple(_TOKEN.finditer(section))


def _literal(token: re.Match[str]) -> str:
    quoted, escaped, currency, other = token.group(1), token.group(2), token.group(3), token.group(11)
    if token.group().startswith("_"):
        return " "
    return quoted or escaped or currency or other or ""


def _number(value: float, tokens: Sequence[re.Match[str]]) -> str:
    digits = "".join(token.group(9) or "" for token in tokens)
    percent = sum(token.group(10) == "%" for token in tokens)
    if not digits:
        return "".join(_literal(token) for token in tokens).strip()
    whole, _, part = digits.partition(".")
    thousands = "," in whole.rstrip(",")
    scaled = value * 100**percent / 1000 ** (len(digits) - len(digits.rstrip(",")))
    decimals, least = len(re.findall(r"[0#?]", part)), part.count("0")
    if any(token.group(8) for token in tokens):
        body = f"{scaled:.{decimals}E}"
    else:
        body = f"{_rounded(abs(scaled), decimals):{',' if thousands else ''}.{decimals}f}"
        if decimals > least:
            head, _, tail = body.partition(".")
            body = f"{head}.{tail[:least] + tail[least:].rstrip('0')}".rstrip(".")
        ahead = whole.replace(",", "").count("0")
        head, dot, tail = body.partition(".")
        body = (head.zfill(ahead) if not thousands else head) + dot + tail
        if ahead == 0 and head == "0" and dot:
            body = dot + tail
        body = ("-" if scaled < 0 else "") + body
    text, placed = "", False
    for token in tokens:
        if token.group(9) or token.group(8):
            text += "" if placed else body
            placed = True
        else:
            text += "%" if token.group(10) == "%" else _literal(token)
    return text.strip()


def _rounded(value: float, decimals: int) -> float:
    """Half up, as spreadsheets round, of the decimal that is written."""
    from decimal import ROUND_HALF_UP, Decimal

    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)) if value < 1e15 else value


def _date(value: float, tokens: Sequence[re.Match[str]], epoch_1904: bool) -> str:
    """A date or a time of day. Serial 60 of the older epoch is a day that never was (29 February 1900): before it, one less is counted."""
    try:
        epoch = datetime.datetime(1904, 1, 1) if epoch_1904 else datetime.datetime(1899, 12, 30 if value >= 60 else 31)
        moment = epoch + datetime.timedelta(milliseconds=round(value * 86_400_000))
    except (OverflowError, ValueError):
        return general(value)
    twelve = any(token.group(5) for token in tokens)
    text = ""
    last = ""
    for at, token in enumerate(tokens):
        word = (token.group(7) or "").lower()
        if elapsed := token.group(4):
            unit = {"h": 24, "m": 24 * 60, "s": 86_400}[elapsed[0].lower()]
            text += str(int(round(value * unit, 6))).zfill(len(elapsed))
            last = elapsed[0].lower()
        elif word:
            following = next((t.group(7).lower() for t in tokens[at + 1 :] if t.group(7)), "")
            minutes = word[0] == "m" and len(word) < 3 and (last == "h" or following.startswith("s"))
            text += _date_part(moment, word, minutes, twelve)
            last = word[0]
        elif token.group(5):
            text += ("AM" if moment.hour < 12 else "PM")[: 2 if len(token.group(5)) > 3 else 1]
        else:
            text += token.group(9) or token.group(10) or _literal(token)
    return text.strip()


def _date_part(moment: datetime.datetime, word: str, minutes: bool, twelve: bool) -> str:
    wide = len(word) > 1
    if word.startswith("s") and "." in word:
        places = len(word.partition(".")[2])
        return f"{moment.second + moment.microsecond / 1e6:0{places + 3}.{places}f}"
    if minutes:
        return f"{moment.minute:02d}" if wide else str(moment.minute)
    if word[0] == "y":
        return f"{moment.year:04d}" if len(word) > 2 else f"{moment.year % 100:02d}"
    if word[0] in "md" and len(word) > 2:
        name = moment.strftime("%B" if word[0] == "m" else "%A")
        return name[:1] if len(word) == 5 else name if len(word) == 4 else name[:3]
    hour = moment.hour % 12 or 12 if twelve else moment.hour
    number = {"m": moment.month, "d": moment.day, "h": hour, "s": moment.second}[word[0]]
    return f"{number:02d}" if wide else str(number)
