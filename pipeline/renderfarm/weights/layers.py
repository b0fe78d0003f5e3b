"""How files of adapters name the layers of a model: as diffusers does, with dots or underscores, or as the model's own authors do.

The names that a model has are the measure: a name in a file is looked up among them, never guessed. Authors' layers that are one matrix
where diffusers has several (query, key and value) are several targets of one difference, row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Part of the pipeline → layer → shape of its weight."""


@dataclass(frozen=True, slots=True)
class Target:
    """A layer, as diffusers names it. `rows`: of the difference's output that are its own, None for all; `swapped`: whether those are
    scale and shift the other way round."""

    part: str
    layer: str
    rows: tuple[int, int] | None = None
    swapped: bool = False


Names = Mapping[str, tuple[str, ...]]

_MLP = {"mlp.0": "net.0.proj", "mlp.2": "net.2"}
_FLUX: Names = {
    "double_blocks.#.img_attn.qkv": tuple(f"transformer_blocks.#.attn.to_{one}" for one in "qkv"),
    "double_blocks.#.txt_attn.qkv": tuple(f"transformer_blocks.#.attn.add_{one}_proj" for one in "qkv"),
    "double_blocks.#.img_attn.proj": ("transformer_blocks.#.attn.to_out.0",),
    "double_blocks.#.txt_attn.proj": ("transformer_blocks.#.attn.to_add_out",),
    "double_blocks.#.processor.qkv_lora1": tuple(f"transformer_blocks.#.attn.to_{one}" for one in "qkv"),
    "double_blocks.#.processor.qkv_lora2": tuple(f"transformer_blocks.#.attn.add_{one}_proj" for one in "qkv"),
    "double_blocks.#.processor.proj_lora1": ("transformer_blocks.#.attn.to_out.0",),
    "double_blocks.#.processor.proj_lora2": ("transformer_blocks.#.attn.to_add_out",),
    "single_blocks.#.processor.qkv_lora": tuple(f"single_transformer_blocks.#.attn.to_{one}" for one in "qkv"),
    "single_blocks.#.processor.proj_lora": ("single_transformer_blocks.#.proj_out",),
    **{f"double_blocks.#.img_{own}": (f"transformer_blocks.#.ff.{theirs}",) for own, theirs in _MLP.items()},
    **{f"double_blocks.#.txt_{own}": (f"transformer_blocks.#.ff_context.{theirs}",) for own, theirs in _MLP.items()},
    "double_blocks.#.img_mod.lin": ("transformer_blocks.#.norm1.linear",),
    "double_blocks.#.txt_mod.lin": ("transformer_blocks.#.norm1_context.linear",),
    "single_blocks.#.linear1": (
        *(f"single_transformer_blocks.#.attn.to_{one}" for one in "qkv"),
        "single_transformer_blocks.#.proj_mlp",
    ),
    "single_blocks.#.linear2": ("single_transformer_blocks.#.proj_out",),
    "single_blocks.#.modulation.lin": ("single_transformer_blocks.#.norm.linear",),
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "distilled_guidance_layer.in_proj": ("distilled_guidance_layer.in_proj",),
}
_FLUX2: Names = {
    **{name: layers for name, layers in _FLUX.items() if "_attn." in name and "processor" not in name},
    "double_blocks.#.img_mlp.0": ("transformer_blocks.#.ff.linear_in",),
    "double_blocks.#.img_mlp.2": ("transformer_blocks.#.ff.linear_out",),
    "double_blocks.#.txt_mlp.0": ("transformer_blocks.#.ff_context.linear_in",),
    "double_blocks.#.txt_mlp.2": ("transformer_blocks.#.ff_context.linear_out",),
    "single_blocks.#.linear1": ("single_transformer_blocks.#.attn.to_qkv_mlp_proj",),
    "single_blocks.#.linear2": ("single_transformer_blocks.#.attn.to_out",),
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_guidance_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_guidance_embed.timestep_embedder.linear_2",),
    "guidance_in.in_layer": ("time_guidance_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_guidance_embed.guidance_embedder.linear_2",),
    "double_stream_modulation_img.lin": ("double_stream_modulation_img.linear",),
    "double_stream_modulation_txt.lin": ("double_stream_modulation_txt.linear",),
    "single_stream_modulation.lin": ("single_stream_modulation.linear",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
_SD3: Names = {
    "joint_blocks.#.x_block.attn.qkv": tuple(f"transformer_blocks.#.attn.to_{one}" for one in "qkv"),
    "joint_blocks.#.x_block.attn2.qkv": tuple(f"transformer_blocks.#.attn2.to_{one}" for one in "qkv"),
    "joint_blocks.#.context_block.attn.qkv": tuple(f"transformer_blocks.#.attn.add_{one}_proj" for one in "qkv"),
    "joint_blocks.#.x_block.attn.proj": ("transformer_blocks.#.attn.to_out.0",),
    "joint_blocks.#.x_block.attn2.proj": ("transformer_blocks.#.attn2.to_out.0",),
    "joint_blocks.#.context_block.attn.proj": ("transformer_blocks.#.attn.to_add_out",),
    "joint_blocks.#.x_block.mlp.fc1": ("transformer_blocks.#.ff.net.0.proj",),
    "joint_blocks.#.x_block.mlp.fc2": ("transformer_blocks.#.ff.net.2",),
    "joint_blocks.#.context_block.mlp.fc1": ("transformer_blocks.#.ff_context.net.0.proj",),
    "joint_blocks.#.context_block.mlp.fc2": ("transformer_blocks.#.ff_context.net.2",),
    "joint_blocks.#.x_block.adaLN_modulation.1": ("transformer_blocks.#.norm1.linear",),
    "joint_blocks.#.context_block.adaLN_modulation.1": ("transformer_blocks.#.norm1_context.linear",),
    "x_embedder.proj": ("pos_embed.proj",),
    "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
    "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
_Z_IMAGE: Names = {
    f"{stack}.#.attention.{own}": tuple(f"{stack}.#.attention.{one}" for one in theirs)
    for stack in ("layers", "noise_refiner", "context_refiner")
    for own, theirs in (("qkv", ("to_q", "to_k", "to_v")), ("out", ("to_out.0",)))
}
_LUMINA2: Names = {
    f"{stack}.#.{own}": tuple(f"{stack}.#.{one}" for one in theirs)
    for stack in ("layers", "noise_refiner", "context_refiner")
    for own, theirs in (
        ("attention.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
        ("attention.out", ("attn.to_out.0",)),
        ("feed_forward.w1", ("feed_forward.linear_1",)),
        ("feed_forward.w2", ("feed_forward.linear_2",)),
        ("feed_forward.w3", ("feed_forward.linear_3",)),
        ("adaLN_modulation.1", ("norm1.linear",)),
    )
}
AUTHORS: Mapping[str, Names] = {
    **dict.fromkeys(("flux", "flux_kontext", "flux_fill", "chroma"), _FLUX),
    "flux2": _FLUX2,
    "sd3": _SD3,
    "z_image": _Z_IMAGE,
    "lumina2": _LUMINA2,
}
"""Family → the authors' name of a layer → the layers of diffusers that it is, in the order of its rows. `#` is the block's number."""

SWAPPED = ("norm_out.linear",)
"""Layers whose scale and shift the authors have the other way round; in SD 3 also the last context block's norm."""

_DOTTED = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "lycoris.", "")
_UNDERSCORED = ("lora_unet_", "lora_transformer_", "lycoris_", "lora_prior_unet_")
_LEGACY = re.compile(r"\.processor\.(to_[qkv]|to_out)$")
"""Layers of attention as diffusers before 0.17 named them in its own files."""
ENCODERS: Mapping[str, str] = {
    "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2", "lora_te3_": "text_encoder_3",
    "text_encoder.": "text_encoder", "text_encoder_2.": "text_encoder_2", "text_encoder_3.": "text_encoder_3",
}  # fmt: skip


_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
_UNET = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_BLOCK = re.compile(r"(down|mid|up)_block(?:s\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


ENCODERS_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("sd", "lcm", "flux", "flux_kontext", "flux_fill"), ("text_encoder",)),
    **dict.fromkeys(("sdxl", "sd3"), ("text_encoder", "text_encoder_2")),
}
"""Family → the text encoders that diffusers loads adapters for."""


def stability(layers: Iterable[str]) -> dict[str, str]:
    """The names of a UNet's layers as Stability's code has them → diffusers' own; the inverse of what diffusers does with a checkpoint."""
    own = set(layers)
    matches = [(layer, match) for layer in own if (match := _BLOCK.fullmatch(layer))]
    resnets = {int(match[4]) for _, match in matches if match[1] == "down" and match[2] == "0" and match[3] == "resnets"}
    attended = {match[2] for _, match in matches if match[1] == "up" and match[3] == "attentions"}
    per, names = len(resnets), {theirs: layer for layer, theirs in _UNET.items() if layer in own}
    for layer, match in matches:
        side, block, kind, at, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
        rest = _RESNET.get(rest, rest) if kind == "resnets" else rest
        if side == "mid":
            place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * at}"
        elif kind == "downsamplers":
            place, rest = f"input_blocks.{(block + 1) * (per + 1)}.0", "op"
        elif kind == "upsamplers":
            place = f"output_blocks.{block * (per + 1) + per}.{2 if match[2] in attended else 1}"
        else:
            number = block * (per + 1) + at + (1 if side == "down" else 0)
            place = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{0 if kind == 'resnets' else 1}"
        names[f"{place}.{rest}"] = layer
    return names


def names_for(family: str, denoiser: str, shapes: Shapes) -> dict[str, tuple[Target, ...]]:
    """Every name under which a layer of this model may stand in a file, prefixes left out, with dots and with underscores."""
    own = shapes.get(denoiser, {})
    dotted: dict[str, tuple[Target, ...]] = {}
    for name, layers in AUTHORS.get(family, {}).items():
        for at in count() if "#" in name else (0,):
            filled = [layer.replace("#", str(at)) for layer in layers]
            if not any(layer in own for layer in filled):
                break
            if all(layer in own for layer in filled):
                dotted[name.replace("#", str(at))] = _rows(denoiser, filled, own)
    if denoiser == "unet":
        dotted |= {name: (Target(denoiser, layer),) for name, layer in stability(own).items()}
    dotted |= {layer: (Target(denoiser, layer),) for layer in own}
    return dotted | {name.replace(".", "_"): targets for name, targets in dotted.items()}


def _rows(part: str, layers: list[str], own: Mapping[str, tuple[int, ...]]) -> tuple[Target, ...]:
    if len(layers) == 1:
        last_context = layers[0].endswith("norm1_context.linear") and own[layers[0]][0] == 2 * own[layers[0]][1]
        return (Target(part, layers[0], None, layers[0] in SWAPPED or last_context),)
    targets, start = [], 0
    for layer in layers:
        targets.append(Target(part, layer, (start, start + own[layer][0])))
        start += own[layer][0]
    return tuple(targets)


def targets_of(name: str, names: Mapping[str, tuple[Target, ...]], shapes: Shapes) -> tuple[Target, ...]:
    """The layers that a file's name of a layer means; empty where this model has none of that name."""
    for prefix, part in ENCODERS.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            known = {layer.removeprefix("text_model."): layer for layer in shapes.get(part, {})}
            known |= {layer.replace(".", "_"): full for layer, full in known.items()}
            found = known.get(rest.removeprefix("text_model.").removeprefix("text_model_"))
            return (Target(part, found),) if found else ()
    name = _LEGACY.sub(r".\1", name)
    for prefix in (*_UNDERSCORED, *_DOTTED):
        if name.startswith(prefix) and (targets := names.get(name.removeprefix(prefix)) or names.get(f"{name.removeprefix(prefix)}.0")):
            return targets
    return ()
