"""Every family renders through one way, and to the byte what diffusers itself would draw for one image."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from renderfarm.errors import RenderFailed, WeightsError
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.families import FAMILIES, SCHEDULERS, family_of, samplers_for
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.render import Renderer
from tests import plain
from tests.standins import BUILDERS, MASKED, attempt, folder_of, png

PICTURES = {
    "i": png(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)),
    "m": png(np.repeat(np.array([[0, 255]], dtype=np.uint8), 64, axis=0).repeat(32, axis=1)),
}
"""An init image and a mask by the digest that attempts name."""

NO_NEGATIVE = ("flux", "flux_schnell", "flux2", "lcm", "flux_kontext")
"""Stand-ins whose negative prompt has no effect."""


MODES = [name for name in BUILDERS if name not in ("z_image", "qwen_image", "chroma", "flux_kontext", "lumina2", "cogview4")]
"""Stand-ins of families with encoders elsewhere, compiling and graphs; the others are drawn one by one."""


def renderer(folder: Path, **changes: object) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 4, **changes})
    return Renderer(resolve(settings), settings)


@cache
def shared(name: str) -> Renderer:
    """The stand-in's renderer with the usual settings, loaded once: tests render with it, and change nothing."""
    return renderer(folder_of(name))


def plain_diffusers(made: Renderer, prompt: str, negative: str, seed: int, guidance: float) -> np.ndarray:
    """The loop that a user of diffusers would write: one call, one image, uint8 (64, 64, 3)."""
    arguments = {
        "prompt": prompt,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "num_inference_steps": 3,
        "guidance_scale": guidance,
        "width": 64,
        "height": 64,
        "output_type": "np",
    }
    if made.model.family.negative and negative:
        arguments["negative_prompt"] = negative
    if made.model.family.name in ("pixart", "sana"):
        arguments["use_resolution_binning"] = False
    if made.model.family.name == "qwen_image":  # as its card says: guided only with a negative prompt, be it a blank
        arguments |= {"true_cfg_scale": arguments.pop("guidance_scale"), "negative_prompt": negative or " "}
    if made.model.family.name == "flux_kontext":
        arguments |= {"max_area": 64 * 64}
    drop_foreign_warnings()
    picture = made.model.pipe(**arguments).images[0]
    return (picture * 255).round().astype(np.uint8)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_image_is_what_diffusers_draws_and_the_negative_prompt_counts(name: str) -> None:
    made, drawn = shared(name), {}
    for negative in ("", "blurry text"):
        for guidance in (0.0, 3.0):
            want = plain_diffusers(made, "a red mug", negative, 5, guidance)
            got, _ = made.render([attempt(negative=negative, seed=5, steps=3, guidance=guidance)])
            assert np.abs(got[0].astype(int) - want).max() <= 1, (negative, guidance)
            assert got.std() > 10
            drawn[negative, guidance] = got.tobytes()
    assert (drawn["", 3.0] == drawn["blurry text", 3.0]) == (name in NO_NEGATIVE)


@pytest.mark.parametrize("name", MODES)
def test_deterministic_bytes_do_not_depend_on_company(name: str) -> None:
    made = renderer(folder_of(name), deterministic=True)
    target = attempt("t", prompt="a long prompt, much longer than its neighbours", seed=3)
    alone = made.render([target])[0][0].tobytes()
    for count in (3, 5):  # in one batch, and as one of two
        others = [attempt(f"n{i}", prompt="x" * i, seed=i) for i in range(count - 1)]
        assert made.render([*others, target])[0][-1].tobytes() == alone


@pytest.mark.parametrize("name", BUILDERS)
def test_in_a_batch_each_image_keeps_its_own_prompts_and_noise(name: str) -> None:
    """Batched arithmetic may differ by a grey level; a mixed-up prompt or seed would differ by tens."""
    made = shared(name)
    batch = [
        attempt("a", prompt="a red mug", negative="", seed=1),
        attempt("b", prompt="two dogs on the beach", negative="text", seed=2),
        attempt("c", prompt="", negative="blurry", seed=3),
    ]
    together, _ = made.render(batch)
    for picture, single in zip(together, batch, strict=True):
        alone, _ = made.render([single])
        assert np.abs(picture.astype(int) - alone[0]).max() <= 2
    assert not np.array_equal(together[0], together[1])


def test_every_family_has_a_stand_in() -> None:
    resolved = {resolve(ModelSettings(weights=str(folder))).family for folder in map(folder_of, BUILDERS | MASKED)}
    assert resolved == {family.name for family in FAMILIES}


