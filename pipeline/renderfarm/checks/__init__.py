"""Checks: one finished image and its manifest row in, one verdict out. Public, for checks of one's own: what `__all__` names.

A plug-in is an entry point of the group `renderfarm.checks`; `docs/python.md` has one that works.

base            the interface
registry        builds, orders and runs the checks that the job file's `checks:` section asks for
duplicates      the index of accepted images, which the committer asks; no check of one image
files           the checks on any pictures, without a job

Every other module is one check, or what one stands on. Nothing here writes a file, knows Ray, or decides about retries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from renderfarm.checks.base import Bars, Check, Image, OnFail, Rejudged, box_around, not_run
    from renderfarm.checks.base import judge as judged
    from renderfarm.schema import Box, ObjectCount, Outcome, PromptRow, Verdict

__all__ = [
    "Bars",
    "Box",
    "Check",
    "Image",
    "ObjectCount",
    "OnFail",
    "Outcome",
    "PromptRow",
    "Rejudged",
    "Verdict",
    "box_around",
    "judged",
    "not_run",
]

_ROWS = ("Box", "ObjectCount", "Outcome", "PromptRow", "Verdict")
_RENAMED = {"judged": "judge"}
"""`judge` is the module of one check here."""


def __getattr__(name: str) -> object:
    """Nothing is imported before it is used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "renderfarm.schema" if name in _ROWS else "renderfarm.checks.base"
    return getattr(importlib.import_module(module), _RENAMED.get(name, name))
