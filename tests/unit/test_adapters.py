"""LoRA adapters: switched per batch, exact when off, refused when they are for other weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from renderfarm.errors import RenderFailed, WeightsError
from renderfarm.models import ModelSettings, load, resolve
from renderfarm.render import Renderer
from tests import plain
from tests.standins import attempt, folder_of


def lora(path: Path, prefix: str, layers: dict[str, tuple[int, int]], seed: int = 0) -> Path:
    """Writes a LoRA file of rank 4; `layers`: name → input and output channels."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (inputs, outputs) in layers.items():
        tensors[f"{prefix}.{name}.lora_A.weight"] = torch.randn(4, inputs, generator=generator)
        tensors[f"{prefix}.{name}.lora_B.weight"] = torch.randn(outputs, 4, generator=generator)
    save_file(tensors, path)
    return path


def unet_lora(path: Path, cross: int, seed: int = 0) -> Path:
    block = "down_blocks.1.attentions.0.transformer_blocks.0"
    return lora(path, "unet", {f"{block}.attn1.to_q": (32, 32), f"{block}.attn2.to_k": (cross, 32)}, seed)


def flux_lora(path: Path) -> Path:
    return lora(path, "transformer", {"transformer_blocks.0.attn.to_q": (32, 32), "transformer_blocks.0.attn.to_v": (32, 32)})


def settings(folder: Path, **adapters: object) -> ModelSettings:
    return ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 4, "adapters": adapters})


