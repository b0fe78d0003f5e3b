"""LoRA adapters (Hu et al. 2021): which file fits which weights, loading them beside a pipeline, switching between
them.

All adapters of a job are loaded once. A batch has one adapter or none, and switching changes only which low-rank layers
take part. Whether a file fits is told from its header alone, before anything renders: names say UNet or transformer,
shapes say which one. A file is loaded as diffusers loads it, by its path, since the header holds the strength that it was trained with;
what diffusers would leave out of it without a word is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError
from renderfarm.job.model import AdapterSettings
from renderfarm.manifest.adapters import parse
from renderfarm.models.families import Family
from renderfarm.models.fingerprint import file_sha256, fingerprint
from renderfarm.models.layout import PICKLES, check_safetensors, pickle_error, read_header

_DOWN = ("lora_A.weight", "lora_down.weight", "lora.down.weight", "lora_A.default.weight", "_lora.down.weight")
"""How the tensor that reads a layer's input ends, in the spellings of peft, kohya-ss and diffusers."""

_USED = (
    *_DOWN,
    *("lora_B.weight", "lora_up.weight", "lora.up.weight", "lora_B.default.weight", "_lora.up.weight", "lora_B.bias"),
    *(".alpha", ".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
)
"""How the names of tensors end that diffusers makes use of. Not among them: DoRA of kohya-ss (`dora_scale`, which it drops), LoHa, LoKr,
LoCon's third matrix, whole differences."""

METADATA = "lora_adapter_metadata"
"""Entry of the header in which the trainers of diffusers keep peft's configuration, and with it alpha, as JSON."""

_PLAIN: Mapping[str, tuple[object, ...]] = {
    "init_lora_weights": (True, False, None, "gaussian"),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, {}, []),
}
"""Entries of that configuration by which peft would change, replace or add weights of the model itself, and what leaves it alone."""


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
    header = read_header(path)
    problem = misfit(header, family, folder) or _odd_strength(header, path)
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
    unused = sorted(name for name in header if name != "__metadata__" and not name.endswith(_USED))
    if unused:
        return f"holds {len(unused)} tensors that diffusers would leave out, such as {unused[0]}: the picture would not be the trained one"
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
    return _strange_layer(downs, family, folder)


def _strange_layer(downs: Mapping[str, list[int]], family: Family, folder: Path) -> str:
    """Returns in words which layer, named as diffusers names it, the denoiser in `folder` does not have; empty where none can be told."""
    layers = {
        name.removesuffix(".weight"): entry["shape"]
        for file in sorted((folder / family.denoiser).glob("*.safetensors"))
        for name, entry in read_header(file).items()
    }
    prefix, suffix = f"{family.denoiser}.", ".lora_A.weight"
    named = {name: name.removeprefix(prefix).removesuffix(suffix) for name in downs if name.startswith(prefix) and name.endswith(suffix)}
    for name, layer in sorted(named.items()) if layers else ():
        if layer not in layers:
            return f"is for a layer {layer} that these weights do not have"
        if downs[name][1:] != layers[layer][1:]:
            return f"reads {downs[name][1:]} at the layer {layer}; these weights read {layers[layer][1:]}"
    return ""


def _odd_strength(header: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """Returns what is wrong with where the file says how strongly it was trained; empty if nothing is."""
    text = header.get("__metadata__", {}).get(METADATA)
    peft, beside = any(name.startswith("base_model.model.") for name in header), path.with_name("adapter_config.json")
    try:
        own = {} if text is None else dict(json.loads(text))
        config = json.loads(beside.read_text(encoding="utf-8")) if peft and not own and beside.is_file() else {}
        if config.get("lora_alpha", config.get("r")) != config.get("r") or config.get("use_rslora"):
            return "keeps its strength in adapter_config.json, which diffusers does not read: it would be drawn at another"
    except (ValueError, TypeError, AttributeError):
        return f"has a header or an adapter_config.json whose {METADATA} is no readable JSON object"
    for name, value in own.items():
        if name.split(".")[-1] in _PLAIN and value not in _PLAIN[name.split(".")[-1]]:
            return f"asks by {name} to change the weights themselves"
    if own and any(name.endswith(".alpha") for name in header):
        return "names its strength twice, in its header and by tensors, and diffusers refuses that"
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
    for adapter in adapters:
        where = f"adapter {adapter.name!r}"
        if not hasattr(pipe, "load_lora_weights"):
            raise WeightsError(f"{where}: {type(pipe).__name__} takes no adapters", adapter.path, "remove model.adapters")
        try:
            if file_sha256(Path(adapter.path)) != adapter.sha256:
                raise WeightsError(f"{where} is not the file that was resolved", adapter.path, "restore it, or start again")
            pipe.load_lora_weights(adapter.path, adapter_name=_key(adapter.name), use_safetensors=True, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"{where} cannot be loaded: {reason}", adapter.path, "check what it was trained on") from error
        layers = {name for names in pipe.get_list_adapters().values() for name in names}
        if _key(adapter.name) not in layers:
            raise WeightsError(f"{where} has no layer of these weights", adapter.path, "check what it was trained on")
        taken, held = _layers_of(pipe, _key(adapter.name)), sum(name.endswith(_DOWN) for name in read_header(Path(adapter.path)))
        if taken < held:
            what = f"{where} has {held} layers, and diffusers finds a place for {taken}"
            raise WeightsError(what, adapter.path, "check what it was trained on")
    if adapters:
        pipe.disable_lora()


def _layers_of(pipe: Any, key: str) -> int:
    """Returns how many layers of the pipeline the adapter `key` has a part in."""
    parts = [part for part in pipe.components.values() if hasattr(part, "named_modules")]
    return sum(key in getattr(module, "lora_A", ()) for part in parts for module in part.modules())


def weighted(adapters: tuple[ResolvedAdapter, ...], text: str | None) -> tuple[tuple[ResolvedAdapter, float], ...]:
    """Returns the adapters that a row's text names, each with its weight. Raises KeyError for one that was not loaded."""
    known = {adapter.name: adapter for adapter in adapters}
    named = ((known[name], weight) for name, weight in parse(text)) if text else ()
    return tuple((adapter, adapter.scale if weight is None else weight) for adapter, weight in named)


def switch_adapter(pipe: Any, adapters: tuple[ResolvedAdapter, ...], text: str | None) -> None:
    """Makes the adapters that `text` names the only active ones, or none. Raises KeyError for one that was not loaded."""
    if text is None:
        if adapters:
            pipe.disable_lora()
        return
    active = weighted(adapters, text)
    pipe.enable_lora()
    pipe.set_adapters([_key(adapter.name) for adapter, _ in active], [weight for _, weight in active])


def _key(name: str) -> str:
    """Returns the name that peft sees: as it is, `half` or `weight` would collide with what a torch module has
    already."""
    return f"adapter_{name}"
