"""Files that may be deleted: what costs time to find out again, under the user's cache folder.

A cache that cannot be read or written is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """The user's cache folder for renderfarm (XDG Base Directory Specification 0.8); it may not exist yet.

    A user without a home (no HOME, a uid that nobody knows) has one that cannot be written: another's in /tmp could not be trusted.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else (home() or Path(os.devnull)) / ".cache") / "renderfarm"


def home() -> Path | None:
    """The user's home folder; None for one without."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def recall(path: Path) -> dict[str, Any]:
    """What a file of entries remembers; nothing where there is none, or it cannot be read."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(path: Path, entries: dict[str, Any]) -> None:
    """Add entries to a file of them, replaced at once; a racing writer's entries may be lost, and are found out again."""
    write(path, json.dumps({**recall(path), **entries}, indent=1))


def write(path: Path, text: str) -> None:
    """Replace a file at once. A full or read-only disk is no reason to stop, and leaves nothing half-written behind."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(text)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
