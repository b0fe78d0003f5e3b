"""Weights and adapters that are damaged, mixed up, foreign or hostile: exit 2 with what and why at `plan`, and nothing written."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from renderfarm.cli import main
from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, load, resolve
from tests import plain
from tests.integration.conftest import Farm
from tests.single_file import write_denoiser, write_whole
from tests.standins import control_of, folder_of
from tests.unit.test_adapters import SD_LAYERS, flux_lora, kohya, lora, unet_lora

Model = dict[str, Any]
UNET = "unet/diffusion_pytorch_model.safetensors"
INDEX = f"{UNET}.index.json"
VAE = "vae/diffusion_pytorch_model.safetensors"


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file with this header, whatever it is."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def folder(change: Callable[[Path], object], name: str = "sd", **model: object) -> Callable[[Path], Model]:
    """A folder that is changed before it is named."""

    def make(place: Path) -> Model:
        made = Path(shutil.copytree(folder_of(name), place / "weights"))
        change(made)
        return {"weights": str(made), **model}

    return make


def written(name: str, data: bytes) -> Callable[[Path], Model]:
    return folder(lambda made: (made / name).write_bytes(data))


def removed(name: str) -> Callable[[Path], Model]:
    def remove(made: Path) -> None:
        (shutil.rmtree if (made / name).is_dir() else Path.unlink)(made / name)

    return folder(remove)


def said(name: str, **entries: object) -> Callable[[Path], Model]:
    """A JSON file of the folder says something else."""

    def change(made: Path) -> None:
        file = made / name
        file.write_text(json.dumps({**(json.loads(file.read_text()) if file.is_file() else {}), **entries}))

    return folder(change)


def header(**tensors: tuple[str, object, int, int]) -> Callable[[Path], Model]:
    """A UNet whose header says this of its tensors: type, shape, and where each begins and ends."""
    entries = {name: {"dtype": kind, "shape": shape, "data_offsets": [start, end]} for name, (kind, shape, start, end) in tensors.items()}
    return written(UNET, raw(json.dumps(entries).encode(), bytes(4)))


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], name: str = UNET) -> Callable[[Path], Model]:
    return folder(lambda made: save_file(change(load_file(made / name)), made / name))


def lone(write: Callable[[Path], object]) -> Callable[[Path], Model]:
    """A file alone that something else wrote."""

    def make(place: Path) -> Model:
        write(place / "own.safetensors")
        return {"weights": str(place / "own.safetensors"), "config": str(folder_of("sd"))}

    return make


def single(data: bytes | None = None, suffix: str = ".safetensors", config: str | None = "sd") -> Callable[[Path], Model]:
    """A file alone."""

    def make(place: Path) -> Model:
        file = place / f"own{suffix}"
        if data is None:
            write_whole(plain.loaded(folder_of("sd")), file)
        else:
            file.write_bytes(data)
        return {"weights": str(file)} | ({"config": str(folder_of(config))} if config else {})

    return make


def adapter(write: Callable[[Path], object], name: str = "sd", suffix: str = ".safetensors") -> Callable[[Path], Model]:
    def make(place: Path) -> Model:
        write(place / f"a{suffix}")
        return {"weights": str(folder_of(name)), "adapters": {"style": {"path": str(place / f"a{suffix}")}}}

    return make


def zipped(place: Path) -> Model:
    with zipfile.ZipFile(place / "own.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return {"weights": str(place / "own.safetensors"), "config": str(folder_of("sd"))}


def sharded(*missing: str, index: dict[str, str] | None = None) -> Callable[[Path], Model]:
    def change(made: Path) -> None:
        whole = load_file(made / UNET)
        (made / UNET).unlink()
        halves = [dict(list(whole.items())[at::2]) for at in range(2)]
        names = [f"diffusion_pytorch_model-0000{at + 1}-of-00002.safetensors" for at in range(2)]
        for name, half in zip(names, halves, strict=True):
            if name not in missing:
                save_file(half, made / "unet" / name)
        weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
        (made / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
            json.dumps({"weight_map": weight_map | (index or {})})
        )

    return folder(change)


def without(*parts: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda held: {name: tensor for name, tensor in held.items() if not any(part in name for part in parts)}


def named(model: Model) -> Callable[[Path], Model]:
    return lambda place: model


def layers(**changes: object) -> Callable[[Path], None]:
    """A LoRA some of whose tensors are others."""

    def write(path: Path) -> None:
        held: dict[str, Any] = load_file(unet_lora(path, 32))
        save_file({**held, **{f"unet.{name}": value for name, value in changes.items()}}, path)

    return write


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665ac\nsize 134\n"
HTML = b"<!doctype html><html><body>Access to model is restricted</body></html>"
LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"

CASES: dict[str, tuple[Callable[[Path], Model], str]] = {
    # damaged
    "an empty file": (written(UNET, b""), "no .safetensors file"),
    "a file that is cut off": (folder(lambda made: (made / UNET).write_bytes((made / UNET).read_bytes()[:-100])), "its header says"),
    "a file with a tail": (folder(lambda made: (made / UNET).write_bytes((made / UNET).read_bytes() + b"x")), "its header says"),
    "a header that is cut off": (folder(lambda made: (made / UNET).write_bytes((made / UNET).read_bytes()[:50])), "cut off"),
    "a pointer of Git LFS": (written(UNET, LFS), "no .safetensors file"),
    "a page of a hub": (written(UNET, HTML), "no .safetensors file"),
    "a file without tensors": (written(UNET, raw(b"{}")), "unet"),
    "an index without its shard": (sharded("diffusion_pytorch_model-00002-of-00002.safetensors"), "is missing"),
    "no model_index.json": (removed("model_index.json"), "the file is missing"),
    "a model_index.json that is cut off": (written("model_index.json", b'{"_class_name": "Stable'), "not readable JSON"),
    "a model_index.json that is a list": (written("model_index.json", b"[]"), "no JSON object"),
    "a folder of a part is missing": (removed("vae"), "component 'vae' is missing"),
    "a part without its config": (removed("unet/config.json"), "config.json"),
    "a part with a broken config": (written("unet/config.json", b"{"), "not readable JSON"),
    "a text encoder without its config": (removed("text_encoder/config.json"), "config.json"),
    "a tokenizer without its words": (removed("tokenizer/tokenizer.json"), "tokenizer"),
    "a scheduler without its config": (removed("scheduler/scheduler_config.json"), "scheduler_config.json"),
    "a part without weights": (removed(UNET), "no weights"),
    "a denoiser that lacks a block": (tensors(without("mid_block.")), "lack"),
    "a VAE that lacks its decoder": (tensors(without("decoder."), VAE), "lack"),
    # mixed up
    "tensors of another architecture": (
        folder(lambda made: shutil.copy(folder_of("flux") / "transformer" / "diffusion_pytorch_model.safetensors", made / UNET)), "lack",
    ),
    "tensors of another size than the config says": (said("unet/config.json", cross_attention_dim=64), "config"),
    "a VAE of another width": (said("vae/config.json", latent_channels=16), "config"),
    "a sampler of another kind": (said("model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]), "cannot sample"),
    "an adapter as weights": (lone(lambda path: unet_lora(path, 32)), "LoRA"),
    "weights as an adapter": (adapter(lambda path: write_denoiser(plain.loaded(folder_of("sd")), path)), "no LoRA layers"),
    "a single file with another family's folder": (single(config="flux"), "no denoiser"),
    "a single file of a VAE": (lone(lambda path: shutil.copy(folder_of("sd") / VAE, path)), "no denoiser"),
    "a single file without a folder": (single(config=None), "neither configs nor tokenizers"),
    "a ControlNet as weights": (named({"weights": str(control_of("sd"))}), "model_index.json"),
    "a ControlNet of another family": (folder(bool, controlnet={"weights": str(control_of("sdxl"))}), "ControlNet"),
    "an adapter of another family": (adapter(flux_lora), "these have a unet"),
    "an adapter of another size": (adapter(lambda path: unet_lora(path, 48)), "reads 48 channels"),
    "an adapter with a layer twice": (
        adapter(lambda path: save_file(load_file(kohya(path, SD_LAYERS)) | load_file(unet_lora(path, 32)), path)), "twice",
    ),
    "half an adapter": (adapter(lambda path: save_file(without("_B")(load_file(unet_lora(path, 32))), path)), "lacks up"),
    "matrices that do not go together": (adapter(layers(**{f"{LAYER}.lora_B.weight": torch.ones(32, 7)})), "gives"),
    # foreign
    "a pickle in a folder": (folder(lambda made: (made / UNET).rename(made / "unet" / "diffusion_pytorch_model.bin")), "pickle"),
    "a pickle alone": (single(b"\x80\x02.", ".ckpt"), "pickle"),
    "a pickle under another name": (single(b"\x80\x02}q\x00."), "pickle"),
    "a zip of torch under another name": (zipped, "pickle"),
    "an adapter that is a pickle": (adapter(lambda path: path.write_bytes(b"\x80\x02."), suffix=".pt"), "pickle"),
    "GGUF": (single(b"GGUF\x03\x00\x00\x00" + bytes(64), ".gguf"), "GGUF"),
    "GGUF under another name": (single(b"GGUF\x03\x00\x00\x00" + bytes(64)), "GGUF"),
    "ONNX": (single(b"\x08\x07\x12\x07pytorch", ".onnx"), "no .safetensors"),
    "a film's pipeline": (said("model_index.json", _class_name="WanPipeline"), "draws films"),
    "a language model": (removed("model_index.json"), "model_index.json"),
    "scaled fp8": (tensors(lambda held: {**held, "conv_in.scale_weight": torch.ones(1)}), "quantised"),
    "GPTQ": (tensors(lambda held: {**held, "conv_in.qweight": torch.ones(4, 4, dtype=torch.int32)}), "quantised"),
    "bitsandbytes that is not installed": (said("unet/config.json", quantization_config={"quant_method": "bitsandbytes"}), "not installed"),
    "IA3": (adapter(layers(**{f"{LAYER}.on_input": torch.ones(1)})), "IA3"),
    # hostile
    "a length beyond the format's": (written(UNET, raw(b"{}", length=1 << 60)), "no .safetensors file"),
    "a header that is no object": (written(UNET, raw(b"[1, 2]")), "no .safetensors file"),
    "a header that nests deeply": (written(UNET, raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)), "no .safetensors file"),
    "a tensor without a shape": (header(a=("F32", "x", 0, 4)), "tensor"),
    "a tensor of a negative size": (header(a=("F32", [-1], 0, 4)), "tensor"),
    "a tensor larger than the file": (header(a=("F32", [9], 0, 4)), "tensor"),
    "tensors one over the other": (header(a=("F32", [1], 0, 4), b=("F32", [1], 0, 4)), "tensor"),
    "an offset before the file": (header(a=("F32", [1], -4, 0)), "tensor"),
    "a number format that is none": (header(a=("Q9", [1], 0, 4)), "tensor"),
    "a shard outside the folder": (sharded(index={"conv_in.weight": "../../../etc/passwd"}), "is missing"),
    "an index that is a list": (written(INDEX, b"[]"), "no JSON object"),
    "code by auto_map": (said("text_encoder/config.json", auto_map={"AutoModel": "evil.Model"}), "never runs code"),
    "code among the weights": (written("unet/modeling.py", b"import os"), "never runs it"),
    "a pipeline that is code": (said("model_index.json", _class_name=["pipeline", "Evil"]), "never runs code"),
    "a part from code": (said("model_index.json", unet=["my_unet", "UNet"]), "never runs code"),
    "a part whose name leads away": (said("model_index.json", **{"../vae": ["diffusers", "AutoencoderKL"]}), "never runs code"),
    "modular code": (folder(lambda made: (made / "model_index.json").rename(made / "modular_model_index.json")), "model_index.json"),
    "a folder that is its own part": (folder(lambda made: (shutil.rmtree(made / "vae"), (made / "vae").symlink_to(made / "vae"))), "vae"),
    "an adapter that hides in its header": (
        adapter(lambda path: lora_with(path, lora_adapter_metadata='{"unet.r": 4, "unet.bias": "all"}')), "change the weights",
    ),
    "an adapter's header that is no JSON": (adapter(lambda path: lora_with(path, lora_adapter_metadata="{")), "no readable JSON"),
}  # fmt: skip


def lora_with(path: Path, **metadata: str) -> None:
    save_file(load_file(lora(path, "unet", SD_LAYERS)), path, metadata=metadata)


@pytest.mark.parametrize("case", CASES)
def test_bad_weights_are_refused_at_plan(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, expected = CASES[case]
    for name, value in farm.env.items():
        monkeypatch.setenv(name, value)
    farm.manifest([{"id": "a", "prompt": "a red mug"}])
    job = farm.job(model={"device": "cpu", **make(farm.folder)})
    code = main(["plan", str(job)])
    told = capsys.readouterr()
    assert code == 2, told.out
    assert any(part in told.err for part in expected.split("|")) and "remedy:" in told.err and "Traceback" not in told.err, told.err
    assert not (farm.folder / "out").exists()


def test_what_only_loading_can_tell_is_told_then(tmp_path: Path) -> None:
    model = tensors(without("conv_norm_out.bias"))(tmp_path)
    settings = ModelSettings.model_validate({"device": "cpu", **model})
    with pytest.raises(WeightsError, match=r"unet lacks 1 tensors, such as conv_norm_out\.bias"):
        load(resolve(settings), settings)


def test_a_text_encoder_that_lacks_numbers_is_refused(tmp_path: Path) -> None:
    model = tensors(without("mlp.fc1.bias"), "text_encoder/model.safetensors")(tmp_path)
    settings = ModelSettings.model_validate({"device": "cpu", **model})
    with pytest.raises(WeightsError, match="text_encoder lacks 128 numbers"):
        load(resolve(settings), settings)


def test_a_run_with_such_weights_ends_with_2_and_renders_nothing(farm: Farm) -> None:
    farm.manifest([{"id": "a", "prompt": "a red mug"}])
    model = tensors(without("conv_norm_out.bias"))(farm.folder)
    farm.run("render", farm.job(model={"device": "cpu", **model}), expect=2)
    assert not list((farm.folder / "out").glob("images/**/*.*"))
