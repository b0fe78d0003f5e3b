"""What a job names by path or URI → digests, before anything renders; and job.json, which keeps them beside the output."""

from __future__ import annotations

from renderfarm.resolve.job import UNRECORDED, ResolvedJob, resolve_job
from renderfarm.resolve.jobfile import JobFile, read_job_file

__all__ = ["UNRECORDED", "JobFile", "ResolvedJob", "read_job_file", "resolve_job"]
