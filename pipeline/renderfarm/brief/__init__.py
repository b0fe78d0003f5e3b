"""Briefs: whatever people bring becomes a manifest, with its faults, and with warnings of what a person should see first."""

from __future__ import annotations

from renderfarm.brief.build import build
from renderfarm.brief.warnings import warners

__all__ = ["build", "warners"]
