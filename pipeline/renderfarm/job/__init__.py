"""Job file → settings."""

from renderfarm.job.describe import describe, json_schema
from renderfarm.job.load import load_checks, load_job
from renderfarm.job.settings import JobSettings

__all__ = ["JobSettings", "describe", "json_schema", "load_checks", "load_job"]
