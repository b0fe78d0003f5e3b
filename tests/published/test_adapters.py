"""Adapters: methods × formats × families, each drawn as the weights are drawn that the differences were merged into by hand.

The whole table takes minutes and is `scripts/published`; without it two families of it run here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer
from tests import plain
from tests.published import changes
from tests.standins import attempt, folder_of

LAYERS: dict[str, list[str]] = {
    "sd": ["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
           "mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "down_blocks.0.resnets.0.conv1"],
    "sdxl": ["down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_v", "mid_block.attentions.0.proj_in",
             "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0", "up_blocks.1.resnets.0.conv2"],
    "sd3": ["transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_out.0", "transformer_blocks.0.ff.net.2"],
    "flux": ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.ff.net.0.proj", "single_transformer_blocks.0.proj_out"],
    "flux_kontext": ["transformer_blocks.0.attn.to_k", "transformer_blocks.0.ff_context.net.2", "single_transformer_blocks.0.proj_mlp"],
    "chroma": ["transformer_blocks.0.attn.to_v", "transformer_blocks.0.ff.net.2", "single_transformer_blocks.0.proj_out"],
    "flux2": ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.ff.linear_in", "single_transformer_blocks.0.attn.to_out"],
    "z_image": ["layers.0.attention.to_q", "layers.0.attention.to_v", "noise_refiner.0.attention.to_out.0"],
    "qwen_image": ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.img_mlp.net.0.proj", "transformer_blocks.0.attn.to_add_out"],
    "lumina2": ["layers.0.attn.to_q", "layers.0.feed_forward.linear_1", "noise_refiner.0.attn.to_out.0"],
    "cogview4": ["transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_out.0"],
    "sana": ["transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn2.to_k"],
}  # fmt: skip
ENCODERS = {"sd": ("te", 1), "sdxl": ("te1", 2), "sd3": ("te1", 2), "flux": ("te1", 1)}
"""Family → how kohya-ss names its first text encoder, and how many diffusers loads adapters for."""

FLUX_AUTHORS = [
    ("double_blocks.0.img_attn.qkv", [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]),
    ("double_blocks.0.txt_attn.proj", ["transformer_blocks.0.attn.to_add_out"]),
    ("double_blocks.0.txt_mlp.2", ["transformer_blocks.0.ff_context.net.2"]),
    ("single_blocks.0.linear1", [*(f"single_transformer_blocks.0.attn.to_{one}" for one in "qkv"), "single_transformer_blocks.0.proj_mlp"]),
]
AUTHORS: dict[str, list[tuple[str, list[str]]]] = {
    "sdxl": [
        ("input_blocks.3.1.transformer_blocks.1.attn1.to_q", ["down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q"]),
        ("middle_block.1.proj_in", ["mid_block.attentions.0.proj_in"]),
        ("output_blocks.0.1.transformer_blocks.0.attn2.to_k", ["up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"]),
        ("input_blocks.1.0.in_layers.2", ["down_blocks.0.resnets.0.conv1"]),
    ],
    "sd3": [
        ("joint_blocks.0.x_block.attn.qkv", [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]),
        ("joint_blocks.0.context_block.attn.proj", ["transformer_blocks.0.attn.to_add_out"]),
        ("joint_blocks.1.x_block.mlp.fc1", ["transformer_blocks.1.ff.net.0.proj"]),
    ],
    "flux": FLUX_AUTHORS,
    "flux_kontext": FLUX_AUTHORS,
    "chroma": FLUX_AUTHORS[:3],
    "flux2": [
        ("double_blocks.0.img_attn.qkv", [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]),
        ("double_blocks.0.img_mlp.2", ["transformer_blocks.0.ff.linear_out"]),
        ("single_blocks.0.linear1", ["single_transformer_blocks.0.attn.to_qkv_mlp_proj"]),
    ],
    "lumina2": [
        ("layers.0.attention.qkv", [f"layers.0.attn.to_{one}" for one in "qkv"]),
        ("layers.0.feed_forward.w2", ["layers.0.feed_forward.linear_2"]),
    ],
    "z_image": [
        ("layers.0.attention.qkv", [f"layers.0.attention.to_{one}" for one in "qkv"]),
        ("layers.0.attention.out", ["layers.0.attention.to_out.0"]),
    ],
}
XLABS = [
    ("double_blocks.0.processor.qkv_lora1", [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]),
    ("double_blocks.0.processor.proj_lora2", ["transformer_blocks.0.attn.to_add_out"]),
]


def plans(family: str, denoiser: str) -> dict[str, tuple[str, changes.Plan]]:
    """Every format of a family: its name → the method of its tensors, and what its file holds."""
    own = [(layer, [(denoiser, layer)]) for layer in LAYERS[family]]
    flat = [(layer.replace(".", "_"), targets) for layer, targets in own]
    authors = [(name, [(denoiser, layer) for layer in layers]) for name, layers in AUTHORS.get(family, [])]
    made: dict[str, tuple[str, changes.Plan]] = {
        "diffusers": ("peft", [(f"{denoiser}.{name}", targets) for name, targets in own]),
        "peft": ("peft", [(f"base_model.model.{name}", targets) for name, targets in own]),
        "ai-toolkit": ("peft with alpha", [(f"diffusion_model.{name}", targets) for name, targets in own]),
        "OneTrainer": ("LoRA", [(f"lora_{denoiser}_{name}", targets) for name, targets in flat]),
        "kohya, musubi": ("LoRA", [(f"lora_unet_{name}", targets) for name, targets in flat]),
        "LyCORIS LoCon": ("LoCon", [(f"lycoris_{name}", targets) for name, targets in flat]),
        "LyCORIS LoHa": ("LoHa", [(f"lycoris_{name}", targets) for name, targets in flat]),
        "LyCORIS LoHa, Tucker": ("LoHa Tucker", [(f"lora_unet_{name}", targets) for name, targets in flat]),
        "LyCORIS LoKr": ("LoKr", [(f"lycoris_{name}", targets) for name, targets in flat]),
        "LyCORIS full": ("full", [(f"lora_unet_{name}", targets) for name, targets in flat]),
        "ai-toolkit LoKr": ("LoKr whole", [(f"diffusion_model.{name}", targets) for name, targets in own]),
    }
    if authors:
        made["kohya, authors' names"] = ("LoRA", [(f"lora_unet_{name.replace('.', '_')}", targets) for name, targets in authors])
        made["ComfyUI, authors' names"] = ("peft", [(f"diffusion_model.{name}", targets) for name, targets in authors])
        made["LoKr, authors' names"] = ("LoKr", [(f"diffusion_model.{name}", targets) for name, targets in authors])
        made["LoHa, authors' names"] = ("LoHa", [(f"lora_unet_{name.replace('.', '_')}", targets) for name, targets in authors])
    if family in ("flux", "flux_kontext"):
        made["XLabs"] = ("XLabs", [(name, [(denoiser, layer) for layer in layers]) for name, layers in XLABS])
    if family in ENCODERS:
        te, count = ENCODERS[family]
        layers = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.0.mlp.fc1"]
        encoded = [(f"lora_{te}_text_model_{layer.replace('.', '_')}", [("text_encoder", layer)]) for layer in layers]
        if count == 2:
            encoded += [(f"lora_te2_text_model_{layer.replace('.', '_')}", [("text_encoder_2", layer)]) for layer in layers]
        made["kohya, text encoders too"] = ("LoRA", made["kohya, musubi"][1] + encoded)
        made["LoHa, text encoders too"] = ("LoHa", made["LyCORIS LoHa, Tucker"][1] + encoded)
    return made


@contextmanager
def merged(pipe: Any, differences: dict[tuple[str, str], torch.Tensor], strength: float) -> Iterator[None]:
    """The pipeline with the differences in its weights, and without them again."""
    kept = {}
    with torch.no_grad():
        for (part, layer), change in differences.items():
            weight = layer_of(pipe, part, layer).weight
            kept[part, layer] = weight.clone()
            weight += strength * change.reshape(weight.shape)
        yield
        for (part, layer), before in kept.items():
            layer_of(pipe, part, layer).weight.copy_(before)


def layer_of(pipe: Any, part: str, layer: str) -> Any:
    module = getattr(pipe, part)
    inner = f"text_model.{layer}"
    return module.get_submodule(inner if part.startswith("text") and hasattr(module, "text_model") else layer)


class Parts(dict[str, Any]):
    """A pipeline's parts, with layers by diffusers' names whatever the version of transformers calls them."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(
            {name: _Part(pipe, name) for name in ("unet", "transformer", "text_encoder", "text_encoder_2") if hasattr(pipe, name)}
        )


