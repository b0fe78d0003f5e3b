"""Job file → settings."""

from pipeline.job.describe import describe, json_schema
from pipeline.job.load import load_checks, load_job
from pipeline.job.settings import JobSettings

__all__ = ["JobSettings", "describe", "json_schema", "load_checks", "load_job"]