def refusal(folder: Path, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        resolve(settings(folder, style={"path": str(path)}))
    return caught.value.what


def test_adapters_are_switched_not_mixed(tmp_path: Path) -> None:
    one, two = unet_lora(tmp_path / "one.safetensors", 32, 1), unet_lora(tmp_path / "two.safetensors", 32, 2)
    plain = settings(folder_of("sd"))
    bare = Renderer(resolve(plain), plain).render([attempt()])[0].tobytes()
    both = settings(folder_of("sd"), one={"path": str(one)}, two={"path": str(two), "scale": 0.5})
    made = Renderer(resolve(both), both)

    def drawn(adapter: str | None) -> bytes:
        return made.render([attempt(adapter=adapter)])[0].tobytes()

    assert drawn(None) == bare, "an adapter that is loaded and off changes nothing"
    first, second = drawn("one"), drawn("two")
    assert len({bare, first, second}) == 3
    assert (drawn(None), drawn("two"), drawn("one")) == (bare, second, first), "whatever came before"
    with pytest.raises(RenderFailed, match="'three'"):
        made.render([attempt(adapter="three")])


def test_the_scale_counts_and_zero_is_off(tmp_path: Path) -> None:
    path = str(unet_lora(tmp_path / "one.safetensors", 32))
    chosen = settings(folder_of("sd"), off={"path": path, "scale": 0}, half={"path": path, "scale": 0.5}, full={"path": path})
    made = Renderer(resolve(chosen), chosen)
    bare, off, half, full = (made.render([attempt(adapter=name)])[0][0] for name in (None, "off", "half", "full"))
    assert np.array_equal(bare, off)
    assert not np.array_equal(bare, half) and not np.array_equal(half, full)


def test_a_transformer_takes_its_own(tmp_path: Path) -> None:
    chosen = settings(folder_of("flux"), style={"path": str(flux_lora(tmp_path / "flux.safetensors"))})
    made = Renderer(resolve(chosen), chosen)
    assert not np.array_equal(made.render([attempt()])[0], made.render([attempt(adapter="style")])[0])


def test_adapters_of_another_family_are_refused_before_anything_loads(tmp_path: Path) -> None:
    sd = unet_lora(tmp_path / "sd.safetensors", 32)
    flux = flux_lora(tmp_path / "flux.safetensors")
    assert "these have a transformer" in refusal(folder_of("flux"), sd)
    assert "these have a unet" in refusal(folder_of("sd"), flux)
    assert "reads 32 channels; these read 64" in refusal(folder_of("sdxl"), sd)
    assert "holds no LoRA layers" in refusal(folder_of("sd"), folder_of("sd") / "vae" / "diffusion_pytorch_model.safetensors")


def test_a_family_without_adapters_says_so(tmp_path: Path) -> None:
    path = lora(tmp_path / "p.safetensors", "transformer", {"transformer_blocks.0.attn1.to_q": (32, 32)})
    chosen = settings(folder_of("pixart"), style={"path": str(path)})
    with pytest.raises(WeightsError, match="no adapters for this family"):
        resolve(chosen)


def test_an_adapter_that_changed_since_resolving_is_not_loaded(tmp_path: Path) -> None:
    path = unet_lora(tmp_path / "one.safetensors", 32, 1)
    chosen = settings(folder_of("sd"), one={"path": str(path)})
    resolved = resolve(chosen)
    unet_lora(path, 32, 2)
    with pytest.raises(WeightsError, match="not the file that was resolved"):
        load(resolved, chosen)


def test_an_adapter_without_a_matching_layer_is_refused(tmp_path: Path) -> None:
    path = kohya(tmp_path / "odd.safetensors", {"down_blocks.9.attentions.0.proj_in": (32, 32)})
    chosen = settings(folder_of("sd"), odd={"path": str(path)})
    with pytest.raises(WeightsError, match="'odd'"):
        load(resolve(chosen), chosen)


SD_LAYERS = {"down_blocks.1.attentions.0.transformer_blocks.0." + name: (32, 32) for name in ("attn1.to_q", "attn2.to_k")}
FLUX_LAYERS = {"transformer_blocks.0.attn.to_q": (32, 32), "transformer_blocks.0.attn.to_v": (32, 32)}


def header_alpha(path: Path, denoiser: str, layers: dict[str, tuple[int, int]], **more: object) -> Path:
    """As the training scripts of diffusers save: a quarter of the strength, said in the header alone."""
    own = {"r": 4, "lora_alpha": 1, "target_modules": list(layers), "init_lora_weights": "gaussian", "bias": "none", **more}
    text = json.dumps({f"{denoiser}.{name}": value for name, value in own.items()})
    save_file(load_file(lora(path, denoiser, layers)), path, metadata={"format": "pt", "lora_adapter_metadata": text})
    return path


def kohya(path: Path, layers: dict[str, tuple[int, int]], extra: dict[str, torch.Tensor] | None = None) -> Path:
    """As kohya-ss saves: names with underscores, alpha as a tensor of each layer."""
    lora(path, "", layers)
    tensors = {}
    for name, tensor in load_file(path).items():
        layer = "lora_unet_" + name.split(".lora_")[0].strip(".").replace(".", "_")
        tensors[f"{layer}.lora_{'down' if 'lora_A' in name else 'up'}.weight"] = tensor
        tensors[f"{layer}.alpha"] = torch.tensor(1.0)
    save_file(tensors | (extra or {}), path)
    return path


def dora(path: Path) -> Path:
    """DoRA as diffusers' own scripts save it: a magnitude for each layer."""
    tensors = load_file(lora(path, "unet", SD_LAYERS))
    magnitudes = {f"unet.{layer}.lora_magnitude_vector": torch.full((32,), 2.0) for layer in SD_LAYERS}
    save_file(tensors | magnitudes, path)
    return path


@pytest.mark.parametrize("kind", ["header alpha", "kohya", "dora", "flux header alpha"])
def test_an_adapter_draws_what_diffusers_draws_with_it(tmp_path: Path, kind: str) -> None:
    path, name = tmp_path / "a.safetensors", "flux" if kind.startswith("flux") else "sd"
    write = {
        "header alpha": lambda: header_alpha(path, "unet", SD_LAYERS),
        "kohya": lambda: kohya(path, SD_LAYERS),
        "dora": lambda: dora(path),
        "flux header alpha": lambda: header_alpha(path, "transformer", FLUX_LAYERS),
    }
    write[kind]()
    chosen = settings(folder_of(name), style={"path": str(path), "scale": 0.8})
    got = Renderer(resolve(chosen), chosen).render([attempt(adapter="style")])[0][0]

    def adapted(pipe: Any) -> None:
        pipe.load_lora_weights(str(path), adapter_name="style")
        pipe.set_adapters(["style"], [0.8])

    assert plain.apart(got, plain.drawn(plain.loaded(folder_of(name), adapted))) <= 1
    assert plain.apart(got, plain.drawn(plain.loaded(folder_of(name)))) > 1, "it counts"


def test_what_diffusers_would_leave_out_of_a_file_is_refused(tmp_path: Path) -> None:
    path, layer = tmp_path / "a.safetensors", "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    for extra in ("dora_scale", "w_norm", "oft_blocks", "hada_w3_a"):
        kohya(path, SD_LAYERS, {f"{layer}.{extra}": torch.ones(4, 4)})
        assert f"left out, such as {layer}.{extra}" in refusal(folder_of("sd"), path)
    for extra in ("hada_w1_a", "lokr_w1", "diff"):
        kohya(path, SD_LAYERS, {f"{layer}.{extra}": torch.ones(4, 4)})
        assert f"at {layer}" in refusal(folder_of("sd"), path)
    header_alpha(path, "unet", SD_LAYERS, init_lora_weights="pissa")
    assert "init_lora_weights to change the weights" in refusal(folder_of("sd"), path)
    lora(path, "unet", {"down_blocks.9.attentions.0.proj_in": (32, 32)})
    assert "layer unet.down_blocks.9.attentions.0.proj_in that these weights do not have" in refusal(folder_of("sd"), path)
    lora(path, "unet", {"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (16, 32)})
    assert "reads 16 channels; these read 32" in refusal(folder_of("sd"), path)
    lora(path, "base_model.model", SD_LAYERS)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 1}))
    assert "adapter_config.json" in refusal(folder_of("sd"), path)


