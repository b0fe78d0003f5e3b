"""Whether the tensors of a part are those that its config speaks of, as far as headers tell: its blocks are all there, and its doors are as
wide. What is exact is told when they are loaded (`complete`); here a folder that was mixed up is refused before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def mismatch(config: Mapping[str, Any], shapes: Shapes) -> str:
    """Returns in words what the config of a part speaks of and its tensors are not; empty if nothing is known to be wrong."""
    kind = str(config.get("_class_name") or (config.get("architectures") or [""])[0])
    for prefix in _stacks(kind, config):
        if not any(name.startswith(prefix) for name in shapes):
            return f"they lack {prefix.rstrip('.')}, which their config speaks of"
    for name, at, said in _doors(kind, config):
        held = next((shape for key, shape in shapes.items() if key == name or key.endswith(f".{name}")), None)
        if held is not None and len(held) > at and held[at] != said:
            return f"{name} is {held[at]} wide where their config says {said}"
    return ""


def _stacks(kind: str, config: Mapping[str, Any]) -> Iterator[str]:
    """What some tensor's name must begin with."""
    count = len(config.get("block_out_channels") or ())
    if kind == "UNet2DConditionModel":
        yield from ("conv_in.", "conv_out.", "time_embedding.")
        yield from (() if config.get("mid_block_type", "x") is None else ("mid_block.",))
        yield from (f"{side}_blocks.{at}." for side in ("down", "up") for at in range(count))
    elif kind == "AutoencoderKL":
        yield from ("encoder.conv_in.", "decoder.conv_out.")
        yield from (f"{side}_blocks.{at}." for side in ("encoder.down", "decoder.up") for at in range(count))
    elif kind.endswith("Transformer2DModel"):
        for field, stack in (("num_layers", "transformer_blocks"), ("num_single_layers", "single_transformer_blocks")):
            if kind in STACKED and isinstance(config.get(field), int):
                yield from (f"{stack}.{at}." for at in range(config[field]))


STACKED = ("SD3Transformer2DModel", "FluxTransformer2DModel", "ChromaTransformer2DModel", "Flux2Transformer2DModel",
           "SanaTransformer2DModel", "PixArtTransformer2DModel", "QwenImageTransformer2DModel", "CogView4Transformer2DModel")  # fmt: skip
"""Classes whose blocks are all in stacks of these names."""


def _doors(kind: str, config: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Tensor, dimension, size."""
    blocks = config.get("block_out_channels") or [0]
    if kind == "UNet2DConditionModel":
        yield "conv_in.weight", 1, int(config.get("in_channels", 4))
        yield "conv_in.weight", 0, int(blocks[0])
        if isinstance(config.get("cross_attention_dim"), int):
            yield "attn2.to_k.weight", 1, int(config["cross_attention_dim"])
    elif kind == "AutoencoderKL":
        yield "decoder.conv_in.weight", 1, int(config.get("latent_channels", 4))
    elif kind.startswith("CLIPText") and isinstance(config.get("hidden_size"), int):
        yield "embeddings.token_embedding.weight", 1, int(config["hidden_size"])
    elif kind == "T5EncoderModel" and isinstance(config.get("d_model"), int):
        yield "shared.weight", 1, int(config["d_model"])
