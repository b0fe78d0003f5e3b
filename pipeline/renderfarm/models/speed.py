"""`model.speed` and `model.lossy`, applied to a loaded pipeline. Order: quantise, fuse, memory order, reuse, compile.

What is lossy and cannot be had is refused in `resolve`, before anything renders: reuse in a transformer that diffusers cannot cache,
8 bits without torchao.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError, first_line
from renderfarm.job.model import ModelSettings
from renderfarm.models.families import Family
from renderfarm.models.memory import Mode
from renderfarm.models.reuse import reuse_deep_features

UNFUSED = ("sd3",)
"""Families whose fused attention breaks in diffusers 0.42: SD 3.5's second self-attention gets the processor of the joint one."""

SLOTTED = {"sd": "EulerDiscreteScheduler", "sd3": "FlowMatchEulerDiscreteScheduler"}
"""Family → the diffusers class of the sampler that `render.slots` steps."""

TAYLOR_WARM_UP = 2
"""Full steps before TaylorSeer predicts any: a first-order prediction needs two."""


def refuse_modes(settings: ModelSettings, family: Family, scheduler: str) -> None:
    """Raises WeightsError for a mode that these weights, this sampler or this installation cannot give."""
    if settings.slots and SLOTTED.get(family.name) != scheduler:
        remedy = "set model.scheduler: euler" if family.name == "sd" else "remove it"
        raise WeightsError(f"slots cannot step {family.name} with {scheduler}", "model.slots", remedy)
    if settings.long_prompts == "chunk" and family.name not in ("sd", "lcm", "sdxl"):
        what = f"prompts of this family ({family.name}) are not read by CLIP alone, and cannot be encoded in chunks"
        raise WeightsError(what, "model.long_prompts", "set it to cut or refuse")
    if settings.prompt_weights == "read" and family.name not in ("sd", "lcm", "sdxl"):
        what = f"prompts of this family ({family.name}) are not read by CLIP alone, and their weights cannot be read"
        raise WeightsError(what, "model.prompt_weights", "set it to letters or refuse")
    wanted = (settings.speed.compile != "off", settings.speed.graphs, settings.speed.fuse_qkv, settings.lossy.quantise != "none")
    if not family.modes and any(wanted):
        what = f"compiling, graphs, fused attention and 8 bits are not proven for this family ({family.name})"
        raise WeightsError(what, "model.speed", "remove compile, graphs and fuse_qkv, and lossy.quantise")
    if settings.speed.fuse_qkv and family.name in UNFUSED:
        raise WeightsError(f"diffusers cannot fuse this family's attention ({family.name})", "model.speed.fuse_qkv", "remove it")
    if settings.lossy.reuse > 1 and not family.reuse:
        what = f"diffusers has no cache for this family ({family.name})"
        raise WeightsError(what, "model.lossy.reuse", "remove it")
    if settings.lossy.quantise != "none" and importlib.util.find_spec("torchao") is None:
        raise WeightsError("torchao is not installed", "model.lossy.quantise", "pip install torchao, or remove the setting")


def refuse_compiled(settings: ModelSettings, mode: Mode) -> None:
    """Raises WeightsError where sub-models move, which a wholly compiled denoiser would be compiled again for."""
    if settings.speed.compile == "full" and mode != "full":
        what = f"the weights do not fit on the GPU whole (memory: {mode}), and speed.compile: full needs them there"
        raise WeightsError(what, "model.speed.compile", "use speed.compile: regional, or a GPU with more memory")


def apply(pipe: Any, family: Family, settings: ModelSettings, *, cuda: bool) -> None:
    """Changes the pipeline in place; adapters are loaded, the weights are where they will stay or about to be moved there."""
    import torch

    speed, lossy = settings.speed, settings.lossy
    denoiser = getattr(pipe, family.denoiser, None)
    if denoiser is None:
        return
    if lossy.quantise != "none":
        _quantise(denoiser, lossy.quantise)
    if speed.fuse_qkv:
        parts: tuple[Any, ...] = (denoiser, getattr(pipe, "vae", None))
        for part in parts:
            if hasattr(part, "fuse_qkv_projections"):
                part.fuse_qkv_projections()
    if speed.channels_last is True or (speed.channels_last == "auto" and cuda):
        for name in ("unet", "vae"):
            if getattr(pipe, name, None) is not None:
                getattr(pipe, name).to(memory_format=torch.channels_last)
    if lossy.reuse > 1:
        _reuse(denoiser, family, lossy.reuse)


def compile_denoiser(pipe: Any, family: Family, mode: str) -> None:
    """Compiles in place; the first batch of each shape pays. Compiled code is kept in the user's cache."""
    import torch

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    denoiser = getattr(pipe, family.denoiser)
    if mode == "regional" and getattr(denoiser, "_repeated_blocks", None):
        denoiser.compile_repeated_blocks(dynamic=False)
    else:
        denoiser.forward = torch.compile(denoiser.forward, dynamic=False)


def _reuse(denoiser: Any, family: Family, every: int) -> None:
    if family.denoiser == "unet":
        reuse_deep_features(denoiser, every)
        return
    import diffusers
    import torch

    kind: Any = diffusers.TaylorSeerCacheConfig  # its constructor carries no types
    config = kind(cache_interval=every, disable_cache_before_step=TAYLOR_WARM_UP, max_order=1, taylor_factors_dtype=torch.float32)
    denoiser.enable_cache(config)


def _quantise(denoiser: Any, kind: str) -> None:
    """Raises WeightsError with what torchao says when it cannot."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        quantize_,
    )

    config = Int8DynamicActivationInt8WeightConfig() if kind == "int8" else Float8DynamicActivationFloat8WeightConfig()
    try:
        quantize_(denoiser, config)
    except (AssertionError, RuntimeError, NotImplementedError, ValueError) as error:
        reason = first_line(error)
        raise WeightsError(f"torchao cannot quantise to {kind} here: {reason}", "model.lossy.quantise", "remove it") from error
