"""Single-file checkpoints: the same pixels as the folder they were made of, and one message for each that cannot be used."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, load, resolve
from renderfarm.models.checkpoint import ZERO_SNR
from renderfarm.models.families import SCHEDULERS
from renderfarm.render import Renderer
from tests import plain
from tests.single_file import write_denoiser, write_sd3, write_whole, write_without_encoders
from tests.standins import attempt, folder_of


@pytest.fixture(scope="module")
def folder() -> Path:
    return folder_of("sd")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    settings = ModelSettings(weights=str(folder), device="cpu")
    return load(resolve(settings), settings).pipe


@pytest.fixture(scope="module")
def configs(folder: Path) -> Path:
    """The folder without any weights."""
    bare = folder.parent / "configs"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    return bare


def pixels(weights: Path, config: Path | None = None, **changes: Any) -> np.ndarray:
    settings = ModelSettings(weights=str(weights), config=config and str(config), device="cpu", batch=1, **changes)
    picture: np.ndarray = Renderer(resolve(settings), settings).render([attempt()])[0][0]
    return picture


def drawn(weights: Path, config: Path | None = None) -> bytes:
    return pixels(weights, config).tobytes()


def refusal(weights: Path, **settings: object) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        resolve(ModelSettings.model_validate({"weights": str(weights), **settings}))
    assert caught.value.remedy
    return caught.value


def test_a_whole_model_in_one_file_draws_what_its_folder_draws(folder: Path, configs: Path, pipe: Any, tmp_path: Path) -> None:
    file = write_whole(pipe, tmp_path / "own.safetensors")
    settings = ModelSettings(weights=str(file), config=str(configs), device="cpu")
    assert resolve(settings).supplied == ("text_encoder", "unet", "vae")
    assert drawn(file, configs) == drawn(folder)


def test_a_denoiser_alone_takes_the_rest_from_the_folder(folder: Path, pipe: Any, tmp_path: Path) -> None:
    before = drawn(folder)
    assert drawn(write_denoiser(pipe, tmp_path / "same.safetensors"), folder) == before
    with torch.no_grad():
        pipe.unet.conv_out.bias += 0.5
        distilled = write_denoiser(pipe, tmp_path / "distilled.safetensors")
        pipe.unet.conv_out.bias -= 0.5
    assert drawn(distilled, folder) != before


def test_the_digest_covers_the_file_and_the_configs_not_where_they_lie(configs: Path, pipe: Any, tmp_path: Path) -> None:
    def digest(file: Path, config: Path) -> str:
        return resolve(ModelSettings(weights=str(file), config=str(config))).digest

    file = write_whole(pipe, tmp_path / "one.safetensors")
    first = digest(file, configs)
    moved = Path(shutil.copy(file, tmp_path / "two.safetensors"))
    other = Path(shutil.copytree(configs, tmp_path / "other"))
    assert digest(moved, other) == first
    scheduler = other / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("epsilon", "v_prediction"))
    assert digest(moved, other) != first
    settings = ModelSettings(weights=str(file), config=str(configs), device="cpu")
    resolved = resolve(settings)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="the job was resolved with"):
        load(resolved, settings)


def test_what_cannot_be_used_is_refused(folder: Path, configs: Path, pipe: Any, tmp_path: Path) -> None:
    file = write_denoiser(pipe, tmp_path / "unet.safetensors")
    assert "model.config" in refusal(file).remedy
    assert "no such folder" in refusal(file, config=str(tmp_path / "absent")).what
    assert "goes with a single" in refusal(folder, config=str(configs)).what
    assert "no such file" in refusal(tmp_path / "absent.safetensors", config=str(configs)).what
    assert "no weights" in refusal(file, config=str(configs)).what, "the folder lacks what a denoiser alone lacks"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-10])
    assert "bytes where its header says" in refusal(cut, config=str(folder)).what
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    assert "LoRA" in refusal(tmp_path / "lora.safetensors", config=str(folder)).what
    pixart = folder_of("pixart")
    assert "cannot be loaded from a single file" in refusal(file, config=str(pixart)).what


def test_a_file_of_another_family_says_so(pipe: Any, tmp_path: Path) -> None:
    file = write_denoiser(pipe, tmp_path / "unet.safetensors")
    settings = ModelSettings(weights=str(file), config=str(folder_of("sdxl")), device="cpu")
    with pytest.raises(WeightsError, match="same family"):
        load(resolve(settings), settings)


def test_a_file_with_t5_draws_what_diffusers_draws_every_time(tmp_path: Path) -> None:
    """diffusers leaves a T5 from a single file in training mode: dropout would make every run another picture."""
    folder = folder_of("sd3")
    file = write_sd3(plain.loaded(folder), tmp_path / "whole.safetensors")
    settings = ModelSettings(weights=str(file), config=str(folder), device="cpu", batch=1)
    assert resolve(settings).supplied == ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae")
    model = load(resolve(settings), settings)
    assert not [name for name, part in model.pipe.components.items() if getattr(part, "training", False)]
    reference = diffusers.StableDiffusion3Pipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
    reference.text_encoder_3.eval()
    got = pixels(file, folder)
    assert plain.apart(got, plain.drawn(reference)) <= 1
    assert got.tobytes() == pixels(file, folder).tobytes()
    bare = {name: tensor for name, tensor in load_file(file).items() if ".clip_" not in name}
    save_file(bare, tmp_path / "bare.safetensors")
    assert "T5 and not its CLIP" in refusal(tmp_path / "bare.safetensors", config=str(folder)).what


@pytest.mark.parametrize(("name", "extra"), [("v_pred", ("v_pred",)), ("zero SNR", ("v_pred", "ztsnr"))])
def test_a_file_that_says_how_it_was_trained_is_drawn_so(tmp_path: Path, name: str, extra: tuple[str, ...]) -> None:
    """As the cards of such checkpoints tell a user of diffusers to do."""
    folder = folder_of("sd")
    file = write_whole(plain.loaded(folder), tmp_path / "v.safetensors", {key: torch.tensor([]) for key in extra})
    zero = {"rescale_betas_zero_snr": True} if "ztsnr" in extra else {}

    def told(pipe: Any) -> None:
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction", **zero)

    got = pixels(file, folder, scheduler="euler")
    assert plain.apart(got, plain.drawn(plain.loaded(folder, told))) <= 1, name
    assert plain.apart(got, pixels(folder, scheduler="euler")) > 1
    if zero:
        assert "does not know" in refusal(file, config=str(folder)).what, "PNDM, the folder's own"


def test_samplers_that_know_zero_snr_are_those_of_diffusers() -> None:
    classes = {kind for kind, _, _ in SCHEDULERS.values() if not kind.startswith("Flow")}
    known = {kind for kind in classes if "rescale_betas_zero_snr" in inspect.signature(getattr(diffusers, kind)).parameters}
    assert known == ZERO_SNR


def test_plain_fp8_is_drawn_and_scaled_fp8_is_refused(tmp_path: Path) -> None:
    folder, file = folder_of("sd"), tmp_path / "fp8.safetensors"
    whole = load_file(write_whole(plain.loaded(folder), file))
    plain_fp8 = {name: t.to(torch.float8_e4m3fn) if name.startswith("model.") and t.dim() > 1 else t for name, t in whole.items()}
    save_file(plain_fp8, file)
    reference = diffusers.StableDiffusionPipeline.from_single_file(
        str(file), config=str(folder), local_files_only=True, torch_dtype=torch.float32, safety_checker=None
    )
    assert plain.apart(pixels(file, folder), plain.drawn(reference)) <= 1
    layer = "model.diffusion_model.input_blocks.0.0"
    for name in (f"{layer}.scale_weight", f"{layer}.weight_scale", "scaled_fp8", f"{layer}.weight.absmax", f"{layer}.qweight"):
        save_file({**plain_fp8, name: torch.ones(1)}, file)
        assert "quantised" in refusal(file, config=str(folder)).what
    save_file({**whole, f"{layer}.weight": torch.zeros(4, 4, dtype=torch.uint8)}, file)
    assert "quantised" in refusal(file, config=str(folder)).what


def test_a_part_that_is_quantised_by_what_is_not_installed_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("sd"), tmp_path / "sd"))
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "none-such"}}))
    assert "quantised by none-such" in refusal(folder).what


@pytest.mark.parametrize(("name", "held"), [("sd3", ("transformer", "vae")), ("sdxl", ("unet", "vae")), ("sd", ("unet", "vae"))])
def test_a_file_without_encoders_takes_them_from_the_folder(tmp_path: Path, name: str, held: tuple[str, ...]) -> None:
    pipe, file = plain.loaded(folder_of(name)), tmp_path / "own.safetensors"
    if name == "sd3":
        kept = {key: value for key, value in load_file(write_sd3(pipe, file)).items() if not key.startswith("text_encoders.")}
        save_file(kept, file)
    else:
        write_without_encoders(pipe, file)
    assert resolve(ModelSettings(weights=str(file), config=str(folder_of(name)))).supplied == held
    assert plain.apart(pixels(file, folder_of(name)), plain.drawn(pipe)) <= 1


def test_a_file_without_t5_takes_it_from_the_folder(tmp_path: Path) -> None:
    pipe, file = plain.loaded(folder_of("sd3")), tmp_path / "own.safetensors"
    save_file({key: value for key, value in load_file(write_sd3(pipe, file)).items() if "t5xxl" not in key}, file)
    lacking = {"text_encoder_3": pipe.text_encoder_3, "tokenizer_3": pipe.tokenizer_3}
    kind = diffusers.StableDiffusion3Pipeline
    reference = kind.from_single_file(str(file), config=str(folder_of("sd3")), local_files_only=True, **lacking)
    assert plain.apart(pixels(file, folder_of("sd3")), plain.drawn(reference)) <= 1
