"""The job file's `checks:` section. Every threshold names where its value was measured in the check's own module.

Pydantic only: no check, and none of their libraries, is imported here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from renderfarm.job.section import Section, same
from renderfarm.job.variables import Variable

OnFail = Literal["reject", "flag"]


class BrokenSettings(Section):
    """Black, flat, burnt-out and pure-noise pictures."""

    enabled: bool = Field(True, description="look for black, flat, burnt-out and pure-noise pictures")
    on_fail: OnFail = Field("reject", description="reject (render again) or flag (publish and show to a person)")
    min_score: float = Field(0.5, ge=0, le=1, description="below this the picture counts as broken; 0.5 is the calibrated border")


class TextSettings(Section):
    """Whether the picture shows the wanted text, by reading it."""

    enabled: bool = Field(True, description="read the picture and compare with the wanted text")
    on_fail: OnFail = Field("reject", description="reject (render again) or flag (publish and show to a person)")
    min_score: float = Field(0.9, ge=0, le=1, description="lowest accepted score; 1 is a perfect reading")
    unstated: Literal["ignore", "flag", "reject"] = Field(
        "ignore", description="what text in the picture means when the row neither asks for text nor forbids it"
    )
    second_look: bool = Field(True, description="read again, larger, before an image is rejected")


class DuplicatesSettings(Section):
    """Near-duplicates among accepted images, by perceptual hash confirmed by colour and local structure."""

    enabled: bool = Field(True, description="compare each image with the accepted ones")
    on_fail: OnFail = Field("reject", description="what a near-duplicate among the images of one row means")
    on_job_twin: Literal["reject", "flag", "ignore"] = Field("flag", description="what a near-duplicate in another row means")
    max_distance: int = Field(31, ge=0, le=64, description="largest PDQ distance (bits of 256) of a near-duplicate")
    variant_distance: int = Field(
        76, ge=0, le=80, description="largest PDQ distance of a variant of one seed (quantised, cached, compiled); 0: none is looked for"
    )
    min_quality: int = Field(50, ge=0, le=100, description="lowest PDQ quality at which the hash is trusted")


class CopiesSettings(Section):
    """An object or patch repeated inside one image."""

    enabled: bool = Field(True, description="look for a patch that appears twice in one picture")
    on_fail: OnFail = Field("reject", description="what a certain copy means; a probable one is always only flagged")
    min_score: float = Field(0.2, ge=0, le=1, description="below this a copy is certain")
    flag_score: float = Field(0.6, ge=0, le=1, description="below this a copy is probable: the image is flagged")


class CountsSettings(Section):
    """Whether the picture shows as many objects as the row's `objects` ask for."""

    enabled: bool = Field(True, description="count the objects that the row asks for, where a detector knows their class")
    on_fail: OnFail = Field("reject", description="reject (render again) or flag (publish and show to a person)")
    min_score: float = Field(1.0, ge=0, le=1, description="lowest accepted share of wanted classes with the right count")
    weights: str | None = Field(None, description="a folder with Grounding DINO or OWLv2 weights, which know every class")
    confidence: float = Field(0.35, gt=0, lt=1, description="lowest confidence at which those weights have found something")


class HandsSettings(Section):
    """Malformed hands, where people may be in the picture."""

    enabled: bool = Field(True, description="look at the hands of people, where the networks for it are installed")
    on_fail: OnFail = Field("flag", description="flag (publish and show to a person), or reject (render again) a finger too many")
    min_score: float = Field(0.5, ge=0, le=1, description="lowest accepted score of the worst hand; below it is a doubt, below 0.3 certain")
    models: str | None = Field(None, description="a folder with the .tflite files, or a hand_landmarker.task; none: the user's cache")


class Rung(Section):
    """How an image is rendered from some rejection on; never with less than its row asks for."""

    after: int = Field(ge=1, le=20, description="rejections of the image from which this rung holds, until the next one does")
    steps: int | None = Field(None, ge=1, le=500, description="at least so many denoising steps")
    guidance: float | None = Field(None, ge=0, le=50, description="at least this guidance scale")
    negative_prompt: str = Field("", max_length=10_000, description="added to the image's negative prompt")


