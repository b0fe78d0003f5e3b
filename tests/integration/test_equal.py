"""From the command line: what diffusers can do is drawn as diffusers draws it, or refused at `plan` before anything renders.

Pictures are too small for the mark (64 pixels) and so are stored as they were drawn.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from renderfarm.cli import main
from renderfarm.log import reading
from renderfarm.storage import open_storage
from tests import plain
from tests.integration.conftest import Farm
from tests.single_file import write_sd3, write_whole
from tests.standins import folder_of
from tests.unit.test_adapters import SD_LAYERS, header_alpha, kohya
from tests.unit.test_long_prompts import in_chunks

CHECKS = ("broken", "text", "duplicates", "copies", "counts", "hands")
SMALL = {"width": 64, "height": 64, "steps": 2, "guidance": 4.0}
ROW = {"id": "a", "prompt": "a red mug"}


def job(farm: Farm, weights: Path, rows: list[dict[str, Any]], model: dict[str, Any] | None = None, **changes: Any) -> Path:
    farm.manifest([dict.fromkeys(name for row in rows for name in row) | row for row in rows])
    own: dict[str, Any] = {"defaults": SMALL, "mark": {"allow_unmarked": True}, "inputs": {"allow": [str(farm.folder)]}}
    own["checks"] = {name: {"enabled": False} for name in CHECKS}
    return farm.job(model={"weights": str(weights), "device": "cpu", **(model or {})}, **(own | changes))


def drawn(farm: Farm, path: Path) -> dict[str, np.ndarray]:
    """Renders the job; row id → uint8 (H, W, 3)."""
    farm.run("render", path)
    out = farm.folder / "out"
    kept = [record for record in reading.records(open_storage(str(out))) if record.outcome == "accepted"]
    return {str(record.row_id): np.asarray(Image.open(out / str(record.object_key)).convert("RGB")) for record in kept}


def init_image(folder: Path) -> Path:
    levels = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    Image.fromarray(levels).save(folder / "init.png")
    return folder / "init.png"


def test_a_family_of_a_plain_call_is_drawn_as_diffusers_draws_it(farm: Farm) -> None:
    init = str(init_image(farm.folder))
    rows = [
        {"id": "text", "negative_prompt": "blurry", "guidance": 3.0},
        {"id": "off", "guidance": 1.0},
        {"id": "start", "guidance": 3.0, "init_image": init, "strength": 0.5},
    ]
    folder = folder_of("z_image")
    got = drawn(farm, job(farm, folder, [{**ROW, "seed": 7, **row} for row in rows]))
    pipe = plain.loaded(folder)
    assert plain.apart(got["text"], plain.drawn(pipe, negative_prompt="blurry", guidance_scale=3.0)) <= 1
    assert plain.apart(got["off"], plain.drawn(pipe, guidance_scale=0.0)) <= 1, "1 is off, as everywhere; Z-Image's own off is 0"
    started = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    assert plain.apart(got["start"], plain.drawn(started, image=Image.open(init), strength=0.5, guidance_scale=3.0)) <= 1


def test_a_checkpoint_with_all_that_people_lay_over_it_is_drawn_as_diffusers_draws_it(farm: Farm) -> None:
    """A v-prediction file that says so, LoRAs whose strength is in the header, several at once, a prompt in chunks."""
    folder, long = folder_of("sd"), "a red mug on a table before a white wall, in the morning, with a blue handle, " * 2
    file = write_whole(plain.loaded(folder), farm.folder / "v.safetensors", {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])})
    lcm = header_alpha(farm.folder / "lcm.safetensors", "unet", SD_LAYERS)
    style = kohya(farm.folder / "style.safetensors", SD_LAYERS)
    model = {"config": str(folder), "scheduler": "euler", "long_prompts": "chunk"}
    model["adapters"] = {"lcm": {"path": str(lcm)}, "style": {"path": str(style), "scale": 0.5}}
    rows = [{"id": "one"}, {"id": "both", "adapters": ["style:.8"]}, {"id": "long", "prompt": long}]
    path = job(farm, file, [{**ROW, "seed": 7, **row} for row in rows], model, defaults={**SMALL, "adapters": ["lcm"]})
    got = drawn(farm, path)

    def told(pipe: Any) -> None:
        zero = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config, **zero)
        pipe.load_lora_weights(str(lcm), adapter_name="lcm")
        pipe.load_lora_weights(str(style), adapter_name="style")

    pipe = plain.loaded(folder, told)
    pipe.set_adapters(["lcm", "style"], [1.0, 0.8])
    assert plain.apart(got["both"], plain.drawn(pipe)) <= 1
    pipe.set_adapters(["lcm"], [1.0])
    assert plain.apart(got["one"], plain.drawn(pipe)) <= 1
    with torch.inference_mode():
        count = -(-len(pipe.tokenizer(long, add_special_tokens=False).input_ids) // 75)
        sides = [in_chunks(pipe.tokenizer, pipe.text_encoder, text, count, last_but_one=False)[0] for text in (long, "")]
    assert plain.apart(got["long"], plain.drawn(pipe, prompt=None, prompt_embeds=sides[0], negative_prompt_embeds=sides[1])) <= 1
    assert count > 1


def test_a_file_with_t5_is_drawn_as_diffusers_draws_it(farm: Farm) -> None:
    folder = folder_of("sd3")
    file = write_sd3(plain.loaded(folder), farm.folder / "whole.safetensors")
    got = drawn(farm, job(farm, file, [{**ROW, "seed": 7}], {"config": str(folder)}))
    reference = diffusers.StableDiffusion3Pipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
    reference.text_encoder_3.eval()
    assert plain.apart(got["a"], plain.drawn(reference)) <= 1


def of_class(kind: str) -> Callable[[Path], tuple[Path, dict[str, Any]]]:
    def change(folder: Path) -> tuple[Path, dict[str, Any]]:
        made = Path(shutil.copytree(folder_of("sd"), folder / "weights"))
        index = made / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": kind}))
        return made, {}

    return change


def adapted(extra: str) -> Callable[[Path], tuple[Path, dict[str, Any]]]:
    def change(folder: Path) -> tuple[Path, dict[str, Any]]:
        layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
        path = kohya(folder / "a.safetensors", SD_LAYERS, {f"{layer}.{extra}": torch.ones(32, 1)})
        return folder_of("sd"), {"adapters": {"style": {"path": str(path)}}}

    return change


def single(name: str, *extra: str) -> Callable[[Path], tuple[Path, dict[str, Any]]]:
    def change(folder: Path) -> tuple[Path, dict[str, Any]]:
        file = write_whole(plain.loaded(folder_of(name)), folder / "own.safetensors", {key: torch.ones(1) for key in extra})
        return file, {"config": str(folder_of(name))}

    return change


def plainly(name: str, **model: Any) -> Callable[[Path], tuple[Path, dict[str, Any]]]:
    return lambda folder: (folder_of(name), model)


REFUSED: dict[str, tuple[Callable[[Path], tuple[Path, dict[str, Any]]], dict[str, Any], str]] = {
    "a class for videos": (of_class("WanPipeline"), {}, "WanPipeline"),
    "a class that nobody knows": (of_class("MyPipeline"), {}, "MyPipeline"),
    "a negative prompt where there is none": (plainly("flux"), {"negative_prompt": "blurry"}, "takes no negative prompt"),
    "a start where there is none": (plainly("lumina2"), {"init_image": "init.png"}, "has no image-to-image"),
    "words alone where only masks are filled": (plainly("sd_inpaint"), {}, "only inside masks"),
    "a start without a mask there": (plainly("flux_fill"), {"init_image": "init.png"}, "has no image-to-image"),
    "a strength that has no meaning": (plainly("flux_kontext"), {"init_image": "init.png", "strength": 0.5}, "no meaning"),
    "a size in patches": (plainly("chroma"), {"width": 72}, "multiples of 16"),
    "a start that the default strength leaves nothing of": (plainly("sd"), {"init_image": "init.png", "steps": 1}, "leave nothing to draw"),
    "more steps than were distilled": (plainly("lcm"), {"steps": 51}, "distilled to at most 50 steps"),
    "more steps than the sampler has": (plainly("sd", scheduler="tcd"), {"steps": 51}, "distilled to at most 50 steps"),
    "a start with a sampler that has none": (plainly("sd3", scheduler="flow_unipc"), {"init_image": "init.png"}, "cannot start"),
    "a sampler of another family": (plainly("z_image", scheduler="flow_unipc"), {}, "cannot sample this family"),
    "a mode that is not proven": (plainly("qwen_image", encoders="cpu"), {}, "encoded by its pipeline's own call"),
    "a picture beyond the table of positions": (plainly("sd3"), {"width": 512}, "know positions for"),
    "a prompt that is too long": (plainly("sd", long_prompts="refuse"), {"prompt": "ab " * 60}, "ab ab"),
    "a weight where the job says nothing of weights": (plainly("sd"), {"prompt": "a (red:1.3) mug"}, "prompt_weights"),
    "a break in a negative prompt": (plainly("z_image"), {"negative_prompt": "text BREAK blur"}, "prompt_weights"),
    "weights where T5 reads too": (plainly("flux", prompt_weights="read", long_prompts="chunk"), {}, "read by CLIP alone"),
    "a weight below nothing": (plainly("sd", prompt_weights="read", long_prompts="chunk"), {"prompt": "a (red:-1) mug"}, "0 to 10"),
    "an adapter's DoRA": (adapted("dora_scale"), {}, "left out"),
    "an adapter of two methods": (adapted("hada_w1_a"), {}, "names two methods"),
    "scaled fp8": (single("sd", "model.diffusion_model.out.2.scale_weight"), {}, "quantised"),
    "zero SNR with a sampler that does not know it": (single("sd", "v_pred", "ztsnr"), {}, "does not know"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_drawn_otherwise_is_refused_at_plan(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, row, expected = REFUSED[case]
    monkeypatch.setenv("XDG_CONFIG_HOME", farm.env["XDG_CONFIG_HOME"])
    init = init_image(farm.folder)
    weights, model = make(farm.folder)
    row = {name: str(init) if name == "init_image" else value for name, value in row.items()}
    assert main(["plan", str(job(farm, weights, [{**ROW, **row}], model))]) == 2
    said = capsys.readouterr().err
    assert expected in said and "remedy:" in said and "Traceback" not in said, said
    assert not (farm.folder / "out").exists()


def test_what_is_lost_of_a_prompt_is_said_at_plan(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", farm.env["XDG_CONFIG_HOME"])
    rows = [{"id": "long", "prompt": "x" * 75 + " the words at the end"}, {**ROW, "id": "short"}]
    for _ in range(2):  # the second time what the first look found is remembered
        assert main(["plan", str(job(farm, folder_of("sd"), rows))]) == 0
        said = capsys.readouterr().out
        assert "1 prompts are longer than the model reads; these words are lost (row 'long': 'the words at the end')" in said
    assert main(["plan", str(job(farm, folder_of("sd"), rows, {"long_prompts": "chunk"}))]) == 0
    assert "encoded in chunks" in capsys.readouterr().out


def test_a_header_that_begins_like_a_pickle_is_planned(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """One published file in 32: the low byte of its header's length is 0x80."""
    monkeypatch.setenv("XDG_CONFIG_HOME", farm.env["XDG_CONFIG_HOME"])
    folder = Path(shutil.copytree(folder_of("sd"), farm.folder / "weights"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors, note = load_file(path), ""
    while path.read_bytes()[:1] != b"\x80":
        note += " " * 8
        save_file(tensors, path, metadata={"format": "pt", "note": note})
    assert main(["plan", str(job(farm, folder, [ROW]))]) == 0
