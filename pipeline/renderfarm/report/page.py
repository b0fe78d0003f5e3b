"""The assets of this package + the job's data → `index.html`, in one file with a policy that runs nothing else.

Scripts and style stand inside the page, each allowed by its SHA-256 (CSP Level 3 §8.4). `strict-dynamic` then lets
these scripts, and only these, load the data chunks beside the page: this holds for `file://` and for a bucket alike,
where `'self'` means different things in different browsers.
"""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources
from typing import Any

from renderfarm.report.encode import script_json

SCRIPTS = ("data.js", "sheet.js", "detail.js", "page.js")


def page_html(meta: dict[str, Any]) -> str:
    """The whole page. `meta` becomes an inert JSON block; its `job` also the title."""
    style = _asset("page.css")
    scripts = [_asset(name) for name in SCRIPTS]
    parts = {
        "policy": _policy(style, scripts),
        "title": html.escape(f"{meta['job']} · contact sheet"),
        "style": style,
        "meta": script_json(meta),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    head, *rest = _asset("page.html").split("{{")
    filled = (parts[name.strip()] + after for name, after in (piece.split("}}", 1) for piece in rest))
    return head + "".join(filled)


def _policy(style: str, scripts: list[str]) -> str:
    """Content-Security-Policy. `file:` is for browsers that give files no origin, `data:` for the page's icon."""
    allowed = " ".join(_digest(script) for script in scripts)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {allowed} 'strict-dynamic'",
            f"style-src {_digest(style)}",
            "img-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("renderfarm.report").joinpath("assets", name).read_text(encoding="utf-8")
