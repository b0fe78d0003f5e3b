"""What changed the pixels of a batch, as the record says it: one (name, JSON) pair for each setting that has no field of its own there.

Only what differs from a plain call of diffusers with the same weights is said. Every field of `ModelSettings` is either here or in
`ELSEWHERE`, which a test holds, so that a setting that is added later cannot be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from renderfarm.job.model import ModelSettings
from renderfarm.models import LoadedModel
from renderfarm.models.adapters import weighted
from renderfarm.schema import Adapter

if TYPE_CHECKING:
    from renderfarm.render.stages import Request

ELSEWHERE = frozenset({"weights", "config", "revision", "dtype", "device", "accept_licence", "adapters", "memory", "batch"})
"""Fields of the model's settings that the record tells otherwise, or that change no pixel."""


def settings_of(
    model: LoadedModel, settings: ModelSettings, request: Request, *, texts: Sequence[str], long: bool, weighted: bool, slots: bool
) -> tuple[tuple[str, str], ...]:
    """What changed the pixels of this batch beside the fields of the record, sorted by name. `texts`: its prompts; `slots`: it was stepped
    in slots; `long`: a prompt in it was longer than the model reads; `weighted`: weights in one were read."""
    cuda, speed, lossy = model.device.type == "cuda", settings.speed, settings.lossy
    vae, control = getattr(model.pipe, "vae", None), model.resolved.control if request.controlled else None
    said: dict[str, object] = {
        "controlnet.digest": control and control.digest,
        "controlnet.scale": control and control.scale,
        "controlnet.mode": control and control.mode,
        "deterministic": settings.deterministic,
        "encoders": model.encoders_device and str(model.encoders_device),
        "long_prompts": long and settings.long_prompts,
        "lossy.quantise": lossy.quantise != "none" and lossy.quantise,
        "lossy.reuse": lossy.reuse > 1 and lossy.reuse,
        "clip_skip": settings.clip_skip,
        "guidance_rescale": settings.guidance_rescale > 0 and settings.guidance_rescale,
        "true_cfg": settings.true_cfg,
        "prompt_weights": weighted and "read",
        "sampler": settings.scheduler,
        "slots": slots,
        "speed.channels_last": speed.channels_last is True or (speed.channels_last == "auto" and cuda),
        "speed.compile": speed.compile != "off" and speed.compile,
        "speed.fuse_qkv": speed.fuse_qkv,
        "speed.graphs": speed.graphs and cuda and model.mode == "full",
        "strength": request.task != "text" and model.family.by_strength and request.strength,
        "speed.tf32": speed.tf32 and cuda and not settings.deterministic,
        "vae.slicing": getattr(vae, "use_slicing", False),
        "vae.tiling": tile_of(model, request.size) or False,
    }
    said |= {"sigmas": settings.sigmas, "shift": settings.shift, "zero_snr": settings.zero_snr}
    said |= {"prediction_type": settings.prediction_type}
    said |= {f"embeddings.{one.word}": one.sha256 for one in model.resolved.embeddings if any(one.word in text for text in texts)}
    stated = {name: value for name, value in said.items() if value is not None and value is not False}
    stated |= {f"sampler.{name}": value for name, value in model.sampler.items()}
    return tuple((name, json.dumps(stated[name], sort_keys=True, separators=(",", ":"), ensure_ascii=False)) for name in sorted(stated))


def adapters_of(model: LoadedModel, request: Request) -> tuple[Adapter, ...]:
    """The LoRAs that took part in this batch."""
    return tuple(Adapter(one.name, one.sha256, weight) for one, weight in weighted(model.resolved.adapters, request.adapter))


def tile_of(model: LoadedModel, size: tuple[int, int]) -> int:
    """The side, in latents, of the tiles that pictures of this width and height are decoded in; 0: decoded whole."""
    scale = getattr(model.pipe, "vae_scale_factor", 0)
    return model.tiles.get((size[1] // scale, size[0] // scale), 0) if scale else 0
