"""LoRA adapters (Hu et al. 2021): which file fits which weights, loading them beside a pipeline, switching between
them.

All adapters of a job are loaded once. A batch has one adapter or none, and switching changes only which low-rank layers
take part. Whether a file fits is told from its header alone, before anything renders: names say UNet or transformer,
shapes say which one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError
from renderfarm.job.model import AdapterSettings
from renderfarm.models.families import Family
from renderfarm.models.fingerprint import fingerprint
from renderfarm.models.layout import PICKLES, check_safetensors, pickle_error, read_header

_DOWN = ("lora_A.weight", "lora_down.weight", "lora.down.weight", "lora_A.default.weight")
"""How the tensor that reads a layer's input ends, in the spellings of peft, kohya-ss and diffusers."""


@dataclass(frozen=True, slots=True)
class ResolvedAdapter:
    """One LoRA file: the name that rows use, its path, SHA-256 as hex, and its strength."""

    name: str
    path: str
    sha256: str
    scale: float


def resolve_adapter(name: str, settings: AdapterSettings, family: Family, folder: Path) -> ResolvedAdapter:
    """Returns the adapter with its digest. `folder`: of the weights that it is for.

    Raises WeightsError when it is missing, a pickle, damaged, or made for other weights.
    """
    path = Path(settings.path).expanduser().resolve()
    if not family.adapters:
        raise WeightsError(f"adapter {name!r}: diffusers loads no adapters for this family ({family.name})", str(path), "remove it")
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if not path.is_file():
        raise WeightsError(f"adapter {name!r}: there is no such file", str(path), "check model.adapters")
    check_safetensors(path)
    problem = misfit(read_header(path), family, folder)
    if problem:
        raise WeightsError(f"adapter {name!r} {problem}", str(path), "use an adapter that was trained on these weights")
    (entry,) = fingerprint(path.parent, [path.name], cache=cache_folder())
    return ResolvedAdapter(name, str(path), entry.sha256, settings.scale)


def misfit(header: Mapping[str, Mapping[str, Any]], family: Family, folder: Path) -> str:
    """Returns why an adapter with this safetensors header does not fit the weights in `folder`; empty if nothing speaks
    against it."""
    downs = {name: entry["shape"] for name, entry in header.items() if name.endswith(_DOWN) and entry["shape"]}
    if not downs:
        return "holds no LoRA layers"
    of_unet = [name for name in downs if name.startswith(("unet.", "lora_unet_"))]
    of_transformer = [name for name in downs if name.startswith(("transformer.", "lora_transformer_", "diffusion_model."))]
    made_for = "unet" if of_unet and not of_transformer else "transformer" if of_transformer and not of_unet else None
    if made_for is not None and made_for != family.denoiser:
        return f"is for weights with a {made_for}; these have a {family.denoiser}"
    expected = _input_width(family, folder)
    layer = ("attn2.to_k.", "attn2_to_k.") if family.denoiser == "unet" else (".attn.to_q.",)
    widths = {shape[1] for name, shape in downs.items() if any(part in name for part in layer)}
    if expected is not None and widths and widths != {expected}:
        return f"is for weights whose attention reads {', '.join(map(str, sorted(widths)))} channels; these read {expected}"
    return ""


def _input_width(family: Family, folder: Path) -> int | None:
    """Returns how many channels the layer reads that tells models of one kind apart: 768 SD 1, 1024 SD 2, 2048 SDXL."""
    try:
        config = json.loads((folder / family.denoiser / "config.json").read_text())
        if family.denoiser == "unet":
            return int(config["cross_attention_dim"])
        return int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_adapters(pipe: Any, adapters: tuple[ResolvedAdapter, ...]) -> None:
    """Loads every adapter beside the pipeline and switches all of them off. Raises WeightsError: changed, or does not
    fit."""
    from safetensors.torch import load as tensors_of

    for adapter in adapters:
        where = f"adapter {adapter.name!r}"
        if not hasattr(pipe, "load_lora_weights"):
            raise WeightsError(f"{where}: {type(pipe).__name__} takes no adapters", adapter.path, "remove model.adapters")
        data = Path(adapter.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != adapter.sha256:
            raise WeightsError(f"{where} is not the file that was resolved", adapter.path, "restore it, or start again")
        try:
            pipe.load_lora_weights(tensors_of(data), adapter_name=_key(adapter.name))
        except (ValueError, KeyError, RuntimeError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"{where} cannot be loaded: {reason}", adapter.path, "check what it was trained on") from error
        layers = {name for names in pipe.get_list_adapters().values() for name in names}
        if _key(adapter.name) not in layers:
            raise WeightsError(f"{where} has no layer of these weights", adapter.path, "check what it was trained on")
    if adapters:
        pipe.disable_lora()


def switch_adapter(pipe: Any, adapters: tuple[ResolvedAdapter, ...], name: str | None) -> None:
    """Makes the adapter `name` the only active one, or none. Raises KeyError for one that was not loaded."""
    if name is None:
        if adapters:
            pipe.disable_lora()
        return
    scale = {adapter.name: adapter.scale for adapter in adapters}[name]
    pipe.enable_lora()
    pipe.set_adapters([_key(name)], [scale])


def _key(name: str) -> str:
    """Returns the name that peft sees: as it is, `half` or `weight` would collide with what a torch module has
    already."""
    return f"adapter_{name}"
