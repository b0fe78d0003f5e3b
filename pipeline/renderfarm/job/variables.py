"""The settings that name an environment variable: a secret is never a setting, so the job names the variable that holds it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

NO_NAME = "variable_name"
"""The type of this mistake: what was written there may be the secret itself, and is repeated in no message."""

_NAME = re.compile(r"(?!.*[a-z].*[A-Z]|.*[A-Z].*[a-z])(?!.*[A-Za-z0-9]{25})[A-Za-z_][A-Za-z0-9_]*")
"""POSIX names, less those that look like a key: of both cases, or with more than 24 letters and digits in a row."""


def _named(value: object) -> object:
    if value is None or (isinstance(value, str) and _NAME.fullmatch(value)):
        return value
    form = "letters of one case, digits and _, at most 24 letters and digits in a row, such as RENDERFARM_WEBHOOK_URL"
    raise PydanticCustomError(NO_NAME, f"write the name of an environment variable here ({form}), never the secret itself")


Variable = Annotated[str | None, BeforeValidator(_named)]
"""The name of an environment variable, or None."""