class SafetySettings(Section):
    """Unsafe content, by a classifier's weights on disk. None comes with the package."""

    enabled: bool = Field(False, description="look for unsafe content; needs weights")
    on_fail: OnFail = Field("reject", description="reject (render again) or flag (publish and show to a person)")
    min_score: float = Field(0.5, ge=0, le=1, description="lowest accepted score: 1 less the probability of unsafe content")
    weights: str | None = Field(None, description="Stable Diffusion's safety_checker folder, or an image classifier with a label like nsfw")

    @model_validator(mode="after")
    def _named(self) -> SafetySettings:
        if self.enabled and self.weights is None:
            raise ValueError("safety.enabled needs safety.weights: a folder on disk")
        return self


class ScoreSettings(Section):
    """How well the picture fits its prompt, by CLIP or SigLIP weights on disk. None comes with the package."""

    enabled: bool = Field(True, description="score each picture, where `weights` names a network")
    on_fail: OnFail = Field("flag", description="reject (render again) or flag (publish and show to a person)")
    min: float | None = Field(None, ge=-1, le=1, description="lowest accepted cosine of picture and prompt; none: it is recorded alone")
    weights: str | None = Field(None, description="a folder with CLIP or SigLIP weights; none: pictures are not scored")

    @model_validator(mode="after")
    def _named(self) -> ScoreSettings:
        if self.min is not None and self.weights is None:
            raise ValueError("score.min needs score.weights: a folder on disk")
        return self


class JudgeSettings(Section):
    """A vision-language model behind an OpenAI-compatible endpoint, asked about every image that passes all other checks."""

    respelled = (("key_variable", "key_env", same),)
    enabled: bool = Field(False, description="ask a vision-language model; pictures and prompts are sent to the endpoint")
    on_fail: OnFail = Field("flag", description="reject (render again) or flag (publish and show to a person)")
    min_score: float = Field(0.5, ge=0, le=1, description="lowest accepted score of the judge")
    url: str = Field("", description="the endpoint up to and with /v1, such as http://vllm:8000/v1")
    model: str = Field("", description="the model's name at the endpoint")
    key_env: Variable = Field(None, description="environment variable that holds the key; none: no key is sent")
    timeout_s: float = Field(30.0, gt=0, le=600, description="seconds that one call may wait for the endpoint")
    retries: int = Field(2, ge=0, le=10, description="further calls when the endpoint is away, busy, or answers off the schema")
    calls_max: int | None = Field(
        None,
        ge=1,
        description="calls of each finisher in a run, after which it no longer asks (`not_run`): a run makes at most this times its "
        "finishers, and one that is replaced counts anew; none: no limit",
    )

    @model_validator(mode="after")
    def _named(self) -> JudgeSettings:
        if self.enabled and not (self.url.startswith(("http://", "https://")) and self.model):
            raise ValueError("judge.enabled needs judge.url (http:// or https://) and judge.model")
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("judge.url must hold no password: name the variable that holds the key in judge.key_env")
        return self


class ChecksSettings(Section):
    """The quality checks, and how often an image may be rendered again."""

    attempts: int = Field(3, ge=1, le=20, description="renderings of one image before it is given up as exhausted")
    ladder: tuple[Rung, ...] = Field((), max_length=20, description="how an image that was rejected often is rendered, rung by rung")
    broken: BrokenSettings = Field(default_factory=BrokenSettings, description="black, flat, burnt-out, noise")
    text: TextSettings = Field(default_factory=TextSettings, description="wanted and unwanted text")
    duplicates: DuplicatesSettings = Field(default_factory=DuplicatesSettings, description="near-duplicates among images")
    copies: CopiesSettings = Field(default_factory=CopiesSettings, description="copies inside one image")
    counts: CountsSettings = Field(default_factory=CountsSettings, description="numbers of objects")
    hands: HandsSettings = Field(default_factory=HandsSettings, description="malformed hands")
    safety: SafetySettings = Field(default_factory=SafetySettings, description="unsafe content, by weights on disk; off by default")
    score: ScoreSettings = Field(default_factory=ScoreSettings, description="fit to the prompt, by weights on disk; off by default")
    judge: JudgeSettings = Field(default_factory=JudgeSettings, description="a vision-language model as judge; off by default")
    plugins: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="checks of third parties: name of an entry point in group renderfarm.checks -> its options",
    )

    @field_validator("ladder")
    @classmethod
    def _climbs(cls, ladder: tuple[Rung, ...]) -> tuple[Rung, ...]:
        if any(low.after >= high.after for low, high in pairwise(ladder)):
            raise ValueError("each rung begins after more rejections than the one before it")
        if any(rung.steps is None and rung.guidance is None and not rung.negative_prompt for rung in ladder):
            raise ValueError("a rung says steps, guidance or negative_prompt")
        return ladder
