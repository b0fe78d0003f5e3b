"""LoRA adapters (Hu et al. 2021): which file fits which weights, loading them beside a pipeline, switching between
them.

All adapters of a job are loaded once. A batch has one adapter or none, and switching changes only which low-rank layers
take part. Whether a file fits is told from its header alone, before anything renders: names say UNet or transformer,
shapes say which one. Whatever trained it (diffusers, kohya-ss, musubi, ai-toolkit, OneTrainer, XLabs, LyCORIS), a file is taken apart by
its format, layer by layer (`deltas`, `layers`), and given to diffusers in the one form that all its loaders take. Files of diffusers' own,
whose header holds the strength, go to it as they are. What cannot be said as a sum is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError, first_line
from renderfarm.job.model import AdapterSettings
from renderfarm.manifest.adapters import parse
from renderfarm.models.families import Family
from renderfarm.weights.deltas import factors, incomplete, role_of, unknown_words
from renderfarm.weights.fingerprint import file_sha256, fingerprint
from renderfarm.weights.headers import header_of, read_header
from renderfarm.weights.layers import ENCODERS_OF, Shapes, Target, names_for, targets_of

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


def resolve_adapter(name: str, settings: AdapterSettings, family: Family, shapes: Shapes) -> ResolvedAdapter:
    """Returns the adapter with its digest. `shapes`: of the weights that it is for.

    Raises WeightsError when it is missing, a pickle, damaged, or made for other weights.
    """
    path = Path(settings.path).expanduser().resolve()
    if not family.adapters:
        raise WeightsError(f"adapter {name!r}: diffusers loads no adapters for this family ({family.name})", str(path), "remove it")
    header = header_of(path, f"adapter {name!r}", "model.adapters")
    problem = misfit(header, family, shapes) or _odd_strength(header, path)
    if problem:
        raise WeightsError(f"adapter {name!r} {problem}", str(path), "use an adapter that was trained on these weights")
    (entry,) = fingerprint(path.parent, [path.name], cache=cache_folder())
    return ResolvedAdapter(name, str(path), entry.sha256, settings.scale)


def misfit(header: Mapping[str, Mapping[str, Any]], family: Family, shapes: Shapes) -> str:
    """Returns why an adapter with this safetensors header does not fit weights with layers of these shapes; empty if nothing speaks
    against it. Of a part that is not in `shapes` nothing is known."""
    named = [name for name in header if name != "__metadata__"]
    unused = [name for name in named if role_of(name) is None]
    layers = layers_of(named)
    if not layers:
        return "holds no LoRA layers"
    if unused:
        return f"holds {unknown_words(unused)}: the picture would not be the trained one"
    for layer, roles in sorted(layers.items()):
        if missing := incomplete(roles):
            return f"{missing} at {layer}"
    denoisers = {"unet.": "unet", "transformer.": "transformer", "lora_transformer_": "transformer"}
    made_for = {part for prefix, part in denoisers.items() if any(layer.startswith(prefix) for layer in layers)}
    if made_for and family.denoiser not in made_for:
        return f"is for weights with a {made_for.pop()}; these have a {family.denoiser}"
    if family.denoiser not in shapes:
        return ""
    names, taken = names_for(family.name, family.denoiser, shapes), dict[Target, str]()
    for layer, roles in sorted(layers.items()):
        for target in targets_of(layer, names, shapes):
            if (other := taken.setdefault(target, layer)) != layer:
                return f"changes {target.layer} twice, as {other} and as {layer}"
        if problem := _misplaced(layer, roles, header, targets_of(layer, names, shapes), shapes, family):
            return problem
    return ""


def layers_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Layer, as the file names it → role → the tensor's name. Tensors of unknown roles are left out."""
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        if (known := role_of(name)) is not None:
            layers.setdefault(known[0], {})[known[1]] = name
    return layers


def _misplaced(
    layer: str, roles: Mapping[str, str], header: Mapping[str, Any], targets: tuple[Target, ...], shapes: Shapes, family: Family
) -> str:
    """Returns in words why these tensors do not go with the layers that they are for."""
    if not targets:
        return f"is for a layer {layer} that these weights do not have"
    if targets[0].part.startswith("text_encoder") and targets[0].part not in ENCODERS_OF.get(family.name, ()):
        return f"is for {layer}, and diffusers loads no adapters for that text encoder"
    own = [shapes[target.part][target.layer] for target in targets]
    inputs, outputs = own[0][1], sum(shape[0] for shape in own)
    if "down" in roles and "mid" not in roles:
        down, up = header[roles["down"]]["shape"], header[roles["up"]]["shape"]
        if min(len(down), len(up)) < 2 or 0 in down + up:
            return f"has no matrices at {layer}"
        if down[1] != inputs:
            return f"is for weights whose {layer} reads {down[1]} channels; these read {inputs}"
        if up[0] != outputs or up[1] != down[0] or (len(own[0]) > 2 and len(down) > 2 and tuple(down[2:]) != own[0][2:]):
            return f"gives {up} of {down} at {layer}, where these weights have {list(own[0])}"
    if "diff" in roles and math.prod(header[roles["diff"]]["shape"]) != inputs * outputs * math.prod(own[0][2:]):
        return f"changes {header[roles['diff']]['shape']} at {layer}, where these weights have {list(own[0])}"
    return ""


