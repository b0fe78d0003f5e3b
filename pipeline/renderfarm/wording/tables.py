"""Tables of words beside this code, in TOML: regular expressions with ` | ` between them."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import Any


def table(name: str) -> dict[str, Any]:
    """One table of this room."""
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def alternatives(words: str) -> str:
    """What stands between ` | ` as one alternation for a regular expression, in its order."""
    return "|".join(re.split(r"\s+\|\s+", words.strip()))
