"""Which text a row wants, for the checks that ask: its own `text`, else what its prompt says (`renderfarm.wording`). Pure."""

from __future__ import annotations

from renderfarm.schema import PromptRow
from renderfarm.wording import reading


def expected_text(row: PromptRow) -> str | None:
    """The text that the picture must show; "" where none is wanted, None where the row does not say, or may mean two things."""
    return reading(row.text, row.prompt).text
