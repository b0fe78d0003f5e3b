"""Prompts that are longer than the model reads: in chunks as a reference does it, or cut and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from compel import Compel, ReturnedEmbeddingsType, SplitLongTextMode
from pydantic import ValidationError

from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.prompts import Reader, reader_of
from renderfarm.render import Renderer
from tests import plain
from tests.standins import attempt, byte_alphabet, folder_of

LONG = "a red mug with a blue handle on a wooden table before a white wall, in the morning, " * 2  # a token a letter: two chunks
NEGATIVE = "blurry " * 40  # four chunks


def renderer(name: str, **changes: Any) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder_of(name)), "device": "cpu", "batch": 4, **changes})
    return Renderer(resolve(settings), settings)


def in_chunks(tokenizer: Any, encoder: Any, text: str, count: int, *, last_but_one: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference, written after AUTOMATIC1111's `TextConditionalModel`: 75 tokens a chunk, begin and end around each, the rest filled
    with the padding token; every chunk through the encoder alone, the results in a row. Returns them, and the first chunk's pooled."""
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    rows, pooled = [], []
    for at in range(count):
        chunk = tokens[75 * at : 75 * at + 75]
        ids = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (77 - len(ids))
        out = encoder(torch.tensor([ids]), output_hidden_states=True)
        rows.append(out.hidden_states[-2] if last_but_one else out.last_hidden_state)
        pooled.append(out[0])
    return torch.cat(rows, dim=1), pooled[0]


@pytest.mark.parametrize("last_but_one", [False, True])
@torch.inference_mode()
def test_the_reference_is_what_another_library_makes_of_it(last_but_one: bool) -> None:
    """compel, told to cut where a chunk is full."""
    pipe = plain.loaded(folder_of("sd"))
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    kind = kind if last_but_one else ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
    options = {"truncate_long_prompts": False, "returned_embeddings_type": kind, "split_long_text_mode": SplitLongTextMode.BRUTAL}
    theirs = Compel(pipe.tokenizer, pipe.text_encoder, **options).build_conditioning_tensor(LONG)
    ours, _ = in_chunks(pipe.tokenizer, pipe.text_encoder, LONG, theirs.shape[1] // 77, last_but_one=last_but_one)
    assert theirs.shape[1] > 77 and torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@torch.inference_mode()
def test_chunks_draw_what_a_reference_draws_with_diffusers(name: str) -> None:
    pipe, xl = plain.loaded(folder_of(name)), name == "sdxl"
    encoders = [(pipe.tokenizer, pipe.text_encoder)] + ([(pipe.tokenizer_2, pipe.text_encoder_2)] if xl else [])
    call: dict[str, Any] = {"prompt": None}
    for side, text in (("", LONG), ("negative_", NEGATIVE)):
        parts = [in_chunks(*one, text, 4, last_but_one=xl) for one in encoders]
        call[f"{side}prompt_embeds"] = torch.cat([states for states, _ in parts], dim=-1)
        if xl:
            call[f"{side}pooled_prompt_embeds"] = parts[1][1]
    got, info = renderer(name, long_prompts="chunk").render([attempt(prompt=LONG, negative=NEGATIVE)])
    assert plain.apart(got[0], plain.drawn(pipe, **call)) <= 1
    assert ("long_prompts", json.dumps("chunk")) in info.settings
    cut, info = renderer(name).render([attempt(prompt=LONG, negative=NEGATIVE)])
    assert plain.apart(cut[0], plain.drawn(plain.loaded(folder_of(name)), prompt=LONG, negative_prompt=NEGATIVE)) <= 1
    assert ("long_prompts", json.dumps("cut")) in info.settings and plain.apart(cut[0], got[0]) > 1


def test_a_short_prompt_is_drawn_alike_in_any_company_and_mode() -> None:
    made, short, long = renderer("sd", long_prompts="chunk"), attempt("a", prompt="a cup"), attempt("b", prompt=LONG, seed=8)
    alone, info = made.render([short])
    together, _ = made.render([long, short, attempt("c", prompt=LONG, seed=9)])
    assert np.array_equal(alone, renderer("sd").render([short])[0]) and info.settings == ()
    assert plain.apart(together[1], alone[0]) <= 1
    assert plain.apart(together[0], made.render([long])[0][0]) <= 1


def test_chunks_are_for_families_that_clip_reads_alone() -> None:
    for name in ("sd3", "flux", "z_image"):
        with pytest.raises(WeightsError, match="not read by CLIP alone"):
            resolve(ModelSettings(weights=str(folder_of(name)), long_prompts="chunk"))
    with pytest.raises(ValidationError, match="prompts of one length"):
        ModelSettings(long_prompts="chunk", slots=True)


@pytest.mark.parametrize(("name", "tokens"), [("sd", 75), ("sdxl", 75), ("sd3", 255), ("flux", 511), ("chroma", 511), ("z_image", 509)])
def test_what_is_read_ends_where_diffusers_cuts(name: str, tokens: int) -> None:
    """The stand-ins' tokenizers make a token of a letter or so: what is lost begins at the first that is not read."""
    index = json.loads((folder_of(name) / "model_index.json").read_text())
    reader = reader_of(folder_of(name), index["_class_name"])
    assert reader is not None and reader.tokens_max == tokens
    text = " ".join("abcdefghij"[n % 10] for n in range(1200))
    lost = reader.lost(text)
    kept = text[: len(text) - len(lost)].rstrip()
    assert lost and len(reader.tokenizer.encode(kept, add_special_tokens=False).ids) <= tokens
    assert reader.lost(kept) == "" == reader.lost("")


def test_a_tokenizer_of_vocabulary_and_merges_counts_as_transformers_does(tmp_path: Path) -> None:
    letters = byte_alphabet()
    words = [*letters, *(f"{one}</w>" for one in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    reader = reader_of(tmp_path, "StableDiffusionPipeline")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    for text in ("A red Mug!", "two  dogs, 12 cats", "it's schön\n日本", "(red:1.3) e\u0301"):
        assert isinstance(reader, Reader)
        assert reader.tokenizer.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False).input_ids