def test_sizes_of_a_family_are_multiples_of_its_own() -> None:
    multiples = {name: resolve(ModelSettings(weights=str(folder_of(name)))).size_multiple for name in BUILDERS}
    assert (multiples["sd"], multiples["flux"], multiples["sd3"], multiples["sana"]) == (8, 16, 16, 32)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("sd", sampler) for sampler in samplers_for(family_of("StableDiffusionPipeline"))]
    + [("sdxl", "tcd"), ("lcm", "lcm"), ("pixart", "unipc")]
    + [(name, sampler) for name in ("sd3", "flux") for sampler in samplers_for(family_of("FluxPipeline"))],
)
def test_every_sampler_draws_and_keeps_images_apart(name: str, sampler: str) -> None:
    made = renderer(folder_of(name), scheduler=sampler)
    batch = [attempt("a", steps=4), attempt("b", prompt="two dogs", seed=2, steps=4)]
    pictures, info = made.render(batch)
    assert info.scheduler == SCHEDULERS[sampler][0]
    assert np.abs(made.render(batch[1:])[0][0].astype(int) - pictures[1]).max() <= 2
    assert pictures.std() > 10


def test_a_sampler_that_the_pipeline_cannot_drive_is_refused() -> None:
    for name, sampler in (("lcm", "ddim"), ("flux", "ddim"), ("sd", "flow_euler")):
        with pytest.raises(WeightsError, match="cannot sample this family"):
            resolve(ModelSettings(weights=str(folder_of(name)), scheduler=sampler))


@pytest.mark.parametrize("name", MODES)
def test_encoders_apart_draw_the_same_bytes(name: str) -> None:
    """The pipeline is left without encoders, so whatever it draws it draws from embeddings; from a picture and in a mask too."""
    beside, apart = shared(name), renderer(folder_of(name), encoders="cpu")
    assert apart.model.encoders is not apart.model.pipe and beside.model.encoders is beside.model.pipe
    held = {part for part in apart.model.pipe.components if part.startswith("text_encoder")}
    assert held and all(getattr(apart.model.pipe, part) is None for part in held)
    assert getattr(apart.model.encoders, apart.model.family.denoiser) is None and apart.model.encoders.vae is None
    two = [attempt("a", prompt="a red mug", negative="blurry"), attempt("b", prompt="a blue cup", seed=8)]
    work = [two]
    if apart.model.family.image:
        strength = 0.6 if apart.model.family.by_strength else None
        started = [replace(one, image=replace(one.image, init_image="i", init_digest="i", strength=strength, steps=3)) for one in two]
        masked = [replace(one, image=replace(one.image, mask_image="m", mask_digest="m")) for one in started]
        work += [started, masked][: 1 + apart.model.family.inpaint]
    for attempts in work:
        want, got = (made.render(attempts, inputs=PICTURES) for made in (beside, apart))
        told = (("encoders", '"cpu"'),)
        assert got[0].tobytes() == want[0].tobytes() and got[1] == replace(want[1], settings=told + want[1].settings)


