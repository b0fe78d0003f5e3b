"""Between pictures and latents: encode, decode (in pieces, when memory is short), and quantise to levels.

Shapes: B images, C latent channels, h and w the latent size. Pictures are RGB.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from pipeline.models import LoadedModel
from pipeline.render.batching import out_of_memory

TILE_MIN = 32
"""Latents a side of the smallest tile: 256 pixels where a VAE shrinks by 8. Smaller ones save little and show their seams."""

_decoding = threading.Lock()  # the size of tiles must not change under a thread that decodes with them


def encode_pictures(model: LoadedModel, pictures: torch.Tensor) -> torch.Tensor:
    """Returns latents (B, C, h, w) of pictures (B, 3, H, W) in 0..1: the mean, not a sample."""
    vae = model.pipe.vae
    encoded = vae.encode((pictures * 2 - 1).to(model.device, vae.dtype))
    latents: torch.Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    scaled: torch.Tensor = latents * vae.config.scaling_factor
    return scaled.to(model.dtype)


def decode(model: LoadedModel, latents: torch.Tensor) -> torch.Tensor:
    """Returns pictures (B, 3, H, W), about -1..1, from latents (B, C, h, w), undoing the VAE's normalisation.

    Where memory does not hold it, in smaller pieces. Raises what the allocator raises when not even those fit.
    """
    vae = model.pipe.vae
    config = vae.config
    if vae.dtype is torch.float16 and getattr(config, "force_upcast", False):
        vae.to(torch.float32)  # SDXL's image-to-image leaves it in float16, where it overflows
    latents = latents.to(vae.dtype)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        centre = torch.tensor(mean, device=latents.device, dtype=latents.dtype).view(shape)
        spread = torch.tensor(std, device=latents.device, dtype=latents.dtype).view(shape)
        latents = latents * spread / config.scaling_factor + centre
    else:
        latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    while True:
        try:
            with _decoding:
                pictures: torch.Tensor = vae.decode(latents, return_dict=False)[0]
            return pictures
        except (RuntimeError, MemoryError) as error:
            with _decoding:
                if not out_of_memory(error) or not _made_thriftier(vae, latents):
                    raise


def _made_thriftier(vae: Any, latents: torch.Tensor) -> bool:
    """Makes the VAE decode pictures one by one, or one picture in overlapping tiles of half the size, from now on; False when it cannot.

    Tiles change pixels where they meet (`LoadedModel.tiled`), so a batch is halved before they are tried.
    """
    if len(latents) > 1 or not hasattr(vae, "tile_latent_min_size"):
        kind = "slicing" if len(latents) > 1 else "tiling"
        able = not getattr(vae, f"use_{kind}", True)
        if able:
            getattr(vae, f"enable_{kind}")()
        return able
    side = max(latents.shape[-2:])
    tile = (min(side, vae.tile_latent_min_size) if vae.use_tiling else side) // 2
    if tile < TILE_MIN:
        return False
    scale = vae.tile_sample_min_size // vae.tile_latent_min_size
    vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * scale
    vae.enable_tiling()
    return True


def quantise(pictures: torch.Tensor) -> torch.Tensor:
    """Returns uint8 (B, H, W, 3) from pictures (B, 3, H, W) in -1..1, rounded to the nearest level."""
    levels = ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()
