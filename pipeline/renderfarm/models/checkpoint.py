"""Single-file checkpoints: one .safetensors file. `model.config` names a local diffusers folder with everything that the file lacks:
configs, tokenizers, and the weights of the other parts.

The names of the tensors tell two kinds apart before anything loads:

    a whole model      denoiser (UNet or transformer), VAE, perhaps text encoders: as trainers and WebUIs save it
    a denoiser alone   such as SDXL Lightning's UNet, or a fine-tuned FLUX transformer

diffusers translates the names; the Hub is never asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from renderfarm.errors import WeightsError
from renderfarm.models.families import Family
from renderfarm.models.layout import Component, read_json
from renderfarm.models.sampling import ZERO_SNR
from renderfarm.weights.headers import check_safetensors, read_header

WHOLE = ("first_stage_model.", "vae.")
"""Tensor names of a VAE: the file holds a whole model."""

CLIP = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.clip_l.", "text_encoders.clip_g.")
T5 = ("text_encoders.t5xxl.",)

CLIP_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")


def supplied_by(file: Path, parts: Iterable[Component], family: Family) -> tuple[str, ...]:
    """Returns the names of the parts whose weights this checkpoint holds. Raises WeightsError: damaged, or no denoiser in it."""
    check_safetensors(file)
    names = [name for name in read_header(file) if name != "__metadata__"]

    def holds(prefixes: tuple[str, ...]) -> bool:
        return any(name.startswith(prefixes) for name in names)

    if all("lora" in name for name in names):
        raise WeightsError("this is a LoRA adapter, not a model", str(file), "name it under model.adapters")
    kind = architecture_of(names)
    if kind is None or family.name not in kind[1]:
        what = f"the file holds {kind[0] if kind else 'no denoiser that is known'}, and model.config is of another family ({family.name}): "
        raise WeightsError(f"{what}no denoiser for it", str(file), "name a model.config of the same family")
    supplied: set[str] = {family.denoiser}
    if holds(WHOLE):
        supplied.add("vae")
        for part in parts:
            if (part.kind in CLIP_CLASSES and holds(CLIP)) or (part.kind == "T5EncoderModel" and holds(T5)):
                supplied.add(part.name)
        if holds(T5) and not holds(CLIP) and any(part.kind in CLIP_CLASSES for part in parts):
            what = "the file holds the family's T5 and not its CLIP encoders, and diffusers would read T5 as CLIP"
            raise WeightsError(what, str(file), "use the file with all encoders, or the one with none")
    return tuple(sorted(supplied & {part.name for part in parts}))


ARCHITECTURES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("Stable Diffusion 3", ("sd3",), ("joint_blocks.", "pos_embed.pos_embed")),
    ("FLUX.2", ("flux2",), ("double_stream_modulation_img.", "single_stream_modulation.")),
    ("Chroma", ("chroma",), ("distilled_guidance_layer.",)),
    ("FLUX.1", ("flux", "flux_kontext", "flux_fill"), ("double_blocks.", "single_transformer_blocks.")),
    ("Sana", ("sana",), ("caption_norm.", "attention_y_norm.", "y_embedder.")),
    ("Lumina 2 or Z-Image", ("lumina2", "z_image"), ("cap_embedder.", "noise_refiner.")),
    ("Qwen-Image", ("qwen_image",), ("txt_norm.", "transformer_blocks.0.img_mod.")),
    ("Stable Diffusion XL", ("sdxl",), ("conditioner.embedders.", "label_emb.", "add_embedding.")),
    ("Stable Diffusion 2", ("sd", "lcm"), ("cond_stage_model.model.",)),
    ("Stable Diffusion 1", ("sd", "lcm"), ("input_blocks.", "down_blocks.")),
)
"""Architecture, families of it, and names by which a single file of it is told, the surest first."""


def architecture_of(names: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """What a single file with tensors of these names is: in words, and the families that it may be of; None for what is not known."""
    bare = [name.removeprefix("model.diffusion_model.").removeprefix("diffusion_model.") for name in names]
    found = ((kind, families) for kind, families, parts in ARCHITECTURES if any(name.startswith(parts) for name in bare))
    return next(found, None)


SPOKEN: dict[str, dict[str, object]] = {
    "v_pred": {"prediction_type": "v_prediction"},
    "ztsnr": {"rescale_betas_zero_snr": True},
}
"""Empty tensors by which a file says how it was trained, and what that is in the configuration of a sampler of diffusers."""

OTHER_NOISE = ("edm_vpred.sigma_max", "edm_mean")
"""Tensors of files that were trained on EDM's noise levels (CosXL, Playground 2.5)."""


def spoken_sampler(file: Path, folder: Path, scheduler: str) -> dict[str, object]:
    """Returns what the file says of its training that the sampler's configuration in `folder` does not. `scheduler`: the class in use.

    Raises WeightsError when that sampler cannot do it.
    """
    header = read_header(file)
    said: dict[str, object] = {}
    for name, change in SPOKEN.items():
        said |= change if name in header else {}
    spec = header.get("__metadata__", {})
    if str(spec.get("modelspec.prediction_type", "")).lower() in ("v", "v_prediction", "v-prediction"):
        said |= SPOKEN["v_pred"]
    if any(name in header for name in OTHER_NOISE) and not scheduler.startswith("EDM"):
        what = f"the file was trained on EDM's noise levels, and {scheduler} has others"
        raise WeightsError(what, str(file), "name a model.config whose scheduler is an EDM one, and no model.scheduler")
    if "rescale_betas_zero_snr" in said and scheduler not in ZERO_SNR:
        what = f"the file was trained with zero terminal SNR (ztsnr), which {scheduler} does not know"
        raise WeightsError(what, str(file), "set model.scheduler: euler")
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    return {name: value for name, value in said.items() if config.get(name) != value}


def weights_in(file: Path) -> tuple[tuple[str, int], ...]:
    """Returns how many numbers the file holds, of text encoders and of all else. Raises WeightsError: damaged."""
    total = check_safetensors(file)
    encoders = sum(math.prod(entry["shape"]) for name, entry in read_header(file).items() if name.startswith(CLIP + T5))
    return (("checkpoint", total - encoders), ("text_encoder of checkpoint", encoders))


def load_checkpoint(pipeline_class: str, folder: Path, file: Path, supplied: tuple[str, ...], dtype: Any, left_out: dict[str, Any]) -> Any:
    """Returns the pipeline with the file's weights in it. Raises what diffusers raises."""
    import diffusers

    single = {"config": str(folder), "local_files_only": True, "torch_dtype": dtype}
    kind = getattr(diffusers, pipeline_class)
    own = {name: spec[1] for name, spec in read_json(folder / "model_index.json").items() if isinstance(spec, list) and spec[0] is not None}
    if any(name.startswith("text_encoder") for name in supplied):  # which only the pipeline's own loader takes apart
        lacking = [name for name in own if name.startswith("text_encoder") and name not in supplied]
        parts = {name: _part(str(own[name]), folder, name, dtype) for name in lacking}
        return kind.from_single_file(str(file), **single, **parts, **left_out)
    parts = {name: getattr(diffusers, str(own[name])).from_single_file(str(file), subfolder=name, **single) for name in supplied}
    return kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, **parts, **left_out)


def _part(kind: str, folder: Path, name: str, dtype: Any) -> Any:
    """A text encoder that the file lacks, from the folder."""
    import transformers

    options = {"subfolder": name, "use_safetensors": True, "local_files_only": True, "torch_dtype": dtype}
    return getattr(transformers, kind).from_pretrained(str(folder), **options)
