"""What people mean by their words: the lettering that a prompt or a cell asks for, the things and how many. Tables; pure."""

from __future__ import annotations

from renderfarm.wording.lettering import Lettering, Question, from_prompt
from renderfarm.wording.texts import from_text, reading

__all__ = ["Lettering", "Question", "from_prompt", "from_text", "reading"]
