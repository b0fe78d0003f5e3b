"""Textual inversions (Gal et al. 2022): a word that prompts use, and the vectors that CLIP reads in its place.

Safetensors only, as diffusers (one tensor, whatever its name), AUTOMATIC1111 (`emb_params`) and the trainers of SDXL (`clip_l`, `clip_g`)
write them. Whether a file fits is told from its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError, first_line
from renderfarm.models.families import Family
from renderfarm.models.layout import read_json
from renderfarm.weights.fingerprint import file_sha256, fingerprint
from renderfarm.weights.headers import header_of

WHERE = "model.embeddings"
SIDES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    **dict.fromkeys(("sd", "lcm"), (("", "tokenizer", "text_encoder"),)),
    "sdxl": (("clip_l", "tokenizer", "text_encoder"), ("clip_g", "tokenizer_2", "text_encoder_2")),
}
"""Family → name of the tensor (any where there is one), the tokenizer and the text encoder that it is for."""


@dataclass(frozen=True, slots=True)
class ResolvedEmbedding:
    """One file: the word, its path, SHA-256 as hex, and how many vectors stand for the word."""

    word: str
    path: str
    sha256: str
    vectors: int


def resolve_embedding(word: str, file: str, family: Family, folder: Path) -> ResolvedEmbedding:
    """Raises WeightsError when it is missing, a pickle, damaged, or made for other weights. `folder`: of those."""
    path, where = Path(file).expanduser().resolve(), f"embedding {word!r}"
    if family.name not in SIDES:
        raise WeightsError(f"{where}: prompts of this family ({family.name}) are not read by CLIP alone", WHERE, "remove it")
    shapes = {name: entry["shape"] for name, entry in header_of(path, where, WHERE).items() if name != "__metadata__"}
    sides = SIDES[family.name]
    fitting = set(shapes) == {name for name, _, _ in sides} if len(sides) > 1 else len(shapes) == 1
    if not fitting:
        wanted = " and ".join(name for name, _, _ in sides if name) or "one tensor"
        raise WeightsError(f"{where} holds {', '.join(sorted(shapes)) or 'nothing'}, not {wanted}", str(path), "use one for these weights")
    vectors = set()
    for name, _, encoder in sides:
        shape = shapes[name] if name else next(iter(shapes.values()))
        config = folder / encoder / "config.json"
        width = read_json(config).get("hidden_size") if config.is_file() else None
        if len(shape) not in (1, 2) or 0 in shape or (width is not None and shape[-1] != width):
            what = f"{where} has vectors of {shape[-1:]} numbers; the {encoder} of these weights reads {width}"
            raise WeightsError(what, str(path), "use one that was trained on these weights")
        vectors.add(shape[0] if len(shape) == 2 else 1)
    if len(vectors) != 1:
        raise WeightsError(f"{where} has as many vectors for one encoder as not for the other", str(path), "download it again")
    (entry,) = fingerprint(path.parent, [path.name], cache=cache_folder())
    return ResolvedEmbedding(word, str(path), entry.sha256, vectors.pop())


def load_embeddings(pipe: Any, embeddings: tuple[ResolvedEmbedding, ...], family: Family) -> None:
    """Teaches the pipeline's tokenizers and text encoders the words. Raises WeightsError: changed, or does not fit."""
    from safetensors.torch import load_file

    for one in embeddings:
        where = f"embedding {one.word!r}"
        if file_sha256(Path(one.path)) != one.sha256:
            raise WeightsError(f"{where} is not the file that was resolved", one.path, "restore it, or start again")
        tensors = load_file(one.path)
        try:
            for name, tokenizer, encoder in SIDES[family.name]:
                vectors = tensors[name] if name else next(iter(tensors.values()))
                parts = {"tokenizer": getattr(pipe, tokenizer), "text_encoder": getattr(pipe, encoder)}
                pipe.load_textual_inversion({one.word: vectors}, token=one.word, **parts)
        except (ValueError, KeyError, RuntimeError) as error:
            reason = first_line(error)
            raise WeightsError(f"{where} cannot be loaded: {reason}", one.path, "choose another word for it") from error
