"""Prompts longer than CLIP reads, encoded in chunks as the front ends do it (AUTOMATIC1111's `sd_hijack_clip`, without its comma padding):
each chunk of tokens gets its own begin and end, is encoded alone, and the chunks stand one behind the other.

What a guided picture asks for and what it shall not show need as many chunks: empty ones are added to the shorter. The pooled embedding
is the first chunk's.
"""

from __future__ import annotations

from typing import Any

import torch

from renderfarm.manifest.weighted import has_syntax
from renderfarm.models import LoadedModel


def chunk_count(model: LoadedModel, *texts: str) -> int:
    """How many chunks the longest of these texts takes; 1 where nothing is encoded in chunks."""
    return max(_count(model, text) for text in texts) if model.long_prompts == "chunk" else 1


def _count(model: LoadedModel, text: str) -> int:
    if reads_weights(model, text):
        from renderfarm.render.weighted import weighted_count

        return weighted_count(model, text)
    return max(len(_pieces(model.encoders, tokenizer, text)) for tokenizer, _ in _encoders(model.encoders))


def reads_weights(model: LoadedModel, text: str) -> bool:
    """Whether the weights in this text are read (`render.weighted`)."""
    return model.prompt_weights == "read" and has_syntax(text)


def encode_in_chunks(model: LoadedModel, text: str, count: int, clip_skip: int | None = None) -> tuple[torch.Tensor, ...]:
    """The embeddings of a text in `count` chunks: (1, count * L, C), for SDXL both encoders' side by side and the pooled (1, C)."""
    sides, pooled = [], None
    encoders = _encoders(model.encoders)
    for tokenizer, encoder in encoders:
        pieces = _pieces(model.encoders, tokenizer, text)[:count]
        length = tokenizer.model_max_length
        rows = [[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id] for piece in pieces + [[]] * (count - len(pieces))]
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows], device=encoder.device)
        masked = getattr(encoder.config, "use_attention_mask", False)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=encoder.device) if masked else None
        encoded: Any = encoder(ids, attention_mask=mask, output_hidden_states=True)
        if clip_skip is not None and len(encoders) == 1:  # as diffusers has it: the last norm comes after what is left out
            states = getattr(encoder, "text_model", encoder).final_layer_norm(encoded.hidden_states[-1 - clip_skip])
        else:
            states = encoded.hidden_states[-2 - (clip_skip or 0)] if len(encoders) > 1 else encoded[0]
        sides.append(states.reshape(1, count * length, -1))
        pooled = encoded[0][:1] if encoded[0].ndim == 2 else pooled
    joined = torch.cat(sides, dim=-1)
    return (joined,) if pooled is None else (joined, pooled)


def _encoders(pipe: Any) -> list[tuple[Any, Any]]:
    """Tokenizer and text encoder, of each CLIP in the pipeline."""
    names = [name for name in ("", "_2") if getattr(pipe, f"text_encoder{name}", None) is not None]
    return [(getattr(pipe, f"tokenizer{name}"), getattr(pipe, f"text_encoder{name}")) for name in names]


def _pieces(pipe: Any, tokenizer: Any, text: str) -> list[list[int]]:
    """The text's tokens, as many together as fit between begin and end; one empty piece for an empty text."""
    text = pipe.maybe_convert_prompt(text, tokenizer)  # words of textual inversions, one for each of their vectors
    ids, size = tokenizer(text, add_special_tokens=False).input_ids, tokenizer.model_max_length - 2
    return [ids[at : at + size] for at in range(0, max(len(ids), 1), size)]
