"""ControlNet: a control image moves the picture, only of its own row; what does not fit is refused before anything renders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from renderfarm.errors import ManifestError, RenderFailed, UserError, WeightsError
from renderfarm.job import JobSettings
from renderfarm.models import ModelSettings, load, resolve
from renderfarm.models.memory import Placement, place
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.plan import ImageIds, Intent, batch_key, plan_row
from renderfarm.render import Renderer
from renderfarm.resolve import read_job_file, resolve_job
from renderfarm.schema import Attempt, PromptRow
from renderfarm.storage import LocalStorage
from tests import plain
from tests.standins import attempt, control_of, folder_of, png

NAMES = ("sd", "sdxl", "sd_wide")


LINES = np.zeros((64, 64), dtype=np.uint8)
LINES[::8] = 255
INPUTS = {
    "lines": png(LINES),
    "columns": png(np.ascontiguousarray(LINES.T)),
    "init": png(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)),
    "mask": png(np.repeat(np.array([[0, 255]], dtype=np.uint8), 64, axis=0).repeat(32, axis=1)),
    "broken": b"not a picture",
}


@pytest.fixture(scope="module")
def folders() -> dict[str, tuple[Path, Path]]:
    return {name: (folder_of(name), control_of(name)) for name in NAMES} | {"flux": (folder_of("flux"), folder_of("flux"))}


def model(folders: dict[str, tuple[Path, Path]], name: str = "sd", control: dict[str, Any] | None = None, **more: Any) -> ModelSettings:
    weights, controlnet = folders[name]
    about = {"weights": str(weights), "device": "cpu", "batch": 4, "controlnet": {"weights": str(controlnet), **(control or {})}}
    return ModelSettings.model_validate({**about, **more})


def renderer(settings: ModelSettings) -> Renderer:
    return Renderer(resolve(settings), settings)


def controlled(control: str | None = "lines", *, init: bool = False, mask: bool = False, **about: Any) -> Attempt:
    made = attempt(steps=3, **about)
    image = replace(made.image, control_image=control, control_digest=control)
    if init:
        image = replace(image, init_image="init", init_digest="init", strength=0.7)
    if mask:
        image = replace(image, mask_image="mask", mask_digest="mask")
    return replace(made, image=image)


def drawn(made: Renderer, *attempts: Attempt) -> np.ndarray:
    return made.render(attempts, inputs=INPUTS)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_control_image_moves_the_picture_from_words_from_a_picture_and_in_a_mask(folders: Any, name: str) -> None:
    made = renderer(model(folders, name))
    for start in ({}, {"init": True}, {"init": True, "mask": True}):
        plain, lines, columns = (drawn(made, controlled(control, **start)) for control in (None, "lines", "columns"))
        assert len({picture.tobytes() for picture in (plain, lines, columns)}) == 3
        if "mask" in start:
            assert (lines[0, :, :32] == plain[0, :, :32]).all(), "what the mask keeps stays"


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_one_image_is_what_diffusers_draws(folders: Any, name: str) -> None:
    made = renderer(model(folders, name, {"scale": 0.6}))
    pipe = made.model.pipe_for("text", controlled=True)
    picture = torch.from_numpy(np.repeat(LINES[None, None], 3, axis=1)).float() / 255
    arguments = {"negative_prompt": "blurry", "num_inference_steps": 3, "guidance_scale": 4.0, "width": 64, "height": 64}
    drop_foreign_warnings()
    want = pipe(
        "a red mug",
        image=picture,
        controlnet_conditioning_scale=0.6,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
        **arguments,
    ).images[0]
    got = drawn(made, controlled(negative="blurry"))[0]
    assert np.abs(got - (want * 255).round()).max() == 0


def test_rows_without_a_control_image_are_drawn_as_if_there_were_no_controlnet(folders: Any) -> None:
    plain = renderer(ModelSettings(weights=str(folders["sd"][0]), device="cpu", batch=4))
    made = renderer(model(folders))
    assert drawn(made, controlled(None)).tobytes() == drawn(plain, controlled(None)).tobytes()
    assert made.model.resolved.digest == plain.model.resolved.digest
    assert drawn(renderer(model(folders, control={"scale": 0})), controlled()).tobytes() == drawn(plain, controlled(None)).tobytes()


def test_a_batch_is_as_good_as_one_by_one_and_deterministic_to_the_byte(folders: Any) -> None:
    pair = [controlled("lines", name="a"), controlled("columns", name="b", seed=9)]
    together = drawn(renderer(model(folders)), *pair).astype(int)
    exact = renderer(model(folders, deterministic=True))
    alone = [drawn(exact, one)[0] for one in pair]
    assert np.abs(together - np.stack(alone)).max() <= 1
    assert drawn(exact, *reversed(pair))[1].tobytes() == alone[0].tobytes()


def test_batches_are_of_equal_control_and_differing_ones_are_refused(folders: Any) -> None:
    assert batch_key(controlled().image) == batch_key(controlled("columns").image) != batch_key(controlled(None).image)
    made = renderer(model(folders))
    with pytest.raises(RenderFailed, match="control_image there are; these differ"):
        drawn(made, controlled(), controlled(None))
    with pytest.raises(RenderFailed, match="input picture broken: this is no picture that can be read"):
        drawn(made, controlled("broken"))
    with pytest.raises(RenderFailed, match=r"needs the job's model\.controlnet"):
        drawn(renderer(ModelSettings(weights=str(folders["sd"][0]), device="cpu")), controlled())


def test_encoders_apart_and_adapters_go_with_it(folders: Any) -> None:
    beside, apart = (drawn(renderer(model(folders, "sdxl", encoders=where)), controlled()) for where in ("beside", "cpu"))
    assert beside.tobytes() == apart.tobytes()


def edit(folder: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **changes}))
    return to


def refusal(settings: ModelSettings) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        resolve(settings)
    assert caught.value.remedy
    return caught.value


def test_what_does_not_fit_is_refused_before_anything_renders(folders: Any, tmp_path: Path) -> None:
    own = folders["sd"][1]
    said = refusal(model({**folders, "sd": (folders["sd"][0], folders["sdxl"][1])}))
    assert "the ControlNet has cross_attention_dim 64, the weights have 32" in said.what
    said = refusal(model({**folders, "sd": (folders["sd_wide"][0], own)}))
    assert "reads latents of 4 channels, the weights have 16" in said.what
    with pytest.raises(WeightsError, match=r"not built for this family \(sd3\)"):
        resolve(ModelSettings.model_validate({"weights": str(folder_of("sd3")), "controlnet": {"weights": str(own)}}))
    said = refusal(model(folders, control={"weights": str(edit(own, tmp_path / "union", _class_name="ControlNetUnionModel"))}))
    assert "this is a ControlNetUnionModel" in said.what
    assert "no such folder" in refusal(model(folders, control={"weights": str(tmp_path / "nowhere")})).what
    assert "no pinned revision" in refusal(model(folders, control={"weights": "lllyasviel/sd-controlnet-canny"})).what
    assert "the file is missing" in refusal(model(folders, control={"weights": str(tmp_path)})).what


def test_damaged_pickled_and_forbidden_ones_are_refused(folders: Any, tmp_path: Path) -> None:
    own = folders["sd"][1]
    cut = edit(own, tmp_path / "cut")
    weights = cut / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert "bytes where its header says" in refusal(model(folders, control={"weights": str(cut)})).what
    weights.unlink()
    assert "no plain and no fp16" in refusal(model(folders, control={"weights": str(cut)})).what
    (cut / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    assert "pickle" in refusal(model(folders, control={"weights": str(cut)})).what
    code = edit(own, tmp_path / "code")
    (code / "model.py").write_text("boom")
    assert "code lies among the weights" in refusal(model(folders, control={"weights": str(code)})).what
    licensed = edit(own, tmp_path / "licensed")
    (licensed / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert "forbids commercial use" in refusal(model(folders, control={"weights": str(licensed)})).what
    assert resolve(model(folders, control={"weights": str(licensed)}, accept_licence=True)).control is not None


def test_a_controlnet_that_changed_since_it_was_resolved_is_not_loaded(folders: Any, tmp_path: Path) -> None:
    settings = model(folders, control={"weights": str(edit(folders["sd"][1], tmp_path / "own"))})
    resolved = resolve(settings)
    edit_config = tmp_path / "own" / "config.json"
    edit_config.write_text(edit_config.read_text() + " ")
    with pytest.raises(WeightsError, match="the job was resolved with"):
        load(resolved, settings)


def test_it_stays_on_the_gpu_in_every_memory_mode() -> None:
    parts = {"unet": 5 * 10**9, "text_encoder": 10**9, "controlnet": 2 * 10**9}
    assert place("auto", "beside", parts, 9_600_000_000) == Placement("full")
    assert place("auto", "beside", parts, 8_600_000_000) == Placement("offload")
    assert place("auto", "beside", parts, 8_000_000_000) == Placement("sequential")
    with pytest.raises(WeightsError, match=r"'offload' needs about 8\.5 GB"):
        place("offload", "beside", parts, 8_000_000_000)


def intent(job: JobSettings, control: str = "net at 1.0") -> Intent:
    return Intent(job, "a" * 64, {}, {"c.png": "b" * 64, "d.png": "c" * 64}, control)


def test_image_and_controlnet_are_part_of_the_image_id_where_they_are_used() -> None:
    job = JobSettings.model_validate({"name": "j", "manifest": "m", "output": "o"})
    ids = {}
    for picture in (None, "c.png", "d.png"):
        for control in ("net at 1.0", "net at 0.5"):
            row = PromptRow("r", "a mug", control_image=picture)
            (image,) = plan_row(row, "d" * 64, intent(job, control))
            ids[picture, control] = image.image_id
            raw = {"id": "r", "prompt": "a mug"} | ({"control_image": picture} if picture else {})
            assert [key.hex() for key in ImageIds(intent(job, control)).of(raw)] == [image.image_id]
    assert ids[None, "net at 1.0"] == ids[None, "net at 0.5"]
    assert len(set(ids.values())) == 5


def test_a_job_resolves_control_images_as_it_does_init_images(folders: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lines.png").write_bytes(INPUTS["lines"])
    (tmp_path / "outside.png").write_bytes(INPUTS["lines"])
    (tmp_path / "in" / "broken.png").write_bytes(INPUTS["broken"])

    def job(picture: str, **more: Any) -> JobSettings:
        rows = [{"id": "a", "prompt": "a mug", "control_image": picture}, {"id": "b", "prompt": "a mug", "control_image": None}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        about = {"name": "j", "manifest": str(tmp_path / "rows.parquet"), "output": str(tmp_path / "out")}
        sizes = {"defaults": {"width": 256, "height": 256}, "inputs": {"allow": [str(tmp_path / "in")]}}
        return JobSettings.model_validate({**about, **sizes, "model": model(folders).model_dump(), **more})

    resolved = resolve_job(job(str(tmp_path / "in" / "lines.png")))
    first, second = resolved.images()
    assert first.control_digest is not None and second.control_digest is None
    assert json.loads(resolved.job_json)["weights"]["controlnet"]["digest"] == resolved.weights.control.digest  # type: ignore[union-attr]
    storage = LocalStorage(tmp_path / "read", create=True)
    storage.put("job.json", resolved.job_json)
    assert read_job_file(storage).beside == resolved.weights.beside == {"controlnet": resolved.weights.control.digest}  # type: ignore[union-attr]
    for picture, more, what in (
        ("outside.png", {}, "no allowed prefix"),
        ("in/nowhere.png", {}, "cannot be read"),
        ("in/broken.png", {}, "no picture that can be read"),
        ("in/lines.png", {"inputs": {"allow": [str(tmp_path)], "bytes_max": 20}}, "too large"),
        ("in/lines.png", {"model": {"weights": str(folders["sd"][0])}}, "the job has no ControlNet"),
    ):
        with pytest.raises((ManifestError, UserError), match=what):
            resolve_job(job(str(tmp_path / picture), **more))


@pytest.mark.parametrize(("name", "mode"), [("flux", None), ("flux_union", 2)])
def test_flux_is_guided_as_diffusers_guides_it(name: str, mode: int | None) -> None:
    control: dict[str, Any] = {"weights": str(control_of(name)), "scale": 0.7, "mode": mode}
    settings = ModelSettings.model_validate({"weights": str(folder_of("flux")), "device": "cpu", "batch": 2, "controlnet": control})
    made = Renderer(resolve(settings), settings)
    levels = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    one = attempt(steps=3)
    guided = replace(one, image=replace(one.image, control_image="c", control_digest="c"))
    got, info = made.render([guided], inputs={"c": png(levels)})
    both, _ = made.render([guided, replace(guided, seed=8)], inputs={"c": png(levels)})
    net = diffusers.FluxControlNetModel.from_pretrained(control_of(name))
    pipe = diffusers.FluxControlNetPipeline.from_pipe(plain.loaded(folder_of("flux")), controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"control_image": Image.fromarray(levels), "controlnet_conditioning_scale": 0.7, "num_inference_steps": 3}
    call |= {} if mode is None else {"control_mode": mode}
    assert plain.apart(got[0], plain.drawn(pipe, **call)) <= 1
    assert plain.apart(both[0], got[0]) <= 3 and plain.apart(both[1], plain.drawn(pipe, seed=8, **call)) <= 3, "rounding in a batch"
    assert plain.apart(got[0], made.render([one])[0][0]) > 1, "it counts"
    assert ("controlnet.mode" in dict(info.settings)) == (mode is not None)


@pytest.mark.parametrize(("name", "weights", "mode", "expected"), [
    ("flux_union", "flux", None, "unites 4 kinds"), ("flux_union", "flux", 4, "unites 4 kinds"), ("flux", "flux", 1, "remove"),
    ("flux", "sd", None, "only a ControlNetModel"), ("sd", "flux", None, "only a FluxControlNetModel"), ("flux", "sd3", None, "not built"),
])  # fmt: skip
def test_a_controlnet_of_flux_that_does_not_fit_is_refused(name: str, weights: str, mode: int | None, expected: str) -> None:
    control = {"weights": str(control_of(name)), "mode": mode}
    with pytest.raises(WeightsError, match=expected):
        resolve(ModelSettings.model_validate({"weights": str(folder_of(weights)), "controlnet": control}))
