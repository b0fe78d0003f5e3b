"""Renderfarm: a Parquet file of prompts in, images out that are marked, checked, stored and provable.

    import renderfarm

    run = renderfarm.Job.load("jobs/mockups.yaml").render()
    print(renderfarm.Output(run.output).audit().text())

Public is what `__all__` names here and in `renderfarm.checks`; every other module may change without notice. `renderfarm.api` describes it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from renderfarm.version import __version__

if TYPE_CHECKING:
    from renderfarm.api import Job, Output, Plan, Run, identify_pictures
    from renderfarm.errors import Fenced, LogDamaged, Paused, RenderfarmError, UserError

__all__ = [
    "Fenced",
    "Job",
    "LogDamaged",
    "Output",
    "Paused",
    "Plan",
    "RenderfarmError",
    "Run",
    "UserError",
    "__version__",
    "identify_pictures",
]

_ERRORS = ("Fenced", "LogDamaged", "Paused", "RenderfarmError", "UserError")


def __getattr__(name: str) -> object:
    """Nothing heavy is imported before it is used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("renderfarm.errors" if name in _ERRORS else "renderfarm.api"), name)