class CpuTensors(TorchDispatchMode):
    """Counts operations that make a tensor on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.made += [str(func) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu"]
        return out


@pytest.mark.parametrize("name", MODES)
def test_a_step_asks_nothing_of_the_host(name: str) -> None:
    """So a CUDA graph can hold it: no value is read back (a tensor without memory would raise), none is copied from the host."""
    made = renderer(folder_of(name))
    denoiser = getattr(made.model.pipe, made.model.family.denoiser)
    forward, calls = denoiser.forward, []
    denoiser.forward = lambda *args, **options: calls.append((args, options)) or forward(*args, **options)
    made.render([attempt("a"), attempt("b")])
    denoiser.forward = forward
    denoiser.to("meta")
    args, options = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), calls[0])
    with torch.inference_mode(), CpuTensors() as seen:
        denoiser(*args, **options)
    assert seen.made == []


@pytest.mark.parametrize("name", ["z_image", "qwen_image", "chroma", "lumina2", "cogview4"])
def test_a_guidance_of_1_is_none(name: str) -> None:
    made = shared(name)
    pictures = [made.render([attempt(negative="blurry", guidance=guidance)])[0].tobytes() for guidance in (0.0, 1.0, 3.0)]
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("name", "mask"),
    [("z_image", None), ("z_image", "m"), ("qwen_image", None), ("qwen_image", "m"), ("flux_kontext", None), ("flux_kontext", "m")],
)
def test_families_of_a_plain_call_start_from_pictures_as_diffusers_does(name: str, mask: str | None) -> None:
    made = shared(name)
    one = attempt(steps=4, guidance=3.0)
    strength = 0.5 if made.model.family.by_strength else None
    one = replace(one, image=replace(one.image, init_image="i", init_digest="i", strength=strength, mask_image=mask, mask_digest=mask))
    got = made.render([one], inputs=PICTURES)[0][0]
    init, drawn_anew = Image.open(io.BytesIO(PICTURES["i"])), Image.open(io.BytesIO(PICTURES["m"]))
    call: dict[str, Any] = {"image": init, "num_inference_steps": 4, "guidance_scale": 3.0}
    call |= {"mask_image": drawn_anew} if mask else {}
    call |= {"strength": 0.5} if strength else {"max_area": 64 * 64, "_auto_resize": False}
    if name == "qwen_image":
        call |= {"true_cfg_scale": call.pop("guidance_scale"), "negative_prompt": " "}
    auto: Any = diffusers.AutoPipelineForInpainting if mask else diffusers.AutoPipelineForImage2Image
    auto = diffusers.FluxKontextInpaintPipeline if (name, mask) == ("flux_kontext", "m") else auto
    pipe = auto.from_pipe(plain.loaded(folder_of(name)))
    pipe.set_progress_bar_config(disable=True)
    want = plain.drawn(pipe, **call)
    if mask:  # what the mask keeps are the init image's own pixels, here as ever
        want = np.where(np.asarray(drawn_anew)[..., None] > 127, want, np.asarray(init))
    assert plain.apart(got, want) <= 1
    assert plain.apart(got, made.render([attempt(steps=4, guidance=3.0)])[0][0]) > 1


def test_a_size_that_is_not_the_one_asked_for_is_no_picture() -> None:
    """Whatever a pipeline does with sizes that it does not like: a record never says another size than its file has."""
    for name in ("z_image", "sd", "flux2"):
        made = renderer(folder_of(name))
        decode = made.model.pipe.vae.decode
        made.model.pipe.vae.decode = lambda latents, decode=decode, **options: decode(latents[..., :-2], **options)
        with pytest.raises(RenderFailed, match=r"drew \d+×64 where 64×64 was asked for"):
            made.render([attempt()])


def test_a_class_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("sd"), tmp_path / "sd"))
    index = folder / "model_index.json"
    for kind in ("WanPipeline", "StableAudioPipeline", "StableDiffusionUpscalePipeline", "NoSuchPipeline"):
        index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": kind}))
        with pytest.raises(WeightsError, match=kind):
            resolve(ModelSettings(weights=str(folder)))


@pytest.mark.parametrize("name", MASKED)
def test_weights_that_fill_masks_fill_them_as_diffusers_does_and_draw_nothing_else(name: str) -> None:
    made = shared(name)
    one = attempt(steps=3, guidance=3.0, negative="" if name == "flux_fill" else "blurry")
    masked = replace(one, image=replace(one.image, init_image="i", init_digest="i", mask_image="m", mask_digest="m", strength=0.8))
    got, _ = made.render([masked, masked], inputs=PICTURES)
    init, mask = Image.open(io.BytesIO(PICTURES["i"])), Image.open(io.BytesIO(PICTURES["m"]))
    call: dict[str, Any] = {"image": init, "mask_image": mask, "num_inference_steps": 3, "guidance_scale": 3.0, "strength": 0.8}
    call |= {} if name == "flux_fill" else {"negative_prompt": "blurry"}
    want = np.where(np.asarray(mask)[..., None] > 127, plain.drawn(plain.loaded(folder_of(name)), **call), np.asarray(init))
    assert plain.apart(got[0], want) <= 1 and plain.apart(got[1], want) <= 2 and got[0].std() > 10
    with pytest.raises(RenderFailed, match="only inside masks"):
        made.render([one])
    picture, _ = made.known(64, 64)
    assert picture.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("name", ["chroma", "flux2"])
def test_a_start_is_as_the_class_of_diffusers_for_it_takes_it(name: str) -> None:
    made, one = shared(name), attempt(steps=4, guidance=3.0)
    strength = 0.5 if made.model.family.by_strength else None
    one = replace(one, image=replace(one.image, init_image="i", init_digest="i", strength=strength))
    got = made.render([one, replace(one, seed=8)], inputs=PICTURES)[0]
    call: dict[str, Any] = {"image": Image.open(io.BytesIO(PICTURES["i"])), "num_inference_steps": 4, "guidance_scale": 3.0}
    pipe = plain.loaded(folder_of(name))
    if name == "chroma":
        pipe, call["strength"] = diffusers.ChromaImg2ImgPipeline.from_pipe(pipe), 0.5
        pipe.set_progress_bar_config(disable=True)
    assert plain.apart(got[0], plain.drawn(pipe, **call)) <= 1 and plain.apart(got[1], plain.drawn(pipe, seed=8, **call)) <= 1
    assert not np.array_equal(got[0], made.render([attempt(steps=4, guidance=3.0)])[0][0])
