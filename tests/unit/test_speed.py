"""`model.speed` draws the same pictures but for rounding; `model.lossy` draws others, says so, and is another image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from renderfarm.errors import WeightsError
from renderfarm.job import JobSettings
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.speed import refuse_compiled
from renderfarm.plan import Intent, plan_row
from renderfarm.render import Renderer
from renderfarm.schema import PromptRow, RenderInfo
from renderfarm.workers.finish import as_older
from tests.standins import attempt, folder_of


def renderer(folder: Path, **changes: Any) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 4, **changes})
    return Renderer(resolve(settings), settings)


def drawn(made: Renderer, steps: int = 6) -> tuple[np.ndarray, RenderInfo]:
    pictures, info = made.render([attempt("a", steps=steps), attempt("b", prompt="two dogs", seed=9, steps=steps)])
    return pictures.astype(int), info


@pytest.mark.parametrize(
    ("name", "speed"),
    [("sd", {"fuse_qkv": True}), ("flux", {"fuse_qkv": True}), ("sd", {"channels_last": True}), ("sd3", {"channels_last": True})],
)
def test_faster_is_the_same_picture(name: str, speed: dict[str, Any]) -> None:
    want, _ = drawn(renderer(folder_of(name)))
    got, info = drawn(renderer(folder_of(name), speed=speed))
    assert np.abs(want - got).max() <= 2
    assert as_older(info).scheduler == info.scheduler


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux"])
def test_reused_features_are_named_in_the_record(name: str) -> None:
    plain = renderer(folder_of(name))
    lossy = renderer(folder_of(name), lossy={"reuse": 2})
    want, _ = drawn(plain)
    got, info = drawn(lossy)
    assert ("lossy.reuse", "2") in info.settings and as_older(info).scheduler == f"{info.scheduler} (reuse 2)"
    assert not np.array_equal(want, got)
    assert np.array_equal(got, drawn(lossy)[0]), "nothing is kept from one batch to the next"


def test_inner_blocks_run_at_full_steps_only() -> None:
    made = renderer(folder_of("sd"), lossy={"reuse": 3}, scheduler="ddim")
    runs: list[str] = []
    unet = made.model.pipe.unet
    unet.mid_block.resnets[0].register_forward_hook(lambda *_: runs.append("inner"))
    unet.up_blocks[-1].resnets[0].register_forward_hook(lambda *_: runs.append("outer"))
    drawn(made, steps=7)
    assert (runs.count("inner"), runs.count("outer")) == (3, 7)
    want, _ = drawn(renderer(folder_of("sd"), scheduler="ddim"), steps=1)
    assert np.array_equal(want, drawn(made, steps=1)[0]), "the first step is a full one"


def test_what_cannot_be_lossy_is_refused_before_it_loads() -> None:
    with pytest.raises(WeightsError, match="no cache for this family"):
        resolve(ModelSettings.model_validate({"weights": str(folder_of("sd3")), "lossy": {"reuse": 2}}))
    with pytest.raises(WeightsError, match="cannot fuse"):
        resolve(ModelSettings.model_validate({"weights": str(folder_of("sd3")), "speed": {"fuse_qkv": True}}))
    for bad in ({"speed": {"compile": "regional"}}, {"speed": {"fuse_qkv": True}}, {"lossy": {"quantise": "int8"}}):
        with pytest.raises(ValidationError, match="adapters are switched"):
            ModelSettings.model_validate({"adapters": {"a": {"path": "a.safetensors"}}, **bad})
    with pytest.raises(ValidationError, match="regional"):
        ModelSettings.model_validate({"speed": {"compile": "full"}, "lossy": {"reuse": 2}})


def test_a_lossy_image_is_another_image_and_a_fast_one_is_not() -> None:
    def image_id(**model: Any) -> str:
        job = JobSettings.model_validate({"name": "t", "manifest": "m", "output": "o", "model": model})
        return plan_row(PromptRow(id="a", prompt="a mug"), "", Intent(job, "0" * 64))[0].image_id

    assert image_id() == image_id(speed={"compile": "full", "fuse_qkv": True, "channels_last": True, "tf32": False})
    assert len({image_id(), image_id(lossy={"reuse": 2}), image_id(lossy={"reuse": 3}), image_id(lossy={"quantise": "int8"})}) == 4


def test_a_wholly_compiled_denoiser_does_not_move() -> None:
    with pytest.raises(ValueError, match="wants the weights to stay"):
        ModelSettings.model_validate({"speed": {"compile": "full"}, "memory": "offload"})
    with pytest.raises(WeightsError, match="do not fit on the GPU whole"):
        refuse_compiled(ModelSettings.model_validate({"speed": {"compile": "full"}}), "sequential")
    refuse_compiled(ModelSettings.model_validate({"speed": {"compile": "regional"}}), "sequential")
