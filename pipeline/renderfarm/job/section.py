"""What every part of a job file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every part of a job file: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
