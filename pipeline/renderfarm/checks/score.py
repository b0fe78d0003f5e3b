"""How well the picture fits its prompt, by weights on disk: CLIP or SigLIP (`renderfarm.models.features`).

The score is the cosine of the picture's features and the prompt's, -1 to 1 (Radford et al., 2021; CLIPScore of Hessel et al., 2021, is a
multiple of it). What is much differs from network to network and from prompt to prompt: no bar is set here, so without one the score is
recorded and nothing fails. `renderfarm evaluate` shows the scores of an output, times 100.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from renderfarm.checks.base import Bars, Image, judge, not_run
from renderfarm.errors import WeightsError
from renderfarm.job.checks import ScoreSettings
from renderfarm.schema import PromptRow, Verdict

if TYPE_CHECKING:
    from renderfarm.models.features import FeatureNet, Vectors

PROMPTS_MAX = 64
"""Prompts whose features are kept: attempts of one image come one after another."""


class ScoreCheck:
    """The cosine of picture and prompt. About 150 CPU ms for CLIP ViT-B/32, 1,000 for ViT-L/14."""

    name = "score"
    cost = 400

    def __init__(self, settings: ScoreSettings) -> None:
        self.settings = settings
        self._net: FeatureNet | None = None
        self._said: dict[str, tuple[Vectors, bool]] = {}

    def prepare(self) -> None:
        """Loads the weights. Raises: WeightsError, which becomes `not_run` with the reason."""
        from renderfarm.models.features import FeatureNet

        assert self.settings.weights is not None, "the registry sees to that"
        net = FeatureNet(Path(self.settings.weights))
        if not net.words:
            raise WeightsError(f"{net.kind} knows pictures alone, no prompts", self.settings.weights, "use CLIP or SigLIP")
        self._net = net

    def bars(self, row: PromptRow) -> Bars:
        """One bar for every row, none where the job sets none."""
        return Bars() if self.settings.min is None else Bars.one(self.settings.min, self.settings.on_fail)

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """Judges uint8 (H, W, 3)."""
        if self._net is None:
            self.prepare()
        assert self._net is not None
        if not row.prompt.strip():
            return not_run(self.name, "there is no prompt to hold it against")
        import torch

        from renderfarm.models.features import cosine

        torch.set_num_threads(1)
        said, cut = self._words(row.prompt)
        score = float(cosine(self._net.pictures([image]), said)[0])
        by = f"by {self._net.kind} {self._net.digest[:8]}" + (
            f", from the first {self._net.tokens_max} tokens of the prompt" if cut else ""
        )
        return judge(self.name, score, self.bars(row), f"does not show what the prompt says ({by})", passed=f"fits its prompt ({by})")

    def _words(self, prompt: str) -> tuple[Vectors, bool]:
        """Features of a prompt, and whether it is longer than the network reads."""
        assert self._net is not None
        if prompt not in self._said:
            if len(self._said) >= PROMPTS_MAX:
                del self._said[next(iter(self._said))]
            self._said[prompt] = self._net.texts([prompt]), self._net.cut(prompt)
        return self._said[prompt]