def test_layers_that_are_named_twice_are_told(tmp_path: Path) -> None:
    """Names of two kinds in one file: diffusers takes the one and drops the other."""
    path = kohya(tmp_path / "a.safetensors", SD_LAYERS)
    both = load_file(path) | load_file(lora(tmp_path / "b.safetensors", "unet", SD_LAYERS))
    save_file({name: tensor for name, tensor in both.items() if not name.endswith(".alpha")}, path)
    assert "attn1.to_q twice" in refusal(folder_of("sd"), path)


def test_several_adapters_draw_what_diffusers_draws_with_them(tmp_path: Path) -> None:
    one, two = header_alpha(tmp_path / "one.safetensors", "unet", SD_LAYERS), unet_lora(tmp_path / "two.safetensors", 32, 2)
    chosen = settings(folder_of("sd"), lcm={"path": str(one)}, style={"path": str(two), "scale": 0.5})
    made = Renderer(resolve(chosen), chosen)

    def adapted(pipe: Any) -> None:
        pipe.load_lora_weights(str(one), adapter_name="one")
        pipe.load_lora_weights(str(two), adapter_name="two")
        pipe.set_adapters(["one", "two"], [1.0, 0.8])

    pictures, info = made.render([attempt(adapter="lcm, style:0.8")])
    assert plain.apart(pictures[0], plain.drawn(plain.loaded(folder_of("sd"), adapted))) <= 1
    assert [(used.name, used.weight) for used in info.adapters] == [("lcm", 1.0), ("style", 0.8)]
    alone = [made.render([attempt(adapter=text)])[0] for text in ("lcm", "style", "lcm, style")]
    assert len({pictures.tobytes(), *(one.tobytes() for one in alone)}) == 4
