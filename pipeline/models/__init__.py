"""Weights: which files they are, whether they may be loaded, and the loaded pipeline. With `render`, the only importer
of diffusers.

`resolve` runs once in the driver and imports nothing heavy; `load` runs in each renderer and verifies what `resolve`
promised.
"""

from pipeline.models.adapters import ResolvedAdapter
from pipeline.models.load import LoadedModel, Task, load
from pipeline.models.resolve import Resolved, beside, resolve
from pipeline.models.settings import AdapterSettings, ModelSettings

__all__ = ["AdapterSettings", "LoadedModel", "ModelSettings", "Resolved", "ResolvedAdapter", "Task", "beside", "load", "resolve"]
