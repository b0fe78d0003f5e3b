"""What a worker makes of a fault: which ones it survives, and which inputs it takes."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from renderfarm import watermark
from renderfarm.errors import RenderFailed, WeightsError
from renderfarm.job import JobSettings
from renderfarm.models import ModelSettings, resolve
from renderfarm.plan import Intent, attempt_of, plan_row
from renderfarm.schema import Attempt, PromptRow, RenderInfo
from renderfarm.watermark.types import MarkKey
from renderfarm.workers.finish import payload_of
from renderfarm.workers.inputs import read_inputs
from renderfarm.workers.worker import RendererWorker, RenderReply, device_lost
from tests import standins
from tests.drawn import INFO
from tests.outputs import picture
from tests.simulation.world import sheets_of
from tests.standins import folder_of


def attempt(picture: Path, digest: str) -> Attempt:
    job = JobSettings.model_validate({"name": "tests", "manifest": "-", "output": "-"})
    (image,) = plan_row(PromptRow("a", "a mug", init_image=str(picture)), "d", Intent(job, "0" * 64))
    return attempt_of(replace(image, init_digest=digest), 1)


def test_an_input_is_read_only_as_it_was_resolved(tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    picture.write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    assert read_inputs([attempt(picture, digest).image] * 2) == {digest: b"one"}
    picture.write_bytes(b"two")
    with pytest.raises(RenderFailed, match="changed since the plan"):
        read_inputs([attempt(picture, digest).image])
    picture.unlink()
    with pytest.raises(RenderFailed, match="cannot be read any more"):
        read_inputs([attempt(picture, digest).image])


def test_a_broken_cuda_context_ends_the_worker_and_a_full_memory_does_not() -> None:
    assert device_lost(RuntimeError("CUDA error: device-side assert triggered"))
    assert not device_lost(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not device_lost(RuntimeError("CUDA error: out of memory"))
    assert not device_lost(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not device_lost(WeightsError("CUDA error"))


def test_weights_that_cannot_be_loaded_are_said_when_the_renderer_should_be_ready(tmp_path: Path) -> None:
    """As a value until then: an exception in an actor's constructor would reach the driver as text, and end in the wrong exit code."""
    model = ModelSettings(weights=str(folder_of("sd2")), device="cpu")
    job = JobSettings.model_validate({"name": "t", "manifest": "m", "output": "o", "model": model})
    worker = RendererWorker(replace(resolve(model), digest="0" * 64), job, bytes(32))
    answer = worker.ready()
    assert isinstance(answer, WeightsError) and "the job was resolved with" in str(answer)


class Counting:
    """A renderer that draws noise by the seed and says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def render(self, attempts: Sequence[Attempt], *, mark: Any, inputs: Any) -> tuple[np.ndarray, RenderInfo]:
        """As `render.Renderer.render`."""
        self.asked.append([f"{one.image.drawing_id}/{one.number}" for one in attempts])
        return mark(torch.stack([torch.from_numpy(picture(one.seed)) for one in attempts])).numpy(), INFO


def test_sheets_of_one_drawing_are_drawn_once_and_each_gets_its_own_mark() -> None:
    job = JobSettings.model_validate({"name": "tests", "manifest": "-", "output": "-"})
    (drawing,) = plan_row(PromptRow("a", "a mug"), "d" * 64, Intent(job, "0" * 64), "5a" * 16)
    (other,) = plan_row(PromptRow("b", "a mug"), "d" * 64, Intent(job, "0" * 64), "5b" * 16)
    sheets = [attempt_of(image, 1) for image in sheets_of(drawing, 3)]
    attempts = [sheets[0], attempt_of(other, 1), *sheets[1:], attempt_of(drawing, 2), replace(sheets[0], image=replace(drawing, steps=9))]
    worker = RendererWorker.__new__(RendererWorker)
    worker.key, renderer = MarkKey.from_bytes(bytes(32)), Counting()
    worker.renderer = renderer  # type: ignore[assignment]
    pixels, reply = worker.render(attempts)
    assert isinstance(reply, RenderReply) and pixels is not None
    assert renderer.asked == [[f"{drawing.drawing_id}/1", f"{other.drawing_id}/1", f"{drawing.drawing_id}/2", f"{drawing.drawing_id}/1"]]
    assert len(pixels) == len(reply.marked) == 6 and all(reply.marked)
    read = [watermark.read(pixels[at], [worker.key], search="fast").payload for at in range(6)]
    assert read == [payload_of(one) for one in attempts], "each leads to its own record"
    apart = [np.abs(pixels[0].astype(int) - pixels[at]).max() for at in (1, 2, 3)]
    assert apart[0] > 100 > max(apart[1:]) > 0, "the same drawing under other marks"


def worker() -> RendererWorker:
    """One over tiny random weights."""
    model = {"weights": str(folder_of("sd2")), "device": "cpu"}
    job = JobSettings.model_validate({"name": "a", "manifest": "m", "output": "o", "model": model})
    return RendererWorker(resolve(job.model), job, bytes(32))


def test_a_reply_brings_no_library_along() -> None:
    """Whoever unpickles it would import the library: a class of torch's named its version once."""
    reply = worker().render([standins.attempt("a" * 32, size=(256, 256), steps=1)])
    assert reply[0] is not None
    classes = {value for _, value, _ in pickletools.genops(pickle.dumps(reply)) if isinstance(value, str) and value.startswith("torch")}
    assert classes == set()
