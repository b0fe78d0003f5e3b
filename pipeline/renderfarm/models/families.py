"""What renderfarm knows of each family of latent diffusion models, by the pipeline class that its model_index.json
names.

Facts only, no heavy import: `resolve` refuses by it before anything renders, `load` and `render` act by it. A class
that is not in the table is refused by name: what its call does with a guidance of 1, a negative prompt or a size that it cannot draw is
not known, and a picture of something else would be recorded as what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from renderfarm.errors import WeightsError

Prediction = Literal["diffusion", "flow"]
"""`diffusion`: epsilon or v on a variance-preserving schedule. `flow`: velocity of a straight path (rectified flow)."""


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture.

    `embeddings`: names of the pipeline arguments that one encoded prompt fills, in the order of `pick` over what
    `encode_prompt` returns; without names it is rendered through the pipeline's own plain call. `size_multiple`: width and
    height in pixels must be multiples of it. `negative`: whether a negative prompt has an effect. `packed`: the latents travel
    as 2×2 patches in a sequence. `samplers`: the only ones that its pipeline can drive; empty: all that fit the prediction.

    `text`, `image`, `inpaint`: whether it draws from words alone, from an init image, and inside a mask. `adapters`: whether diffusers
    loads LoRA files for it. `single_file`: whether diffusers reads its weights from one file. `reuse`: whether features can be reused
    between steps. `control`: whether a ControlNet can guide it. `modes`: whether compiling, graphs, 8 bits and encoders elsewhere are
    proven for it.

    Of the plain call: `guidance`: the argument that guidance is, and `unguided`: its value that switches guidance off; `empty_negative`:
    the negative prompt where a row has none and is guided (some pipelines are guided only if there is one); `together`: whether its
    prompts may share a call, else each picture is drawn alone; `by_strength`: whether an init image is where drawing starts, and not
    something to look at; `always`: arguments that every call gets; `as_pictures`: whether it takes init images as PIL has them;
    `variants`: task → the diffusers class for it, where diffusers' automatic pipelines do not know it.
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
    text: bool = True
    image: bool = True
    inpaint: bool = True
    adapters: bool = True
    single_file: bool = True
    reuse: bool = True
    control: bool = False
    modes: bool = True
    guidance: str = "guidance_scale"
    unguided: float | None = None
    empty_negative: str | None = None
    together: bool = False
    by_strength: bool = True
    always: tuple[tuple[str, object], ...] = ()
    as_pictures: bool = False
    variants: tuple[tuple[str, str], ...] = ()


def _plain(name: str, kind: str, **facts: Any) -> Family:
    """A family of transformers with flow matching that is drawn by its pipeline's own call, in 2×2 patches of a VAE that shrinks by 8."""
    shared = {"size_multiple": 16, "samplers": ("flow_euler",), "single_file": False, "reuse": False, "modes": False}
    return Family(name, (kind,), "transformer", "flow", (), (), **{**shared, **facts})


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
        "sd", ("StableDiffusionInpaintPipeline",), "unet", "diffusion", ("prompt_embeds",), (0,), text=False, image=False, single_file=False
    ),
    Family(
        "sdxl",
        ("StableDiffusionXLInpaintPipeline",),
        "unet",
        "diffusion",
        ("prompt_embeds", "pooled_prompt_embeds"),
        (0, 2),
        text=False,
        image=False,
        single_file=False,
    ),
    Family(
        "sd3",
        ("StableDiffusion3Pipeline",),
        "transformer",
        "flow",
        ("prompt_embeds", "pooled_prompt_embeds"),
        (0, 2),
        size_multiple=16,
        inpaint=False,  # drawn by as much as 12 grey levels otherwise than diffusers draws it
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
        control=True,
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
        inpaint=False,
        single_file=False,
        together=True,
        by_strength=False,
        as_pictures=True,
    ),
    _plain("z_image", "ZImagePipeline", unguided=0.0),
    _plain("qwen_image", "QwenImagePipeline", guidance="true_cfg_scale", empty_negative=" "),
    _plain("chroma", "ChromaPipeline", inpaint=False, variants=(("image", "ChromaImg2ImgPipeline"),)),
    _plain(
        "flux_kontext",
        "FluxKontextPipeline",
        negative=False,
        by_strength=False,
        always=(("_auto_resize", False),),
        variants=(("inpaint", "FluxKontextInpaintPipeline"),),
    ),
    _plain("flux_fill", "FluxFillPipeline", negative=False, text=False, image=False),
    _plain("lumina2", "Lumina2Pipeline", image=False, inpaint=False),
    _plain("cogview4", "CogView4Pipeline", image=False, inpaint=False),
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
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", frozenset({"diffusion"}), {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde_karras": (
        "DPMSolverMultistepScheduler",
        frozenset({"diffusion"}),
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", frozenset({"diffusion"}), {}),
    "dpmpp_sde_karras": ("DPMSolverSinglestepScheduler", frozenset({"diffusion"}), {"use_karras_sigmas": True}),
    "lms": ("LMSDiscreteScheduler", frozenset({"diffusion"}), {}),
    "lms_karras": ("LMSDiscreteScheduler", frozenset({"diffusion"}), {"use_karras_sigmas": True}),
    "deis": ("DEISMultistepScheduler", frozenset({"diffusion"}), {}),
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


UNKNOWN_CLASSES: dict[str, str] = {
    "HiDreamImagePipeline": "draws another size than is asked for, unless that has a million pixels",
    "HunyuanImagePipeline": "is guided by a part of its own, and a row's guidance would have no effect",
    "KolorsPipeline": "reads prompts by sentencepiece, which is not installed with renderfarm",
    "KolorsImg2ImgPipeline": "reads prompts by sentencepiece, which is not installed with renderfarm",
    "QwenImageEditPipeline": "looks at its picture by a processor that is not installed with renderfarm (torchvision)",
    "QwenImageEditPlusPipeline": "looks at its pictures by a processor that is not installed with renderfarm (torchvision)",
}
"""Classes of pictures that people have and renderfarm does not draw, with the reason."""

FILM = ("Wan", "Video", "LTX", "CogVideo", "Mochi", "Allegro", "Latte", "AnimateDiff", "SkyReels", "Helios", "Cosmos", "Kandinsky5", "Lucy")
SOUND = ("Audio", "AceStep", "MusicLDM", "Dance")


def family_of(pipeline_class: str) -> Family:
    """Returns the family of a diffusers pipeline class. Raises WeightsError when it is not in the table."""
    for family in FAMILIES:
        if pipeline_class in family.classes:
            return family
    known = ", ".join(sorted(kind for family in FAMILIES for kind in family.classes))
    reason = UNKNOWN_CLASSES.get(pipeline_class, "")
    if not reason and any(part in pipeline_class for part in (*FILM, *SOUND)):
        reason = "draws films" if any(part in pipeline_class for part in FILM) else "makes sound"
    what = f"this pipeline {reason}" if reason else "what this pipeline draws is not known to be what is asked of it"
    raise WeightsError(what, pipeline_class, f"use weights for one of {known}")


def samplers_for(family: Family) -> list[str]:
    """Returns the names of the samplers that this family's pipeline can drive, sorted."""
    fitting = (name for name, (_, kinds, _) in SCHEDULERS.items() if family.prediction in kinds)
    return sorted(family.samplers or fitting)
