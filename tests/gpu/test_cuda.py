"""The renderer on a CUDA device. Skipped, with the reason, where there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer
from renderfarm.schema import Attempt
from tests.standins import BUILDERS, attempt, control_of, folder_of, png

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch sizes measured here are not remembered for real jobs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def renderer(folder: Path, **changes: object) -> Renderer:
    settings = ModelSettings.model_validate({"weights": str(folder), "device": "cuda", "batch": 8, **changes})
    return Renderer(resolve(settings), settings)


def neighbours(count: int) -> list[Attempt]:
    return [attempt(f"n{i}", prompt="x" * i, seed=i) for i in range(count)]


@pytest.mark.parametrize("name", BUILDERS)
def test_deterministic_bytes_do_not_depend_on_company(name: str) -> None:
    made = renderer(folder_of(name), deterministic=True)
    target = attempt("t", prompt="a mug", seed=3)
    alone = made.render([target])[0][0].tobytes()
    for count in (3, 8):
        assert made.render([*neighbours(count - 1), target])[0][-1].tobytes() == alone


@pytest.mark.parametrize("name", BUILDERS)
def test_the_gpu_draws_the_picture_that_the_cpu_draws(name: str) -> None:
    """Same seed, same noise: float32 kernels of two devices may differ by rounding, not by picture."""
    on_gpu = renderer(folder_of(name), dtype="float32", deterministic=True).render([attempt()])[0]
    on_cpu = renderer(folder_of(name), dtype="float32", device="cpu").render([attempt()])[0]
    assert np.abs(on_gpu.astype(int) - on_cpu).mean() < 2


def test_16_bit_is_the_default_and_stays_near() -> None:
    pictures, info = renderer(folder_of("sd")).render([attempt()])
    exact, _ = renderer(folder_of("sd"), dtype="float32").render([attempt()])
    assert info.dtype in ("bfloat16", "float16") and info.device == "cuda" and "CUDA" in info.driver
    assert np.abs(pictures.astype(int) - exact).mean() < 25


@pytest.mark.parametrize("mode", ["offload", "sequential"])
def test_memory_modes_draw_the_same_picture(mode: str) -> None:
    full, _ = renderer(folder_of("sd"), memory="full").render([attempt()])
    less, _ = renderer(folder_of("sd"), memory=mode).render([attempt()])
    assert np.abs(full.astype(int) - less).mean() < 2


def test_the_automatic_batch_is_measured_once() -> None:
    made = renderer(folder_of("sd"), batch="auto")
    first = made.batch_limit(64, 64)
    assert 1 <= first <= 64 and made.batch_limit(64, 64) == first
    assert renderer(folder_of("sd"), batch="auto").batch_limit(64, 64) == first


def test_the_mark_runs_on_the_device() -> None:
    seen: list[str] = []

    def mark(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(pictures.device.type)
        return pictures

    renderer(folder_of("sd")).render([attempt()], mark=mark)
    assert seen == ["cuda"]


def test_two_threads_on_their_streams_render_what_one_renders() -> None:
    """Decoding and copying behind, denoising on the default stream: no unit reads memory that another still writes."""
    made = renderer(folder_of("sd"), batch=4, dtype="float32")
    units = [[attempt(f"u{u}i{i}", prompt=f"unit {u}", seed=10 * u + i, steps=8) for i in range(4)] for u in range(12)]
    want = [made.render(unit)[0] for unit in units]
    with ThreadPoolExecutor(2) as pool:
        got = [pictures for pictures, _ in pool.map(made.render, units)]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(want, got, strict=True)) <= 1


@pytest.mark.parametrize(("name", "scheduler"), [("sd", "euler"), ("sd3", None)])
def test_slots_draw_the_static_paths_pictures(name: str, scheduler: str | None) -> None:
    ragged = [attempt(f"i{i}", prompt="x" * i, seed=i, steps=steps) for i, steps in enumerate((3, 7, 2, 5))]
    pictures, _ = renderer(folder_of(name), batch=2, slots=True, scheduler=scheduler, dtype="float32").render(ragged)
    static = renderer(folder_of(name), batch=1, scheduler=scheduler, dtype="float32")
    for picture, one in zip(pictures, ragged, strict=True):
        assert np.abs(picture.astype(int) - static.render([one])[0][0]).max() <= 2


@pytest.mark.parametrize("speed", [{"compile": "regional"}, {"fuse_qkv": True}, {"channels_last": True}, {"graphs": True}])
def test_faster_is_nearly_the_same_picture(speed: dict[str, object]) -> None:
    plain, _ = renderer(folder_of("sd"), dtype="float32").render([attempt()])
    fast, _ = renderer(folder_of("sd"), dtype="float32", speed=speed).render([attempt()])
    assert np.abs(plain.astype(int) - fast).mean() < 2


@pytest.mark.parametrize("name", BUILDERS)
def test_graphs_repeat_what_was_recorded(name: str) -> None:
    """Two batch sizes by turns, from two threads: every step is a recording, and the picture is the one without."""
    made, plain = renderer(folder_of(name), dtype="float32", speed={"graphs": True}), renderer(folder_of(name), dtype="float32")
    units = [[attempt(f"u{u}i{i}", prompt=f"unit {u}", seed=10 * u + i, steps=4) for i in range(1 + u % 2)] for u in range(6)]
    want = [plain.render(unit)[0] for unit in units]
    with ThreadPoolExecutor(2) as pool:
        got = [pictures for pictures, _ in pool.map(made.render, units)]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(want, got, strict=True)) <= 2
    graphed = getattr(made.model.pipe, made.model.family.denoiser).forward
    assert len(graphed.recordings) == 2 and not graphed.refused


@pytest.mark.parametrize("name", BUILDERS)
def test_encoders_on_the_cpu_draw_the_same_picture(name: str) -> None:
    beside, _ = renderer(folder_of(name), dtype="float32").render([attempt(negative="blurry")])
    apart, info = renderer(folder_of(name), dtype="float32", encoders="cpu").render([attempt(negative="blurry")])
    assert "text encoders: CPU" in info.driver
    assert np.abs(beside.astype(int) - apart).mean() < 2


def test_two_threads_with_sdxl_from_words_and_from_pictures() -> None:
    """By default in 16 bits: one encodes an init image while the other decodes."""
    made = renderer(folder_of("sdxl"), batch=2)
    inputs = {"init": png(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))}
    units = [[from_picture(attempt(f"u{u}i{i}", seed=10 * u + i, steps=6), u % 2 == 1) for i in range(2)] for u in range(10)]
    want = [made.render(unit, inputs=inputs)[0] for unit in units]
    with ThreadPoolExecutor(2) as pool:
        got = [pictures for pictures, _ in pool.map(lambda unit: made.render(unit, inputs=inputs), units)]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(want, got, strict=True)) <= 2


def test_two_threads_with_a_controlnet() -> None:
    controlnet = {"weights": str(control_of("sd"))}
    made = renderer(folder_of("sd"), batch=2, dtype="float32", controlnet=controlnet)
    inputs = {"lines": png(np.eye(64, dtype=np.uint8) * 255)}
    units = [[guided(attempt(f"u{u}i{i}", seed=10 * u + i, steps=6), u % 2 == 1) for i in range(2)] for u in range(10)]
    want = [made.render(unit, inputs=inputs)[0] for unit in units]
    with ThreadPoolExecutor(2) as pool:
        got = [pictures for pictures, _ in pool.map(lambda unit: made.render(unit, inputs=inputs), units)]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(want, got, strict=True)) <= 1
    assert np.abs(got[0].astype(int) - got[1]).mean() > 1


def from_picture(made: Attempt, wanted: bool) -> Attempt:
    return replace(made, image=replace(made.image, init_image="init", init_digest="init", strength=0.7)) if wanted else made


def guided(made: Attempt, wanted: bool) -> Attempt:
    return replace(made, image=replace(made.image, control_image="lines", control_digest="lines")) if wanted else made
