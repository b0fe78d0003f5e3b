"""Rendering on the CPU with the random stand-in: what pixels depend on, and what they must not depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from renderfarm.errors import RenderFailed
from renderfarm.models import ModelSettings, resolve
from renderfarm.render import CHUNK_END, Renderer, rates, tuning
from renderfarm.render.batching import DoesNotFit, in_fitting_batches, out_of_memory
from renderfarm.render.renderer import choose_kernels
from renderfarm.render.stages import PromptCache, time_batch
from renderfarm.workers.finish import as_older
from tests.standins import attempt, folder_of


def renderer(**changes: object) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder_of("sd2")), "device": "cpu", **changes})
    return Renderer(resolve(settings), settings)


@pytest.fixture(scope="module")
def plain() -> Renderer:
    return renderer(batch=8)


@pytest.fixture(scope="module")
def deterministic() -> Renderer:
    return renderer(batch=8, deterministic=True)


def test_pictures_are_uint8_rgb_of_the_size_asked_for(plain: Renderer) -> None:
    pictures, info = plain.render([attempt("a", size=(64, 96)), attempt("b", size=(64, 96), number=3)])
    assert pictures.dtype == np.uint8 and pictures.shape == (2, 96, 64, 3)
    assert pictures.std() > 20, "a picture, not a grey card"
    assert info.batch == ("a/1", "b/3")
    assert info.weights == str(folder_of("sd2")) and info.weights_digest == plain.model.resolved.digest
    assert (info.scheduler, info.dtype, info.device) == ("DDIMScheduler", "float32", "cpu")


@pytest.mark.parametrize("change", [{"seed": 8}, {"prompt": "a blue mug"}, {"negative": "blurry"}, {"steps": 3}, {"guidance": 5.0}])
def test_whatever_the_row_says_changes_the_picture(plain: Renderer, change: dict[str, object]) -> None:
    base, _ = plain.render([attempt()])
    other, _ = plain.render([attempt(**change)])  # type: ignore[arg-type]
    assert not np.array_equal(base, other)


def test_without_guidance_the_negative_prompt_has_no_say(plain: Renderer) -> None:
    one, _ = plain.render([attempt(guidance=1.0)])
    other, _ = plain.render([attempt(guidance=1.0, negative="blurry")])
    assert one.tobytes() == other.tobytes()


def test_a_repeat_gives_the_same_bytes(plain: Renderer) -> None:
    batch = [attempt("a"), attempt("b", seed=8)]
    assert plain.render(batch)[0].tobytes() == plain.render(batch)[0].tobytes()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_deterministic_pixels_do_not_depend_on_the_neighbours(deterministic: Renderer, count: int) -> None:
    target = attempt("target", prompt="a green cup", negative="text", seed=99)
    alone = deterministic.render([target])[0][0].tobytes()
    for shift in (0, 50):
        others = [attempt(f"n{i}", prompt=f"neighbour {i + shift}", seed=i + shift) for i in range(count - 1)]
        for position in (0, count - 1):
            pictures, _ = deterministic.render([*others[:position], target, *others[position:]])
            assert pictures[position].tobytes() == alone


def test_deterministic_pixels_do_not_depend_on_the_batch_setting(deterministic: Renderer) -> None:
    batch = [attempt(f"i{i}", seed=i) for i in range(3)]
    want = deterministic.render(batch)[0].tobytes()
    for size in (1, 3):
        assert renderer(batch=size, deterministic=True).render(batch)[0].tobytes() == want


def test_the_mark_sees_all_pictures_before_they_leave(plain: Renderer) -> None:
    seen: list[tuple[torch.Size, torch.dtype]] = []

    def invert(pictures: torch.Tensor) -> torch.Tensor:
        seen.append((pictures.shape, pictures.dtype))
        return 255 - pictures

    batch = [attempt("a"), attempt("b", seed=8)]
    unmarked, _ = plain.render(batch)
    marked, _ = plain.render(batch, mark=invert)
    assert seen == [(torch.Size([2, 64, 64, 3]), torch.uint8)]
    assert np.array_equal(255 - unmarked, marked)


def test_more_attempts_than_a_batch_are_cut_and_the_record_says_where() -> None:
    small = renderer(batch=2)
    pictures, info = small.render([attempt(name, seed=i) for i, name in enumerate("abc")])
    assert pictures.shape[0] == 3
    assert info.batch == ("a/1", "b/1", CHUNK_END, "c/1")


def test_a_picture_that_is_not_finite_fails_by_its_index() -> None:
    broken = renderer(batch=4)
    with torch.no_grad():
        embedding = broken.model.pipe.text_encoder.get_input_embeddings()
        token = broken.model.pipe.tokenizer("z", add_special_tokens=False).input_ids[0]
        embedding.weight[token] = float("nan")
    with pytest.raises(RenderFailed, match=r"attempt 1 \(b/2\)") as caught:
        broken.render([attempt("a"), attempt("b", prompt="z", number=2), attempt("c")])
    assert caught.value.args[1] == 1
    assert broken.render([attempt("a")])[0].std() > 20, "the next batch renders"


def test_attempts_that_cannot_share_a_batch_are_refused(plain: Renderer) -> None:
    with pytest.raises(RenderFailed, match="these differ"):
        plain.render([attempt("a"), attempt("b", steps=3)])
    with pytest.raises(RenderFailed, match="multiples of 8"):
        plain.render([attempt("a", size=(100, 64))])


@pytest.mark.parametrize("room", [1, 2, 3, 8])
def test_running_out_of_memory_halves_and_loses_nothing(room: int) -> None:
    tried: list[int] = []

    def render(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 10 for item in batch]

    out = list(in_fitting_batches(range(11), 8, render))
    assert [item for batch, _ in out for item in batch] == list(range(11))
    assert [value for _, values in out for value in values] == [item * 10 for item in range(11)]
    assert sum(size > room for size in tried) <= 3, "later batches start from what fitted"


def test_one_item_that_does_not_fit_and_other_errors_are_said() -> None:
    def full(batch: Sequence[int]) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")

    with pytest.raises(DoesNotFit):
        list(in_fitting_batches([1, 2, 3], 2, full))

    def bug(batch: Sequence[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(in_fitting_batches([1, 2, 3], 2, bug))


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", False),
    ],
)
def test_a_full_gpu_is_told_from_a_broken_one(said: str, is_memory: bool) -> None:
    assert out_of_memory(RuntimeError(said)) == is_memory


@pytest.mark.parametrize(("deterministic", "tf32", "allowed"), [(False, True, True), (False, False, False), (True, True, False)])
def test_tf32_is_chosen_for_convolutions_too(monkeypatch: pytest.MonkeyPatch, deterministic: bool, tf32: bool, allowed: bool) -> None:
    for name in ("allow_tf32", "deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))  # put back afterwards
    choose_kernels(deterministic, tf32)
    torch.set_float32_matmul_precision("highest")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (allowed, deterministic)


def test_another_sampler_draws_another_picture(plain: Renderer) -> None:
    euler = renderer(scheduler="euler")
    pictures, info = euler.render([attempt()])
    assert info.scheduler == "EulerDiscreteScheduler"
    assert not np.array_equal(pictures, plain.render([attempt()])[0])


def test_attempts_of_one_image_differ_by_their_seed_only(plain: Renderer) -> None:
    first = attempt("a", seed=1)
    second = replace(first, number=2, seed=2)
    pictures, info = plain.render([first, second])
    assert info.batch == ("a/1", "a/2") and not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(("room", "saturated", "want"), [(64, 64, 64), (5, 64, 4), (64, 8, 8), (1, 64, 1)])
def test_the_tuned_batch_is_the_largest_that_still_pays(room: int, saturated: int, want: int) -> None:
    """A device whose time per batch is flat up to `saturated` images and grows in proportion above."""

    def seconds_for(count: int) -> float:
        if count > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return max(1.0, count / saturated)

    assert tuning.worthwhile_batch(seconds_for) == want


def test_tunings_are_remembered(tmp_path: Path) -> None:
    assert tuning.recall(tmp_path, "k") is None
    tuning.remember(tmp_path / "new", "k", 16)
    tuning.remember(tmp_path / "new", "l", 2)
    assert (tuning.recall(tmp_path / "new", "k"), tuning.recall(tmp_path / "new", "l")) == (16, 2)
    (tmp_path / "new" / "batches.json").write_text('{"k": "many"}')
    assert tuning.recall(tmp_path / "new", "k") is None


def test_a_timed_batch_takes_time(plain: Renderer) -> None:
    assert 0.001 < time_batch(plain.model, PromptCache(plain.model), plain.lanes, 64, 64, 2) < 60


def test_the_first_run_of_a_timed_batch_never_counts(plain: Renderer) -> None:
    """It compiles, or a disk is cold: however long that takes, the second run tells."""
    times = iter([0.0, 100.0, 100.0, 103.0, 103.0, 105.0])
    assert time_batch(plain.model, PromptCache(plain.model), plain.lanes, 64, 64, 1, lambda: next(times)) == 2.0


def test_a_batch_size_is_remembered_for_these_speed_settings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for speed in ({}, {"channels_last": True}, {}):
        renderer(batch="auto", speed=speed).batch_limit(64, 64)
    assert len(json.loads((tmp_path / "renderfarm" / "batches.json").read_text())) == 2


def test_the_automatic_batch_is_measured_on_a_cpu_too_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = renderer(batch="auto")
    first = made.batch_limit(64, 64)
    assert first in (1, 2, 4)
    (known,) = json.loads((tmp_path / "renderfarm" / "batches.json").read_text())
    assert made.model.resolved.digest in known and "64x64" in known
    (tmp_path / "renderfarm" / "batches.json").write_text(json.dumps({known: 3}))
    assert renderer(batch="auto").batch_limit(64, 64) == 3, "remembered, not measured again"


def test_a_renderer_that_runs_out_of_memory_halves_and_loses_no_image(plain: Renderer) -> None:
    """The allocator's fault is injected below the renderer: the UNet refuses more than three images, each with two sides."""
    made = renderer(batch=8)

    def allocate(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    made.model.pipe.unet.register_forward_pre_hook(allocate)
    batch = [attempt(f"i{i}", seed=i) for i in range(7)]
    pictures, info = made.render(batch)
    assert info.batch == ("i0/1", "i1/1", "i2/1", CHUNK_END, "i3/1", "i4/1", "i5/1", CHUNK_END, "i6/1")
    assert np.abs(pictures.astype(int) - plain.render(batch)[0]).max() <= 1
    assert made.batch_limit(64, 64) == 3, "what fitted is remembered while the renderer lives"


@pytest.mark.parametrize(("side", "room", "tiles"), [(64, 8, 0), (512, 40, 32), (576, 40, 36), (720, 50, 44), (512, 20, None)])
def test_what_memory_cannot_decode_together_is_decoded_in_pieces(plain: Renderer, side: int, room: int, tiles: int | None) -> None:
    """The decoder refuses more than one picture, and more latents a side than `room`: no image is lost, and the record says when
    tiles met. Tiles have a smallest size."""
    made = renderer(batch=8)

    def allocate(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 1 or arguments[0].shape[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    made.model.pipe.vae.decoder.register_forward_pre_hook(allocate)
    batch = [attempt(f"i{i}", seed=i, size=(side, side), steps=1) for i in range(2)]
    if tiles is None:
        with pytest.raises(RenderFailed, match="512×512 does not fit"):
            made.render(batch)
        return
    pictures, info = made.render(batch)
    assert pictures.shape == (2, side, side, 3)
    apart = np.abs(pictures.astype(int) - plain.render(batch)[0])
    assert apart.mean() < 20 and (tiles or apart.max() <= 1)  # random weights see far
    assert (info.scheduler, dict(info.settings).get("vae.tiling")) == ("DDIMScheduler", str(tiles) if tiles else None)
    assert as_older(info).scheduler == ("DDIMScheduler (tiled VAE)" if tiles else "DDIMScheduler")
    assert (CHUNK_END in info.batch) == bool(tiles)
    assert made.model.tiles == ({(side // 8, side // 8): tiles} if tiles else {}) and not made.model.pipe.vae.use_tiling
    assert "vae.tiling" not in dict(made.render([attempt("small")])[1].settings), "other sizes are decoded whole"


def test_two_threads_render_what_one_renders(plain: Renderer) -> None:
    """One decodes while the other denoises; each unit gets its own pictures, whole."""
    units = [[attempt(f"u{u}i{i}", prompt=f"unit {u}", seed=10 * u + i) for i in range(2)] for u in range(6)]
    want = [plain.render(unit)[0].tobytes() for unit in units]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(plain.render, units))
    assert [pictures.tobytes() for pictures, _ in made] == want
    assert [info.batch for _, info in made] == [tuple(f"{a.image.image_id}/1" for a in unit) for unit in units]


def test_how_long_an_image_took_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache, now = tmp_path / "renderfarm", 0.0
    speed = rates.Speed("d", "a device", clock=lambda: now)
    assert rates.recall(cache, "d", 64, 64, 10) is None
    for end, started in ((10.0, 0.0), (12.0, 10.0), (14.0, 10.5)):
        now = end
        speed.note(64, 64, 10, 4, started)
        if end == 12.0:
            assert rates.recall(cache, "d", 64, 64, 10) == rates.Rate(0.5, "a device"), "the first unit warmed up"
    now = 60.0
    speed.note(64, 64, 10, 4, 58.0)
    assert rates.recall(cache, "d", 64, 64, 10) == rates.Rate(0.5, "a device"), "overlapping time counts once, idle time never"
    assert rates.recall(cache, "d", 64, 64, 20) == rates.Rate(1.0, "a device")
    assert rates.recall(cache, "d", 64, 128, 10) is None and rates.recall(cache, "e", 64, 64, 10) is None
