"""The score check, with a small random CLIP: random weights know nothing, so the way is tested, and the bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from renderfarm.checks import registry
from renderfarm.checks.base import Check
from renderfarm.checks.score import PROMPTS_MAX, ScoreCheck
from renderfarm.job.checks import ChecksSettings, ScoreSettings
from renderfarm.models.features import FeatureNet, cosine
from renderfarm.schema import PromptRow
from tests import encoders

ROW = PromptRow("r", "a red mug")
PICTURE = np.random.default_rng(1).integers(0, 255, (60, 80, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.clip(tmp_path_factory.mktemp("clip"))


def built(weights: Path | str, **score: object) -> Check:
    """The check as a worker has it."""
    settings = ChecksSettings.model_validate({"score": {"weights": str(weights), **score}})
    (check,) = (check for check in registry.prepare(registry.build(settings)) if check.name == "score")
    return check


def test_the_score_is_the_cosine_and_fails_nothing_without_a_bar(clip: Path) -> None:
    net = FeatureNet(clip)
    expected = float(cosine(net.pictures([PICTURE]), net.texts([ROW.prompt]))[0])
    verdict = built(clip).check(PICTURE, ROW)
    assert (verdict.outcome, verdict.threshold) == ("accepted", None)
    assert verdict.score == pytest.approx(expected, abs=1e-4) and verdict.reason == f"fits its prompt (by clip {net.digest[:8]})"


def test_below_the_bar_it_is_flagged_or_rejected_if_asked(clip: Path) -> None:
    flagged, rejected = built(clip, min=1).check(PICTURE, ROW), built(clip, min=1, on_fail="reject").check(PICTURE, ROW)
    assert (flagged.outcome, rejected.outcome, flagged.threshold) == ("flagged", "rejected", 1)
    assert flagged.reason.startswith("does not show what the prompt says (by clip ")
    assert built(clip, min=-1, on_fail="reject").check(PICTURE, ROW).outcome == "accepted"


def test_what_it_cannot_judge_is_not_run_with_the_reason(clip: Path, tmp_path: Path) -> None:
    assert built(clip).check(PICTURE, PromptRow("r", " ")).reason == "there is no prompt to hold it against"
    for folder, reason in ((tmp_path / "none", "no weights with a config.json"), (encoders.dino(tmp_path), "knows pictures alone")):
        verdict = built(folder).check(PICTURE, ROW)
        assert verdict.outcome == "not_run" and reason in verdict.reason


def test_a_long_prompt_is_judged_by_its_beginning_and_that_is_said(clip: Path) -> None:
    check = built(clip)
    long = PromptRow("r", "mug " * 100)
    verdict = check.check(PICTURE, long)
    assert "from the first 77 tokens of the prompt" in verdict.reason
    assert check.check(PICTURE, PromptRow("r", "mug " * 200)).score == verdict.score
    assert isinstance(check, ScoreCheck)
    for number in range(2 * PROMPTS_MAX):
        check._words(str(number))
    assert len(check._said) == PROMPTS_MAX


def test_it_is_off_where_no_weights_are_named() -> None:
    assert "score" not in [check.name for check in registry.build(ChecksSettings())]
    assert "score" not in [check.name for check in registry.build(ChecksSettings(score=ScoreSettings(weights="x", enabled=False)))]
    with pytest.raises(ValidationError, match=r"score\.min needs score\.weights"):
        ChecksSettings.model_validate({"score": {"min": 0.2}})
