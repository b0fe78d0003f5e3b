"""Real architectures with random weights, for benchmarks: they cost exactly what the trained ones cost, and need no download.

The numbers are those of the published configs; `PARAMETERS` are the published sizes of the denoisers, which `save` checks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

TEXT_LENGTH = 77

PARAMETERS = {"sd21": 865_910_724, "sdxl": 2_567_463_684, "sd35m": 2_243_171_520}
"""Weights of the denoiser: stable-diffusion-2-1, stable-diffusion-xl-base-1.0, stable-diffusion-3.5-medium (learned parts)."""

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def clip_tokenizer() -> Any:
    """Returns a CLIP tokenizer without merges: one token per byte, and one per byte that ends a word. 514 tokens."""
    letters = [character for _, character in sorted(bytes_to_unicode().items())]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=TEXT_LENGTH)


def clip(width: int, layers: int, heads: int, *, projection: bool, act: str) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=TEXT_LENGTH,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=512,
        eos_token_id=513,
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config)


def vae(channels: int, **config: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=channels,
        **config,
    )


def sd21_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    )


def sdxl_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def sd35m_transformer() -> Any:
    return diffusers.SD3Transformer2DModel(
        sample_size=128,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=384,
        qk_norm="rms_norm",
        dual_attention_layers=tuple(range(13)),
    )


def sd21() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip(1024, 23, 16, projection=False, act="gelu"),
        tokenizer=clip_tokenizer(),
        unet=sd21_unet(),
        scheduler=diffusers.DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.13025, force_upcast=True),
        text_encoder=clip(768, 12, 12, projection=False, act="quick_gelu"),
        text_encoder_2=clip(1280, 32, 20, projection=True, act="gelu"),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=sdxl_unet(),
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE),
        add_watermarker=False,
    )


def sd35m() -> Any:
    """Without T5, which Stable Diffusion 3.5 may run without: the transformer sees the same sequence length."""
    return diffusers.StableDiffusion3Pipeline(
        transformer=sd35m_transformer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(768, 12, 12, projection=True, act="quick_gelu"),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(1280, 32, 20, projection=True, act="gelu"),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


PIPELINES: dict[str, Callable[[], Any]] = {"sd21": sd21, "sdxl": sdxl, "sd35m": sd35m}
DENOISERS: dict[str, Callable[[], Any]] = {"sd21": sd21_unet, "sdxl": sdxl_unet, "sd35m": sd35m_transformer}


def built(name: str, under: Path, device: str) -> Path:
    """Returns the folder `under`/name with the pipeline, built now if an earlier call did not."""
    folder = under / name
    if not (folder / "model_index.json").is_file():  # save_pretrained writes it last
        save(name, folder, "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    return folder


def save(name: str, folder: Path, device: str) -> Path:
    """Builds the pipeline on `device` in bfloat16 and saves it into `folder`, which is returned."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            pipe = PIPELINES[name]()
    finally:
        torch.set_default_dtype(before)
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    count = sum(weights.numel() for weights in denoiser.parameters())
    assert count == PARAMETERS[name], f"{name} has {count} weights, published are {PARAMETERS[name]}"
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder
