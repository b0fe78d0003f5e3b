"""The starter model's parts: autoencoder, tokenizer, text encoder, denoiser, schedule, and the folder they are saved to.

Every part is a class of diffusers or transformers, so the folder loads as any other Stable Diffusion weights do.
Latents: (B, 16, 16, 16) for 256x256 pictures; training drives each channel to mean 0 and deviation 1, so the
pipeline's scaling factor is 1.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from scripts.starter.world import all_specs, captions

LATENT_CHANNELS = 16
TOKENS = 32
TEXT_WIDTH = 128
_START, _END = "<|startoftext|>", "<|endoftext|>"


def autoencoder(width: int = 32) -> Any:
    """An `AutoencoderTiny` that halves the picture four times; no block at full resolution in the encoder."""
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(width,) * 5,
        decoder_block_out_channels=(width,) * 5,
        num_encoder_blocks=(0, 1, 1, 2, 2),
        num_decoder_blocks=(4, 3, 2, 1, 0),
        latent_channels=LATENT_CHANNELS,
        upsampling_scaling_factor=2,
        scaling_factor=1.0,
    )
    _keep_variance(vae)
    return vae


def _keep_variance(vae: Any) -> None:
    """Initialise for a net without normalisation: He's gain (arXiv:1502.01852), each residual branch silent at first
    (arXiv:1901.09321). With torch's default the signal fades over 20 layers and the first minutes are lost."""
    from diffusers.models.autoencoders.vae import AutoencoderTinyBlock  # type: ignore[attr-defined]

    for part in vae.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
            if part.bias is not None:
                torch.nn.init.zeros_(part.bias)
    for part in vae.modules():
        if isinstance(part, AutoencoderTinyBlock):
            torch.nn.init.kaiming_normal_(part.conv[0].weight, nonlinearity="relu")
            torch.nn.init.kaiming_normal_(part.conv[2].weight, nonlinearity="relu")
            torch.nn.init.zeros_(part.conv[4].weight)
    last = vae.decoder.layers[-1]
    torch.nn.init.normal_(last.weight, std=0.01)
    torch.nn.init.constant_(last.bias, 0.5)


def denoiser(widths: tuple[int, int, int]) -> Any:
    """The `UNet2DConditionModel`: cross-attention at 8x8, in the middle and on the way up at 16x16; the caption also pooled
    into the time embedding.

    The pooled caption (`addition_embed_type="text"`) reaches every block as scale and shift, so colour and kind of
    object are learnt in far fewer steps than through cross-attention alone. Letters are one latent wide: which one comes where
    is decided at 16x16, so the last blocks attend to the caption too.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(1, 4, 4),  # diffusers reads it as the number of heads; 48 channels are one
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def take_over(unet: Any, start: Any) -> None:
    """Load the weights of `start` into `unet`, which may have attention blocks that `start` lacks: those begin silent.

    Raises RuntimeError if a weight of `start` has no place in `unet`, or anything but attention is missing."""
    missing, foreign = unet.load_state_dict(start.state_dict(), strict=False)
    if foreign or not all(".attentions." in name for name in missing):
        raise RuntimeError(f"these weights are of another shape: {[*foreign, *missing][:3]}")
    for name in missing:
        if ".proj_out." in name:
            torch.nn.init.zeros_(unet.get_parameter(name))


def schedule() -> Any:
    """The noise schedule: v-prediction, terminal signal-to-noise ratio 0 (arXiv:2305.08891), trailing spacing."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing spacing; another value makes the pipeline warn
    )


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair vocabulary and merges that turn every word of the world's captions into one token.

    Learnt as in arXiv:1508.07909 from the set of words alone, until each is whole; other words fall into pieces.
    """
    words = sorted({word for spec in all_specs() for text in captions(spec) for word in _words(text)})
    splits = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in splits.values()):
        pairs = Counter(pair for pieces in splits.values() for pair in pairwise(pieces))
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        splits = {word: _merge(pieces, best) for word, pieces in splits.items()}
    base = [chr(code) for code in range(33, 127)]
    tokens = base + [character + "</w>" for character in base] + ["".join(pair) for pair in merges] + [_START, _END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def _words(text: str) -> list[str]:
    spaced = text.lower().replace('"', ' " ').replace("-", " - ")
    return spaced.split()


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def tokenizer() -> Any:
    """A `CLIPTokenizer` over `vocabulary`, padding to TOKENS with the end token."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary()
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS)  # type: ignore[arg-type]


def text_encoder(words: Any) -> Any:
    """A two-layer `CLIPTextModel` for the tokenizer `words`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return CLIPTextModel(config)


def assemble(vae: Any, words: Any, text: Any, unet: Any) -> Any:
    """The parts as a `StableDiffusionPipeline` without a safety checker."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        tokenizer=words,
        text_encoder=text,
        unet=unet,
        scheduler=schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def weights_of(folder: Path) -> Any:
    """The pipeline that `save` wrote, to go on from."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)


def save(pipeline: Any, folder: Path) -> int:
    """Write the pipeline to `folder`, denoiser and autoencoder in fp16 safetensors; returns the number of parameters."""
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
    pipeline.vae.to(torch.float16)
    pipeline.unet.to(torch.float16)  # the small text encoder stays fp32: transformers would load fp16 as fp16
    pipeline.save_pretrained(folder, safe_serialization=True)
    return sum(parameter.numel() for part in parts for parameter in part.parameters())
