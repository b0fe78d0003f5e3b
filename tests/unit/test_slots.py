"""Slots draw the static path's pictures within the rounding of a batch, whatever enters and leaves beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from renderfarm.errors import RenderFailed, WeightsError
from renderfarm.models import ModelSettings, resolve
from renderfarm.plan import mixed_key
from renderfarm.render import Renderer
from renderfarm.run.units import PendingAttempt, UnitQueue
from renderfarm.schema import Attempt
from tests.standins import attempt, folder_of

STEPS = (3, 7, 2, 5, 4)


def renderer(folder: Path, **changes: Any) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 2, "slots": True, **changes})
    return Renderer(resolve(settings), settings)


def ragged(guidance: float = 4.0) -> list[Attempt]:
    return [
        attempt(f"i{i}", prompt="x" * i, negative="y" * (i % 2), seed=i, steps=n, guidance=guidance + i / 9) for i, n in enumerate(STEPS)
    ]


@pytest.mark.parametrize(("name", "scheduler"), [("sd", "euler"), ("sd", "euler_trailing"), ("sd3", None)])
@pytest.mark.parametrize("guidance", [4.0, 0.0])
def test_ragged_work_draws_what_each_image_draws_alone(name: str, scheduler: str | None, guidance: float) -> None:
    made = renderer(folder_of(name), scheduler=scheduler)
    pictures, info = made.render(ragged(guidance))
    assert info.batch == tuple(f"i{i}/1" for i in range(len(STEPS)))
    static = renderer(folder_of(name), scheduler=scheduler, slots=False)
    for picture, one in zip(pictures, ragged(guidance), strict=True):
        assert np.abs(picture.astype(int) - static.render([one])[0][0]).max() <= 2


def test_v_prediction_too() -> None:
    folder = folder_of("sd2")
    pictures, _ = renderer(folder, scheduler="euler").render(ragged())
    for picture, one in zip(pictures, ragged(), strict=True):
        alone = renderer(folder, scheduler="euler", slots=False).render([one])[0][0]
        assert np.abs(picture.astype(int) - alone).max() <= 2


def test_slots_never_hold_more_than_the_batch_and_are_refilled_at_once() -> None:
    made = renderer(folder_of("sd"), scheduler="euler", batch=2)
    sizes: list[int] = []
    made.model.pipe.unet.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0]) // 2))
    made.render(ragged())
    assert sum(sizes) == sum(STEPS) and max(sizes) == 2
    assert sizes == [2] * 10 + [1], "one slot takes 3 + 2 + 5 steps, the other 7 + 4"


def test_out_of_memory_halves_the_slots_and_a_broken_picture_is_named() -> None:
    want = renderer(folder_of("sd"), scheduler="euler", batch=2).render(ragged())[0]
    made = renderer(folder_of("sd"), scheduler="euler", batch=4)

    def allocate(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    made.model.pipe.unet.register_forward_pre_hook(allocate)
    assert np.array_equal(made.render(ragged())[0], want)
    assert made.batch_limit(64, 64) == 2
    with torch.no_grad():
        token = made.model.pipe.tokenizer("z", add_special_tokens=False).input_ids[0]
        made.model.pipe.text_encoder.get_input_embeddings().weight[token] = float("nan")
    with pytest.raises(RenderFailed, match=r"attempt 5 \(bad/1\)"):
        made.render([*ragged(), attempt("bad", prompt="z")])


def test_units_for_slots_mix_steps_but_not_sizes_or_unguided() -> None:
    members = [PendingAttempt(one) for one in (*ragged(), attempt("u", guidance=1.0), attempt("w", size=(64, 96)))]
    queue = UnitQueue(iter(members), 8, mixed_key)
    units = [unit.attempts() for unit in iter(queue.next_unit, None)]
    assert [[one.image.image_id for one in unit] for unit in units] == [["i0", "i1", "i2", "i3", "i4"], ["u"], ["w"]]


def test_a_gpu_that_takes_fewer_images_at_once_gets_smaller_units() -> None:
    queue = UnitQueue((PendingAttempt(attempt(f"i{at}")) for at in range(20)), 8)
    units = [queue.next_unit(share) for share in (1.0, 0.25, 0.01, 1.0)]
    assert [len(unit.members) for unit in units if unit is not None] == [8, 2, 1, 8]


def test_slots_are_refused_where_they_cannot_step() -> None:
    with pytest.raises(WeightsError, match="slots cannot step sd with PNDMScheduler"):
        renderer(folder_of("sd"))
    with pytest.raises(WeightsError, match="slots cannot step flux"):
        renderer(folder_of("flux"))
    for bad in ({"deterministic": True}, {"lossy": {"reuse": 2}}, {"adapters": {"a": {"path": "a.safetensors"}}}):
        with pytest.raises(ValidationError, match="slots mix images"):
            ModelSettings.model_validate({"slots": True, **bad})
