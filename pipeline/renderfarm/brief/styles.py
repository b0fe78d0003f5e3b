"""Lists of styles, as A1111 (`name,prompt,negative_prompt`) and Fooocus (the same in JSON) keep them; prompts in a style."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from renderfarm.errors import ManifestError
from renderfarm.sources.delimited import grid_of
from renderfarm.sources.headers import plain
from renderfarm.sources.types import Brief

_HOLE = "{prompt}"
_FILE_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Style:
    """What goes around a prompt; without `{prompt}` it goes behind."""

    prompt: str
    negative_prompt: str

    def around(self, prompt: str, negative: str) -> tuple[str, str]:
        """Both prompts in this style."""
        return _joined(self.prompt, prompt), _joined(self.negative_prompt, negative)


def _joined(style: str, prompt: str) -> str:
    return style.replace(_HOLE, prompt) if _HOLE in style else ", ".join(part for part in (prompt, style) if part)


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file by their names, as `headers.plain` has them. Raises: ManifestError."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ManifestError(f"more than {_FILE_BYTES_MAX >> 20} MiB of styles", str(path), "is it the right file?")
        records = _json_records(path) if path.suffix.lower() == ".json" else _table_records(path)
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", str(path), "name a list of styles: --styles FILE") from error
    styles = {}
    for record in records:
        if name := plain(str(record.get("name") or "")):
            styles[name] = Style(str(record.get("prompt") or ""), str(record.get("negativeprompt") or ""))
    if not styles:
        raise ManifestError("no list of styles", str(path), "write the columns name, prompt and negative_prompt")
    return styles


def chosen(text: str, styles: Mapping[str, Style]) -> list[Style] | None:
    """The styles that a cell names: one, or several with `,`, `;` or `|` between; None where one of them is not known."""
    if plain(text) in styles:
        return [styles[plain(text)]]
    named = [plain(part) for part in re.split(r"[,;|]", text) if part.strip()]
    return [styles[name] for name in named] if all(name in styles for name in named) else None


def _table_records(path: Path) -> list[dict[str, object]]:
    rows = [list(cells) for _, cells in grid_of(path, Brief("row"), {}) if any(cells)]
    names = [plain(str(name)) for name in rows[0]] if rows else []
    return [dict(zip(names, cells, strict=False)) for cells in rows[1:]]


def _json_records(path: Path) -> list[dict[str, object]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}", str(path), "mend it there") from error
    entries = content if isinstance(content, list) else []
    return [{plain(str(key)): value for key, value in entry.items()} for entry in entries if isinstance(entry, dict)]
