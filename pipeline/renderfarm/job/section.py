"""What every part of a job file has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from renderfarm.logs import get_logger

log = get_logger()

Respelling = tuple[str, str, Callable[[Any], Any]]
"""A field's old name, its present one, and its value made from the old one's."""


def same(value: Any) -> Any:
    """An old field's value is the new one's."""
    return value


class Section(BaseModel):
    """Base of every part of a job file: unknown keys are errors, values are final.

    One idea has one spelling: `…_s` seconds, `retries` further tries, `…_env` the name of an environment variable. `respelled`: fields of
    earlier versions, which are read with a note.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    respelled: ClassVar[tuple[Respelling, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _respell(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        values = dict(given)
        for old, new, convert in cls.respelled:
            if old in values and new not in values:
                values[new] = convert(values.pop(old))
                log.warning("job.old_spelling", section=cls.__name__.removesuffix("Settings").lower(), old=old, new=new)
        return values
