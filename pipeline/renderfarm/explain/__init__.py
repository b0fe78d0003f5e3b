"""What a brief will render and check, before a cent is spent: a line for each row, the sums, and the page that people sign off."""

from __future__ import annotations

from renderfarm.explain.fitting import Fit, fit
from renderfarm.explain.lines import CheckState, Explainer, RowLine, Sums
from renderfarm.explain.page import write_page

__all__ = ["CheckState", "Explainer", "Fit", "RowLine", "Sums", "fit", "write_page"]
