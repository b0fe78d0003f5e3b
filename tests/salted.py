"""Records as a driver of a new output writes them: salted, committed to, with their claim digest."""

from __future__ import annotations

import dataclasses

from renderfarm.records.canonical import sealed
from renderfarm.schema import Record

SALT = "0f" * 16


def salted(record: Record, salt: str = SALT) -> Record:
    """The record with a salt for its row, and sealed."""
    return sealed(dataclasses.replace(record, salt=salt))
