"""Briefs: whatever people bring becomes a manifest, with its faults, and with warnings of what a person should see first."""

from __future__ import annotations

from renderfarm.brief.build import build, check_source
from renderfarm.brief.headers import parsed_mapping, plain
from renderfarm.brief.types import ReadAs
from renderfarm.brief.warnings import warners

__all__ = ["ReadAs", "build", "check_source", "parsed_mapping", "plain", "warners"]
