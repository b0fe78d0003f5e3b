"""A diffusers folder read without running anything in it: which files loading would read, and whether they may be
loaded at all.

Refused here: pickles (they run code when opened), code in the folder (`auto_map`, custom components, .py files), shards that are missing,
.safetensors files whose header does not fit their size (`headers`), tensors that are not those of their config (`signposts`).
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.errors import WeightsError
from renderfarm.models.signposts import mismatch
from renderfarm.weights.headers import PICKLES, check_safetensors, pickle_error, read_header

_WEIGHT = re.compile(r"(?P<stem>[^.]+?)(-\d{5}-of-\d{5})?(\.(?P<variant>\w+?))?(-\d{5}-of-\d{5})?\.safetensors")
_STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}  # what each library calls a part's weights
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True, slots=True)
class Component:
    """One component as model_index.json names it: `kind` is its class in diffusers or transformers."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What a diffusers folder holds: its pipeline class, the files that loading reads (relative, with `/`), and the
    sizes in bytes.

    `variant`: "fp16" when the weights exist only (or partly only) in that variant. `parameters`: component → bytes of
    tensors.
    """

    pipeline_class: str
    files: tuple[str, ...]
    variant: str | None
    parameters: tuple[tuple[str, int], ...]
    scheduler_class: str
    has_safety_checker: bool


def read_parts(folder: Path) -> tuple[str, tuple[Component, ...]]:
    """Returns the pipeline's class and its components, from model_index.json alone. Raises WeightsError."""
    index = read_json(folder / "model_index.json")
    pipeline_class = index.get("_class_name")
    if not isinstance(pipeline_class, str):
        raise WeightsError(
            "the pipeline's class is code in the folder, and renderfarm never runs code that comes with weights",
            str(folder / "model_index.json"),
            "use weights whose _class_name is a pipeline of diffusers itself",
        )
    named = {name: spec for name, spec in index.items() if isinstance(spec, list) and len(spec) == 2 and spec[0] is not None}
    return pipeline_class, tuple(Component(name, str(spec[1])) for name, spec in named.items())


def read_layout(folder: Path, elsewhere: tuple[str, ...] = ()) -> Layout:
    """Returns the layout of a diffusers folder. `elsewhere`: components whose weights come from a single file.

    Raises WeightsError for anything that must not or cannot be loaded.
    """
    pipeline_class, _ = read_parts(folder)
    index = read_json(folder / "model_index.json")
    components = {name: spec for name, spec in index.items() if isinstance(spec, list) and spec and spec[0] is not None}
    chosen = {name: _component(folder, name, spec, name in elsewhere) for name, spec in components.items() if name not in SKIPPED}
    lacking = [name for name, variants in chosen.items() if variants and None not in variants]
    variant = "fp16" if lacking else None
    files = ["model_index.json"]
    sizes = []
    for name, variants in chosen.items():
        weights = variants.get(variant) or variants.get(None) or ()
        if variants and not weights:
            raise WeightsError(
                f"{name} has no plain and no fp16 weights, only {', '.join(sorted(map(str, variants)))}",
                str(folder / name),
                "save it with save_pretrained(safe_serialization=True)",
            )
        packed = _packed(folder / name)
        size = sum(check_safetensors(folder / file, packed=packed) for file in weights)
        _check_shards(folder / name, {Path(file).name for file in weights})
        if weights and not packed:
            _check_tensors(folder / name, [folder / file for file in weights])
        sizes.append((name, size))
        texts = (f for f in sorted((folder / name).iterdir()) if f.suffix in _TEXT_SUFFIXES and f.is_file())
        files += [*weights, *(f"{name}/{f.name}" for f in texts)]
    scheduler = components.get("scheduler", [None, ""])[1]
    return Layout(pipeline_class, tuple(files), variant, tuple(sizes), str(scheduler), "safety_checker" in components)


SKIPPED = ("safety_checker", "feature_extractor")
"""Components that are not loaded: a safety checker paints pictures black without saying so; here that is a check's
job."""


def _component(folder: Path, name: str, spec: list[object], elsewhere: bool) -> dict[str | None, list[str]]:
    """Returns the component's weight files by variant; empty for one without weights here (a tokenizer, a scheduler)."""
    place = folder / name
    if not re.fullmatch(r"\w+", name) or spec[0] not in _STEMS:
        raise WeightsError(
            f"component {name!r} comes from {spec[0]!r}, which is neither diffusers nor transformers",
            str(folder / "model_index.json"),
            "renderfarm never runs code that comes with weights: use weights without custom components",
        )
    if not place.is_dir():
        raise WeightsError(f"component {name!r} is missing", str(place), "download the whole folder again")
    _refuse_code(place)
    if elsewhere:
        return {}
    _require_config(place, name, str(spec[1]))
    variants = _variants(place, f"{name}/", str(spec[0]))
    if not variants and (place / "config.json").is_file() and spec[1] != "CLIPImageProcessor":
        raise WeightsError(f"component {name!r} has a config but no weights", str(place), "download the whole folder again")
    return variants


_CONFIGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Scheduler", ("scheduler_config.json",)),
    ("Tokenizer", ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt", "sentencepiece.bpe.model")),
    ("Processor", ()),
    ("Extractor", ()),
    ("Guidance", ()),
    ("", ("config.json",)),
)
"""Part of a component's class → the files of which one must lie in its folder."""


def _require_config(place: Path, name: str, kind: str) -> None:
    """Raises WeightsError for a component that nothing could be loaded of."""
    wanted = next(files for part, files in _CONFIGS if part in kind)
    if wanted and not any((place / file).is_file() for file in wanted) and not kind.startswith("ByT5"):
        raise WeightsError(f"component {name!r} has no {wanted[0]}", str(place), "download the whole folder again")


def _check_tensors(place: Path, files: list[Path]) -> None:
    """Raises WeightsError when the tensors are not those that the part's config speaks of."""
    shapes = {key: tuple(entry["shape"]) for file in files for key, entry in read_header(file).items() if key != "__metadata__"}
    problem = mismatch(read_json(place / "config.json"), shapes)
    if problem:
        what = f"the tensors do not go with their config: {problem}"
        raise WeightsError(what, str(place), "download the whole folder again")


def part_files(place: Path) -> tuple[str | None, tuple[str, ...]]:
    """Returns the variant ("fp16" when there are no plain weights) and the weight files of a part that lies alone in its folder.

    Raises WeightsError for one that must not or cannot be loaded.
    """
    _refuse_code(place)
    variants = _variants(place, "")
    variant = None if None in variants else "fp16"
    if variant not in variants:
        raise WeightsError("there are no plain and no fp16 .safetensors weights in it", str(place), "download the whole folder again")
    _check_shards(place, set(variants[variant]))
    return variant, tuple(variants[variant])


def _refuse_code(place: Path) -> None:
    """Raises WeightsError for a part of a pipeline that comes with code."""
    for config in ("config.json", "tokenizer_config.json"):
        if (place / config).is_file() and read_json(place / config).get("auto_map"):
            raise WeightsError(
                "it asks for code of its own (auto_map), and renderfarm never runs code that comes with weights",
                str(place / config),
                "use weights that diffusers and transformers load without trust_remote_code",
            )
    code = next(iter(sorted(place.glob("*.py"))), None)
    if code is not None:
        raise WeightsError("code lies among the weights, and renderfarm never runs it", str(code), "remove it if it is not needed")


def _variants(place: Path, prefix: str, library: str = "diffusers") -> dict[str | None, list[str]]:
    """Returns the weight files of a part by variant, each name after `prefix`; where there are several, those that its library reads.

    Raises WeightsError when there are pickles only."""
    variants: dict[str | None, list[str]] = {}
    matches = [match for file in sorted(place.glob("*.safetensors")) if (match := _WEIGHT.fullmatch(file.name))]
    known = [match for match in matches if match["stem"] == _STEMS[library]]
    for match in known or matches:
        variants.setdefault(match["variant"], []).append(f"{prefix}{match.string}")
    pickle = next((file for file in sorted(place.iterdir()) if file.suffix in PICKLES), None)
    if not variants and pickle is not None:
        raise pickle_error(pickle)
    return variants


_PACKERS = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "gguf": "gguf", "quanto": "optimum"}
"""`quant_method` in a part's config → the library that unpacks its numbers."""


def _packed(place: Path) -> bool:
    """Whether a part says that its weights are packed, and by what. Raises WeightsError when that is not installed."""
    config = read_json(place / "config.json") if (place / "config.json").is_file() else {}
    packing = config.get("quantization_config")
    if not isinstance(packing, dict):
        return False
    method = str(packing.get("quant_method"))
    if method not in _PACKERS or importlib.util.find_spec(_PACKERS[method]) is None:
        what = f"the weights are quantised by {method}, which is not installed here"
        raise WeightsError(what, str(place / "config.json"), "install it, or use weights that are not quantised")
    return True


def _check_shards(place: Path, present: set[str]) -> None:
    """Raises WeightsError when an index of shards that is in use names a file that is not there."""
    for index in place.glob("*.safetensors.index.json"):
        wanted = set(read_json(index).get("weight_map", {}).values())
        missing = sorted(wanted - present)
        if missing and wanted & present:
            raise WeightsError(f"shard {missing[0]} is missing", str(place), "download the whole folder again")


def read_json(path: Path) -> dict[str, Any]:
    """Returns a JSON object from a file. Raises WeightsError when it is missing or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError("the file is missing", str(path), "give a folder that save_pretrained() of diffusers wrote") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"the file is not readable JSON ({error})", str(path), "download the folder again") from error
    if not isinstance(value, dict):
        raise WeightsError("the file holds no JSON object", str(path), "download the folder again")
    return value
