"""Samplers, noise levels, guidance and CLIP's layers as the front ends name them: each as diffusers draws it, or refused at `resolve`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.prompts import reader_of
from renderfarm.render import Renderer
from tests import plain
from tests.standins import attempt, folder_of


def renderer(folder: Path, **changes: Any) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 2, **changes})
    return Renderer(resolve(settings), settings)


def sampled(kind: str, **changes: Any) -> Callable[[Any], None]:
    def change(pipe: Any) -> None:
        pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config, **changes)

    return change


def nothing(pipe: Any) -> None:
    pass


def as_before_transformers_5(pipe: Any) -> None:
    """diffusers 0.42 asks for the layer inside the encoder that there was once; beside torch's list of parts."""
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)


KONTEXT: dict[str, Any] = {"max_area": 64 * 64, "_auto_resize": False}


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Any], None], dict[str, Any]]] = {
    "dpmpp_2m_sde": ("sd", {"scheduler": "dpmpp_2m_sde"}, sampled("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"), {}),
    "dpmpp_sde_karras": ("sdxl", {"scheduler": "dpmpp_sde_karras"}, sampled("DPMSolverSinglestepScheduler", use_karras_sigmas=True), {}),
    "lms": ("sd", {"scheduler": "lms"}, sampled("LMSDiscreteScheduler"), {}),
    "deis": ("sd", {"scheduler": "deis"}, sampled("DEISMultistepScheduler"), {}),
    "karras": ("sd", {"scheduler": "euler", "sigmas": "karras"}, sampled("EulerDiscreteScheduler", use_karras_sigmas=True), {}),
    "exponential": ("sdxl", {"sigmas": "exponential"}, sampled("EulerDiscreteScheduler", use_exponential_sigmas=True), {}),
    "beta": ("sdxl", {"sigmas": "beta"}, sampled("EulerDiscreteScheduler", use_beta_sigmas=True), {}),
    "sgm_uniform": ("sdxl", {"sigmas": "sgm_uniform"}, sampled("EulerDiscreteScheduler", timestep_spacing="trailing"), {}),
    "beta of a flow": ("sd3", {"sigmas": "beta"}, sampled("FlowMatchEulerDiscreteScheduler", use_beta_sigmas=True), {}),
    "prediction_type": ("sd", {"prediction_type": "v_prediction"}, sampled("PNDMScheduler", prediction_type="v_prediction"), {}),
    "zero_snr": ("sd", {"scheduler": "euler", "zero_snr": True}, sampled("EulerDiscreteScheduler", rescale_betas_zero_snr=True), {}),
    "shift": ("sd3", {"shift": 6.0}, sampled("FlowMatchEulerDiscreteScheduler", shift=6.0), {}),
    "shift of another sampler": (
        "sd3", {"shift": 6.0, "scheduler": "flow_unipc"},
        sampled("UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=6.0), {},
    ),
    "guidance_rescale": ("sd", {"guidance_rescale": 0.7}, nothing, {"guidance_rescale": 0.7}),
    "guidance_rescale of SDXL": ("sdxl", {"guidance_rescale": 0.7}, nothing, {"guidance_rescale": 0.7}),
    "clip_skip": ("sd", {"clip_skip": 1}, as_before_transformers_5, {"clip_skip": 1, "negative_prompt": "blurry"}),
    "clip_skip of SDXL": ("sdxl", {"clip_skip": 1}, nothing, {"clip_skip": 1, "negative_prompt": "blurry"}),
    "true_cfg": ("flux", {"true_cfg": 3.0}, nothing, {"true_cfg_scale": 3.0, "negative_prompt": "blurry"}),
    "true_cfg of Kontext": (
        "flux_kontext", {"true_cfg": 3.0}, nothing,
        {"true_cfg_scale": 3.0, "negative_prompt": "blurry", **KONTEXT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_is_drawn_as_diffusers_draws_it(case: str) -> None:
    name, model, change, call = CASES[case]
    steps = 4
    got, info = renderer(folder_of(name), **model).render([attempt(negative=call.get("negative_prompt", ""), steps=steps)])
    pipe = plain.loaded(folder_of(name), change)
    assert plain.apart(got[0], plain.drawn(pipe, num_inference_steps=steps, **call)) <= 1
    usual = plain.drawn(plain.loaded(folder_of(name)), num_inference_steps=steps, **(KONTEXT if name == "flux_kontext" else {}))
    assert plain.apart(got[0], usual) > 1, "it counts"
    said = {key.split(".")[0] for key, _ in info.settings}
    assert said & {"sampler", *model}, info.settings


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        ("sd", {"scheduler": "ddim", "sigmas": "karras"}, "no karras"),
        ("sd", {"scheduler": "dpmpp_sde", "sigmas": "sgm_uniform"}, "no sgm_uniform"),
        ("sd3", {"sigmas": "sgm_uniform"}, "no sgm_uniform"),
        ("sd3", {"scheduler": "flow_unipc", "sigmas": "karras"}, "no karras"),
        ("sd3", {"prediction_type": "epsilon"}, "by a flow"),
        ("sd", {"zero_snr": True}, "without signal"),
        ("sd", {"shift": 3.0}, "shifts nothing"),
        ("flux", {"shift": 3.0}, "use_dynamic_shifting"),
        ("sd3", {"guidance_rescale": 0.7}, "does not rescale"),
        ("flux", {"clip_skip": 1}, "CLIP alone"),
        ("sd", {"clip_skip": 3}, "2 layers"),
        ("qwen_image", {"true_cfg": 3.0}, "not distilled"),
    ],
)  # fmt: skip
def test_what_would_be_left_out_is_refused(name: str, model: dict[str, Any], expected: str) -> None:
    with pytest.raises(WeightsError, match=expected):
        resolve(ModelSettings.model_validate({"weights": str(folder_of(name)), **model}))


def inversion(path: Path, widths: dict[str, int], vectors: int) -> Path:
    generator = torch.Generator().manual_seed(3)
    save_file({name: torch.randn(vectors, width, generator=generator) for name, width in widths.items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "widths", "vectors"), [("sd", {"<cat>": 32}, 1), ("sd", {"emb_params": 32}, 3), ("sdxl", {"clip_l": 32, "clip_g": 32}, 2)]
)
def test_textual_inversions_are_drawn_as_diffusers_draws_them(tmp_path: Path, name: str, widths: dict[str, int], vectors: int) -> None:
    file = inversion(tmp_path / "cat.safetensors", widths, vectors)
    made = renderer(folder_of(name), embeddings={"<cat>": str(file)})
    asked = attempt(prompt="a <cat> on a mug", negative="<cat>")
    got, info = made.render([asked])

    def taught(pipe: Any) -> None:
        from safetensors.torch import load_file

        tensors = load_file(file)
        if name == "sd":
            pipe.load_textual_inversion(str(file), token="<cat>")
        else:
            pipe.load_textual_inversion(tensors["clip_l"], token="<cat>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
            pipe.load_textual_inversion(tensors["clip_g"], token="<cat>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)

    call = {"prompt": "a <cat> on a mug", "negative_prompt": "<cat>"}
    assert plain.apart(got[0], plain.drawn(plain.loaded(folder_of(name), taught), **call)) <= 1
    assert plain.apart(got[0], plain.drawn(plain.loaded(folder_of(name)), **call)) > 1
    assert [key for key, _ in info.settings] == ["embeddings.<cat>"] and made.render([attempt()])[1].settings == ()
    if name == "sd":  # in chunks and among weights the word counts as often as it has vectors
        chunked = renderer(folder_of(name), embeddings={"<cat>": str(file)}, long_prompts="chunk", prompt_weights="read")
        assert plain.apart(chunked.render([asked])[0][0], got[0]) <= 1
        assert plain.apart(chunked.render([attempt(prompt="a (<cat>:1.0) on a mug", negative="<cat>")])[0][0], got[0]) <= 1


def test_the_words_of_textual_inversions_count_by_their_vectors() -> None:
    one, four = (reader_of(folder_of("sd"), "StableDiffusionPipeline", {"<cat>": count}) for count in (1, 4))
    assert one is not None and four is not None
    text = "<cat> " * 20
    assert not one.lost(text) and four.lost(text)


@pytest.mark.parametrize(
    ("name", "widths", "expected"),
    [("sd", {"a": 16}, "reads 32"), ("sd", {"clip_l": 32, "clip_g": 32}, "not one tensor"), ("sdxl", {"a": 32}, "clip_l and clip_g"),
     ("flux", {"a": 32}, "CLIP alone")],
)  # fmt: skip
def test_textual_inversions_for_other_weights_are_refused(tmp_path: Path, name: str, widths: dict[str, int], expected: str) -> None:
    file = inversion(tmp_path / "cat.safetensors", widths, 1)
    with pytest.raises(WeightsError, match=expected):
        resolve(ModelSettings(weights=str(folder_of(name)), embeddings={"<cat>": str(file)}))
    pickled = Path(shutil.copy(file, tmp_path / "cat.pt"))
    if name == "sd":
        with pytest.raises(WeightsError, match="pickle"):
            resolve(ModelSettings(weights=str(folder_of(name)), embeddings={"<cat>": str(pickled)}))


def test_a_word_with_a_bracket_is_no_word() -> None:
    with pytest.raises(ValidationError, match="without brackets"):
        ModelSettings(embeddings={"(cat)": "a.safetensors"})
    assert json.dumps(ModelSettings(clip_skip=1).altered) == '{"clip_skip": 1}' and ModelSettings().altered == {}
