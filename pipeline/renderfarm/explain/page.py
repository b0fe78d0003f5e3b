"""The lines of a brief → one HTML file that opens from disk, runs nothing but its own script, and holds a hundred thousand rows.

Rows lie in inert JSON blocks, a thousand each, and are parsed when they are looked at. Whatever a brief says reaches the page through
`script_json` and `textContent` alone.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from renderfarm.errors import UserError
from renderfarm.explain.lines import RowLine
from renderfarm.report.encode import script_json

ROWS_PER_BLOCK = 1000
FIELDS = tuple(field.name for field in dataclasses.fields(RowLine))


def write_page(path: Path, job: str, lines: Iterable[tuple[RowLine, list[str]]], about: Callable[[], Mapping[str, Any]]) -> int:
    """Writes the page; how many rows it has. Each line comes with its warnings; `about`: what stands above them, asked for at the end.

    The file appears when it is whole. Raises: UserError for a place that cannot be written.
    """
    style, script = _asset("brief.css"), _asset("brief.js")
    policy = f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    head, tail = _asset("brief.html").split("{{rows}}")
    filled = {"policy": policy, "title": html.escape(f"{job} · brief"), "style": style}
    for name, text in filled.items():
        head = head.replace(f"{{{{{name}}}}}", text)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    count = 0
    rest = iter(lines)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(head)
            while block := list(itertools.islice(rest, ROWS_PER_BLOCK)):
                count += len(block)
                rows = [[*(getattr(line, name) for name in FIELDS), warnings] for line, warnings in block]
                file.write(f'<script type="application/json" class="rows">{script_json(rows)}</script>\n')
            meta = {**about(), "job": job, "rows": count, "block": ROWS_PER_BLOCK, "fields": [*FIELDS, "warnings"]}
            file.write(tail.replace("{{meta}}", script_json(meta)).replace("{{script}}", script))
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", str(path), "choose another place") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("renderfarm.explain").joinpath("assets", name).read_text(encoding="utf-8")
