"""Briefs: what people bring becomes a manifest: other tools' syntax gets its meaning, and a person sees what is doubtful first."""

from __future__ import annotations

from renderfarm.brief.build import build, check_source
from renderfarm.brief.warnings import warners
from renderfarm.sources import ReadAs, parsed_mapping, plain

__all__ = ["ReadAs", "build", "check_source", "parsed_mapping", "plain", "warners"]