class _Part:
    def __init__(self, pipe: Any, name: str) -> None:
        self.get_submodule: Callable[[str], Any] = lambda layer: layer_of(pipe, name, layer)


FEW = {
    "sdxl": ("kohya, authors' names", "LyCORIS LoHa", "kohya, text encoders too"),
    "flux": ("XLabs", "LoKr, authors' names", "LyCORIS full"),
}
WHOLE = bool(os.environ.get("RENDERFARM_WHOLE_TABLE"))


@pytest.mark.parametrize("family", list(LAYERS) if WHOLE else list(FEW))
def test_every_format_is_drawn_as_its_weights_merged_by_hand(tmp_path: Path, family: str) -> None:
    folder = folder_of(family)
    pipe = plain.loaded(folder)
    denoiser = "unet" if hasattr(pipe, "unet") else "transformer"
    wanted = plans(family, denoiser)
    wanted = wanted if WHOLE else {name: wanted[name] for name in FEW[family]}
    files, differences = {}, {}
    for at, (name, (method, plan)) in enumerate(wanted.items()):
        files[f"a{at}"] = tmp_path / f"{at}.safetensors"
        differences[name] = changes.write(files[f"a{at}"], Parts(pipe), plan, method, seed=at)
    model = {"weights": str(folder), "device": "cpu", "batch": 1, "adapters": {key: {"path": str(path)} for key, path in files.items()}}
    settings = ModelSettings.model_validate(model)
    made = Renderer(resolve(settings), settings)
    off, call = 1.0 if family == "qwen_image" else 4.0, {}
    if family == "flux_kontext":
        call = {"max_area": 64 * 64, "_auto_resize": False}
    if family == "sana":
        call = {"use_resolution_binning": False}
    bare = plain.drawn(pipe, guidance_scale=off, **call)
    for at, name in enumerate(wanted):
        with merged(pipe, differences[name], 0.8):
            want = plain.drawn(pipe, guidance_scale=off, **call)
        got = made.render([attempt(adapter=f"a{at}:0.8", guidance=off)])[0][0]
        assert plain.apart(got, want) <= 1, name
        assert plain.apart(got, bare) > 1, (name, "it counts")
