"""Weights inside a prompt: read as compel reads them where CLIP alone reads prompts, refused elsewhere, never taken for letters unsaid."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
from compel import Compel, ReturnedEmbeddingsType
from pydantic import ValidationError

from renderfarm.errors import WeightsError
from renderfarm.manifest.weighted import means_weights, pieces
from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer
from tests import plain
from tests.standins import attempt, folder_of

READ = {"prompt_weights": "read", "long_prompts": "chunk"}


def renderer(name: str, **changes: Any) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder_of(name)), "device": "cpu", "batch": 4, **changes})
    return Renderer(resolve(settings), settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a mug", [[("a mug", 1.0)]]),
        ("a (red:1.3) mug", [[("a ", 1.0), ("red", 1.3), (" mug", 1.0)]]),
        ("(a ((red)) mug:0.5)", [[("a ", 0.5), ("red", 0.5 * 1.1 * 1.1), (" mug", 0.5)]]),
        ("a [blue] cup", [[("a ", 1.0), ("blue", 1 / 1.1), (" cup", 1.0)]]),
        (r"a mug \(red\)", [[("a mug (red)", 1.0)]]),
        ("a mug BREAK a dog", [[("a mug", 1.0)], [("a dog", 1.0)]]),
        ("a (red mug", [[("a ", 1.0), ("red mug", 1.1)]]),
        ("at 10:30) it", [[("at 10:30) it", 1.0)]]),
        ("", [[]]),
    ],
)  # fmt: skip
def test_what_the_front_ends_write_is_taken_apart_as_they_do(text: str, expected: list[list[tuple[str, float]]]) -> None:
    got = [[(part, round(weight, 9)) for part, weight in piece] for piece in pieces(text)]
    assert got == [[(part, round(weight, 9)) for part, weight in piece] for piece in expected]


def test_only_what_must_be_meant_so_is_taken_for_weights() -> None:
    for text in ("a (red:1.3) mug", "(masterpiece:2), a mug", "((best quality:.8))", "a mug BREAK a dog", "(a, b:-1)"):
        assert means_weights(text), text
    for text in ("a mug (red)", "the clock says (10:30)", "a sign 'TAKE A BREAK'", 'words "COFFEE BREAK TIME"', "[one] {two}", "(16:9)",
                 "A SIGN THAT SAYS COFFEE BREAK NOW", "in a ratio (see 4:3)", "breaking BREAKFAST"):  # fmt: skip
        assert not means_weights(text), text


def by_compel(pipe: Any, name: str, said: list[str], negative: str) -> dict[str, Any]:
    """The call's arguments as compel's own user writes them, in compel's own spelling; `said`: chunk by chunk."""
    xl = name == "sdxl"
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if xl else ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
    call: dict[str, Any] = {"prompt": None}
    with redirect_stdout(io.StringIO()):
        sides = [Compel(pipe.tokenizer, pipe.text_encoder, truncate_long_prompts=False, returned_embeddings_type=kind)]
        if xl:
            sides.append(Compel(pipe.tokenizer_2, pipe.text_encoder_2, truncate_long_prompts=False, returned_embeddings_type=kind))
        pairs = []
        for side in sides:
            one = torch.cat([side.build_conditioning_tensor(text) for text in said], dim=1)
            pairs.append(side.pad_conditioning_tensors_to_same_length([one, side.build_conditioning_tensor(negative)]))
        call["prompt_embeds"], call["negative_prompt_embeds"] = (torch.cat(parts, dim=-1) for parts in zip(*pairs, strict=True))
    return call


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@torch.inference_mode()
def test_weights_draw_what_compel_draws_with_diffusers(name: str) -> None:
    pipe = plain.loaded(folder_of(name))
    call = by_compel(pipe, name, ["a (red)1.3 mug, (blue)0.6 table", "two dogs"], "(blurry)1.2")
    if name == "sdxl":
        for side, text in (("", "a red mug, blue table"), ("negative_", "blurry")):
            call[f"{side}pooled_prompt_embeds"] = pipe.encode_prompt(prompt=text, do_classifier_free_guidance=False)[2]
    asked = attempt(prompt="a (red:1.3) mug, (blue:0.6) table BREAK two dogs", negative="(blurry:1.2)")
    made = renderer(name, **READ)
    got, info = made.render([asked, attempt("b", prompt="a mug", negative="blurry")])
    assert plain.apart(got[0], plain.drawn(pipe, **call)) <= 1
    assert ("prompt_weights", json.dumps("read")) in info.settings
    assert plain.apart(got[1], plain.drawn(pipe, prompt="a mug", negative_prompt="blurry")) <= 1, "without weights nothing changes"
    assert plain.apart(got[0], renderer(name, prompt_weights="letters").render([asked])[0][0]) > 1


def test_weights_are_for_families_that_clip_reads_alone() -> None:
    for name in ("sd3", "flux", "z_image"):
        with pytest.raises(WeightsError, match=r"cannot be (read|encoded in chunks)"):
            resolve(ModelSettings(weights=str(folder_of(name)), prompt_weights="read", long_prompts="chunk"))
    with pytest.raises(ValidationError, match="set long_prompts: chunk too"):
        ModelSettings(prompt_weights="read")
