"""Weights: which files they are, whether they may be loaded, and the loaded pipeline. With `render`, the only importer
of diffusers.

`resolve` runs once in the driver and imports nothing heavy; `load` runs in each renderer and verifies what `resolve`
promised.
"""

from renderfarm.job.model import AdapterSettings, ModelSettings
from renderfarm.models.adapters import ResolvedAdapter
from renderfarm.models.load import LoadedModel, Task, load
from renderfarm.models.resolve import Resolved, beside, resolve

__all__ = ["AdapterSettings", "LoadedModel", "ModelSettings", "Resolved", "ResolvedAdapter", "Task", "beside", "load", "resolve"]
