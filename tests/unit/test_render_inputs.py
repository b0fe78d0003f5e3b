"""Image-to-image and inpainting: what an init image and a mask do, and how bad ones are refused."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from renderfarm.errors import RenderFailed
from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer, stages, vae
from renderfarm.schema import Attempt
from tests.standins import attempt, folder_of, png


def picture(seed: int = 0, size: int = 64) -> np.ndarray:
    """A smooth random picture, uint8 (size, size, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR))


HALF = np.repeat(np.repeat(np.array([[0, 255]], dtype=np.uint8), 64, axis=0), 32, axis=1)
"""A mask (64, 64): the left half stays, the right is drawn anew."""

INPUTS = {"i0": png(picture(0)), "i1": png(picture(1)), "half": png(HALF), "black": png(HALF * 0), "small": png(HALF[:32])}


def started(init: str | None, mask: str | None = None, strength: float | None = 0.5, **about: object) -> Attempt:
    made = attempt(steps=4, **about)  # type: ignore[arg-type]
    image = replace(made.image, init_image=init, init_digest=init, mask_image=mask, mask_digest=mask, strength=strength)
    return replace(made, image=image)


def renderer(folder: Path, **changes: object) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cpu", "batch": 4, **changes})
    return Renderer(resolve(settings), settings)


@pytest.fixture(scope="module")
def plain() -> Renderer:
    return renderer(folder_of("sd2"))


def drawn(made: Renderer, *attempts: Attempt) -> np.ndarray:
    return made.render(attempts, inputs=INPUTS)[0]


def test_the_init_image_and_the_strength_count(plain: Renderer) -> None:
    one = drawn(plain, started("i0"))
    assert one.shape == (1, 64, 64, 3)
    assert one.tobytes() == drawn(plain, started("i0")).tobytes()
    others = [started("i1"), started("i0", strength=1.0), started(None), started("i0", prompt="x"), started("i0", seed=8)]
    assert all(not np.array_equal(one, drawn(plain, other)) for other in others)


def test_black_in_the_mask_keeps_its_pixels_exactly(plain: Renderer) -> None:
    made = drawn(plain, started("i0", "half"))[0]
    assert np.array_equal(made[:, :32], picture(0)[:, :32])
    assert np.abs(made[:, 32:].astype(int) - picture(0)[:, 32:]).mean() > 10
    assert np.array_equal(drawn(plain, started("i0", "black"))[0], picture(0))


def test_each_image_of_a_batch_has_its_own_inputs(plain: Renderer) -> None:
    batch = [started("i0", "half", name="a"), started("i1", "black", name="b", seed=8)]
    together = drawn(plain, *batch)
    for made, single in zip(together, batch, strict=True):
        assert np.abs(made.astype(int) - drawn(plain, single)[0]).max() <= 1
    assert np.array_equal(together[1], picture(1))


def test_deterministic_inpainting_does_not_depend_on_company() -> None:
    made = renderer(folder_of("sd2"), deterministic=True)
    alone = drawn(made, started("i0", "half"))[0].tobytes()
    assert drawn(made, started("i1", "half", name="n", seed=1), started("i0", "half"))[1].tobytes() == alone


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "lcm", "sd_wide"])
def test_other_families_start_from_pictures_too(name: str) -> None:
    made = renderer(folder_of(name))
    assert not np.array_equal(drawn(made, started("i0")), drawn(made, started("i1")))
    assert np.array_equal(drawn(made, started("i0", "half"))[0][:, :32], picture(0)[:, :32])
    assert np.array_equal(drawn(made, started("i0", "black", strength=None))[0], picture(0))


def test_a_family_without_it_says_so() -> None:
    made = renderer(folder_of("pixart"))
    with pytest.raises(RenderFailed, match="has no image-to-image"):
        drawn(made, started("i0"))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m", "heun"])
def test_blended_latents_know_what_the_mask_keeps(scheduler: str) -> None:
    """Weights whose channels diffusers refuses to inpaint: the kept half of the latents ends as the init image's own."""
    made = renderer(folder_of("sd_wide"), scheduler=scheduler)
    seen: list[torch.Tensor] = []
    decode = made.model.pipe.vae.decode
    made.model.pipe.vae.decode = lambda latents, **options: (seen.append(latents), decode(latents, **options))[1]
    drawn(made, started("i0", "half", strength=0.6))
    (latents,) = seen
    known = vae.encode_pictures(made.model, stages.stack_pictures([started("i0").image], INPUTS).init)
    scale = made.model.pipe.vae.config.scaling_factor
    assert torch.allclose(latents[..., :4] * scale, known[..., :4], atol=1e-4)
    assert (latents[..., 4:] * scale - known[..., 4:]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (started("missing"), "bytes are missing"),
        (started("i0", "small"), "mask_image is 64×32, init_image is 64×64"),
        (started(None, "half"), "needs an init_image"),
        (started("i0", strength=0.1), "leave nothing to draw"),
        (started("text"), "input picture text: this is no picture that can be read"),
        (started("bomb"), "has more than 100,000,000 pixels"),
    ],
)
def test_bad_inputs_fail_with_their_reason(plain: Renderer, bad: Attempt, reason: str) -> None:
    bomb = io.BytesIO()
    Image.new("1", (10_001, 10_000)).save(bomb, "PNG")
    with pytest.raises(RenderFailed, match=reason):
        plain.render([bad], inputs={**INPUTS, "text": b"no picture", "bomb": bomb.getvalue()})


def test_pictures_of_another_shape_are_cropped_at_the_centre(plain: Renderer) -> None:
    wide = np.concatenate([np.zeros((64, 32, 3), np.uint8), picture(0), np.zeros((64, 32, 3), np.uint8)], axis=1)
    inputs = {**INPUTS, "wide": png(wide), "stays": png(np.zeros((64, 128), np.uint8))}
    assert np.array_equal(plain.render([started("wide", "stays")], inputs=inputs)[0][0], picture(0))


@pytest.mark.parametrize(("dtype", "moves"), [("float32", False), ("bfloat16", False), ("float16", True)])
def test_sdxl_from_pictures_keeps_its_vae_while_another_thread_decodes(dtype: str, moves: bool) -> None:
    """diffusers makes SDXL's VAE float32 and back around encoding. Only in float16 must it, and then batches take turns."""
    made = renderer(folder_of("sdxl"), dtype=dtype)
    assert made.model.moves == moves and made.model.pipe.vae.config.force_upcast == moves
    units = [[started("i0" if u % 2 else None, name=f"u{u}i{i}", seed=10 * u + i) for i in range(2)] for u in range(4)]
    want = [drawn(made, *unit) for unit in units]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda unit: drawn(made, *unit), units))
    assert all(np.array_equal(one, other) for one, other in zip(want, got, strict=True))
    assert made.model.pipe.vae.dtype is (torch.float32 if moves else getattr(torch, dtype))
