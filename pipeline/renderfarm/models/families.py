"""What renderfarm knows of each family of latent diffusion models, by the pipeline class that its model_index.json
names.

Facts only, no heavy import: `resolve` refuses by it before anything renders, `load` and `render` act by it. A class
that is not in the table still loads; its family is `other`, and it is rendered through the pipeline's own plain call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Prediction = Literal["diffusion", "flow"]
"""`diffusion`: epsilon or v on a variance-preserving schedule. `flow`: velocity of a straight path (rectified flow)."""


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture.

    `embeddings`: names of the pipeline arguments that one encoded prompt fills, in the order of `pick` over what
    `encode_prompt` returns; without names it is rendered through the pipeline's own plain call. `size_multiple`: width and
    height in pixels must be multiples of it. `negative`: whether a negative prompt has an effect. `packed`: the latents travel
    as 2×2 patches in a sequence. `samplers`: the only ones that its pipeline can drive; empty: all that fit the prediction.

    `image`, `inpaint`: whether it draws from an init image, and inside a mask. `adapters`: whether diffusers loads LoRA files for
    it. `single_file`: whether diffusers reads its weights from one file. `reuse`: whether features can be reused between steps. `control`:
    whether a ControlNet can guide it.
    """

    name: str
    classes: tuple[str, ...]
    denoiser: Literal["unet", "transformer"]
    prediction: Prediction
    embeddings: tuple[str, ...]
    pick: tuple[int, ...]
    size_multiple: int = 8
    negative: bool = True
    packed: bool = False
    samplers: tuple[str, ...] = ()
    image: bool = True
    inpaint: bool = True
    adapters: bool = True
    single_file: bool = True
    reuse: bool = True
    control: bool = False


FAMILIES: tuple[Family, ...] = (
    Family("sd", ("StableDiffusionPipeline",), "unet", "diffusion", ("prompt_embeds",), (0,), control=True),
    Family(
        "lcm",
        ("LatentConsistencyModelPipeline",),
        "unet",
        "diffusion",
        ("prompt_embeds",),
        (0,),
        negative=False,
        samplers=("lcm",),
    ),
    Family("sdxl", ("StableDiffusionXLPipeline",), "unet", "diffusion", ("prompt_embeds", "pooled_prompt_embeds"), (0, 2), control=True),
    Family(
        "sd3",
        ("StableDiffusion3Pipeline",),
        "transformer",
        "flow",
        ("prompt_embeds", "pooled_prompt_embeds"),
        (0, 2),
        size_multiple=16,
        reuse=False,
    ),
    Family(
        "flux",
        ("FluxPipeline",),
        "transformer",
        "flow",
        ("prompt_embeds", "pooled_prompt_embeds"),
        (0, 1),
        size_multiple=16,
        negative=False,
        packed=True,
    ),
    Family(
        "flux2",
        ("Flux2Pipeline", "Flux2KleinPipeline"),
        "transformer",
        "flow",
        (),
        (),
        size_multiple=16,
        negative=False,
        samplers=("flow_euler",),
        image=False,
        inpaint=False,
        single_file=False,
    ),
    Family(
        "pixart",
        ("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
        "transformer",
        "diffusion",
        ("prompt_embeds", "prompt_attention_mask"),
        (0, 1),
        size_multiple=16,
        image=False,
        inpaint=False,
        adapters=False,
        single_file=False,
        reuse=False,
    ),
    Family(
        "sana",
        ("SanaPipeline",),
        "transformer",
        "flow",
        ("prompt_embeds", "prompt_attention_mask"),
        (0, 1),
        size_multiple=32,
        image=False,
        inpaint=False,
        reuse=False,
    ),
)

OTHER = Family("other", (), "transformer", "diffusion", (), (), single_file=False, reuse=False)
"""What is assumed of a pipeline class that the table does not know."""

SCHEDULERS: dict[str, tuple[str, frozenset[Prediction], dict[str, object]]] = {
    "ddim": ("DDIMScheduler", frozenset({"diffusion"}), {}),
    "ddpm": ("DDPMScheduler", frozenset({"diffusion"}), {}),
    "pndm": ("PNDMScheduler", frozenset({"diffusion"}), {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", frozenset({"diffusion"}), {}),
    "euler_trailing": ("EulerDiscreteScheduler", frozenset({"diffusion"}), {"timestep_spacing": "trailing"}),
    "euler_a": ("EulerAncestralDiscreteScheduler", frozenset({"diffusion"}), {}),
    "heun": ("HeunDiscreteScheduler", frozenset({"diffusion"}), {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", frozenset({"diffusion"}), {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", frozenset({"diffusion"}), {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", frozenset({"diffusion"}), {}),
    "lcm": ("LCMScheduler", frozenset({"diffusion"}), {}),
    "tcd": ("TCDScheduler", frozenset({"diffusion"}), {}),
    "flow_euler": ("FlowMatchEulerDiscreteScheduler", frozenset({"flow"}), {}),
    "flow_dpmpp_2m": (
        "DPMSolverMultistepScheduler",
        frozenset({"flow"}),
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    ),
    "flow_unipc": (
        "UniPCMultistepScheduler",
        frozenset({"flow"}),
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    ),
}
"""Sampler name in a job file → diffusers class, the predictions that it can sample, and what it changes in the weights'
configuration."""


def family_of(pipeline_class: str) -> Family:
    """Returns the family of a diffusers pipeline class; `OTHER` when it is not in the table."""
    return next((family for family in FAMILIES if pipeline_class in family.classes), OTHER)


def samplers_for(family: Family) -> list[str]:
    """Returns the names of the samplers that this family's pipeline can drive, sorted."""
    fitting = (name for name, (_, kinds, _) in SCHEDULERS.items() if family is OTHER or family.prediction in kinds)
    return sorted(family.samplers or fitting)