def shapes_in(folder: Path, family: Family, elsewhere: Iterable[str] = ()) -> Shapes:
    """Layers and the shapes of their weights, of the parts in a folder that adapters change; without those whose weights lie elsewhere."""
    return {
        part: {
            name.removesuffix(".weight"): tuple(entry["shape"])
            for file in sorted((folder / part).glob("*.safetensors"))
            for name, entry in read_header(file).items()
            if name.endswith(".weight") and len(entry["shape"]) > 1
        }
        for part in (family.denoiser, "text_encoder", "text_encoder_2", "text_encoder_3")
        if part not in elsewhere and any((folder / part).glob("*.safetensors"))
    }


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


def load_adapters(pipe: Any, adapters: tuple[ResolvedAdapter, ...], family: Family) -> None:
    """Loads every adapter beside the pipeline and switches all of them off. Raises WeightsError: changed, or does not
    fit."""
    for adapter in adapters:
        where, path = f"adapter {adapter.name!r}", Path(adapter.path)
        if not hasattr(pipe, "load_lora_weights"):
            raise WeightsError(f"{where}: {type(pipe).__name__} takes no adapters", adapter.path, "remove model.adapters")
        try:
            if file_sha256(path) != adapter.sha256:
                raise WeightsError(f"{where} is not the file that was resolved", adapter.path, "restore it, or start again")
            as_it_is = _diffusers_own(read_header(path))
            tensors: Any = adapter.path if as_it_is else rewritten(path, pipe, family, where)
            pipe.load_lora_weights(tensors, adapter_name=_key(adapter.name), use_safetensors=True, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            reason = first_line(error)
            raise WeightsError(f"{where} cannot be loaded: {reason}", adapter.path, "check what it was trained on") from error
        layers = {name for names in pipe.get_list_adapters().values() for name in names}
        if _key(adapter.name) not in layers:
            raise WeightsError(f"{where} has no layer of these weights", adapter.path, "check what it was trained on")
        held = sum("lora_A" in name for name in tensors) if not as_it_is else len(layers_of(read_header(path)))
        taken = _layers_of(pipe, _key(adapter.name))
        if taken < held:
            what = f"{where} has {held} layers, and diffusers finds a place for {taken}"
            raise WeightsError(what, adapter.path, "check what it was trained on")
    if adapters:
        pipe.disable_lora()


def _diffusers_own(header: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether diffusers reads the file by itself as it was written: its own, with the strength in the header, or with peft's DoRA."""
    return METADATA in header.get("__metadata__", {}) or any((role_of(name) or ("", ""))[1] == "magnitude" for name in header)


def rewritten(path: Path, pipe: Any, family: Family, where: str) -> dict[str, Any]:
    """Returns the adapter's tensors as diffusers names and takes them, for every layer that it is for, its strength worked in.

    Raises WeightsError for a layer that the pipeline does not have."""
    import torch
    from safetensors.torch import load_file

    tensors, parts = load_file(path), {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    shapes = {part: shapes_of(module) for part, module in parts.items()}
    names, made = names_for(family.name, family.denoiser, shapes), dict[str, Any]()
    header = {name: {"shape": list(tensor.shape)} for name, tensor in tensors.items()}
    for layer, roles in layers_of(tensors).items():
        targets = targets_of(layer, names, shapes)
        problem = _misplaced(layer, roles, header, targets, shapes, family)
        if problem:
            raise WeightsError(f"{where} {problem}", str(path), "check what it was trained on")
        down, up, bias = factors({role: tensors[name] for role, name in roles.items()})
        for target in targets:
            prefix, shape = f"{target.part}.{target.layer}", shapes[target.part][target.layer]
            if f"{prefix}.lora_A.weight" in made:
                raise WeightsError(f"{where} changes {target.layer} twice", str(path), "check what it was trained on")
            down = down if down.numel() else torch.zeros(1, *shape[1:])
            own_up, own_bias = (None if rows is None else _own_rows(rows, target) for rows in (up, bias))
            assert own_up is not None
            made[f"{prefix}.lora_A.weight"] = down.reshape(-1, *shape[1:]).clone()
            made[f"{prefix}.lora_B.weight"] = own_up.reshape(shape[0], -1, *(1,) * (len(shape) - 2)).contiguous()
            if own_bias is not None:
                made[f"{prefix}.lora_B.bias"] = own_bias.contiguous()
    biased = {name.split(".")[0] for name in made if name.endswith("lora_B.bias")}
    for name, up in list(made.items()):
        if name.endswith("lora_B.weight") and name.split(".")[0] in biased:
            made.setdefault(name.replace("lora_B.weight", "lora_B.bias"), torch.zeros(up.shape[0], dtype=up.dtype))
    return made


def _own_rows(rows: Any, target: Target) -> Any:
    import torch

    own = rows if target.rows is None else rows[slice(*target.rows)]
    return torch.cat(own.chunk(2)[::-1]) if target.swapped else own


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:
    """Layers of a loaded part of a pipeline, and the shapes of their weights; those that an adapter wraps by their own names."""
    named = ((name.replace(".base_layer.", "."), tensor) for name, tensor in module.named_parameters() if ".lora_" not in name)
    return {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in named if name.endswith(".weight") and tensor.dim() > 1}


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
