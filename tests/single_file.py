"""A Stable Diffusion pipeline of diffusers → the one file that trainers and WebUIs write (CompVis' names of the tensors).

The renaming is the inverse of what diffusers does at loading; it follows scripts/convert_diffusers_to_original_stable_diffusion.py
of huggingface/diffusers, for any number of blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names(unet: Any) -> dict[str, str]:
    """Prefix in diffusers → prefix in the file, of every block."""
    layers, blocks = unet.config.layers_per_block, len(unet.config.block_out_channels)
    names = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
             "conv_norm_out": "out.0", "conv_out": "out.2", "mid_block.attentions.0": "middle_block.1",
             "mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
    for i in range(blocks):
        for j in range(layers):
            at = i * (layers + 1) + j + 1
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{at}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{at}.1"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(i + 1) * (layers + 1)}.0.op"
        for j in range(layers + 1):
            at = i * (layers + 1) + j
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{at}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{at}.1"
        attended = bool(getattr(unet.up_blocks[i], "attentions", None))
        names[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{i * (layers + 1) + layers}.{2 if attended else 1}"
    return names


def vae_names(vae: Any) -> dict[str, str]:
    """Prefix in diffusers → prefix in the file."""
    layers, blocks = vae.config.layers_per_block, len(vae.config.block_out_channels)
    names = {}
    for side in ("encoder", "decoder"):
        names[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        names[f"{side}.mid_block.attentions.0"] = f"{side}.mid.attn_1"
        for k in range(2):
            names[f"{side}.mid_block.resnets.{k}"] = f"{side}.mid.block_{k + 1}"
    for i in range(blocks):
        up = blocks - 1 - i
        names[f"encoder.down_blocks.{i}.downsamplers.0.conv"] = f"encoder.down.{i}.downsample.conv"
        names[f"decoder.up_blocks.{i}.upsamplers.0"] = f"decoder.up.{up}.upsample"
        for j in range(layers + 1):
            names[f"encoder.down_blocks.{i}.resnets.{j}"] = f"encoder.down.{i}.block.{j}"
            names[f"decoder.up_blocks.{i}.resnets.{j}"] = f"decoder.up.{up}.block.{j}"
    return names


def renamed(key: str, names: dict[str, str], inner: dict[str, str]) -> str:
    """The tensor's name in the file: its block's by the longest known prefix, then its layer's inside a ResNet or attention."""
    block = max((name for name in names if key.startswith(f"{name}.")), key=len, default=None)
    if block is None:
        return key
    rest = key.removeprefix(f"{block}.")
    if "resnets" in block or "attentions" in block:
        layer = next((old for old in inner if rest.startswith(f"{old}.")), None)
        rest = rest if layer is None else inner[layer] + rest.removeprefix(layer)
    return f"{names[block]}.{rest}"


def write_whole(pipe: Any, path: Path, extra: dict[str, torch.Tensor] | None = None) -> Path:
    """UNet, VAE and CLIP in one file, and `extra` tensors."""
    tensors = dict(extra or {})
    for key, value in pipe.unet.state_dict().items():
        tensors["model.diffusion_model." + renamed(key, unet_names(pipe.unet), RESNET)] = value
    tensors |= vae_tensors(pipe.vae)
    for key, value in pipe.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    return _write(tensors, path)


def vae_tensors(vae: Any) -> dict[str, torch.Tensor]:
    """The VAE by its names in the file."""
    tensors = {}
    for key, value in vae.state_dict().items():
        shaped = value[..., None, None] if ".attentions." in key and key.endswith("weight") and value.dim() == 2 else value
        name = renamed(key, vae_names(vae), {"conv_shortcut": "nin_shortcut", **ATTENTION})
        tensors[f"first_stage_model.{name}"] = shaped
    return tensors


MMDIT = {"pos_embed.proj": "x_embedder.proj", "pos_embed.pos_embed": "pos_embed", "proj_out": "final_layer.linear",
         "norm_out.linear": "final_layer.adaLN_modulation.1",
         "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
         "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
         "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2"}  # fmt: skip
MMDIT_BLOCK = {"attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k", "attn.norm_added_q": "context_block.attn.ln_q",
               "attn.norm_added_k": "context_block.attn.ln_k", "attn.to_out.0": "x_block.attn.proj",
               "attn.to_add_out": "context_block.attn.proj", "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k",
               "attn2.to_out.0": "x_block.attn2.proj", "norm1.linear": "x_block.adaLN_modulation.1",
               "norm1_context.linear": "context_block.adaLN_modulation.1", "ff.net.0.proj": "x_block.mlp.fc1",
               "ff.net.2": "x_block.mlp.fc2", "ff_context.net.0.proj": "context_block.mlp.fc1",
               "ff_context.net.2": "context_block.mlp.fc2"}  # fmt: skip
MMDIT_QKV = {"x_block.attn": "attn.to_{}", "context_block.attn": "attn.add_{}_proj", "x_block.attn2": "attn2.to_{}"}


def write_sd3(pipe: Any, path: Path) -> Path:
    """Stable Diffusion 3 with its VAE and all encoders in one file, as it is published.

    The inverse of `convert_sd3_transformer_checkpoint_to_diffusers`: query, key and value in one matrix, and scale and shift of the
    last norms the other way round.
    """
    own, named, count = pipe.transformer.state_dict(), {}, len(pipe.transformer.transformer_blocks)
    for name, tensor in own.items():
        stem, _, kind = name.rpartition(".") if name != "pos_embed.pos_embed" else (name, "", "")
        block = stem.split(".")[1] if stem.startswith("transformer_blocks.") else None
        inner = stem.removeprefix(f"transformer_blocks.{block}.")
        if block is not None and inner not in MMDIT_BLOCK:
            continue  # one of query, key and value
        if stem == "norm_out.linear" or (block == str(count - 1) and inner == "norm1_context.linear"):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        target = MMDIT.get(stem, stem) if block is None else f"joint_blocks.{block}.{MMDIT_BLOCK[inner]}"
        named[f"{target}.{kind}" if kind else target] = tensor
    for block in range(count):
        for target, source in MMDIT_QKV.items():
            for kind in ("weight", "bias"):
                parts = [own.get(f"transformer_blocks.{block}.{source.format(part)}.{kind}") for part in "qkv"]
                if parts[0] is not None:
                    named[f"joint_blocks.{block}.{target}.qkv.{kind}"] = torch.cat(parts)
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in named.items()} | vae_tensors(pipe.vae)
    for name, part in {"clip_l": pipe.text_encoder, "clip_g": pipe.text_encoder_2, "t5xxl": pipe.text_encoder_3}.items():
        tensors |= {f"text_encoders.{name}.transformer.{k}": v.clone() for k, v in part.state_dict().items()}
    return _write(tensors, path)


def write_without_encoders(pipe: Any, path: Path) -> Path:
    """UNet and VAE, as people merge them."""
    return _write(load_file(write_denoiser(pipe, path)) | vae_tensors(pipe.vae), path)


def write_denoiser(pipe: Any, path: Path) -> Path:
    """The UNet alone, as distilled ones are published."""
    return _write(
        {"model.diffusion_model." + renamed(k, unet_names(pipe.unet), RESNET): v for k, v in pipe.unet.state_dict().items()}, path
    )


def _write(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path
