"""Family × task × source: each layout that people publish, filled with small random numbers, through `renderfarm render` and held against
plain diffusers; what a family cannot do is refused at `plan`.

The whole table takes a quarter of an hour and is `scripts/published`; without it one family of it runs here.
"""

from __future__ import annotations

import json
import shutil
import warnings
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
from renderfarm.models.families import Family, family_of
from renderfarm.models.quiet import quieten
from renderfarm.storage import open_storage
from tests import plain
from tests.integration.conftest import Farm
from tests.integration.conftest import farm as farm
from tests.published.test_adapters import WHOLE
from tests.standins import BUILDERS, MASKED, folder_of

DEFAULTS = {"width": 64, "height": 64, "steps": 4, "guidance": 3.0}
CHECKS = ("broken", "text", "duplicates", "copies", "counts", "hands")
TASKS = ("text", "image", "inpaint")
OURS = {("lcm", "inpaint"), ("sd_wide", "inpaint")}
"""What diffusers has no pipeline for, and is blended here."""
BY_NAME: dict[tuple[str, str], Any] = {
    ("chroma", "image"): diffusers.ChromaImg2ImgPipeline,
    ("flux_kontext", "inpaint"): diffusers.FluxKontextInpaintPipeline,
}
"""Classes that diffusers' automatic pipelines do not know."""


def weights_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def as_it_is(folder: Path) -> dict[str, Any]:
    return {}


def halved(folder: Path) -> dict[str, Any]:
    """A repository that has its weights in the fp16 variant only."""
    for file in weights_of(folder):
        numbers = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}
        save_file(numbers, file.with_name(f"{file.stem}.fp16.safetensors"), metadata={"format": "pt"})
        file.unlink()
    return {"variant": "fp16"}


def sharded(folder: Path) -> dict[str, Any]:
    """Denoisers as large repositories have them: shards and their index."""
    for file in weights_of(folder):
        if file.parent.name in ("unet", "transformer"):
            held = list(load_file(file).items())
            names = [f"{file.stem}-0000{at + 1}-of-00003.safetensors" for at in range(3)]
            for at, name in enumerate(names):
                save_file(dict(held[at::3]), file.with_name(name), metadata={"format": "pt"})
            index = {"metadata": {}, "weight_map": {key: names[at % 3] for at, (key, _) in enumerate(held)}}
            file.with_name(f"{file.stem}.safetensors.index.json").write_text(json.dumps(index))
            file.unlink()
    return {}


def in_bfloat16(folder: Path) -> dict[str, Any]:
    """A repository of bfloat16 under the plain names."""
    for file in weights_of(folder):
        numbers = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}
        save_file(numbers, file, metadata={"format": "pt"})
    return {}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": as_it_is, "fp16 variant": halved, "shards": sharded, "bfloat16": in_bfloat16,
}  # fmt: skip


def tasks_of(family: Family) -> list[str]:
    return [task for task, can in zip(TASKS, (family.text, family.image, family.inpaint), strict=True) if can]


def row(task: str, family: Family, init: Path, mask: Path) -> dict[str, Any]:
    """A row of the manifest for a task."""
    said: dict[str, Any] = {"id": task, "prompt": "a red mug", "seed": 7}
    said |= {"negative_prompt": "blurry"} if family.negative else {}
    said |= {"init_image": str(init)} if task != "text" else {}
    said |= {"strength": 0.6} if task != "text" and family.by_strength else {}
    return said | ({"mask_image": str(mask)} if task == "inpaint" else {})


def want(folder: Path, options: dict[str, Any], name: str, task: str, family: Family, init: Path, mask: Path) -> np.ndarray:
    """What a user of diffusers gets."""
    quieten()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(
            str(folder), torch_dtype=torch.float32, safety_checker=None, local_files_only=True, **options
        )
    call: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 3.0}
    call |= {"negative_prompt": "blurry"} if family.negative else {}
    if task != "text":
        call |= {"image": Image.open(init).convert("RGB")} | ({"strength": 0.6} if family.by_strength else {})
    if task == "inpaint":
        call["mask_image"] = Image.open(mask)
    if family.text and task != "text":
        auto = diffusers.AutoPipelineForInpainting if task == "inpaint" else diffusers.AutoPipelineForImage2Image
        pipe = BY_NAME.get((name, task), auto).from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    call |= {"use_resolution_binning": False} if name in ("pixart", "sana") else {}
    call |= {"true_cfg_scale": call.pop("guidance_scale")} if name == "qwen_image" else {}
    call |= {"max_area": 64 * 64, "_auto_resize": False} if name == "flux_kontext" else {}
    drawn = plain.drawn(pipe, **call)
    return drawn if task != "inpaint" else np.where(np.asarray(Image.open(mask))[..., None] > 127, drawn, np.asarray(Image.open(init)))


CASES = [(name, source) for name in (*BUILDERS, *MASKED) for source in SOURCES] if WHOLE else [("z_image", "shards")]


@pytest.mark.parametrize(("name", "source"), CASES)
def test_what_people_publish_is_drawn_as_diffusers_draws_it_or_refused(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, source: str
) -> None:
    folder = Path(shutil.copytree(folder_of(name), farm.folder / "weights"))
    options = SOURCES[source](folder)
    family = family_of(json.loads((folder / "model_index.json").read_text())["_class_name"])
    init, mask = farm.folder / "init.png", farm.folder / "mask.png"
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)).save(init)
    Image.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 64, axis=0).repeat(32, axis=1)).save(mask)
    own = {"defaults": DEFAULTS, "mark": {"allow_unmarked": True}, "inputs": {"allow": [str(farm.folder)]}}
    own["checks"] = {check: {"enabled": False} for check in CHECKS}

    def job(tasks: list[str]) -> Path:
        rows = [row(task, family, init, mask) for task in tasks]
        farm.manifest([dict.fromkeys(key for one in rows for key in one) | one for one in rows])
        return farm.job(model={"weights": str(folder), "device": "cpu"}, **own)

    monkeypatch.setenv("XDG_CONFIG_HOME", farm.env["XDG_CONFIG_HOME"])
    able = tasks_of(family)
    for task in set(TASKS) - set(able) if source == "folder" or not WHOLE else ():
        assert main(["plan", str(job([task]))]) == 2, task
        assert "remedy:" in capsys.readouterr().err
    farm.run("render", job(able))
    out = farm.folder / "out"
    kept = {str(one.row_id): one for one in reading.records(open_storage(str(out))) if one.outcome == "accepted"}
    assert set(kept) == set(able)
    for task in able:
        if (name, task) in OURS:
            continue
        got = np.asarray(Image.open(out / str(kept[task].object_key)).convert("RGB"))
        assert plain.apart(got, want(folder, options, name, task, family, init, mask)) <= 1, task
        assert got.std() > 5
