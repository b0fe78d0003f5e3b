"""Unsafe content, where the job names a classifier's weights on disk. Off by default: no such weights come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from renderfarm.checks.base import Bars, Image, judge
from renderfarm.job.checks import SafetySettings
from renderfarm.schema import PromptRow, Verdict

if TYPE_CHECKING:
    from renderfarm.models.vision import Safety


class SafetyCheck:
    """The score is 1 less the classifier's probability of unsafe content."""

    name = "safety"
    cost = 500

    def __init__(self, settings: SafetySettings) -> None:
        self.settings = settings
        self._model: Safety | None = None

    def prepare(self) -> None:
        """Loads the weights. Raises: WeightsError, which becomes `not_run` with the reason."""
        from renderfarm.models.vision import Safety

        assert self.settings.weights is not None, "the settings see to that"
        self._model = Safety(Path(self.settings.weights).expanduser())

    def bars(self, row: PromptRow) -> Bars:
        """One bar for every row."""
        return Bars.one(self.settings.min_score, self.settings.on_fail)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3)."""
        if self._model is None:
            self.prepare()
        assert self._model is not None
        return judge(self.name, 1 - self._model.unsafe(image), self.bars(row), "the picture may be unsafe to show", passed="nothing unsafe")
