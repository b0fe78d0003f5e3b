"""Prompts with weights (`manifest.weighted`) → embeddings, by compel: each fragment is moved away from, or towards, what the encoder makes
of no words (https://github.com/damian0815/compel). A break begins a new chunk, and what is longer than a chunk is divided by compel at
the ends of sentences, phrases or words. The pooled embedding is that of the first chunk's words without weights.
"""

from __future__ import annotations

from typing import Any

import torch
from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode

from renderfarm.manifest.weighted import Fragments, pieces
from renderfarm.models import LoadedModel

Provider = Any


def weighted_count(model: LoadedModel, text: str) -> int:
    """How many chunks the text takes."""
    text = model.encoders.maybe_convert_prompt(text, model.encoders.tokenizer)
    return max(sum(_count(provider, piece) for piece in pieces(text)) for provider in _providers(model.encoders))


def encode_weighted(model: LoadedModel, text: str, count: int) -> tuple[torch.Tensor, ...]:
    """As `render.chunks.encode_in_chunks`: (1, count * L, C), and for SDXL the pooled (1, C)."""
    pipe, sides = model.encoders, []
    text = pipe.maybe_convert_prompt(text, pipe.tokenizer)
    for provider in _providers(pipe):
        parts = [provider.get_embeddings_for_weighted_prompt_fragments(*_batch(piece), device=provider.device) for piece in pieces(text)]
        missing = count - sum(part.shape[1] // provider.max_token_count for part in parts)
        sides.append(torch.cat([*parts, *[provider.empty_z] * missing], dim=1))
    joined = torch.cat(sides, dim=-1).to(pipe.text_encoder.dtype if len(sides) == 1 else pipe.text_encoder_2.dtype)
    if len(sides) == 1:
        return (joined,)
    first = "".join(part for part, _ in pieces(text)[0])
    pooled = pipe.encode_prompt(prompt=first, device=pipe.text_encoder_2.device, do_classifier_free_guidance=False)[2]
    return joined, pooled


def _providers(pipe: Any) -> list[Provider]:
    both = getattr(pipe, "text_encoder_2", None) is not None
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if both else ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
    named = [(pipe.tokenizer, pipe.text_encoder)] + ([(pipe.tokenizer_2, pipe.text_encoder_2)] if both else [])
    options = {"truncate": False, "returned_embeddings_type": kind, "split_long_text_mode": SplitLongTextMode.SENTENCES}
    return [EmbeddingsProvider(one, encoder, **options) for one, encoder in named if encoder is not None]


def _batch(piece: Fragments) -> tuple[list[list[str]], list[list[float]]]:
    said = [(part, weight) for part, weight in piece if part.strip()] or [("", 1.0)]
    return [[part for part, _ in said]], [[weight for _, weight in said]]


def _count(provider: Provider, piece: Fragments) -> int:
    (texts,), (weights,) = _batch(piece)
    return int(provider.get_token_ids_and_expand_weights(texts, weights, device="cpu")[0].shape[0]) // int(provider.max_token_count)
