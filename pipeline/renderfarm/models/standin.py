"""Builds a tiny, randomly initialised Stable Diffusion pipeline in a folder: `python -m renderfarm.models.standin
FOLDER`.

It stands in where no trained weights are at hand. Its pictures are coloured noise that depends on prompt and seed,
nothing more; its record says so. The architecture is Stable Diffusion 2's (v-prediction, CLIP text encoder,
four-channel VAE at an eighth of the size), its weights come from a fixed seed, so that one version of torch builds the
same bytes everywhere. It runs in a process of its own, so that the driver stays free of torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

# Their constructors carry no types.
_diffusers: Any = diffusers
_transformers: Any = transformers

SEED = 20260101
TEXT_LENGTH = 77

CARD = """---
license: apache-2.0
---
# Random stand-in

A tiny, untrained Stable Diffusion pipeline that renderfarm builds on this machine when no trained weights are at hand.
"""


def byte_alphabet() -> list[str]:
    """Returns the 256 printable characters that stand for bytes 0..255 in byte-level BPE (GPT-2's table: Radford et al.
    2019)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = iter(range(256, 512))
    return [chr(value if value in plain else next(shifted)) for value in range(256)]


def clip_tokenizer() -> Any:
    """Returns a CLIP tokenizer without merges: one token per byte, and one per byte that ends a word. 514 tokens."""
    letters = byte_alphabet()
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return _transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=TEXT_LENGTH)


def text_encoder(tokenizer: Any, width: int) -> Any:
    """Returns a two-layer CLIP text encoder of `width` channels."""
    config = _transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return _transformers.CLIPTextModel(config).eval()


def build() -> Any:
    """Returns the stand-in in memory, the same for every call; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tokenizer = clip_tokenizer()
        unet = _diffusers.UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
        )
        vae = _diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=256,
        )
        _more_contrast(vae, unet)
        scheduler = _diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=False,
            timestep_spacing="trailing",
        )
        pipe = _diffusers.StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder(tokenizer, 32),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return pipe


def _more_contrast(vae: Any, unet: Any) -> None:
    """Scales the last layers so that pixels span the range and the prompt moves them; random layers alone give grey."""
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 0.7
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            for attention in getattr(block, "attentions", ()):
                attention.proj_out.weight *= 6.0


def save(folder: Path) -> None:
    """Writes the stand-in with its card into `folder`."""
    build().save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save(Path(sys.argv[1]))
