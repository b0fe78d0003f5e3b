"""Between pictures and latents: encode, decode (in pieces, when memory is short), and quantise to levels.

Shapes: B images, C latent channels, h and w the latent size. Pictures are RGB.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from renderfarm.models import LoadedModel
from renderfarm.render.batching import out_of_memory

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


def decode(model: LoadedModel, latents: torch.Tensor, *, tiles: bool = True) -> torch.Tensor:
    """Returns pictures (B, 3, H, W), about -1..1, from latents (B, C, h, w), undoing the VAE's normalisation.

    Where memory does not hold it, in smaller pieces. `tiles`: a single picture may be cut, for nothing else can be made smaller. Raises
    what the allocator raises when not even those fit.
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
    size = (latents.shape[-2], latents.shape[-1])
    while True:
        tile = model.tiles.get(size, 0)
        try:
            with _decoding:
                return _decoded(vae, latents, tile)
        except (RuntimeError, MemoryError) as error:
            with _decoding:
                if not out_of_memory(error) or not _use_smaller_pieces(model, latents, tile, tiles=tiles):
                    raise


def _decoded(vae: Any, latents: torch.Tensor, tile: int) -> torch.Tensor:
    """Decodes, in tiles of so many latents a side unless `tile` is 0; what else uses the VAE knows nothing of tiles."""
    if tile and hasattr(vae, "tile_latent_min_size"):
        scale = vae.tile_sample_min_size // vae.tile_latent_min_size
        vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * scale
    if tile:
        vae.enable_tiling()
    try:
        pictures: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return pictures
    finally:
        if tile:
            vae.disable_tiling()


def _use_smaller_pieces(model: LoadedModel, latents: torch.Tensor, tile: int, *, tiles: bool) -> bool:
    """From now on pictures are decoded one by one, or pictures of this size in overlapping tiles of half the size; False when that
    cannot be.

    Tiles change pixels where they meet (`LoadedModel.tiles`), so a batch is halved before they are tried. A side is a multiple of 4:
    diffusers overlaps tiles by a quarter, and other sides do not add up to the picture.
    """
    vae, size = model.pipe.vae, (latents.shape[-2], latents.shape[-1])
    if len(latents) > 1:
        able = not getattr(vae, "use_slicing", True)
        if able:
            vae.enable_slicing()
        return able
    if not tiles or not hasattr(vae, "use_tiling"):
        return False
    if model.tiles.get(size, 0) != tile:
        return True  # another thread did it meanwhile
    smaller = (tile or max(size)) // 8 * 4
    if smaller < TILE_MIN or (tile and not hasattr(vae, "tile_latent_min_size")):
        return False
    model.tiles[size] = smaller
    return True


def quantise(pictures: torch.Tensor) -> torch.Tensor:
    """Returns uint8 (B, H, W, 3) from pictures (B, 3, H, W) in -1..1, rounded to the nearest level."""
    levels = ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()
