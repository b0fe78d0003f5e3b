"""What a job file may say. Secrets are never settings: S3 credentials come from the environment, keys from a folder named here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from renderfarm.job.checks import ChecksSettings
from renderfarm.job.model import ModelSettings
from renderfarm.job.operations import BudgetSettings, MetricsSettings, NotifySettings
from renderfarm.job.schedule import ScheduleSettings
from renderfarm.job.section import Section, same
from renderfarm.job.variables import Variable
from renderfarm.manifest.adapters import chosen

SIDE_MAX = 4096
Side = Annotated[int, Field(ge=64, le=SIDE_MAX, multiple_of=8)]


class DefaultsSettings(Section):
    """What a manifest row leaves open."""

    width: Side = Field(512, description="width in pixels, a multiple of 8")
    height: Side = Field(512, description="height in pixels, a multiple of 8")
    steps: int = Field(25, ge=1, le=500, description="denoising steps")
    guidance: float = Field(5.0, ge=0, le=50, description="classifier-free guidance scale; 1 or less switches it off")
    images: int = Field(1, ge=1, le=1000, description="images per row")
    of: int = Field(1, ge=1, le=20, description="renderings of each image, of which the best that passes is delivered and all are recorded")
    adapter: str | None = Field(None, description="adapters of rows that name none, of model.adapters: `lcm`, or `lcm, style:0.8`")
    adapters: tuple[str, ...] = Field(
        (), description="adapters of every row, beside those that it names (few-step LoRAs); a weight may follow: `lcm`, `style:0.8`"
    )

    @field_validator("adapters", mode="before")
    @classmethod
    def _one_text(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _adapters_are_understood(self) -> DefaultsSettings:
        chosen(None, self.adapter, self.adapters)
        return self


class OutputSettings(Section):
    """Where the images go and in which form."""

    respelled = (("patience_seconds", "patience_s", same),)
    to: str = Field(min_length=1, description="a folder (relative to the job file) or s3://bucket/prefix")
    format: Literal["png", "jpeg", "webp"] = Field("png", description="file format of accepted images")
    quality: int = Field(92, ge=1, le=100, description="quality of jpeg and webp")
    rejected: Literal["all", "best", "none"] = Field("all", description="which rejected attempts keep their picture under review/")
    patience_s: float = Field(120.0, ge=1, le=3600, description="how long a bucket that does not answer is asked again, then: pause")
    checksum: Literal["auto", "md5", "crc32", "sha256", "none"] = Field(
        "auto", description="sent with each write to a bucket; auto: what the store takes. A bucket with Object Lock wants one"
    )
    kept: Literal["delivery", "preview"] = Field(
        "delivery",
        description="form of what is kept: as it would be delivered, so that `renderfarm review` can publish it; or a smaller WebP",
    )


class MarkSettings(Section):
    """The watermark."""

    allow_unmarked: bool = Field(False, description="accept pictures that cannot carry the mark (short side below 256, saturated all over)")


class CommitSettings(Section):
    """When records become a part of the log; after a crash at most one interval and the units in flight are rendered again."""

    respelled = (("seconds", "interval_s", same),)
    images: int = Field(500, ge=1, le=100_000, description="at the latest after so many attempts")
    interval_s: float = Field(60.0, gt=0, le=3600, description="at the latest after so many seconds; the first parts come sooner")


class InputsSettings(Section):
    """Pictures that rows may name as init_image or mask_image."""

    allow: tuple[str, ...] = Field((), description="folders or s3:// prefixes under which input pictures may lie; none by default")
    bytes_max: int = Field(32 << 20, ge=1, description="largest input file in bytes")


class RenderersSettings(Section):
    """How many renderers a cluster is asked for: `max` at once, and the run begins with `min`. Those that come later get work then.

    Each asks for a GPU, whether or not one is there yet, so that an autoscaler brings it; with `model.device: cpu` for a CPU.
    """

    min: int = Field(0, ge=0, description="how many must be ready before the run begins; it never begins with none")
    max: int = Field(ge=1, description="how many are asked for")

    @model_validator(mode="after")
    def _ordered(self) -> RenderersSettings:
        if self.min > self.max:
            raise ValueError("min is above max")
        return self


class FarmSettings(Section):
    """The workers."""

    respelled = (("hang_seconds", "hang_s", same),)
    engine: Literal["auto", "local", "ray"] = Field(
        "auto", description="local: processes of this machine; ray: a Ray cluster; auto: local with at most one GPU and no --address"
    )
    renderers: Annotated[int, Field(ge=1)] | Literal["auto"] | RenderersSettings = Field(
        "auto",
        description="workers that render: so many, or {min, max} where GPUs may come later; auto: one per GPU; without a GPU as cores and "
        "memory allow (local), or one (ray)",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="labels of the Ray nodes that may render, such as {ray.io/accelerator-type: A100}"
    )
    room_s: float = Field(
        300.0, ge=10, le=86_400, description="how long a run goes on without one renderer or finisher that found room, then: pause"
    )
    finishers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="workers that check and store; auto: the cores that renderers leave free"
    )
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Prometheus metrics of a run")
    hang_s: float = Field(1800.0, ge=10, le=86_400, description="a worker that gives no answer for so long is ended and replaced")
    deaths_max: int = Field(3, ge=1, le=20, description="renderers that one attempt may take down before it is recorded as failed")

    @property
    def renderers_most(self) -> int | None:
        """How many renderers at most; None: as many as there is room for."""
        return self.renderers.max if isinstance(self.renderers, RenderersSettings) else None if self.renderers == "auto" else self.renderers

    @property
    def renderers_least(self) -> int:
        """How many must be ready before a run begins."""
        return max(1, self.renderers.min) if isinstance(self.renderers, RenderersSettings) else 1


class CostSettings(Section):
    """What an hour costs, for the estimate."""

    per_hour: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="price of one renderer (without a GPU: of the machine) for an hour"
    )
    currency: str = Field("EUR", min_length=1, max_length=8, description="unit of the price")


class WitnessSettings(Section):
    """Who is told of the log's newest checkpoint at the end of each run, so that a history rewritten later can be shown.

    No picture depends on it: it is not in job.json, and a change of it is no new plan.
    """

    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=500)], ...] = Field(
        (), max_length=8, description="submission prefixes of witnesses (C2SP tlog-witness), which check the log and cosign it"
    )
    webhook_env: Variable = Field(None, description="environment variable with an address that the checkpoint is posted to")
    command: tuple[str, ...] = Field((), description="program and arguments that get the checkpoint on stdin, to mail it")

    @property
    def named(self) -> bool:
        """Whether anybody is told."""
        return bool(self.urls or self.webhook_env or self.command)


class JobSettings(Section):
    """A whole job file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="the job's name: origin of its log, owner of its output")
    manifest: str = Field(min_length=1, description="Parquet file or folder of them (relative to the job file), or s3:// URI")
    output: OutputSettings = Field(description="where the images go")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of every row that names none")
    negative_prompt: str = Field("", description="what no picture should show; a row's own negative prompt is added to it")
    defaults: DefaultsSettings = Field(default_factory=DefaultsSettings, description="what a row leaves open")
    model: ModelSettings = Field(default_factory=ModelSettings, description="the weights and how they run")
    checks: ChecksSettings = Field(default_factory=ChecksSettings, description="the quality filters")
    mark: MarkSettings = Field(default_factory=MarkSettings, description="the watermark")
    commit: CommitSettings = Field(default_factory=CommitSettings, description="when records are committed")
    inputs: InputsSettings = Field(default_factory=InputsSettings, description="input pictures")
    farm: FarmSettings = Field(default_factory=FarmSettings, description="workers")
    cost: CostSettings = Field(default_factory=CostSettings, description="price for the estimate")
    schedule: ScheduleSettings | None = Field(None, description="when `renderfarm schedule` runs the job")
    notify: NotifySettings = Field(default_factory=NotifySettings, description="who is told how a run ends")
    budget: BudgetSettings = Field(default_factory=BudgetSettings, description="what one run may use up")
    witness: WitnessSettings = Field(default_factory=WitnessSettings, description="who is told of each run's last checkpoint")
    keys: str | None = Field(None, description="folder of the key set; none: the user's configuration folder")
    forbidden_words: tuple[Annotated[str, Field(min_length=1, max_length=200, pattern=r"\w")], ...] = Field(
        (), max_length=20_000, description="words or phrases that no prompt and no wanted text may hold; refused before anything renders"
    )
    forbidden_words_file: str | None = Field(None, description="a text file with more of them, one a line; # begins a remark")
    provider: str = Field("renderfarm user", min_length=1, max_length=120, description="who is named in the credential as provider")

    @field_validator("output", mode="before")
    @classmethod
    def _bare_output(cls, value: object) -> object:
        return {"to": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _attempts_are_enough(self) -> JobSettings:
        if self.checks.attempts < self.defaults.of:
            of, attempts = self.defaults.of, self.checks.attempts
            raise ValueError(f"defaults.of: {of} needs checks.attempts of {of} or more, and it is {attempts}: each rendering is an attempt")
        return self

    @model_validator(mode="after")
    def _price(self) -> JobSettings:
        if self.budget.money is not None and self.cost.per_hour is None:
            raise ValueError("budget.money needs cost.per_hour, the price of one renderer for one hour")
        return self

    def media_type(self) -> str:
        """MIME type of accepted images."""
        return f"image/{self.output.format}"
