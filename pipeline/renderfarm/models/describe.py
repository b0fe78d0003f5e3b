"""What is known of models, and what a file of weights is: from tables and headers, without loading anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from renderfarm.job.model import ModelSettings
from renderfarm.models.adapters import layers_of
from renderfarm.models.checkpoint import architecture_of
from renderfarm.models.families import FAMILIES, UNKNOWN_CLASSES, Family, samplers_for
from renderfarm.models.memory import gb, needs
from renderfarm.models.resolve import checkpoint_of, resolve
from renderfarm.weights.deltas import role_of
from renderfarm.weights.headers import read_header

OWN = (("lcm", "inpaint"),)
"""What diffusers has no pipeline for, and is done here."""
BYTES = {"float32": 4, "bfloat16": 2}
_FORMATS: tuple[tuple[str, str], ...] = (
    ("lycoris_", "LyCORIS"),
    ("lora_transformer_", "OneTrainer"),
    ("lora_unet_", "kohya-ss or musubi"),
    ("lora_te", "kohya-ss"),
    ("base_model.model.", "peft"),
    ("diffusion_model.", "ai-toolkit or ComfyUI"),
    ("unet.", "diffusers"),
    ("transformer.", "diffusers"),
    ("text_encoder", "diffusers"),
)
_METHODS = {
    "down": "LoRA", "mid": "LoCon with a core", "hada_w1_a": "LoHa", "lokr_w1": "LoKr", "lokr_w1_a": "LoKr", "diff": "full difference",
    "magnitude": "DoRA", "diff_b": "biases",
}  # fmt: skip


def known() -> list[dict[str, object]]:
    """One row for each pipeline class: what it draws from, each as diffusers draws it; refused classes last, with the reason."""
    rows: list[dict[str, object]] = [_row(kind, family) for family in FAMILIES for kind in family.classes]
    return rows + [{"class": kind, "refused": reason} for kind, reason in sorted(UNKNOWN_CLASSES.items())]


def _row(kind: str, family: Family) -> dict[str, object]:
    draws = {"text": family.text, "image": family.image, "inpaint": family.inpaint, "control": family.control}
    return {
        "class": kind,
        "family": family.name,
        "equal": [task for task, can in draws.items() if can and (family.name, task) not in OWN],
        "own": [task for task, can in draws.items() if can and (family.name, task) in OWN],
        "refused": [task for task, can in draws.items() if not can],
        "adapters": family.adapters,
        "single_file": family.single_file,
        "negative_prompt": family.negative,
        "size_multiple": family.size_multiple,
        "samplers": samplers_for(family),
    }


def checked(settings: ModelSettings) -> dict[str, object]:
    """What these weights are, how they would be loaded, and what with. Raises: WeightsError, as a job would."""
    resolved = resolve(settings)
    folder, file = Path(resolved.path), checkpoint_of(settings)
    counts = {name: count for name, count in resolved.parameters if count}
    held = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    ignored = [name for name in held if name not in resolved.files and not name.endswith((".md", ".gitattributes"))]
    return {
        "weights": resolved.weights,
        "class": resolved.pipeline_class,
        "family": resolved.family,
        "sampler": resolved.scheduler,
        "digest": resolved.digest,
        "licence": {"name": resolved.licence, "use": resolved.licence_use, "source": resolved.licence_source},
        "file": None if file is None else {**file_facts(file), "holds": list(resolved.supplied)},
        "variant": resolved.variant,
        "parameters": counts,
        "gpu_bytes": {dtype: needs([size * count for count in counts.values()]) for dtype, size in BYTES.items()},
        "adapters": {one.name: adapter_facts(Path(one.path)) for one in resolved.adapters},
        "ignored": ignored,
        "notes": list(resolved.warnings),
    }


def file_facts(file: Path) -> dict[str, object]:
    """What a single file is, from its header. Raises: WeightsError."""
    header = read_header(file)
    names = [name for name in header if name != "__metadata__"]
    if any(role_of(name) and ("lora" in name or "hada" in name or "lokr" in name) for name in names):
        return {"is": "an adapter", **adapter_facts(file)}
    kind = architecture_of(names)
    return {
        "is": kind[0] if kind else "weights of an architecture that is not known",
        "tensors": len(names),
        "types": types_of(header, names),
    }


def adapter_facts(file: Path) -> dict[str, object]:
    """Format, method, rank and layers of an adapter file. Raises: WeightsError."""
    header = read_header(file)
    layers = layers_of(name for name in header if name != "__metadata__")
    formats = dict.fromkeys(_format_of(layer) for layer in layers)
    methods = dict.fromkeys(_METHODS[role] for roles in layers.values() for role in roles if role in _METHODS)
    ranks = sorted({header[roles["down"]]["shape"][0] for roles in layers.values() if "down" in roles and header[roles["down"]]["shape"]})
    return {
        "format": ", ".join(formats),
        "methods": list(methods),
        "ranks": ranks,
        "layers": len(layers),
        "trained_with": str(header.get("__metadata__", {}).get("ss_base_model_version", "")) or None,
    }


def _format_of(layer: str) -> str:
    if ".processor." in layer:
        return "XLabs"
    return next((name for prefix, name in _FORMATS if layer.startswith(prefix)), "layers by their bare names")


def types_of(header: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, int]:
    """Number format → how many tensors have it."""
    return dict(Counter(str(header[name].get("dtype")) for name in names).most_common())


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts of `checked`, for people."""
    licence = facts["licence"]
    told = [
        f"{facts['weights']}: {facts['class']} ({facts['family']}), sampler {facts['sampler']}",
        f"  licence         {licence['name']} ({licence['use']}, {licence['source']})",
        f"  digest          {facts['digest']}",
    ]
    if facts["file"]:
        types = ", ".join(f"{count} {name}" for name, count in facts["file"]["types"].items())
        told.append(f"  file            {facts['file']['is']}; holds {', '.join(facts['file']['holds'])}; {types}")
    told += [f"  {name:<15} {count / 1e6:,.1f} million numbers" for name, count in facts["parameters"].items()]
    for dtype, modes in facts["gpu_bytes"].items():
        told.append(f"  {dtype:<15} " + ", ".join(f"{mode} {gb(size)}" for mode, size in modes.items()) + " on the GPU")
    for name, one in facts["adapters"].items():
        ranks = f", rank {', '.join(map(str, one['ranks']))}" if one["ranks"] else ""
        told.append(
            f"  adapter         {name}: {one['format']}; {', '.join(one['methods'])}{ranks}; {one['layers']} layers, all have their place"
        )
    told += [f"  not read        {name}" for name in facts["ignored"][:20]]
    if len(facts["ignored"]) > 20:
        told.append(f"  not read        and {len(facts['ignored']) - 20} more")
    return told + [f"  note            {note}" for note in facts["notes"]]
