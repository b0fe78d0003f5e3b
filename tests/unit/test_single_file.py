"""Single-file checkpoints: the same pixels as the folder they were made of, and one message for each that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, load, resolve
from renderfarm.render import Renderer
from tests.single_file import write_denoiser, write_whole
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


def drawn(weights: Path, config: Path | None = None) -> bytes:
    settings = ModelSettings(weights=str(weights), config=config and str(config), device="cpu", batch=1)
    return Renderer(resolve(settings), settings).render([attempt()])[0].tobytes()


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
