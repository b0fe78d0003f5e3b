"""`renderfarm models` and `renderfarm model check`: what is known, and what a file is, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from renderfarm.cli import main
from renderfarm.models.families import FAMILIES
from tests import plain
from tests.single_file import write_denoiser, write_sd3, write_whole
from tests.standins import folder_of
from tests.unit.test_adapters import SD_LAYERS, flux_lora, kohya, unet_lora


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_table_has_every_class_and_names_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["class"]: row for row in said(capsys, "models")}
    assert {kind for family in FAMILIES for kind in family.classes} <= set(rows)
    assert rows["FluxFillPipeline"]["equal"] == ["inpaint"] and "sentencepiece" in rows["KolorsPipeline"]["refused"]
    assert main(["models"]) == 0
    assert "StableDiffusionXLPipeline" in capsys.readouterr().out


def test_a_folder_with_an_adapter_is_described_without_loading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = kohya(tmp_path / "style.safetensors", SD_LAYERS)
    facts = said(capsys, "model", "check", folder_of("sd"), "--adapter", file)
    assert (facts["class"], facts["family"], facts["sampler"]) == ("StableDiffusionPipeline", "sd", "PNDMScheduler")
    assert facts["adapters"]["adapter"] == {
        "format": "kohya-ss or musubi", "methods": ["LoRA"], "ranks": [4], "layers": 2, "trained_with": None,
    }  # fmt: skip
    assert facts["gpu_bytes"]["float32"]["full"] > facts["gpu_bytes"]["bfloat16"]["full"] > facts["gpu_bytes"]["bfloat16"]["sequential"]
    assert main(["model", "check", str(folder_of("sd")), "--adapter", str(file)]) == 0
    assert "kohya-ss or musubi; LoRA, rank 4; 2 layers" in capsys.readouterr().out


def test_single_files_are_told_apart_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_whole(plain.loaded(folder_of("sd")), tmp_path / "whole.safetensors")
    assert said(capsys, "model", "check", whole)["is"] == "Stable Diffusion 1"
    assert (
        said(capsys, "model", "check", write_denoiser(plain.loaded(folder_of("sdxl")), tmp_path / "x.safetensors"))["is"]
        == "Stable Diffusion XL"
    )
    assert (
        said(capsys, "model", "check", write_sd3(plain.loaded(folder_of("sd3")), tmp_path / "3.safetensors"))["is"] == "Stable Diffusion 3"
    )
    assert said(capsys, "model", "check", unet_lora(tmp_path / "a.safetensors", 32))["format"] == "diffusers"
    facts = said(capsys, "model", "check", whole, "--config", folder_of("sd"))
    assert facts["file"]["holds"] == ["text_encoder", "unet", "vae"] and facts["file"]["types"]


def test_what_does_not_fit_ends_with_2_and_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in (
        ((folder_of("sd"), "--adapter", flux_lora(tmp_path / "flux.safetensors")), "these have a unet"),
        ((tmp_path / "nothing",), "no such folder"),
        ((folder_of("sd"), "--revision", "main"), "full commit hash"),
    ):
        assert main(["model", "check", *map(str, words)]) == 2
        assert reason in capsys.readouterr().err


def test_numbers_of_a_header_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_whole(plain.loaded(folder_of("sd")), tmp_path / "own.safetensors", {"v_pred": torch.tensor([])})
    facts = said(capsys, "model", "check", file, "--config", folder_of("sd"))
    assert any("prediction_type: v_prediction" in note for note in facts["notes"])
